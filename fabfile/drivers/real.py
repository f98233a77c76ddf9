"""Runs a plan on real hosts: the engine decides in one thread, workers carry its orders out."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from fabfile.drivers.around import Around
from fabfile.drivers.closing import Closing
from fabfile.drivers.hands import Hands
from fabfile.drivers.haste import Haste, summary
from fabfile.drivers.hooks import HookHand
from fabfile.drivers.prepare import Prepared
from fabfile.errors import EvenkeelError, PreflightFailed
from fabfile.rollout.engine import Engine
from fabfile.rollout.events import (
    Event,
    Notice,
    RolloutFinished,
    RolloutStarted,
    StepProgress,
)
from fabfile.rollout.lanes import Order
from fabfile.rollout.steps import Failed, Hook, Observe, Outcome, Pause, Seen, Step

MAX_WORKERS = 256
"""Threads at most; each lane that waits for something holds one."""


class Driver:
    """One rollout, for real. :meth:`interrupt` may be called from anywhere, signals included."""

    def __init__(self, prepared: Prepared, emit: Callable[[Event], None]) -> None:
        assert prepared.locks is not None
        self._prepared = prepared
        self._emit = emit
        plan = prepared.plan
        self._closing = Closing(prepared, emit)
        self._engine = Engine(plan, self._closing.heard)
        self._hands = Hands(
            plan,
            prepared.service,
            prepared.remotes,
            prepared.locks,
            prepared.pool,
            self._notice,
            self._progress,
        )
        self._hooks = HookHand(plan, prepared.service, prepared.remotes, prepared.locks, emit)
        self._around = Around(prepared, self._hooks, emit)
        self.hook_failed = False
        """The rollout is done, and ``after_rollout`` failed."""
        self.hurried = False
        """It was told to stop a second time, and let go of everything."""
        self._inbox: queue.SimpleQueue[tuple[int, Outcome] | str | None] = queue.SimpleQueue()
        self._woken = threading.Event()
        """No pause goes on: somebody wants it to stop."""
        self._over = threading.Event()
        """Nobody wants to know any more what the next look would show."""
        self._silent: dict[str, str] = {}
        """By balancer: why it could not be asked when it was last tried."""
        widest = max(map(len, plan.batches), default=1) * max(plan.policy.instances_at_once, 1)
        # A recovery brings back side by side all that is out of rotation.
        widest = max(widest, sum(target.task != "roll" for target in plan.changing))
        # While one of a host is admitted, the next one's record is written.
        self._workers = ThreadPoolExecutor(
            max_workers=min(2 * widest + 2, MAX_WORKERS), thread_name_prefix="lane"
        )

    def run(self) -> RolloutFinished:
        """Carry the plan out; returns how it ended.

        Raises :class:`PreflightFailed` when ``before_rollout`` failed and nothing was drained.
        """
        plan = self._prepared.plan
        stopped = self._before_rollout()
        if self.hurried:
            return self._let_go()
        self._emit(
            RolloutStarted(
                plan.id,
                plan.service,
                plan.version,
                tuple(h for batch in plan.batches for h in batch),
                len(plan.changing),
                len(plan.targets),
                tuple(target.instance.id for target in plan.changing),
            )
        )
        try:
            self._dispatch(self._engine.start())
            if stopped:
                self._dispatch(self._engine.interrupt(stopped))
            while self._engine.finished is None:
                message = self._heard()
                if message is None:
                    return self._let_go()
                if isinstance(message, str):
                    text = f"{message}: what is out of rotation comes back first, then it stops"
                    self._emit(Notice(text))
                    self._dispatch(self._engine.interrupt(message))
                else:
                    self._dispatch(self._engine.answer(*message))
        finally:
            self._over.set()
            self._workers.shutdown(wait=False, cancel_futures=True)
        ended = self._engine.finished
        self.hook_failed = self._around.after(ended)
        if ended.verdict != "needs-repair":
            for line in self._hands.differences():
                self._emit(Notice(f"changed by somebody: {line}"))
        self._closing.tell(ended, self._engine.fates)
        return ended

    @property
    def replaced(self) -> bool:
        """Another controller had taken over before its end was told."""
        return self._closing.replaced

    def _before_rollout(self) -> str:
        """Run ``before_rollout`` where it is due; returns why nothing may begin after it, if so."""
        stopped = ""
        if not self._around.begin(lambda outcome: self._inbox.put((0, outcome))):
            return stopped
        while isinstance(message := self._heard(), str):
            self._emit(Notice(f"{message}: before_rollout comes to its end, and nothing after it"))
            stopped = stopped or message
        if message is None:
            self.hurried = True
            self._emit(Notice("before_rollout goes on there without us: `fab resume` asks for it"))
            return stopped
        ended = self._around.judge(message[1])
        if ended is not None:
            self._closing.tell(ended, self._engine.fates, "not begun")
            assert isinstance(message[1], Failed)
            raise PreflightFailed(f"nothing was drained: {ended.reason}", detail=message[1].detail)
        return stopped

    def _heard(self) -> tuple[int, Outcome] | str | None:
        """The next message; who pauses hears of one that wants it to stop."""
        message = self._inbox.get()
        if not isinstance(message, tuple):
            self._woken.set()  # takes a lock: not for a signal handler
        return message

    def interrupt(self, why: str) -> None:
        """Begin no new drain; what is out of rotation is finished or restored first.

        Safe in a signal handler: it takes no lock.
        """
        self._inbox.put(why)

    def hurry(self) -> None:
        """Return at once what is healthy, leave the rest as it is. Safe in a signal handler."""
        self._inbox.put(None)

    def _let_go(self) -> RolloutFinished:
        self.hurried = True
        self._emit(Notice("told to stop again: only what is healthy this moment comes back"))
        self._hands.halt()
        left = Haste(self._prepared, self._hands).let_go()
        for one in left:
            self._emit(Notice(f"{one.instance}: {one.text}"))
        ends = list(self._engine.fates.values())
        plan = self._prepared.plan
        ended = RolloutFinished(
            plan.id,
            "needs-repair",
            plan.version,
            ends.count("upgraded"),
            ends.count("current"),
            ends.count("restored"),
            ends.count("untouched") - len(summary(left)),
            summary(left),
            "it was told to stop at once: `fab repair` puts weights back, `fab resume` goes on,"
            " `fab abort` goes back",
        )
        self._emit(ended)
        return ended

    def _notice(self, host: str, text: str) -> None:
        if not self.hurried:  # what lanes still have to say then is about being cut off
            self._emit(Notice(text, host))

    def _progress(self, event: StepProgress) -> None:
        if not self.hurried:
            self._emit(event)

    def _dispatch(self, orders: Iterable[Order]) -> None:
        for order in orders:
            self._workers.submit(self._work, order)

    def _work(self, order: Order) -> None:
        try:
            outcome = self._outcome(order)
        except Exception as error:
            # A mistake of ours must stop one lane in an orderly way, not hang the rollout.
            outcome = Failed(f"unexpected: {type(error).__name__}: {error}")
        self._inbox.put((order.id, outcome))

    def _outcome(self, order: Order) -> Outcome:
        work = order.work
        if isinstance(work, Hook):
            return self._hooks.instance(work)
        if isinstance(work, Step):
            return self._hands.do(work)
        if isinstance(work, Pause):
            self._woken.wait(work.seconds)
            return Failed("paused")
        assert isinstance(work, Observe)
        return Seen({}) if self._over.wait(work.after) else self._observe()

    def _observe(self) -> Seen:
        pool = self._prepared.pool
        readings = {}
        for name, answer in pool.read().items():
            if isinstance(answer, EvenkeelError):
                if self._silent.get(name) != str(answer):
                    self._emit(Notice(f"can't be asked: {answer}", name))
                self._silent[name] = str(answer)
            else:
                if self._silent.pop(name, ""):
                    self._emit(Notice("answers again", name))
                readings[name, pool.hands[name].balancer.spec.backend] = answer
        return Seen(readings)
