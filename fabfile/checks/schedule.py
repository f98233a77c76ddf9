"""An open-loop schedule: when requests are due, whatever became of the earlier ones.

No clock in here: the caller says what time it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

LATE_AFTER = 0.05
"""Seconds behind its due time from which a request counts as sent late. It is far above an event
loop's own jitter and below what would bend a figure of requests per second."""

GIVE_UP_AFTER = 1.0
"""Seconds behind its due time from which a request is not sent at all. Otherwise a prober that was
stopped for a while would wake up and flood the service it is there to watch."""


@dataclass
class Schedule:
    """Request ``n`` is due at ``start + n / rate`` (seconds), and before ``end``."""

    rate: float
    start: float = 0.0
    end: float = float("inf")
    skipped: int = field(default=0, init=False)
    """Requests that were never sent, because the prober was too far behind."""
    _next: int = field(default=0, init=False)

    def due(self, number: int) -> float:
        """When request ``number`` (from 0) is due."""
        return self.start + number / self.rate

    @property
    def next_due(self) -> float | None:
        """When the next request is due; ``None`` when the schedule is over."""
        due = self.due(self._next)
        return due if due < self.end else None

    def take(self, now: float) -> list[float]:
        """The due times of everything to send now, each handed out once."""
        taken = []
        while (due := self.next_due) is not None and due <= now:
            self._next += 1
            if now - due > GIVE_UP_AFTER:
                self.skipped += 1
            else:
                taken.append(due)
        return taken
