"""What is remembered from one run of ``inv status`` to the next, for --quiet and --notify.

The file is replaced by a rename, under a lock beside it, so that runs which overlap take turns. A
file that is broken, or can't be written, never spoils a check: it is told, and the run goes on as
if there had been none before.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fabfile.files import replace_file

FORMAT = 1
PATIENCE = 30.0
"""Seconds to wait for another run that holds the file."""
_AGAIN = 0.05


@dataclass(frozen=True)
class Seen:
    """What a run found."""

    exit_code: int = 0
    troubles: tuple[str, ...] = ()
    """Keys of the verdicts."""
    told: tuple[str, ...] = ()
    """The troubles the webhook was last told of."""


def quiet_line(before: Seen, now: Seen, headline: str) -> str:
    """What ``--quiet`` says: nothing while all is well, one line when not, one when it recovers."""
    if now.troubles:
        return headline
    return f"RECOVERED: {headline}" if before.troubles else ""


def to_tell(now: Seen) -> bool:
    """Whether ``--notify`` has something new to say. A message that did not get through is due
    again in the next run."""
    return now.troubles != now.told


@contextlib.contextmanager
def remembered(path: Path, complain: Callable[[str], None]) -> Iterator[list[Seen]]:
    """What the run before found; whatever the list ends with is remembered when it is left."""
    with _locked(path, complain) as usable:
        seen = [_read(path, complain) if usable else Seen()]
        yield seen
        if usable:
            _write(path, seen[-1], complain)


@contextlib.contextmanager
def _locked(path: Path, complain: Callable[[str], None]) -> Iterator[bool]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f"{path.name}.lock").open("a")
    except OSError as error:
        complain(f"{path}: what was found can't be remembered: {error.strerror}")
        yield False
        return
    with lock:
        if not _flock(lock.fileno()):
            complain(f"{path}: another run has held it for {PATIENCE:.0f} s")
            yield False
            return
        yield True


def _flock(descriptor: int) -> bool:
    ends = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() >= ends:
                return False
            time.sleep(_AGAIN)


def _read(path: Path, complain: Callable[[str], None]) -> Seen:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Seen()
    except (OSError, ValueError) as error:
        complain(f"{path}: can't be read and is begun anew: {error}")
        return Seen()
    try:
        return _seen(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError):
        complain(f"{path}: is broken and is begun anew")
        return Seen()


def _seen(raw: dict[str, Any]) -> Seen:
    if raw["format"] != FORMAT:
        raise ValueError("another format")
    return Seen(int(raw["exit_code"]), _texts(raw["troubles"]), _texts(raw["told"]))


def _texts(raw: Any) -> tuple[str, ...]:
    if not isinstance(raw, list):
        raise TypeError("no list")
    return tuple(map(str, raw))


def _write(path: Path, seen: Seen, complain: Callable[[str], None]) -> None:
    raw = {
        "format": FORMAT,
        "exit_code": seen.exit_code,
        "troubles": list(seen.troubles),
        "told": list(seen.told),
    }
    try:
        replace_file(path, json.dumps(raw) + "\n")
    except OSError as error:
        complain(f"{path}: what was found can't be remembered: {error.strerror}")


def told(seen: Seen) -> Seen:
    """``seen``, after the webhook heard of it."""
    return replace(seen, told=seen.troubles)
