"""The coordinator: owns every lane, grants capacity, walks the batches, decides what failure means.

It does no I/O and knows no clock. A driver calls :meth:`Engine.start`, carries the returned
orders out, and feeds each outcome to :meth:`Engine.answer`, from one thread, until
:attr:`Engine.finished`. So no decision is ever a race.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fabfile.balancers.model import ServerRef
from fabfile.rollout import capacity
from fabfile.rollout.batches import over_budget
from fabfile.rollout.events import (
    BatchFinished,
    BatchStarted,
    CapacityAwaited,
    CapacityLeft,
    Event,
    InstanceFinished,
    RolloutFinished,
    StepFinished,
    StepStarted,
    Verdict,
)
from fabfile.rollout.plan import Plan, Target
from fabfile.rollout.steps import (
    AskCapacity,
    Busy,
    Done,
    Ended,
    Failed,
    Fate,
    Lane,
    Observe,
    Outcome,
    Pause,
    Refused,
    Reverted,
    Seen,
    Step,
    Work,
)
from fabfile.rollout.strategies import rolling

OBSERVE_AGAIN = 0.2
"""Seconds between two looks at the capacity while a lane waits for it."""
CAPACITY_PATIENCE = 300
"""Looks (a minute's worth) at a capacity that nothing of ours is holding, before giving up."""

FATE_OF_RETURN: dict[Fate, Fate] = {
    "upgraded": "restored",
    "restored": "upgraded",
    "untouched": "upgraded",
    "current": "current",
    "broken": "broken",
}
"""A rollback is an upgrade to the earlier release: how its lanes' ends read from outside."""


@dataclass(frozen=True)
class Order:
    """One piece of work for the driver; its outcome comes back under ``id``."""

    id: int
    work: Work


@dataclass
class _Running:
    """A lane and where it stands."""

    target: Target
    lane: Lane
    step: Step | None = None
    held: tuple[ServerRef, ...] = ()
    denied: int = 0
    told: str = ""


@dataclass
class _Batch:
    """One batch on its way."""

    number: int
    hosts: tuple[str, ...]
    queues: dict[str, deque[Target]]
    running: list[_Running] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)


