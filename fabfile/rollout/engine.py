"""The coordinator: owns every lane, grants capacity, walks the batches, decides what failure means.

It does no I/O and knows no clock. A driver calls :meth:`Engine.start`, carries the returned
orders out, and feeds each outcome to :meth:`Engine.answer`, from one thread, until
:attr:`Engine.finished`. So no decision is ever a race.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from fabfile.rollout import events as e
from fabfile.rollout import fates
from fabfile.rollout.counting import Counting
from fabfile.rollout.failures import Failures
from fabfile.rollout.grants import OBSERVE_AGAIN, Grants
from fabfile.rollout.lanes import Batch, Order, Running, planned, way_back
from fabfile.rollout.plan import Plan, Target
from fabfile.rollout.steps import (
    Admitted,
    AskCapacity,
    AwaitAdmitted,
    Done,
    Ended,
    Failed,
    Observe,
    Outcome,
    Pause,
    Record,
    Refused,
    Seen,
    Step,
    TakeOut,
    Work,
    told,
)
from fabfile.rollout.strategies.rolling import take_away
from fabfile.rollout.watch import LOOK, LOOK_AT_END, Bad, Watch


class Engine:
    """One rollout. ``emit`` gets every event as it happens."""

    def __init__(self, plan: Plan, emit: Callable[[e.Event], None], *, steps: bool = True) -> None:
        """``steps``: whether anybody wants to hear of every single step."""
        self.plan = plan
        self._steps = steps
        self.fates = fates.at_start(plan)
        self.finished: e.RolloutFinished | None = None
        self._emit = emit
        self._grants = Grants(plan, emit)
        self._orders: dict[int, tuple[Work, Running | None]] = {}
        self._next_id = 1
        self._late: dict[int, Running] = {}
        """By order: whose last record is to be closed when that has been answered."""
        self._back = plan.mode == "abort"
        self._backlog = deque(planned(plan))
        self._count = len(self._backlog)
        self._batch: Batch | None = None
        self._watch = Watch(plan)
        self._counting = Counting()
        self._watching: int | None = None
        self._observing = False
        self._looks = 0
        """How often all balancers were looked at."""
        self._turning = False
        self._pausing: int | None = None
        self._failures = Failures(plan)
        self._upgraded = fates.upgraded_before(plan)
        for target in self._upgraded:
            self._watch.begin(target)

    def start(self) -> list[Order]:
        """The first orders; none when there is nothing to do (then it is finished)."""
        return self._next_batch() if self._backlog or not self._back else self._begin_to_turn()

    def answer(self, order: int, outcome: Outcome) -> list[Order]:
        """Take in what became of ``order``; returns what is to be done next."""
        work, running = self._orders.pop(order, (None, None))
        if running is not None:
            late = self._late.pop(order, None)
            orders = self._advance(running, outcome)
            return self._after(orders + (self._order_step(late) if late else []))
        if isinstance(work, Observe):
            # An observer that broke has seen nothing, and nothing seen grants nothing.
            return self._seen(order, outcome if isinstance(outcome, Seen) else Seen({}))
        return self._unpause() if order == self._pausing else []

    def interrupt(self, why: str) -> list[Order]:
        """Begin no new drain; what is out of rotation is finished or restored first.

        A pause between two batches ends at once: its order need not be answered any more. And no
        last record waits any longer: told again, its instance would count as out of rotation.
        """
        self._failures.stop(why)
        self._watch.end()
        late = [order for lane in self._late.values() for order in self._order_step(lane)]
        self._late.clear()
        return late if self._pausing is None or self.finished else late + self._unpause()

    def _unpause(self) -> list[Order]:
        if self._pausing is not None:
            self._orders.pop(self._pausing, None)
            self._pausing = None
        return self._after([])

    # lanes

    def _advance(
        self, running: Running, outcome: Outcome | None, *, asked: bool = True
    ) -> list[Order]:
        """``asked``: ``outcome`` is an answer to what it asked, and not our own word."""
        if running.step is not None and outcome is not None:
            if self._steps and asked:
                self._tell(running.target, running.step, outcome)
            outcome = self._call_off(running, running.step, outcome)
            if isinstance(running.step, AwaitAdmitted) and isinstance(outcome, Admitted):
                self._take_in(running, outcome)
        try:
            step = next(running.lane) if outcome is None else running.lane.send(outcome)
        except StopIteration as stop:
            return self._ended(running, stop.value)
        running.step = step
        running.looked = running.looked and isinstance(step, AskCapacity | Record)
        if isinstance(step, AskCapacity):
            return self._asked(running)
        if isinstance(step, Record) and step.progress == "done":
            return self._through(running)
        orders = self._order_step(running)
        if isinstance(step, AwaitAdmitted) and self._batch and self._batch.has_more(running):
            running.looks = self._looks
            orders += self._look(0.0)  # for the question of the next one
            orders += self._begin_ahead(running)
        return orders

    def _through(self, running: Running) -> list[Order]:
        """It takes requests again, and only its record is left: nobody has to wait for that.

        Where the next one of its host drains at once, the record waits until that was answered.
        """
        running.through = True
        self._grants.give_back(running)
        orders, host = self._begin_after(running), running.target.instance.host
        for order in orders:
            if isinstance(order.work, TakeOut) and order.work.target.instance.host == host:
                self._late[order.id] = running
                return orders
        return [*self._order_step(running), *orders]

    def _order_step(self, running: Running) -> list[Order]:
        assert running.step is not None
        self._say_started(running.step)
        return [self._order(running.step, running)]

    def _asked(self, running: Running) -> list[Order]:
        """It wants capacity: by what was seen a moment ago, or by a look of its own."""
        batch = self._batch
        assert batch is not None
        if running.ahead:
            return []  # it asks when its turn comes
        assert running.step is not None
        self._say_started(running.step)
        orders: list[Order] = []
        if running.granted:  # what it brought has failed: nobody waits behind that
            running.going_back = True
            begun = batch.turn_of(running)
            orders += self._send_home(begun, "the one before it failed") if begun else []
        batch.waiting[running.target.instance.id] = running
        looked, running.looked = running.looked, False
        return orders + (self._grant() if looked else self._look(0.0))

    def _say_started(self, step: Step) -> None:
        if self._steps:
            self._emit(e.StepStarted(step.target.instance.id, step.name))

    def _call_off(self, running: Running, step: Step, outcome: Outcome) -> Outcome:
        """The last moment at which a lane can turn around without having drained anything."""
        recorded = isinstance(step, Record) and step.progress in ("ahead", "undo")
        if not recorded or running.homeward or isinstance(outcome, Failed):
            return outcome
        why = running.barred or self._no_more()
        if not why:
            return outcome
        running.called_off = True
        return Refused(why)

    def _tell(self, target: Target, step: Step, outcome: Outcome) -> None:
        note, detail = told(outcome)
        ok = not isinstance(outcome, Failed | Refused)
        self._emit(e.StepFinished(target.instance.id, step.name, ok, note, detail))

    def _ended(self, running: Running, ended: Ended) -> list[Order]:
        batch = self._batch
        assert batch is not None
        target = running.target
        batch.running.pop(target.instance.id, None)
        running.ended = True
        fate = fates.as_seen(self.plan.mode, ended.fate, back=self._back)
        self.fates[target.instance.id] = fate
        barred = running.called_off and bool(running.barred)
        self._emit(fates.told(target, ended, fate, barred=barred))
        if ended.fate == "upgraded":
            if not self._back:
                self._upgraded.append(target)
                self._watch.begin(target)
                batch.back.append(target.instance.id)
        elif not (running.called_off and ended.fate == "untouched") and not running.homeward:
            self._failures.count(batch, target, ended.reason)
        if ended.fate != "broken":
            # What is broken stays counted as gone: a reading from before may still show it.
            self._grants.give_back(running)
        return [] if running.through or running.ahead else self._begin_after(running)

    def _take_in(self, running: Running, admitted: Admitted) -> None:
        """What an instance that was admitted at once shows; only then the look beside it counts."""
        running.looked = running.was_seen_beside(admitted, self._looks)
        if running.looked:
            self._grants.see(Seen(admitted.readings, partial=True))

    def _begin_ahead(self, running: Running) -> list[Order]:
        """The next one of its host writes its record already; it drains when its turn comes."""
        assert self._batch is not None
        begun = None if self._no_more() else self._batch.begin_ahead(self.plan, running)
        return self._advance(begun, None) if begun else []

    def _begin_after(self, running: Running) -> list[Order]:
        """It is through: the turn of the next one of its host has come."""
        assert self._batch is not None
        begun = self._batch.turn_of(running)
        if begun is None:
            return self._begin_next(running.target.instance.host, looked=running.looked)
        why = begun.barred or self._no_more()
        if why:
            return self._send_home(begun, why)
        if not isinstance(begun.step, AskCapacity):
            return []  # its record is still being written
        begun.looked = running.looked
        return self._asked(begun)

    def _send_home(self, begun: Running, why: str) -> list[Order]:
        """One that was ahead closes its record and is left alone; nobody follows it."""
        begun.barred, begun.through = why, True
        if not isinstance(begun.step, AskCapacity):
            return []  # as soon as its record is written
        begun.called_off = True
        return self._advance(begun, Refused(why), asked=False)

    def _begin_next(self, host: str, *, looked: bool = False) -> list[Order]:
        assert self._batch is not None
        stop = self._no_more()
        begun = None if stop else self._batch.begin_next(self.plan, host, looked=looked)
        return self._advance(begun, None) if begun else []

    def _no_more(self) -> str:
        return self._failures.no_more(self._batch)

    # what people get from those that came back

    def _seen(self, order: int, seen: Seen) -> list[Order]:
        self._grants.see(seen)
        self._counting.see(seen.readings)
        orders = self._gone_bad(self._watch.see(seen.readings))
        if order == self._watching:
            self._watching = None
            return self._after(orders)
        self._observing = False
        self._looks += 1
        return self._turn_back() if self._turning else self._after(orders + self._grant())

    def _gone_bad(self, found: Iterable[Bad]) -> list[Order]:
        """Before anything else their earlier release takes their place."""
        orders: list[Order] = []
        for bad in found:
            batch, target, name = self._batch, bad.target, bad.target.instance.id
            assert batch is not None
            self._emit(e.StepFinished(name, "watch", False, bad.reason))
            self._upgraded.remove(target)
            self._failures.count(batch, target, bad.reason)
            if self.plan.mode in ("rollback", "restart"):  # nothing better to go back to
                self.fates[name] = "broken"
                continue
            lane = take_away(target, self.plan.drain, Failed(bad.reason))
            batch.running[name] = running = Running(target, lane, homeward=True)
            orders += self._advance(running, None)
        return orders + self._unpause() if orders else orders

    def _keep_watch(self, after: float) -> list[Order]:
        if self._watching is not None or not self._watch:
            return []
        order = self._order(Observe(after), None)
        self._watching = order.id
        return [order]

    # capacity

    def _look(self, after: float) -> list[Order]:
        was, self._observing = self._observing, True
        return [] if was else [self._order(Observe(after), None)]

    def _grant(self) -> list[Order]:
        batch = self._batch
        if batch is None:
            return []
        orders: list[Order] = []
        for name, lane in list(batch.waiting.items()):
            reply = self._decide(batch, lane)
            if reply is not None:
                del batch.waiting[name]
                orders += self._advance(lane, reply)
        return orders

    def _decide(self, batch: Batch, lane: Running) -> Done | Refused | None:
        why = lane.barred or self._no_more()
        if why and not (lane.granted or lane.homeward):
            lane.called_off = True
            return Refused(why)
        return self._grants.decide(
            lane, others=len(batch.running) > len(batch.waiting), back=self._back
        )

    # batches

    def _next_batch(self) -> list[Order]:
        if not self._backlog or self._failures.stopping:
            return self._finish()
        planned = self._backlog.popleft()
        number = self._count - len(self._backlog)
        self._batch = planned.begin(number)
        self._emit(e.BatchStarted(number, self._count, planned.hosts, self._back))
        orders: list[Order] = []
        for _ in range(max(self.plan.policy.instances_at_once, 1)):
            for host in planned.hosts:
                orders += self._begin_next(host)
        return self._after(orders)  # a lane may have ended without asking for anything

    def _after(self, orders: list[Order]) -> list[Order]:
        """What follows from where things stand now: look again, wait, or the batch's end."""
        batch = self._batch
        if batch is None or self.finished:
            return orders
        if batch.waiting:
            orders += self._look(OBSERVE_AGAIN)
        if batch.running or self._pausing is not None:
            return orders + (self._keep_watch(LOOK) if self._watch.active else [])
        if not self._no_more():
            # At the very end all of them have to be well, however long ago they came back.
            names = batch.back if self._backlog else self._watch.names
            if self._watch.unseen(names):
                return orders + self._look(0.0)
            if self._watch.undecided(names):
                return orders + self._keep_watch(LOOK_AT_END)
        if self._backlog and not self._back and self._failures.pauses(batch):
            batch.paused = True
            pause = self._order(Pause(self.plan.policy.pause), None)
            self._pausing = pause.id
            return [*orders, pause, *self._keep_watch(LOOK)]
        self._batch = None
        self._emit(e.BatchFinished(batch.number, tuple(sorted(batch.failed))))
        return orders + self._after_batch(batch)

    def _after_batch(self, batch: Batch) -> list[Order]:
        policy = self.plan.policy
        if batch.urgent and self._back:
            return self._begin_to_turn()
        if self._failures.over(batch):
            if policy.on_failure == "hold" or self._back or self.plan.mode == "repair":
                return self._finish()
            if policy.on_failure == "rollback":
                return self._begin_to_turn()
        return self._next_batch()

    def _begin_to_turn(self) -> list[Order]:
        self._back = self._turning = True
        self._watch.end()
        return self._look(0.0)

    def _turn_back(self) -> list[Order]:
        self._turning = False
        self._failures.forget()
        self._backlog = deque(way_back(self.plan, self._upgraded, self._grants.serves))
        self._count = len(self._backlog)
        return self._next_batch()

    def _finish(self) -> list[Order]:
        stopping = self._failures.stopping
        why = self._failures.reason or stopping
        self.finished = fates.finished(
            self.plan, self.fates, why, back=self._back, stopping=bool(stopping)
        )
        for counted in self._counting.told():
            self._emit(counted)
        self._emit(self.finished)
        return []

    def _order(self, work: Work, running: Running | None) -> Order:
        order = Order(self._next_id, work)
        self._next_id += 1
        self._orders[order.id] = (work, running)
        return order
