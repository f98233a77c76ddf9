"""Arithmetic over a stream of samples in constant memory: percentiles, gaps, streaks."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

_GROWTH = 1.01
_LOG_GROWTH = math.log(_GROWTH)
_FLOOR = 1e-6


@dataclass
class Histogram:
    """Durations in buckets 1% wide: percentiles are at most 1% too high, ``max`` is exact."""

    _buckets: Counter[int] = field(default_factory=Counter)
    count: int = 0
    max: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self._buckets[math.ceil(math.log(max(seconds, _FLOOR)) / _LOG_GROWTH)] += 1
        self.count += 1
        self.max = max(self.max, seconds)

    def percentile(self, percent: float) -> float:
        """The smallest duration that at least ``percent`` % of all do not exceed; 0 if none."""
        wanted = rank(percent, self.count)
        for bucket in sorted(self._buckets):
            wanted -= self._buckets[bucket]
            if wanted <= 0:
                return min(math.exp(bucket * _LOG_GROWTH), self.max)
        return 0.0


def rank(percent: float, count: int) -> int:
    """Nearest rank, from 1."""
    return max(1, math.ceil(percent * count / 100))


def percentile(ordered: list[float], percent: float) -> float:
    """Nearest-rank percentile of a sorted list; 0 for an empty one."""
    return ordered[rank(percent, len(ordered)) - 1] if ordered else 0.0


@dataclass(frozen=True)
class Gap:
    """A stretch without a good answer, in seconds since the run began."""

    seconds: float = 0.0
    since: float = 0.0


@dataclass(frozen=True)
class Streak:
    """Failures in a row, by order of completion."""

    failures: int = 0
    seconds: float = 0.0
    """From the first failure of the row to the last."""
    since: float = 0.0


@dataclass
class GapMeter:
    """The longest interval between good answers, and the longest row of failures.

    The interval from the start to the first good answer counts, and so does the one from the
    last good answer to the end: a service that never came back has a long gap.
    """

    start: float = 0.0
    _last_good: float | None = None
    _longest: Gap = field(default_factory=Gap)
    _row: Streak = field(default_factory=Streak)
    _worst_row: Streak = field(default_factory=Streak)

    def add(self, finished: float, *, good: bool) -> None:
        """One completion; completions come in order of time."""
        if good:
            self._longest = self._until(finished)
            self._last_good = finished
            self._row = Streak()
            return
        since = self._row.since if self._row.failures else finished
        self._row = Streak(self._row.failures + 1, finished - since, since)
        if self._row.failures > self._worst_row.failures:
            self._worst_row = self._row

    def longest(self, end: float) -> Gap:
        """The longest gap of a run that ends at ``end``."""
        return self._until(end)

    @property
    def worst_row(self) -> Streak:
        """The longest row of failures; the earliest of several that are as long."""
        return self._worst_row

    def _until(self, moment: float) -> Gap:
        since = self.start if self._last_good is None else self._last_good
        open_gap = Gap(moment - since, since)
        return open_gap if open_gap.seconds > self._longest.seconds else self._longest
