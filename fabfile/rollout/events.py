"""What the engine says: its only output. Consoles, journals, metrics and reports consume it.

Events carry no time; whoever receives them stamps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

Verdict = Literal["done", "rolled-back", "held", "needs-repair", "interrupted"]


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True, slots=True)
class PhaseStarted(Event):
    """A stretch of work before the first batch: preflight, pull, stage, lock."""

    phase: str


@dataclass(frozen=True, slots=True)
class PhaseFinished(Event):
    """It is through. ``note`` says what it found, in a few words."""

    phase: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class RolloutStarted(Event):
    """The plan is frozen and written; the first batch comes next."""

    rollout: str
    service: str
    version: str
    hosts: tuple[str, ...]
    changing: int
    total: int
    instances: tuple[str, ...] = ()
    """Those that change, in the order of the plan."""


@dataclass(frozen=True, slots=True)
class BatchStarted(Event):
    """Batch ``number`` of ``of``, counted from 1. ``back``: it undoes earlier ones."""

    number: int
    of: int
    hosts: tuple[str, ...]
    back: bool = False


@dataclass(frozen=True, slots=True)
class StepStarted(Event):
    """An instance began a step."""

    instance: str
    step: str


@dataclass(frozen=True, slots=True)
class StepFinished(Event):
    """An instance's step ended. ``note`` is empty when there is nothing to add."""

    instance: str
    step: str
    ok: bool
    note: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StepProgress(Event):
    """A step that takes its time still waits; told when ``text`` changes, at most once a second.

    ``sessions``: requests in flight on its servers, where that is what it waits for, else -1.
    ``limit``: seconds the wait may take; 0: not known.
    """

    instance: str
    step: str
    text: str
    sessions: int = -1
    limit: float = 0.0


@dataclass(frozen=True, slots=True)
class CapacityLeft(Event):
    """What stays in rotation when a drain was granted: ``(name, left, total)`` of each pool that
    the instance is in."""

    instance: str
    pools: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class CapacitySeen(Event):
    """What a look at the balancers changed: ``(name, left, total)`` of each pool concerned."""

    pools: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class CapacityAwaited(Event):
    """An instance has to wait for capacity, and why."""

    instance: str
    reason: str


@dataclass(frozen=True, slots=True)
class InstanceFinished(Event):
    """An instance is through; ``fate`` as in ``steps.Fate``."""

    instance: str
    fate: str
    version: str
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class BatchFinished(Event):
    """All lanes of a batch ended."""

    number: int
    failed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Notice(Event):
    """Something a person should know, in one line."""

    text: str
    host: str = ""


@dataclass(frozen=True, slots=True)
class HookOutput(Event):
    """One line that a hook of hosts.yaml wrote, told after its end.

    ``instance`` is empty for a hook of the whole rollout.
    """

    host: str
    hook: str
    text: str
    instance: str = ""


@dataclass(frozen=True, slots=True)
class ServersCounted(Event):
    """What one balancer counted of its servers while the rollout ran; told before the end.

    ``servers`` by name (``BACKEND``: the backend as a whole): figures by name, as
    ``balancers.model.Counts`` has them. ``resets``: how often its counters began anew.
    """

    balancer: str
    backend: str
    servers: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    resets: int = 0


@dataclass(frozen=True, slots=True)
class RolloutFinished(Event):
    """The end. Counts are of instances."""

    rollout: str
    verdict: Verdict
    version: str
    upgraded: int
    current: int
    restored: int
    untouched: int
    broken: tuple[str, ...]
    reason: str = ""


def read(raw: Mapping[str, Any]) -> Event | None:
    """The event that ``raw`` (as JSON has it) was; ``None``: none of this version's."""
    kind = globals().get(str(raw.get("event")))
    if not (isinstance(kind, type) and issubclass(kind, Event)):
        return None
    known = {one.name: _frozen(raw[one.name]) for one in fields(kind) if one.name in raw}
    try:
        found: Event = kind(**known)
        return found
    except TypeError:  # an older Evenkeel's, without a field of today
        return None


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
