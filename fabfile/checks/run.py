"""What a lane gets to work with while a run lasts."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from fabfile.checks.tally import Tally
from fabfile.checks.target import Target, parse
from fabfile.checks.wire import Door

_POLL = 0.1
"""Seconds between looks at whether to stop, in a sleep that is longer."""

_SPARE_FILES = 64


def max_running() -> int:
    """How many requests may be under way at once: each needs an open file.

    The soft limit of this process is raised first, where the hard one allows.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return 8192 if soft == resource.RLIM_INFINITY else max(1, soft - _SPARE_FILES)


@dataclass
class Run:
    """One run: its clock, its end, its connections. Used by the event loop's thread only."""

    tally: Tally
    end: float
    """Seconds after which nothing is sent any more; infinity: until stopped."""
    limit: int
    """Most requests under way at once."""
    addresses: dict[str, tuple[str, ...]]
    """Of each URL, resolved before the run."""
    stopping: bool = False
    running: Counter[str] = field(default_factory=Counter)
    """Requests under way on each lane."""
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _origin: float = 0.0
    _doors: dict[tuple[str, str, int], Door] = field(default_factory=dict)
    stopped_at: float | None = None

    def begin(self) -> None:
        """Second 0 is now."""
        self._origin = self._loop.time()

    def now(self) -> float:
        """Seconds since the run began."""
        return self._loop.time() - self._origin

    def stop(self) -> None:
        """Send nothing more."""
        if not self.stopping:
            self.stopping = True
            self.stopped_at = min(self.now(), self.end)

    async def sleep_until(self, moment: float) -> bool:
        """Wait; ``False`` when the run stops before ``moment``."""
        while not self.stopping and (left := moment - self.now()) > 0:
            await asyncio.sleep(min(left, _POLL))
        return not self.stopping

    def door(self, lane: str, url: str, client: int = 0) -> Door:
        """The connections of one client of a lane to one URL."""
        key = (lane, url, client)
        if key not in self._doors:
            self._doors[key] = Door(parse(url), self.addresses[url])
        return self._doors[key]

    async def close(self) -> None:
        """Close all connections."""
        for door in self._doors.values():
            await door.close()


class Lane(Protocol):
    """A kind of traffic. Implementations are in ``lanes`` and ``sockets``."""

    @property
    def name(self) -> str:
        """Unique in a run."""
        ...

    @property
    def slow_after(self) -> float:
        """Seconds from which a good answer counts as slow."""
        ...

    @property
    def gaps(self) -> bool:
        """Intervals between its answers say something about the service."""
        ...

    def targets(self) -> tuple[Target, ...]:
        """What it talks to. Raises :class:`fabfile.errors.BadInput` for a bad URL."""
        ...

    async def run(self, run: Run) -> None:
        """Send until the run stops, then wait for what is under way."""
        ...
