"""The clock: runs the engine and everything that takes time, one event after the other."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, Literal

from fabfile.drivers.simulated.faults import Fault
from fabfile.drivers.simulated.fleet import Fleet, Process
from fabfile.drivers.simulated.hands import Hands, Watch
from fabfile.drivers.simulated.timing import Timing
from fabfile.drivers.simulated.traffic import Traffic
from fabfile.rollout.engine import Engine
from fabfile.rollout.events import Event, RolloutFinished
from fabfile.rollout.lanes import Order
from fabfile.rollout.plan import Plan
from fabfile.rollout.steps import Admit, Cut, Record, Recreate, Restore, Shut, TakeOut

HORIZON = 30 * 24 * 3600.0
"""Virtual seconds after which a rollout counts as one that never ends."""
EFFECTS = (Record, TakeOut, Shut, Cut, Recreate, Admit, Restore)
"""The steps that change something."""


@dataclass(frozen=True)
class Crash:
    """The controller dies with order number ``order`` (from 1, in the order they are given).

    ``done``: its effect has come to be, but nobody heard of it · ``half``: it was begun, up to
    its first wait or its first balancer · ``not``: it never left. What other orders were doing
    then goes on to its end or stops where it is, by the simulation's seed.
    """

    order: int
    effect: Literal["done", "half", "not"] = "done"


@dataclass
class Simulation:
    """What came of it."""

    fleet: Fleet
    began: float = 0.0
    """The fleet's time at the start."""
    finished: RolloutFinished | None = None
    """``None``: the controller crashed."""
    events: list[tuple[float, Event]] = field(default_factory=list)
    """With the fleet's virtual time in seconds."""
    orders: int = 0
    """How many orders were given."""
    interrupted_at: int | None = None
    """How many events there were when Ctrl-C came."""

    @property
    def seconds(self) -> float:
        """Virtual time from the start to the end."""
        return self.fleet.now - self.began


def simulate(
    plan: Plan,
    fleet: Fleet | None = None,
    timing: Timing | None = None,
    *,
    faults: Iterable[Fault] = (),
    traffic: Traffic | None = None,
    seed: int = 0,
    crash: Crash | None = None,
    interrupt_after: int | None = None,
    watch: Watch | None = None,
    on_event: Callable[[float, Event], None] | None = None,
    rough: bool = False,
) -> Simulation:
    """Run ``plan`` on ``fleet`` (as the plan found it when ``None``), which is changed by it.

    The same arguments give the same result; ``seed`` shuffles what happens at the same moment.
    ``interrupt_after``: Ctrl-C right after that many orders were given. With ``on_event`` events
    go there instead of into ``Simulation.events``. ``rough``: no event for single steps, and all
    balancers are changed in the same moment, which is quicker by half. Raises
    ``RuntimeError`` for a rollout that never ends.
    """
    fleet = fleet or Fleet.of_plan(plan)
    fleet.timing = timing or fleet.timing
    fleet.rng.seed(seed)
    clock = _Clock(plan, fleet, watch, crash, interrupt_after, on_event, rough)
    for fault in faults:
        clock.at(fault.at, fault.happen(fleet))
    if traffic is not None:
        traffic.begin(fleet)
    return clock.run()


