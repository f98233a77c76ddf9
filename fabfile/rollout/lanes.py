"""What the engine keeps of lanes and batches on their way; it alone changes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fabfile.balancers.model import ServerRef
from fabfile.rollout.plan import Plan, Target
from fabfile.rollout.steps import Admitted, Lane, Step, Work
from fabfile.rollout.strategies import recovering

FRESH = 0.5
"""Seconds that an instance may take to be admitted for a look meanwhile to be one of now."""


class Order(NamedTuple):
    """One piece of work for the driver; its outcome comes back under ``id``."""

    id: int
    work: Work


@dataclass(slots=True)
class Running:
    """A lane and where it stands."""

    target: Target
    lane: Lane
    step: Step | None = None
    held: tuple[ServerRef, ...] = ()
    granted: bool = False
    """It may have drained; it may ask again before it drains once more."""
    homeward: bool = False
    """It takes a failed release away from people: whatever else failed, it goes on."""
    denied: int = 0
    told: str = ""
    through: bool = False
    """It is back, and the next one of its host may begin."""
    looked: bool = False
    """The balancers were looked at a moment ago: while it, or the one before it, was admitted."""
    looks: int = 0
    """How often the balancers had been looked at when its own admission began."""
    called_off: bool = False
    """It was sent home before its drain, and for nothing of its own doing."""
    ended: bool = False
    ahead: bool = False
    """It was begun before its turn, and waits for that."""
    going_back: bool = False
    """It asked for capacity a second time: what it brought has failed."""
    barred: str = ""
    """Why it may not drain any more: its host failed while it waited for its turn."""

    def was_seen_beside(self, admitted: Admitted, looks_now: int) -> bool:
        """Whether one of the looks so far was ordered beside its admission, and is one of now."""
        return admitted.waited < FRESH and looks_now > self.looks


@dataclass(frozen=True)
class Planned:
    """A batch that is still to come."""

    hosts: tuple[str, ...]
    targets: tuple[Target, ...]
    urgent: bool = False
    """They may be out of rotation already: whatever fails, each one gets its lane."""

    def begin(self, number: int) -> Batch:
        """It on its way, with nothing begun."""
        queues: dict[str, deque[Target]] = {host: deque() for host in self.hosts}
        for target in self.targets:
            queues[target.instance.host].append(target)
        return Batch(number, self.hosts, queues, self.urgent)


@dataclass
class Batch:
    """One batch on its way."""

    number: int
    hosts: tuple[str, ...]
    queues: dict[str, deque[Target]]
    urgent: bool
    running: dict[str, Running] = field(default_factory=dict)
    waiting: dict[str, Running] = field(default_factory=dict)
    """Those of ``running`` that want capacity, the longest waiting first."""
    failed: set[str] = field(default_factory=set)
    ahead: dict[str, Running] = field(default_factory=dict)
    """The one that writes its record already while another is admitted, by the other's id."""
    back: list[str] = field(default_factory=list)
    """Instances that came back with their new release."""
    paused: bool = False

    def has_more(self, running: Running) -> bool:
        """Whether others of its host come after ``running``."""
        target = running.target.instance
        return bool(self.queues.get(target.host)) or target.id in self.ahead

    def begin_next(self, plan: Plan, host: str, *, looked: bool) -> Running | None:
        """The next one of ``host``; ``None``: there is none."""
        queue = self.queues.get(host)
        if not queue:
            return None
        target, lane = recovering.lane_of(plan, queue.popleft())
        self.running[target.instance.id] = begun = Running(target, lane, looked=looked)
        return begun

    def begin_ahead(self, plan: Plan, running: Running) -> Running | None:
        """The next one of its host, begun before its turn; ``None``: nobody may be, or is."""
        instance = running.target.instance
        queue = self.queues.get(instance.host)
        if not queue or instance.id in self.ahead or running.going_back or running.homeward:
            return None
        if not recovering.may_record_ahead(plan, queue[0]):
            return None
        target, lane = recovering.lane_of(plan, queue.popleft(), ahead=True)
        self.ahead[instance.id] = begun = Running(target, lane, ahead=True)
        return begun

    def turn_of(self, running: Running) -> Running | None:
        """The one that was begun ahead of its turn, after ``running``; now it is its turn."""
        begun = self.ahead.pop(running.target.instance.id, None)
        if begun is None or begun.ended:
            return None
        begun.ahead = False
        self.running[begun.target.instance.id] = begun
        return begun

    def fail(self, host: str, why: str) -> None:
        """An instance of ``host`` failed: nothing that can wait begins there any more."""
        self.failed.add(host)
        if self.urgent:
            return
        self.queues.get(host, deque()).clear()
        for running in self.ahead.values():
            if running.target.instance.host == host:
                running.barred = why


def planned(plan: Plan) -> list[Planned]:
    """All batches of ``plan``: what may be out of rotation comes first, side by side."""
    urgent = recovering.urgent(plan)
    hosts = tuple(dict.fromkeys(target.instance.host for target in urgent))
    first = [Planned(hosts, urgent, urgent=True)] if urgent else []
    if plan.mode == "abort":  # the rest goes back as in any rollback, when these are through
        return first
    rest = [target for target in plan.changing if target.task == "roll"]
    return first + batches_of(plan.batches, rest)


def batches_of(batches: Sequence[tuple[str, ...]], targets: Sequence[Target]) -> list[Planned]:
    """``batches`` as far as they hold any of ``targets``."""
    by_host: dict[str, list[Target]] = {}
    for target in targets:
        by_host.setdefault(target.instance.host, []).append(target)
    found = []
    for hosts in batches:
        mine = tuple(host for host in hosts if host in by_host)
        if mine:
            found.append(Planned(mine, tuple(t for host in mine for t in by_host[host])))
    return found


def way_back(
    plan: Plan, upgraded: Sequence[Target], serves: Callable[[Sequence[ServerRef]], bool]
) -> list[Planned]:
    """The batches in which every upgraded instance goes to its own earlier release.

    Those that are down first, because that costs nothing and gives capacity; then the newest.
    """
    targets = [target.back() for target in reversed(upgraded) if target.earlier is not None]
    targets.sort(key=lambda target: serves(target.refs))
    size = max((len(hosts) for hosts in plan.batches), default=1)
    hosts = list(dict.fromkeys(target.instance.host for target in targets))
    batches = [tuple(hosts[i : i + size]) for i in range(0, len(hosts), size)]
    return batches_of(batches, targets)
