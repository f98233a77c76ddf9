"""Rolling, stop-first: one instance leaves rotation, is replaced, and comes back.

A lane touches nothing itself; see ``rollout.steps`` for what each step promises. The order is
that of docs/design.md: a server is in maint or parked, and idle, on every balancer before its
container stops, and it takes requests again only after every balancer's own fresh checks have
passed.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from fabfile.inventory.model import Drain, Hooks
from fabfile.rollout.plan import Release, Target
from fabfile.rollout.steps import (
    Admit,
    AskCapacity,
    AwaitAdmitted,
    AwaitHealthy,
    AwaitIdle,
    Busy,
    Cut,
    Done,
    Ended,
    Failed,
    Hook,
    HookName,
    Idle,
    Lane,
    Outcome,
    ReadLogs,
    Record,
    Recreate,
    Refused,
    Restore,
    Reverted,
    Shut,
    Step,
    TakeOut,
)

ADMIT_DEADLINE = 60.0
"""Seconds a balancer's own checks may take to let a healthy instance in."""
CUT_DEADLINE = 5.0
"""Seconds that closed sessions may take to be gone."""
WAIT_FACTOR = 10
"""``on_timeout: wait`` becomes ``abort`` after that many times the drain's timeout."""
REDO_LIMIT = 5
"""How often a drain that somebody or a reload undid is done again."""

NO_HOOKS = Hooks()

Part = Generator[Step, Outcome, Failed | None]


def stop_first(
    target: Target, drain: Drain, hooks: Hooks = NO_HOOKS, *, ahead: bool = False
) -> Lane:
    """Upgrade one instance to ``target.wanted``, or leave it as it was.

    ``ahead``: it begins before its turn, and writes its record before it asks for capacity; not
    where a hook comes before the first record.
    """
    if ahead:
        recorded = yield Record(target, "ahead")
        if isinstance(recorded, Failed):
            return Ended("untouched", recorded.reason, recorded.detail)
        granted = recorded if isinstance(recorded, Refused) else (yield AskCapacity(target))
        if isinstance(granted, Refused | Failed):
            return (yield from close(target, Ended("untouched", granted.reason)))
        return (yield from _upgrade(target, drain, hooks, ahead=True))
    granted = yield AskCapacity(target)
    if isinstance(granted, Refused | Failed):
        return Ended("untouched", granted.reason)
    if hooks.before_drain is not None:
        stopped = yield from run_hook(target, hooks, "before_drain")
        if stopped is not None:
            return Ended("untouched", stopped.reason, stopped.detail)
        # It may have taken minutes, in which others may have failed.
        granted = yield AskCapacity(target)
        if isinstance(granted, Refused | Failed):
            return Ended("untouched", granted.reason)
    recorded = yield Record(target, "undo")
    if isinstance(recorded, Failed):
        return Ended("untouched", recorded.reason, recorded.detail)
    if isinstance(recorded, Refused):
        return (yield from close(target, Ended("untouched", recorded.reason)))
    return (yield from _upgrade(target, drain, hooks))


def _upgrade(target: Target, drain: Drain, hooks: Hooks, *, ahead: bool = False) -> Lane:
    """It is recorded and may drain."""
    problem = yield from leave(target, drain, ahead=ahead)
    if problem is not None:
        return (yield from stay(target, problem))
    problem = yield from bring(target, hooks)
    if problem is None:
        return (yield from close(target, Ended("upgraded")))
    return (yield from fall_back(target, drain, problem))


def run_hook(target: Target, hooks: Hooks, name: HookName) -> Part:
    """The hook of that name, where the service has one.

    On the way back to an earlier release its failure is told and stops nothing: a broken hook
    must never keep what is broken in place.
    """
    if getattr(hooks, name) is None:
        return None
    outcome = yield Hook(target, name)
    return outcome if isinstance(outcome, Failed) and not target.returning else None


def leave(target: Target, drain: Drain, *, at_once: bool = False, ahead: bool = False) -> Part:
    """Out of rotation on every balancer, and nothing in flight on any.

    ``at_once``: straight to maint, for a release that is not fit for pinned clients either.
    ``ahead``: it was recorded before its turn, where nobody has a grace.
    """
    spent = 0.0
    limit = drain.timeout * (WAIT_FACTOR if drain.on_timeout == "wait" else 1)
    orders = _ways_out(target, drain, limit, at_once=at_once, ahead=ahead)
    for _ in range(REDO_LIMIT):
        seen: Outcome = Reverted(())
        for order, deadline in orders:
            ordered = yield order
            if isinstance(ordered, Failed):
                return ordered
            left = max(min(deadline, limit - spent), 0.0)
            seen = yield AwaitIdle(target, left, isinstance(order, Shut) or order.maint)
            if isinstance(seen, Failed):
                return seen
            assert isinstance(seen, Idle | Busy | Reverted)
            spent += seen.waited
            if isinstance(seen, Reverted):
                break
        if isinstance(seen, Busy):
            seen = yield from overdue(target, drain, replace(seen, waited=spent))
        if isinstance(seen, Failed):
            return seen
        if not isinstance(seen, Reverted):
            return None
    return Failed("its drain was undone again and again by a reload or by somebody")


