"""The users, in a process of their own: nothing that the harness does makes a request late.

``python -m chaos.users RATE URL…`` sends until its stdin ends, and prints a JSON line for every
request that went wrong and, once a second, how many were sent. Built of the project's own prober;
that keeps three examples of each kind of failure, here every single one is told.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections import Counter
from dataclasses import asdict
from typing import Any

from fabfile.checks.lanes import FastLane, LongLane
from fabfile.checks.prober import Probe
from fabfile.checks.sample import Sample

from .judge import Bad
from .load import LATE_FAST, LATE_LONG, LONG, LONG_RATE, PATIENCE

LATE = {"fast": LATE_FAST, "long": LATE_LONG}


class Teller:
    """Hears every sample; used by the prober's thread only."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._second = int(time.time())

    def hear(self, sample: Sample, origin: float) -> None:
        """Count one sample, and tell it where something is wrong with it."""
        self._count(sample.lane)
        if sample.late:
            self._count("behind")
        kind = sample.failure.value if sample.failure else ""
        if not kind and sample.latency > LATE[sample.lane]:
            kind = "late"
        if kind:
            self._say({"bad": asdict(as_bad(sample, origin, kind))})

    def miss(self, count: int) -> None:
        """Requests that were not sent at all."""
        self._count("behind", count)

    def _count(self, what: str, count: int = 1) -> None:
        now = int(time.time())
        if now != self._second:
            self._say({"second": self._second, "sent": dict(self._counts)})
            self._counts.clear()
            self._second = now
        self._counts[what] += count

    @staticmethod
    def _say(what: object) -> None:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()


def as_bad(sample: Sample, origin: float, kind: str) -> Bad:
    """``sample``, at Unix times; ``origin`` is that of the run's second 0."""
    # The harness' HAProxy names the server in what it answers itself: web1_app_1.
    server = (sample.server or "").replace("_app_", "/app_")
    return Bad(
        round(origin + sample.started, 3),
        round(origin + sample.finished, 3),
        sample.lane,
        sample.url,
        kind,
        sample.detail if kind != "late" else f"after {sample.latency:.1f} s",
        server if server.startswith("web") else "",
        sample.version or "",
    )


class _Overheard:
    """A lane of the prober, each of whose samples is told as well."""

    def __init__(self, lane: Any, teller: Teller) -> None:
        self._lane = lane
        self._teller = teller

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lane, name)

    async def run(self, run: Any) -> None:
        origin = time.time() - run.now()
        await self._lane.run(_Instead(run, tally=_Ears(run.tally, self._teller, origin)))


class _Instead:
    """``whole`` with some of its parts replaced."""

    def __init__(self, whole: Any, **parts: Any) -> None:
        self._whole = whole
        self.__dict__.update(parts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)


class _Ears:
    def __init__(self, tally: Any, teller: Teller, origin: float) -> None:
        self._tally = tally
        self._teller = teller
        self._origin = origin

    def add(self, sample: Sample) -> None:
        self._teller.hear(sample, self._origin)
        self._tally.add(sample)

    def unsent(self, lane: str, count: int = 1) -> None:
        if count:
            self._teller.miss(count)
        self._tally.unsent(lane, count)


def main() -> None:
    """Send until stdin ends."""
    # A prober that waits for its turn on a busy machine measures that machine. It takes a tenth
    # of a core; only who may do so gets ahead of the others.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    rate, *urls = sys.argv[1:]
    teller = Teller()
    slow = tuple(f"{url.rstrip('/')}/slow?s={LONG:g}" for url in urls)
    lanes: list[Any] = [
        FastLane(tuple(urls), rate=float(rate), timeout=PATIENCE),
        LongLane(slow, rate=LONG_RATE, timeout=PATIENCE + LONG),
    ]
    with Probe([_Overheard(lane, teller) for lane in lanes]) as probe:
        sys.stdin.read()
        probe.stop()


if __name__ == "__main__":
    main()
