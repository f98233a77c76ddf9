"""Where the events of a task go: a terminal, lines, JSON; and a log beside the inventory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fabfile.inventory.model import Inventory
from fabfile.reports.console import Console, JsonLines, Tee, ticking, wanted
from fabfile.reports.eventlog import Log, logs
from fabfile.rollout.events import Event, Notice


def receivers(inventory: Inventory, *, json: bool, log: str = "") -> Tee:
    """Where events go: lines or JSON on stdout, and a log beside the inventory."""
    return _receivers(inventory, JsonLines() if json else Console(), log)


def _receivers(inventory: Inventory, shown: Callable[[Event], None], log: str) -> Tee:
    found = [shown]
    if log:
        try:
            found.append(Log(logs(inventory.root) / f"{log}.jsonl"))
        except OSError as error:
            shown(Notice(f"no log is kept of this: {error}"))
    return Tee(*found)


@contextmanager
def telling(inventory: Inventory, *, json: bool, log: str = "") -> Iterator[Tee]:
    """As :func:`receivers`, for what takes its time: on a terminal a picture that is kept up to
    date, elsewhere a line every now and then that says what is waited for."""
    if json or not wanted(sys.stdout):
        tee = receivers(inventory, json=json, log=log)
        with ticking(tee.tick):
            yield tee
        return
    from fabfile.reports.screen import Screen

    screen = Screen()
    try:
        yield _receivers(inventory, screen, log)
    finally:
        screen.close()