def _ways_out(
    target: Target, drain: Drain, limit: float, *, at_once: bool, ahead: bool
) -> tuple[tuple[TakeOut | Shut, float], ...]:
    """The orders, each with the seconds until it has to have worked."""
    if at_once:
        return ((Shut(target), limit),)
    if drain.sticky_grace <= 0:  # there is nobody to wait for in between
        return ((TakeOut(target, maint=True, opens=ahead), limit),)
    return (TakeOut(target), drain.sticky_grace), (Shut(target), limit)


def overdue(target: Target, drain: Drain, busy: Busy) -> Generator[Step, Outcome, Outcome]:
    """The drain's deadline passed with requests still running; how it stands after the policy."""
    if drain.on_timeout != "cut":
        return Failed(f"{sum(busy.sessions.values())} requests still run after {busy.waited:.0f} s")
    cut = yield Cut(target)
    if isinstance(cut, Failed):
        return cut
    return (yield AwaitIdle(target, CUT_DEADLINE, maint=True))


def bring(target: Target, hooks: Hooks = NO_HOOKS) -> Part:
    """Start what is wanted and, when it is healthy, let the balancers take it in."""
    problem = yield from renew(target, target.wanted)
    if problem is None:
        problem = yield from run_hook(target, hooks, "after_healthy")
    return problem if problem is not None else (yield from come_back(target))


def renew(target: Target, release: Release) -> Part:
    """Put ``release`` in place of what runs, and wait until it is healthy."""
    for step in (Recreate(target, release), AwaitHealthy(target, release)):
        outcome = yield step
        if isinstance(outcome, Failed):
            return outcome
    return None


def come_back(target: Target) -> Part:
    """Recorded weight and state on every balancer, admitted by its own checks."""
    for _ in range(REDO_LIMIT):
        ordered = yield Admit(target)
        if isinstance(ordered, Failed):
            return ordered
        seen = yield AwaitAdmitted(target, ADMIT_DEADLINE)
        if isinstance(seen, Failed):
            return seen
        if not isinstance(seen, Reverted):
            return None
    return Failed("its return was undone again and again by a reload or by somebody")


def stay(target: Target, problem: Failed) -> Lane:
    """Its container never stopped: put weight and state back as they were."""
    restored = yield Restore(target)
    if isinstance(restored, Failed):
        return broken(problem, restored)
    return (yield from close(target, Ended("untouched", problem.reason, problem.detail)))


def fall_back(target: Target, drain: Drain, problem: Failed) -> Lane:
    """The wanted release failed: put the earlier one back before anything else.

    Capacity is asked for once more: a server that was down before, so that nothing was reserved
    for it, may by now be the one that some balancer lives on. No hook runs on this way: it is the
    shortest there is.
    """
    granted = yield AskCapacity(target)
    if isinstance(granted, Refused | Failed):
        return broken(problem, Failed(granted.reason))
    left = yield from leave(target, drain, at_once=True)
    if left is not None or target.earlier is None:
        return broken(problem, left)
    # After a restart any container of it will do, the one from before too.
    again = yield from renew(replace(target, container=""), target.earlier)
    if again is not None:
        yield Shut(target)
        return broken(problem, again)
    again = yield from come_back(target)
    if again is not None:
        # It is healthy: who serves from it goes on doing so, and the others' checks keep it out.
        return broken(problem, again)
    return (yield from close(target, Ended("restored", problem.reason, problem.detail)))


def take_away(target: Target, drain: Drain, problem: Failed) -> Lane:
    """It came back and then failed those who use it: its earlier release takes its place.

    Where nothing was there before, it stays: a person has to say what is better.
    """
    logs = yield ReadLogs(target)
    if isinstance(logs, Done):
        problem = Failed(problem.reason, logs.detail)
    if target.earlier is None:
        return broken(problem, None)
    target = replace(target, returning=True)
    recorded = yield Record(target, "undo")
    if isinstance(recorded, Failed):
        return broken(problem, recorded)
    return (yield from fall_back(target, drain, problem))


def close(target: Target, ended: Ended) -> Lane:
    """Record that the instance is through; a failing record makes a repair necessary."""
    recorded = yield Record(target, "done" if ended.fate == "upgraded" else "restored")
    if isinstance(recorded, Failed):
        return Ended("broken", f"not recorded: {recorded.reason}", recorded.detail)
    return ended


def broken(first: Failed, then: Failed | None) -> Ended:
    """Out of rotation and recorded; both reasons are told."""
    reason = first.reason if then is None else f"{first.reason}; then {then.reason}"
    details = [failed.detail for failed in (first, then) if failed is not None and failed.detail]
    return Ended("broken", reason, "\n".join(details))