class _Clock:
    """A heap of processes, each to go on at its time."""

    def __init__(
        self,
        plan: Plan,
        fleet: Fleet,
        watch: Watch | None,
        crash: Crash | None,
        interrupt_after: int | None,
        on_event: Callable[[float, Event], None] | None,
        rough: bool,
    ) -> None:
        self._plan = plan
        self._fleet = fleet
        self._rng = random.Random(fleet.rng.random())  # noqa: S311 (not for secrets)
        self._dice = self._rng.random
        self._heap: list[tuple[float, float, int, Any, int]] = []
        self._pushed = 0
        self._outstanding = 0
        self._crash = crash
        self._crashed = False
        self._effects: set[int] = set()
        self._interrupt_after = interrupt_after
        self._jitter = fleet.timing.jitter
        stagger = bool(crash or self._jitter) and not rough
        self._hands = Hands(fleet, plan.drain.mode, watch, stagger=stagger)
        self._result = result = Simulation(fleet, fleet.now)
        keep = on_event or (lambda time, event: result.events.append((time, event)))
        self._engine = Engine(plan, lambda event: keep(fleet.now, event), steps=not rough)
        fleet.spawn = lambda process: self._go(process, 0)
        self._began = fleet.now
        for moment, process in fleet.pending:
            self._push(moment, process, 0)

    def at(self, moment: float, process: Process) -> None:
        """Start ``process`` ``moment`` seconds from now; at 0 before anything else."""
        if moment <= 0:
            self._go(process, 0)
            return
        self._push(self._fleet.now + moment, process, 0)

    def run(self) -> Simulation:
        """Until the engine has finished or the controller has died."""
        self._fleet.plans.append(
            Plan.from_json(self._plan.to_json()) if self._crash else self._plan
        )
        if self._plan.of:  # as a recovery that writes its plan
            for target in self._fleet.found(self._plan).ahead:
                self._fleet.undo.discard(target.instance.id)
        self._give(self._engine.start())
        while self._engine.finished is None and not self._crashed:
            if not self._outstanding or self._fleet.now > self._began + HORIZON:
                raise RuntimeError(f"the rollout is stuck at {self._fleet.now:.1f} s")
            now, _, _, process, order = heappop(self._heap)
            self._fleet.now = now
            self._go(process, order)
        self._result.finished = ended = self._engine.finished
        if ended is not None and ended.verdict != "needs-repair":
            self._fleet.ended[self._plan.journal] = ended.verdict
        self._fleet.spawn = lambda _: None  # no circle: a large fleet is gone with its last user
        self._fleet.pending = [
            (entry[0], entry[3])
            for entry in sorted(self._heap, key=lambda entry: entry[:3])
            if not entry[4]
        ]
        return self._result

    def _push(self, moment: float, process: Any, order: int) -> None:
        self._pushed += 1
        # Of what falls on the same moment any may come first: the seed says which.
        heappush(self._heap, (moment, self._dice(), self._pushed, process, order))

    def _go(self, process: Any, order: int) -> None:
        """Take ``process`` to its next wait or its end; ``order`` 0 answers nobody."""
        try:
            delay = next(process)
        except StopIteration as stop:
            if order:
                self._outstanding -= 1
                if self._crash is not None and self._crash.order == order:
                    self._die()
                else:
                    self._give(self._engine.answer(order, stop.value))
            return
        if order and self._jitter:
            delay *= 1 + self._jitter * self._dice()
        self._push(self._fleet.now + delay, process, order)

    def _give(self, orders: Sequence[Order]) -> None:
        for order in orders:
            if self._crashed:
                return
            self._result.orders += 1
            process = self._hands.begin(order.work)
            if self._crash is not None and self._crash.order == order.id:
                if self._crash.effect == "half":
                    # A container is gone after the first wait, one balancer changed after two.
                    for _ in range(1 if isinstance(order.work, Recreate) else 2):
                        next(process, None)
                if self._crash.effect != "done":
                    self._die()
                    return
            if self._crash is not None and isinstance(order.work, EFFECTS):
                self._effects.add(order.id)
            self._outstanding += 1
            self._go(process, order.id)
            if self._interrupt_after is not None and order.id >= self._interrupt_after:
                self._interrupt_after = None
                self._result.interrupted_at = len(self._result.events)
                self._give(self._engine.interrupt("interrupted"))

    def _die(self) -> None:
        """No answer is heard any more; what was under way may or may not come to its end."""
        self._crashed = True
        for _, _, _, process, order in sorted(self._heap, key=lambda entry: entry[:3]):
            if order in self._effects and self._rng.random() < 0.5:
                for _ in process:
                    pass
