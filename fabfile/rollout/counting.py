"""What the balancers counted of their servers while a rollout ran: retries, errors, queues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fabfile.balancers.model import COUNTED, BackendReading
from fabfile.rollout.capacity import Readings
from fabfile.rollout.events import ServersCounted

Counts = Mapping[str, tuple[int, ...]]
_MAXIMUM = COUNTED.index("longest_queue")


@dataclass
class _Backend:
    """One backend of one balancer: what was added up, and what the last look showed."""

    process: int
    last: Counts
    sums: dict[str, list[int]] = field(default_factory=dict)
    resets: int = 0

    def see(self, reading: BackendReading) -> None:
        """Add what came since the last look; a process that is new began at 0."""
        anew = reading.process != self.process
        if not anew and any(
            now < before
            for name, counts in reading.counts.items()
            for now, before in zip(counts, self.last.get(name, ()), strict=False)
        ):
            return  # a look that was begun earlier and came later
        self.resets += anew
        for name, counts in reading.counts.items():
            before = (0,) * len(COUNTED) if anew else self.last.get(name, (0,) * len(COUNTED))
            sums = self.sums.setdefault(name, [0] * len(COUNTED))
            for place, now in enumerate(counts):
                if place != _MAXIMUM:
                    sums[place] += now - before[place]
                elif now > before[place]:  # a maximum that did not rise is of an earlier day
                    sums[place] = max(sums[place], now)
        self.process, self.last = reading.process, reading.counts


class Counting:
    """All balancers of one rollout. What fell between the last look and a reload is lost."""

    def __init__(self) -> None:
        self._backends: dict[tuple[str, str], _Backend] = {}

    def see(self, readings: Readings) -> None:
        """Take in what the balancers say; counting starts at the first look at each."""
        for key, reading in readings.items():
            if not reading.counts:
                continue
            known = self._backends.get(key)
            if known is None:
                self._backends[key] = _Backend(reading.process, reading.counts)
            else:
                known.see(reading)

    def told(self) -> list[ServersCounted]:
        """An event for each balancer and backend that was looked at more than once."""
        return [
            ServersCounted(
                balancer,
                backend,
                {name: dict(zip(COUNTED, sums, strict=True)) for name, sums in known.sums.items()},
                known.resets,
            )
            for (balancer, backend), known in self._backends.items()
            if known.sums
        ]
