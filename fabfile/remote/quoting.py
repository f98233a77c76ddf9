"""placeholder until the remote branch lands."""

import shlex


def q(arg: object) -> str:
    """Quote one word for sh."""
    return shlex.quote(str(arg))
