"""The event log of a rollout beside the inventory: written, and followed while it is written.

Who writes one holds a lock on the file for as long as it lives: so everybody on this machine can
tell a rollout that runs from one whose controller died.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fabfile.reports.console import JsonLines
from fabfile.rollout.events import Event


def logs(root: Path) -> Path:
    """The folder of event logs, for an inventory in ``root``."""
    return root / ".evenkeel" / "rollouts"


class Log:
    """Appends events to a file. Raises ``OSError`` where that can't be done."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        with contextlib.suppress(OSError):  # some network file systems know no locks
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._lines = JsonLines(self)

    def __call__(self, event: Event) -> None:
        """Append ``event``, whole or not at all as far as a reader can see."""
        self._lines(event)

    def write(self, text: str) -> int:
        """As of a stream."""
        left = memoryview(text.encode())
        while left:
            left = left[os.write(self._fd, left) :]
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nobody writes it any more."""
        with contextlib.suppress(OSError):
            os.close(self._fd)


def is_written(path: Path) -> bool:
    """Whether somebody on this machine writes ``path`` at this moment."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


def running(paths: Iterable[Path]) -> list[Path]:
    """Those that somebody writes, the newest first; a prober's records are none."""
    mine = [path for path in paths if not path.name.endswith(".probe.jsonl")]
    return [path for path in sorted(mine, reverse=True) if is_written(path)]


class Follower:
    """Reads a log while it grows: each call returns the lines that are new and whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = 0

    def new(self) -> list[dict[str, Any]]:
        """Raises ``OSError``. What is no event is left out."""
        with self._path.open("rb") as stream:
            stream.seek(self._place)
            text = stream.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._place += len(whole)
        found = []
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):
                raw = json.loads(line)
                if isinstance(raw, dict) and "event" in raw and "at" in raw:
                    found.append(raw)
        return found
