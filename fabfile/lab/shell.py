"""Commands that run here, on the machine of the lab, and a look at its ports."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fabfile.errors import EvenkeelError

Say = Callable[[str], None]
"""Where a line of progress goes."""


class LabError(EvenkeelError):
    """A step of the lab failed; ``detail`` holds the last lines of what it said."""


def run(
    argv: Sequence[str],
    *,
    what: str,
    log: Path | None = None,
    stdin: str = "",
    timeout: float = 120.0,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run ``argv`` and return its stdout. ``timeout`` in seconds, ``what`` names it in errors.

    With ``log`` everything it says goes to that file instead, and "" is returned. It gets a
    session of its own, so that Ctrl-C stops us and not half of it. Raises :class:`LabError`.
    """
    code, out, err = attempt(argv, log=log, stdin=stdin, timeout=timeout, env=env)
    if code == 0:
        return out
    text = log.read_text(errors="replace") if log else (err.strip() or out.strip())
    where = f"; all of it is in {log}" if log else ""
    ended = f"took longer than {timeout:g} s" if code is None else f"exit code {code}"
    raise LabError(f"{what} failed ({ended}){where}", detail=last_lines(text))


def attempt(
    argv: Sequence[str],
    *,
    log: Path | None = None,
    stdin: str = "",
    timeout: float = 120.0,
    env: Mapping[str, str] | None = None,
) -> tuple[int | None, str, str]:
    """Run ``argv``; return exit code (``None``: the deadline passed), stdout and stderr."""
    sink = log.open("w") if log else subprocess.PIPE
    try:
        with subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=subprocess.STDOUT if log else subprocess.PIPE,
            text=True,
            errors="replace",
            env=env,
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(stdin, timeout=timeout)
            except BaseException as error:
                process.kill()
                process.communicate()
                if isinstance(error, subprocess.TimeoutExpired):
                    return None, "", ""
                raise
            return process.returncode, out or "", err or ""
    except FileNotFoundError:
        return 127, "", f"{argv[0]}: not found"
    finally:
        if not isinstance(sink, int):
            sink.close()


def last_lines(text: str, count: int = 15) -> str:
    """The end of ``text``."""
    return "\n".join(text.strip().splitlines()[-count:])


def answer(url: str) -> str:
    """The status code of one GET, or "closed"."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as reply:
            return str(reply.status)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError:
        return "closed"
