"""In and out of rotation: what the steps that concern balancers do for real.

Every order goes to all balancers of an instance side by side and is judged by what each of them
shows afterwards, in the same trip.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from fabfile.balancers.haproxy import change
from fabfile.balancers.model import ServerRecord, ServerRef
from fabfile.drivers import standing
from fabfile.drivers.balancers import Pool
from fabfile.drivers.operators import Operators
from fabfile.drivers.orders import Orders
from fabfile.drivers.standing import Answers, Servers
from fabfile.inventory.model import DrainMode
from fabfile.rollout.events import StepProgress
from fabfile.rollout.plan import Target
from fabfile.rollout.steps import (
    Admit,
    Admitted,
    AwaitAdmitted,
    AwaitIdle,
    Busy,
    Cut,
    Done,
    Failed,
    Idle,
    Outcome,
    Restore,
    Reverted,
    Shut,
    Step,
    TakeOut,
)

POLL = 0.02
"""Seconds between two readings while something is awaited."""
PASS = 10.0
"""Seconds that checks of a server whose container never stopped may take to pass again."""
SAY_AFTER, SAY_EVERY = 0.5, 1.0
"""Seconds until somebody is told what is waited for, and between two such words."""


class Rotation:
    """The servers of one service's instances; thread-safe."""

    def __init__(
        self,
        pool: Pool,
        mode: DrainMode,
        operators: Operators,
        progress: Callable[[StepProgress], None] = lambda _: None,
        journal: str = "",
    ) -> None:
        """``journal``: the rollout whose records there may be."""
        self._pool = pool
        self._progress = progress
        self._operators = operators
        self._orders = Orders(pool, operators, journal)
        self._mode = mode
        self._after_order: dict[str, tuple[Servers, Answers]] = {}
        """What the last order of each instance was read back as: an await's first look."""

    def take_out(self, step: TakeOut) -> Outcome:
        """Weight 0 or state drain, judged by what is read back.

        It has to stand as it was recorded, or as it was seen last; otherwise somebody has changed
        it since, and theirs is written down first.
        """

        def commands(record: ServerRecord) -> Iterable[str]:
            shut = self._shut(record) if step.maint else ()
            if self._mode == "weight":
                return (*change.set_weight(record.ref, 0), *shut)
            # Drain would let pinned clients into a server that an operator has in maint.
            is_shut = step.maint or record.admin == "maint"
            return shut if is_shut else change.set_state(record.ref, "drain")

        servers = self._read_back(*self._orders.guarded(step.target, commands, opens=step.opens))
        wrong = [
            str(ref) for ref, s in servers.items() if not standing.stays_out(s, maint=step.maint)
        ]
        return Failed(f"still takes requests: {', '.join(wrong)}") if wrong else Done()

    def _shut(self, record: ServerRecord) -> tuple[str, ...]:
        """Nobody comes through any more: parked, or in maint."""
        known = record.check_port is not None and record.admin != "maint"
        if known and self._pool.hands[record.ref.balancer].parks:
            return change.park(record.ref)
        return change.set_state(record.ref, "maint")

    def shut(self, step: Shut) -> Outcome:
        """Maint, judged by what is read back; on the same condition as :meth:`take_out`."""

        def commands(record: ServerRecord) -> Iterable[str]:
            return change.set_state(record.ref, "maint")

        servers = self._read_back(*self._orders.guarded(step.target, commands))
        wrong = [str(ref) for ref, server in servers.items() if server.admin != "maint"]
        return Failed(f"not in maint: {', '.join(wrong)}") if wrong else Done()

    def await_idle(self, step: AwaitIdle) -> Outcome:
        """Two readings of every balancer with nothing in flight and no session added between."""
        began = time.monotonic()
        before: dict[ServerRef, tuple[int, int]] | None = None
        look = self._after_order.pop(step.target.instance.id, None)
        said = _Said(step, step.deadline, self._progress, began)
        while True:
            servers, answers = look or self._look(step.target)
            look = None
            self._operators.look(step.target, answers)
            waited = time.monotonic() - began
            undone = sorted(
                {
                    ref.balancer
                    for ref, s in servers.items()
                    if not standing.stays_out(s, maint=step.maint)
                }
            )
            if undone:
                return Reverted(tuple(undone), waited)
            busy = {ref: s.scur + s.qcur for ref, s in servers.items() if s.scur + s.qcur}
            now = {ref: (standing.process(answers, ref), s.stot) for ref, s in servers.items()}
            if not busy and now == before:
                return Idle(waited=waited)
            # One quiet reading proves nothing yet: it gets its second one even when time is up.
            if waited >= step.deadline and (busy or before is not None):
                return Busy(busy, waited)
            before = None if busy else now
            if busy:
                said.flying(busy)
            time.sleep(POLL)

    def cut(self, step: Cut) -> Outcome:
        """Close what is open; the note says whose it was."""
        servers, _ = self._look(step.target)
        open_now = sum(server.scur for server in servers.values())
        who = self._pool.who(step.target.refs)
        self._order(step.target, lambda record: change.shutdown_sessions(record.ref))
        text = f"closed {open_now} that would not end" + (f": {', '.join(who)}" if who else "")
        return Done(text)

    def may_check_early(self, target: Target) -> bool:
        """Whether checks may begin beside the replacement, because nobody can come through them.

        A server in drain takes nothing new, except from clients that are bound to it.
        """
        return not any(self._pool.hands[ref.balancer].pins for ref in target.refs)

    def check_anew(self, target: Target) -> None:
        """A failed server in drain, whose real checks begin; may be said again.

        Never before the old container is gone: its checks would pass, and the next one would come a
        whole ``inter`` later. Raises :class:`EvenkeelError` when a balancer refused.
        """
        seen, answers = self._look(target)

        def commands(record: ServerRecord) -> Iterable[str]:
            if record.admin == "maint":
                return ()
            server = seen[record.ref]
            stays_up = server.up and server.check_port == change.PARKED
            begun = server.admin == "drain" and not stays_up
            first = () if begun else change.admit_first(record.ref, checked=True)
            return (*first, *standing.checks_back(record, server))

        target = self._operators.look(target, answers)
        if all(server.checked for server in seen.values()):
            self._order(target, commands)

    def admit(self, step: Admit) -> Outcome:
        """Out of maint as a failed server, then recorded weight and state: checks let it in.

        A balancer that can't be asked does not keep the others from taking it in. Where it stands
        as it was seen last, which its balancers' hosts themselves look at, no look goes before.
        """
        left = self._operators.left(step.target)
        if left is not None and self._admitted_as_left(step.target, left):
            return Done()
        answers = self._answers(step.target)
        target = self._operators.look(step.target, answers)
        self._order(target, standing.admitting(standing.found(target, answers)))
        return Done()

    def _admitted_as_left(self, target: Target, left: Servers) -> bool:
        answers = self._orders.send(
            target, standing.admitting(left), standing.conditions(left.items())
        )
        if standing.changed(answers):
            return False
        self._read_back(target, answers)
        return True

    def await_admitted(self, step: AwaitAdmitted) -> Outcome:
        """Recorded weight and state on every balancer, and up by its own checks."""
        began = time.monotonic()
        look = self._after_order.pop(step.target.instance.id, None)
        said = _Said(step, step.deadline, self._progress, began)
        while True:
            servers, answers = look or self._look(step.target)
            look = None
            target = self._operators.look(step.target, answers)
            undone = [r for r in target.servers if not standing.is_restored(r, servers[r.ref])]
            if undone:
                return Reverted(tuple(sorted({r.ref.balancer for r in undone})))
            down = [
                ref
                for record in target.servers
                if record.admin == "ready" and not servers[ref := record.ref].up
            ]
            if not down:
                return Admitted(
                    waited=time.monotonic() - began, readings=standing.readings(target, answers)
                )
            said.say(f"not up yet on {', '.join(sorted({ref.balancer for ref in down}))}")
            if time.monotonic() - began >= step.deadline:
                names = ", ".join(map(str, down))
                return Failed(f"its balancer's own checks do not let it in: {names}")
            time.sleep(POLL)

    def restore(self, step: Restore) -> Outcome:
        """Recorded weight and state at once: the container never stopped.

        One that was parked is down until its checks have passed, which is waited for a moment: it
        may have been down before, too.
        """
        seen, answers = self._look(step.target)
        target = self._operators.look(step.target, answers)
        servers = self._order(
            target,
            lambda record: (
                *standing.checks_back(record, seen[record.ref]),
                *change.admit(record.ref, record.uweight, record.admin),
            ),
        )
        wrong = [str(r.ref) for r in target.servers if not standing.is_restored(r, servers[r.ref])]
        if wrong:
            return Failed(f"not restored: {', '.join(wrong)}")
        parked = [
            r.ref for r in target.servers if seen[r.ref].check_port != servers[r.ref].check_port
        ]
        ends = time.monotonic() + PASS
        while any(not servers[ref].up for ref in parked) and time.monotonic() < ends:
            time.sleep(POLL)
            servers, _ = self._look(target)
        return Done()

    def _order(self, target: Target, commands: Callable[[ServerRecord], Iterable[str]]) -> Servers:
        """Change every balancer's server of ``target``; what each shows afterwards."""
        return self._read_back(target, self._orders.send(target, commands))

    def _read_back(self, target: Target, answers: Answers) -> Servers:
        servers = standing.servers(target, answers)
        self._after_order[target.instance.id] = (servers, answers)
        return servers

    def _answers(self, target: Target) -> Answers:
        return self._pool.read(*standing.asked(target))

    def _look(self, target: Target) -> tuple[Servers, Answers]:
        answers = self._answers(target)
        return standing.servers(target, answers), answers


class _Said:
    """What was said last of a wait: nothing twice, nothing more often than every second, and
    nothing of one that is over in a moment."""

    def __init__(
        self, step: Step, limit: float, tell: Callable[[StepProgress], None], began: float
    ) -> None:
        self._step = step
        self._limit = limit
        self._tell = tell
        self._at = began - SAY_EVERY + SAY_AFTER
        self._text = ""

    def flying(self, busy: Mapping[ServerRef, int]) -> None:
        """What is in flight, by server."""
        count = sum(busy.values())
        names = ", ".join(sorted({ref.balancer for ref in busy}))
        self.say(f"{count} in flight on {names}", count)

    def say(self, text: str, sessions: int = -1) -> None:
        now = time.monotonic()
        if text != self._text and now - self._at >= SAY_EVERY:
            self._at, self._text = now, text
            instance = self._step.target.instance.id
            self._tell(StepProgress(instance, self._step.name, text, sessions, self._limit))
