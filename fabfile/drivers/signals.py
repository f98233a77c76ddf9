"""Ctrl-C, SIGTERM and a closed terminal, once, twice and three times.

Once: what is out of rotation comes back and nothing new begins. Twice: what is healthy this moment
returns, the rest stays as it is, recorded. A third time: out, at once. Nobody sees a traceback.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Handler = Callable[[int, FrameType | None], None]


@contextmanager
def terminated() -> Iterator[None]:
    """Around what comes before and after a rollout: the first signal ends it in good order, so
    that locks are given back; a second one does not wait for that."""

    def handle(number: int, _frame: FrameType | None) -> None:
        _handle_all(_at_once)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    before = _handle_all(handle)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is handle:  # none came
            _restore(before)


@contextmanager
def interrupted(first: Callable[[str], None], second: Callable[[], None]) -> Iterator[list[int]]:
    """While a rollout runs: ``first`` and ``second`` hear of a signal; a third one ends all.

    Yields the numbers that came. Both are called in a signal handler: they may take no lock.
    """
    caught: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        caught.append(number)
        if len(caught) == 1:
            first(f"interrupted by {signal.Signals(number).name}")
        elif len(caught) == 2:
            second()
        else:
            leave(6)

    before = _handle_all(handle)
    try:
        yield caught
    finally:
        if caught:
            _handle_all(_at_once)
        else:
            _restore(before)


def leave(code: int) -> NoReturn:
    """End this process now, with threads that still wait for a host; what was said is written."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def _at_once(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)


def _handle_all(handler: Handler) -> dict[int, object]:
    before: dict[int, object] = {}
    for number in STOPPING:
        # `nohup fab …`: whoever asked that a closed terminal ends nothing shall have it so.
        if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue
        before[number] = signal.signal(number, handler)
    return before


def _restore(before: dict[int, object]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)  # type: ignore[arg-type]
