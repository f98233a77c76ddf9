"""``inv watch``: a rollout that somebody else runs, seen from here. Imported when the task runs.

One that runs on this machine is followed by its event log, step by step; any other one by what its
hosts have written down.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Any, Protocol, get_args

from fabfile.drivers.watching import Sight, Watching
from fabfile.errors import BadInput
from fabfile.inventory.model import Inventory, Service
from fabfile.inventory.selection import select_service
from fabfile.jobs.asked import inventory_of
from fabfile.remote.pool import Remotes
from fabfile.reports.console import Console, as_json, wanted
from fabfile.reports.eventlog import Follower, is_written, logs, running
from fabfile.reports.live_view import view
from fabfile.reports.screen import Screen, Told
from fabfile.rollout import events as e
from fabfile.rollout.history import Past

EVERY, FOLLOW = 2.0, 0.2
"""Seconds between two looks at hosts, and at a log on this machine."""
GONE = "its controller is gone before its end: `fab resume` finishes it, `fab abort` goes back"
Pair = tuple[e.Event, float]


@dataclass(frozen=True)
class Flags:
    """One field per flag, as typed; empty where it was not given."""

    service: str = ""
    inventory: str = ""
    once: bool = False
    wait: bool = False
    json: bool = False


class Shown(Protocol):
    """Where it is seen."""

    def take(self, event: e.Event, at: float) -> None:
        """Something happened."""
        ...

    def replay(self, events: Iterable[Pair]) -> None:
        """What happened before."""
        ...

    def heard(self, text: str) -> None:
        """Who is at work, and when that was last heard of."""
        ...

    def close(self) -> None:
        """The end of watching."""
        ...


class _Lines:
    """Plain lines, or JSON."""

    def __init__(self, *, json: bool) -> None:
        self._at = time.time()
        self._console: Console | None = None
        self._json = json
        self._heard = False

    def take(self, event: e.Event, at: float) -> None:
        self._at = at
        if self._json:
            say(as_json(event, at))
            return
        self._console = self._console or Console(clock=lambda: self._at)
        self._console(event)

    def replay(self, events: Iterable[Pair]) -> None:
        for event, at in events:
            self.take(event, at)

    def heard(self, text: str) -> None:
        # How many seconds ago it was is news only when somebody looks.
        if not self._json and not self._heard:
            self._heard = True
            say(text)

    def close(self) -> None:
        """Nothing is left open."""


class _Once:
    """One picture, when all is known."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._told = Told()

    def take(self, event: e.Event, at: float) -> None:
        self._told.keep(event, at)

    def replay(self, events: Iterable[Pair]) -> None:
        for event, at in events:
            self.take(event, at)

    def heard(self, text: str) -> None:
        self._told.live.alive = text

    def close(self) -> None:
        now, live = time.time(), self._told.live
        if self._json:
            say(dumps(live.facts(now)))
            return
        from rich.console import Console as Rich

        width = shutil.get_terminal_size((100, 24)).columns
        rich = Rich(width=width, highlight=False)
        with rich.capture() as captured:
            for line in view(live, self._told.said, now, width, 10**6):
                rich.print(line, crop=False)
        say(captured.get().rstrip("\n"))


def say(line: str) -> None:
    """One line on stdout, now."""
    coding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(f"{line}\n".encode(coding, "backslashreplace").decode(coding))
    sys.stdout.flush()


def run_watch(flags: Flags) -> None:
    """Watch until the rollout is over, or somebody has seen enough.

    Raises :class:`fabfile.errors.EvenkeelError` for what was typed, and when no host can be asked.
    """
    if flags.once and flags.wait:
        raise BadInput("--once and --wait exclude each other")
    inventory = inventory_of(flags.inventory)
    service = select_service(inventory, flags.service or None)
    try:
        _watch(inventory, service, flags)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:  # whoever read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _shown(flags: Flags) -> Shown:
    if flags.once:
        return _Once(json=flags.json)
    return Screen() if not flags.json and wanted(sys.stdout) else _Lines(json=flags.json)


def _watch(inventory: Inventory, service: Service, flags: Flags) -> None:
    with Remotes(inventory) as remotes:
        watching = Watching(service, remotes)
        said = False
        while True:
            here = _here(inventory, service)
            if here is not None:
                _follow(here, flags)
                return
            sight = watching.look()
            if sight.rollout and not (flags.wait and sight.dead):
                _follow_hosts(watching, sight, flags)
                return
            if not flags.wait:
                say("{}" if flags.json else f"no rollout of {service.name} runs")
                return
            if not said and not flags.json:
                say(f"no rollout of {service.name} runs yet")
            said = True
            time.sleep(EVERY)


# on this machine


@dataclass
class _Here:
    """A log that somebody on this machine writes, read so far."""

    path: Path
    follower: Follower
    events: list[Mapping[str, Any]]


def _here(inventory: Inventory, service: Service) -> _Here | None:
    """The rollout of ``service`` that this machine runs, if it does."""
    for path in running(logs(inventory.root).glob("*.jsonl")):
        follower = Follower(path)
        events: list[Mapping[str, Any]] = list(follower.new())
        of = {raw.get("service") for raw in events if raw["event"] == "RolloutStarted"}
        over = any(raw["event"] == "RolloutFinished" for raw in events)
        if not over and of <= {service.name}:
            return _Here(path, follower, events)
    return None


def _pairs(raws: Iterable[Mapping[str, Any]]) -> list[Pair]:
    found = ((e.read(raw), float(raw["at"])) for raw in raws)
    return [(event, at) for event, at in found if event is not None]


def _follow(here: _Here, flags: Flags) -> None:
    shown = _shown(flags)
    try:
        shown.replay(_pairs(here.events))
        while not flags.once:
            alive = is_written(here.path)  # asked first: what it wrote last is read below
            if _over(shown, _pairs(here.follower.new())):
                return
            if not alive:
                shown.take(e.Notice(GONE), time.time())
                return
            time.sleep(FOLLOW)
    finally:
        shown.close()


def _over(shown: Shown, pairs: Iterable[Pair]) -> bool:
    for event, at in pairs:
        shown.take(event, at)
        if isinstance(event, e.RolloutFinished):
            return True
    return False


# elsewhere


def _follow_hosts(watching: Watching, sight: Sight, flags: Flags) -> None:
    shown = _shown(flags)
    try:
        shown.replay(sight.events)
        while True:
            if sight.dead and not flags.once:
                shown.take(e.Notice(sight.alive), time.time())
                return
            shown.heard(sight.alive)
            if flags.once:
                return
            time.sleep(EVERY)
            sight = watching.look()
            for event, at in sight.events:
                shown.take(event, at)
            if not sight.rollout:
                _tell_end(shown, sight.ended)
                return
    finally:
        shown.close()


def _tell_end(shown: Shown, past: Past | None) -> None:
    if past is None:
        shown.take(e.Notice("it is over, and no host that answers says how"), time.time())
        return
    ends = list(past.fates.values())
    if past.verdict not in get_args(e.Verdict):
        why = f": {past.reason}" if past.reason else ""
        shown.take(e.Notice(f"it is over: {past.verdict}{why}"), time.time())
        return
    counts: Callable[[str], int] = ends.count
    verdict: Any = past.verdict
    broken = tuple(sorted(name for name, fate in past.fates.items() if fate == "broken"))
    shown.take(
        e.RolloutFinished(
            past.rollout,
            verdict,
            past.version,
            counts("upgraded") or past.upgraded,
            counts("current"),
            counts("restored"),
            counts("untouched"),
            broken,
            past.reason,
        ),
        time.time(),
    )
