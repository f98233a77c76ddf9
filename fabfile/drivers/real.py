"""Runs a plan on real hosts: the engine decides in one thread, workers carry its orders out."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from fabfile.drivers.hands import Hands
from fabfile.drivers.hooks import HookHand
from fabfile.drivers.identity import whoami
from fabfile.drivers.prepare import Prepared
from fabfile.errors import EvenkeelError, PreflightFailed
from fabfile.remote import journal
from fabfile.remote.base import Command
from fabfile.rollout import history
from fabfile.rollout.engine import Engine
from fabfile.rollout.events import (
    Event,
    InstanceFinished,
    Notice,
    PhaseFinished,
    PhaseStarted,
    RolloutFinished,
    RolloutStarted,
)
from fabfile.rollout.lanes import Order
from fabfile.rollout.steps import Done, Failed, Hook, Observe, Outcome, Pause, Seen, Step, told

MAX_WORKERS = 256
"""Threads at most; each lane that waits for something holds one."""


class Driver:
    """One rollout, for real. :meth:`interrupt` may be called from anywhere, signals included."""

    def __init__(self, prepared: Prepared, emit: Callable[[Event], None]) -> None:
        assert prepared.locks is not None
        self._prepared = prepared
        self._emit = emit
        plan = prepared.plan
        self._reasons: dict[str, str] = {}
        self._engine = Engine(plan, self._heard)
        self._hands = Hands(
            plan,
            prepared.service,
            prepared.remotes,
            prepared.locks,
            prepared.pool,
            lambda host, text: emit(Notice(text, host)),
        )
        self._hooks = HookHand(plan, prepared.service, prepared.remotes, prepared.locks, emit)
        self.hook_failed = False
        """The rollout is done, and ``after_rollout`` failed."""
        self._inbox: queue.SimpleQueue[tuple[int, Outcome] | str] = queue.SimpleQueue()
        self._woken = threading.Event()
        self._silent: set[str] = set()
        widest = max(map(len, plan.batches), default=1) * max(plan.policy.instances_at_once, 1)
        # A recovery brings back side by side all that is out of rotation.
        widest = max(widest, sum(target.task != "roll" for target in plan.changing))
        self._workers = ThreadPoolExecutor(
            max_workers=min(widest + 2, MAX_WORKERS), thread_name_prefix="lane"
        )

    def run(self) -> RolloutFinished:
        """Carry the plan out; returns how it ended.

        Raises :class:`PreflightFailed` when ``before_rollout`` failed and nothing was drained.
        """
        plan = self._prepared.plan
        stopped = self._before_rollout()
        self._emit(
            RolloutStarted(
                plan.id,
                plan.service,
                plan.version,
                tuple(h for batch in plan.batches for h in batch),
                len(plan.changing),
                len(plan.targets),
            )
        )
        try:
            self._dispatch(self._engine.start())
            if stopped:
                self._dispatch(self._engine.interrupt(stopped))
            while self._engine.finished is None:
                message = self._inbox.get()
                if isinstance(message, str):
                    text = f"{message}: what is out of rotation comes back first, then it stops"
                    self._emit(Notice(text))
                    self._dispatch(self._engine.interrupt(message))
                else:
                    self._dispatch(self._engine.answer(*message))
        finally:
            self._workers.shutdown(wait=False, cancel_futures=True)
        self._after_rollout(self._engine.finished)
        self._close(self._engine.finished)
        return self._engine.finished

    def interrupt(self, why: str) -> None:
        """Begin no new drain; what is out of rotation is finished or restored first.

        Safe in a signal handler: it takes no lock.
        """
        self._inbox.put(why)
        self._woken.set()

    # hooks of the whole rollout

    def _before_rollout(self) -> str:
        """Run ``before_rollout`` where it is due; returns why nothing may begin after it, if so."""
        plan, due = self._prepared.plan, self._prepared.dues.before
        if plan.hooks.before_rollout is None or due == "skip":
            return ""
        if due == "as done":
            self._hooks.as_done("before_rollout", whoami())
            return ""
        self._emit(PhaseStarted("before_rollout"))
        self._workers.submit(self._work_before, due == "again")
        stopped = ""
        while isinstance(message := self._inbox.get(), str):
            self._emit(Notice(f"{message}: before_rollout comes to its end, and nothing after it"))
            stopped = stopped or message
        outcome = message[1]
        if isinstance(outcome, Failed):
            self._not_begun(outcome, unsure=due == "again")
        else:
            self._emit(PhaseFinished("before_rollout", f"done on {plan.first_host}"))
        return stopped

    def _work_before(self, again: bool) -> None:
        try:
            outcome = self._hooks.whole("before_rollout", again=again)
        except Exception as error:
            outcome = Failed(f"unexpected: {type(error).__name__}: {error}")
        self._inbox.put((0, outcome))

    def _not_begun(self, failed: Failed, *, unsure: bool) -> None:
        """``before_rollout`` failed: that ends the rollout, unless something was begun already.

        ``unsure``: an earlier run of it may still be at work, so a person has to end the rollout.
        """
        plan = self._prepared.plan
        if plan.way_back:
            self._emit(Notice(f"{failed.reason}: it stops no way back"))
            return
        self._workers.shutdown(wait=False)
        if unsure or any(target.change and target.task != "roll" for target in plan.targets):
            said = f"the rollout stays unfinished, `fab abort` ends it: {failed.reason}"
            raise PreflightFailed(said, detail=failed.detail)
        ended = RolloutFinished(
            plan.id, "held", plan.version, 0, 0, 0, len(plan.targets), (), failed.reason
        )
        self._tell({**self._facts(ended), "verdict": "not begun"})
        raise PreflightFailed(f"nothing was drained: {failed.reason}", detail=failed.detail)

    def _after_rollout(self, ended: RolloutFinished) -> None:
        plan, due = self._prepared.plan, self._prepared.dues.after
        wanted = plan.mode in ("deploy", "rollback", "resume") and ended.verdict == "done"
        if not wanted or plan.hooks.after_rollout is None or due == "skip":
            return
        outcome: Outcome = Failed("after_rollout had begun before: it is not run again")
        if due == "run":
            outcome = self._hooks.whole("after_rollout")
        if isinstance(outcome, Done):
            self._emit(Notice("after_rollout is done", plan.first_host))
            return
        self.hook_failed = True
        self._emit(Notice(f"the rollout is done, but {told(outcome)[0]}", plan.first_host))

    def _heard(self, event: Event) -> None:
        """Pass ``event`` on; why an instance ended as it did is kept for the history."""
        if isinstance(event, InstanceFinished) and event.reason:
            self._reasons[event.instance] = event.reason
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
        self._woken.wait(work.after)
        return self._observe()

    def _observe(self) -> Seen:
        pool = self._prepared.pool
        readings = {}
        for name, answer in pool.read().items():
            if isinstance(answer, EvenkeelError):
                if name not in self._silent:  # once, and not at every look
                    self._emit(Notice(f"can't be asked: {answer}", name))
                self._silent.add(name)
            else:
                if name in self._silent:
                    self._emit(Notice("can be asked again", name))
                self._silent.discard(name)
                readings[name, pool.hands[name].balancer.spec.backend] = answer
        return Seen(readings)

    def _close(self, ended: RolloutFinished) -> None:
        """Unless something is left to be put back, the hosts hear that it is over."""
        if ended.verdict == "needs-repair":
            return
        self._tell(self._facts(ended))

    def _facts(self, ended: RolloutFinished) -> dict[str, object]:
        fates = self._engine.fates
        return history.facts(self._prepared.plan, ended, fates, self._reasons, datetime.now(UTC))

    def _tell(self, facts: Mapping[str, object]) -> None:
        plan = self._prepared.plan
        balancers = {
            self._prepared.pool.hands[record.ref.balancer].balancer.host
            for target in plan.targets
            for record in target.servers
        }
        hosts = dict.fromkeys([*(h for batch in plan.batches for h in batch), *sorted(balancers)])
        text = json.dumps(facts, sort_keys=True).encode()
        running = []
        for host in hosts:
            try:
                transport = self._prepared.remotes.get(host)
                running.append(transport.start(Command(journal.finish_as_told(plan.journal), text)))
            except EvenkeelError as error:
                self._emit(Notice(f"not told that the rollout is over: {error}", host))
        for waiting in running:
            result = waiting.wait()
            if not result.ok:
                self._emit(Notice(f"not told that it is over: {result.tail(1)}", result.host))
