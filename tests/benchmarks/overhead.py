"""How much of a rollout's wall time was spent on anything but waiting: read off its event log.

What counts as waiting, by step, from its ``StepStarted`` to its ``StepFinished``:

- for Docker: ``recreate``
- for a drain: ``await-idle``, ``cut``
- for a health check: ``await-healthy``, and the balancer's own in ``await-admitted``
- for a policy: hooks, and ``ask-capacity`` where a ``CapacityAwaited`` tells that it was not granted
  at once; and what lies between a batch's last step and its end, where the policy has those that
  came back watched for a moment (``max_error_rate``, at most ``min_healthy``)

All else is overhead: ``record``, ``take-out``, ``shut``, ``admit``, asking for capacity that is there,
what lies between two steps, between two batches, before the first and after the last.

Lanes of several hosts run side by side, so the batch's *critical* host is looked at: the one that
ended last. While any of its instances waits, the host waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

WAITS = {
    "recreate": "docker",
    "await-idle": "drain",
    "cut": "drain",
    "await-healthy": "health",
    "await-admitted": "admission",
    "before_drain": "policy",
    "after_healthy": "policy",
    "ask-capacity": "policy",
}
"""By step: what is waited for in it."""

Interval = tuple[float, float]
Event = Mapping[str, Any]


@dataclass(frozen=True)
class Overhead:
    """Where a rollout's time went, from ``RolloutStarted`` to ``RolloutFinished``. Seconds."""

    wall: float
    waited: Mapping[str, float]
    """By what was waited for."""
    own: Mapping[str, float]
    """All else: by step, and ``between steps``, ``between batches``."""

    @property
    def seconds(self) -> float:
        """Not spent waiting."""
        return self.wall - sum(self.waited.values())

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.seconds / self.wall if self.wall else 0.0


@dataclass
class _Batch:
    start: float
    end: float = 0.0
    steps: list[tuple[str, str, float, float]] = field(default_factory=list)
    """Instance, step, start, end."""


def overhead(events: Iterable[Event]) -> Overhead:
    """The figures of one whole rollout. Raises :class:`ValueError` for one that never ended."""
    begun: dict[str, tuple[str, float]] = {}
    refused: set[str] = set()
    batches: list[_Batch] = []
    start = end = None
    for event in events:
        kind, at = event["event"], float(event["at"])
        if kind == "RolloutStarted":
            start = at
        elif kind == "BatchStarted":
            batches.append(_Batch(at))
        elif kind == "BatchFinished":
            batches[-1].end = at
        elif kind == "StepStarted":
            begun[event["instance"]] = (event["step"], at)
        elif kind == "CapacityAwaited":
            refused.add(event["instance"])
        elif kind == "StepFinished" and batches:
            instance, step = event["instance"], event["step"]
            _, since = begun.pop(instance, (step, at))
            granted = step == "ask-capacity" and instance not in refused
            name = "capacity there" if granted else step
            batches[-1].steps.append((instance, name, since, at))
            refused.discard(instance)
        elif kind == "RolloutFinished":
            end = at
    if start is None or end is None:
        raise ValueError("no whole rollout in these events")
    return _add_up(end - start, batches)


def _add_up(wall: float, batches: Sequence[_Batch]) -> Overhead:
    waited: dict[str, float] = {}
    own: dict[str, float] = {}
    for batch in batches:
        host = _critical(batch)
        spent: list[Interval] = []
        through = max((step[3] for step in batch.steps), default=batch.start)
        if batch.end > through:
            waited["policy"] = waited.get("policy", 0.0) + batch.end - through
            spent.append((through, batch.end))
        for name, intervals in _by_name(batch, host):
            into = waited if name in WAITS.values() else own
            length = _length(_union([*spent, *intervals])) - _length(_union(spent))
            into[name] = into.get(name, 0.0) + length
            spent += intervals
        rest = batch.end - batch.start - _length(_union(spent))
        own["between steps"] = own.get("between steps", 0.0) + rest
    inside = sum(batch.end - batch.start for batch in batches)
    own["between batches"] = wall - inside
    return Overhead(wall, waited, own)


def _critical(batch: _Batch) -> str:
    """The host whose last step ended last."""
    last = max(batch.steps, key=lambda step: step[3], default=("/", "", 0.0, 0.0))
    return last[0].partition("/")[0]


def _by_name(batch: _Batch, host: str) -> list[tuple[str, list[Interval]]]:
    """What ``host`` did, waits first: a moment in which one instance waits is a wait."""
    found: dict[str, list[Interval]] = {}
    for instance, step, start, end in batch.steps:
        if instance.partition("/")[0] == host:
            found.setdefault(WAITS.get(step, step), []).append((start, min(end, batch.end)))
    return sorted(found.items(), key=lambda item: item[0] not in WAITS.values())


def _union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same moments, in intervals that do not overlap."""
    found: list[Interval] = []
    for start, end in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        elif end > start:
            found.append((start, end))
    return found


def _length(intervals: Iterable[Interval]) -> float:
    return sum(end - start for start, end in intervals)
