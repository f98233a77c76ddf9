"""Shell that runs on hosts lives in ``.sh`` files; this puts values in front of them.

A script file is plain POSIX sh that reads its inputs from variables. Lists come as one variable of
quoted words, for ``eval "set -- $words"``. So no value is ever pasted into the middle of shell,
and the files can be read, and checked by ``shellcheck``, as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from fabfile.remote.quoting import q

Value = str | int | float | Iterable[str]


@cache
def _text(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("#")) + "\n"


def script(path: Path, /, **variables: Value) -> str:
    """The script in ``path`` with ``variables`` set; comments are left at home."""
    values = {
        name: value if isinstance(value, str | int | float) else " ".join(map(q, value))
        for name, value in variables.items()
    }
    head = "".join(f"{name}={q(value)}\n" for name, value in values.items())
    return head + _text(path)
