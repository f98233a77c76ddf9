"""Deadlines that count the time in which we ran."""

from __future__ import annotations

import time
from collections.abc import Callable

LOOK = 1.0
"""Seconds that whoever waits sleeps at most between two looks at a deadline."""
AWAY = 2.0
"""Seconds between two looks from which on we were away: stopped, or kept from the processor."""


class Deadline:
    """``seconds`` from now. What arrived while we were away lies unread: that time is given again.

    Whoever waits asks :meth:`left` at least every :data:`LOOK` seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked = clock()
        self._ends = self._looked + seconds

    def left(self) -> float:
        """Seconds until it has passed; not above zero: it has."""
        now = self._clock()
        away, self._looked = now - self._looked, now
        if away > AWAY:
            self._ends += away
        return self._ends - now