class Engine:
    """One rollout. ``emit`` gets every event as it happens."""

    def __init__(self, plan: Plan, emit: Callable[[Event], None]) -> None:
        self.plan = plan
        self.fates: dict[str, Fate] = {
            target.instance.id: "untouched" if target.change else "current"
            for target in plan.targets
        }
        self.finished: RolloutFinished | None = None
        self._emit = emit
        self._pools = capacity.pools(plan.baseline, plan.summed)
        self._orders: dict[int, _Running | None] = {}
        self._next_id = 1
        self._backlog = deque(self._batches_of(plan.batches, plan.changing))
        self._count = len(self._backlog)
        self._batch: _Batch | None = None
        self._observing = False
        self._back = False
        self._stopping = ""
        self._reason = ""
        self._failures = 0
        self._upgraded: list[Target] = []

    def start(self) -> list[Order]:
        """The first orders; none when there is nothing to do (then it is finished)."""
        return self._next_batch()

    def answer(self, order: int, outcome: Outcome) -> list[Order]:
        """Take in what became of ``order``; returns what is to be done next."""
        running = self._orders.pop(order)
        if running is not None:
            return self._after(self._advance(running, outcome))
        if isinstance(outcome, Seen):
            self._observing = False
            return self._after(self._grant(outcome))
        return self._after(self._next_batch())

    def interrupt(self, why: str) -> list[Order]:
        """Begin no new drain; what is out of rotation is finished or restored first."""
        self._stopping = self._stopping or why
        return []

    # lanes

    def _advance(self, running: _Running, outcome: Outcome | None) -> list[Order]:
        if running.step is not None and outcome is not None:
            self._tell(running.target, running.step, outcome)
        try:
            step = next(running.lane) if outcome is None else running.lane.send(outcome)
        except StopIteration as stop:
            return self._ended(running, stop.value)
        running.step = step
        self._emit(StepStarted(step.target.instance.id, step.name))
        if isinstance(step, AskCapacity):
            return self._look(0.0)
        return [self._order(step, running)]

    def _tell(self, target: Target, step: Step, outcome: Outcome) -> None:
        note = detail = ""
        match outcome:
            case Failed(reason, text):
                note, detail = reason, text
            case Refused(reason):
                note = reason
            case Busy(sessions):
                note = f"{sum(sessions.values())} still in flight"
            case Reverted(balancers):
                note = "undone on " + ", ".join(balancers)
            case Done(text):
                note = text
        ok = not isinstance(outcome, Failed | Refused)
        self._emit(StepFinished(target.instance.id, step.name, ok, note, detail))

    def _ended(self, running: _Running, ended: Ended) -> list[Order]:
        batch = self._batch
        assert batch is not None
        batch.running.remove(running)
        target = running.target
        fate: Fate = ended.fate
        if self._back:
            fate = FATE_OF_RETURN[fate]
        self.fates[target.instance.id] = fate
        release = target.wanted if ended.fate == "upgraded" else target.earlier
        self._emit(
            InstanceFinished(
                target.instance.id,
                fate,
                release.version if release else "",
                ended.reason,
                ended.detail,
            )
        )
        if ended.fate == "upgraded":
            if not self._back:
                self._upgraded.append(target)
        elif not (self._stopping and ended.fate == "untouched"):
            batch.failed.add(target.instance.host)
            self._failures += 1
            self._reason = self._reason or f"{target.instance.id}: {ended.reason}"
            batch.queues[target.instance.host].clear()
        return self._begin_next(target.instance.host)

    def _begin_next(self, host: str) -> list[Order]:
        batch = self._batch
        assert batch is not None
        queue = batch.queues[host]
        if not queue or self._stopping or self._hopeless(batch):
            return []
        target = queue.popleft()
        running = _Running(target, rolling.stop_first(target, self.plan.drain))
        batch.running.append(running)
        return self._advance(running, None)

    def _hopeless(self, batch: _Batch) -> bool:
        """The batch has used up its budget: what would start now would only be undone."""
        return self.plan.policy.on_failure != "continue" and self._over(batch)

    def _over(self, batch: _Batch) -> bool:
        policy = self.plan.policy
        if policy.max_failures is not None and self._failures > policy.max_failures:
            return True
        return over_budget(len(batch.failed), len(batch.hosts), policy.max_fail_percentage)

    # capacity

    def _look(self, after: float) -> list[Order]:
        if self._observing:
            return []
        self._observing = True
        return [self._order(Observe(after), None)]

    def _waiting(self) -> list[_Running]:
        lanes = self._batch.running if self._batch else []
        return [lane for lane in lanes if isinstance(lane.step, AskCapacity) and not lane.held]

    def _grant(self, seen: Seen) -> list[Order]:
        orders: list[Order] = []
        for lane in self._waiting():
            reply = self._decide(lane, seen)
            if reply is not None:
                orders += self._advance(lane, reply)
        return orders

    def _decide(self, lane: _Running, seen: Seen) -> Done | Refused | None:
        if self._stopping:
            return Refused(self._stopping)
        held = {ref for other in (self._batch.running if self._batch else []) for ref in other.held}
        refused = capacity.refusal(
            lane.target.refs,
            self._pools,
            seen.readings,
            held,
            self.plan.policy.min_capacity,
            allow_outage=self.plan.allow_outage,
        )
        if refused is None:
            lane.held = lane.target.refs
            self._emit(CapacityLeft(lane.target.instance.id, self._left(seen, held)))
            return Done()
        if str(refused) != lane.told:
            lane.told = str(refused)
            self._emit(CapacityAwaited(lane.target.instance.id, lane.told))
        lane.denied = 0 if held else lane.denied + 1
        return (
            Refused(f"no capacity to spare: {refused}") if lane.denied > CAPACITY_PATIENCE else None
        )

    def _left(self, seen: Seen, held: set[ServerRef]) -> tuple[tuple[str, int, int], ...]:
        out = held | {
            ref for lane in (self._batch.running if self._batch else []) for ref in lane.held
        }
        return tuple(
            (
                pool.name,
                sum(
                    capacity.weight_now(ref, seen.readings)
                    for ref in pool.baseline
                    if ref not in out
                ),
                pool.total,
            )
            for pool in self._pools
        )

    # batches

    def _batches_of(
        self, batches: Sequence[tuple[str, ...]], targets: Sequence[Target]
    ) -> list[tuple[tuple[str, ...], tuple[Target, ...]]]:
        found = []
        for hosts in batches:
            mine = tuple(target for target in targets if target.instance.host in hosts)
            if mine:
                found.append(
                    (tuple(h for h in hosts if any(t.instance.host == h for t in mine)), mine)
                )
        return found

    def _next_batch(self) -> list[Order]:
        if not self._backlog or self._stopping:
            return self._finish()
        hosts, targets = self._backlog.popleft()
        number = self._count - len(self._backlog)
        queues: dict[str, deque[Target]] = {host: deque() for host in hosts}
        for target in targets:
            queues[target.instance.host].append(target)
        self._batch = _Batch(number, hosts, queues)
        self._emit(BatchStarted(number, self._count, hosts, self._back))
        orders: list[Order] = []
        for _ in range(max(self.plan.policy.instances_at_once, 1)):
            for host in hosts:
                orders += self._begin_next(host)
        return orders

    def _after(self, orders: list[Order]) -> list[Order]:
        """What follows from where things stand now: look again, or the batch's end."""
        if self._waiting():
            orders += self._look(OBSERVE_AGAIN)
        batch = self._batch
        if orders or batch is None or batch.running or self.finished:
            return orders
        self._batch = None
        self._emit(BatchFinished(batch.number, tuple(sorted(batch.failed))))
        return self._after_batch(batch)

    def _after_batch(self, batch: _Batch) -> list[Order]:
        policy = self.plan.policy
        if self._over(batch):
            if policy.on_failure == "hold" or self._back:
                return self._finish()
            if policy.on_failure == "rollback":
                self._turn_back()
                return self._next_batch()
        if self._backlog and policy.pause > 0 and not self._stopping and not self._back:
            return [self._order(Pause(policy.pause), None)]
        return self._next_batch()

    def _turn_back(self) -> None:
        """Every upgraded instance goes to its own earlier release, the newest first."""
        self._back = True
        targets = [t.back() for t in reversed(self._upgraded) if t.earlier is not None]
        size = max(len(hosts) for hosts in self.plan.batches)
        hosts = list(dict.fromkeys(target.instance.host for target in targets))
        batches = [tuple(hosts[i : i + size]) for i in range(0, len(hosts), size)]
        self._backlog = deque(self._batches_of(batches, targets))
        self._count = len(self._backlog)

    def _finish(self) -> list[Order]:
        fates = list(self.fates.values())
        broken = tuple(sorted(name for name, fate in self.fates.items() if fate == "broken"))
        self.finished = RolloutFinished(
            self.plan.id,
            self._verdict(fates),
            self.plan.version,
            fates.count("upgraded"),
            fates.count("current"),
            fates.count("restored"),
            fates.count("untouched"),
            broken,
            self._reason or self._stopping,
        )
        self._emit(self.finished)
        return []

    def _verdict(self, fates: Sequence[Fate]) -> Verdict:
        if "broken" in fates:
            return "needs-repair"
        if all(fate in ("upgraded", "current") for fate in fates) and not self._back:
            return "done"
        if self._stopping:
            return "interrupted"
        return "held" if "upgraded" in fates else "rolled-back"

    def _order(self, work: Work, running: _Running | None) -> Order:
        order = Order(self._next_id, work)
        self._next_id += 1
        self._orders[order.id] = running
        return order
