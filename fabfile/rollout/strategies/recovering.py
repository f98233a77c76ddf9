"""Recovery: an instance that an unfinished rollout left in a state nobody knows comes to an end.

What was found may have changed since, so a lane trusts none of it with its container: that stops
only in maint and idle on every balancer, and comes back only after it has been seen healthy. Each
lane may be stopped anywhere: its undo records stay open until it is through, and another recovery
begins where it stands.

Of the hooks, ``before_drain`` has run before an instance's first record, and is not run again for
what has an open one. ``after_healthy`` runs again, before what is wanted comes back: nobody knows
whether it passed. A repair runs none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fabfile.inventory.model import Drain, Hooks
from fabfile.rollout.plan import Plan, Release, Target
from fabfile.rollout.steps import (
    Admit,
    AskCapacity,
    AwaitHealthy,
    Ended,
    Failed,
    Lane,
    Record,
    Refused,
)
from fabfile.rollout.strategies.rolling import (
    NO_HOOKS,
    bring,
    broken,
    close,
    come_back,
    fall_back,
    leave,
    run_hook,
    stop_first,
)

STAYS = "no container of it runs, or its host can't be asked: it stays as it is, recorded"

Otherwise = Callable[[Failed], Lane]


def urgent(plan: Plan) -> tuple[Target, ...]:
    """Those that may be out of rotation, the ones that cost nothing to bring back first."""
    mine = (target for target in plan.changing if target.task != "roll")
    return tuple(sorted(mine, key=lambda target: target.task == "replace"))


def may_record_ahead(plan: Plan, target: Target) -> bool:
    """Whether ``target`` may have its record written while another one is still on its way.

    Not where a hook comes before it. And not where clients are pinned to servers and have a grace:
    a recovery takes what has an open record straight to maint.
    """
    return (
        target.task == "roll" and plan.hooks.before_drain is None and plan.drain.sticky_grace <= 0
    )


def lane_of(plan: Plan, target: Target, *, ahead: bool = False) -> tuple[Target, Lane]:
    """The lane that does ``target.task``, and the target as that lane sees it.

    ``ahead``: it begins before its turn, see :func:`may_record_ahead`.
    """
    aimed = _aimed(plan, target)
    match target.task:
        case "return":
            lane = _home(plan, target, aimed)
        case "replace":
            hooks = NO_HOOKS if plan.mode == "repair" else plan.hooks
            lane = swap(aimed, plan.drain, target.runs, hooks)
        case "close":
            lane = close(aimed, Ended("upgraded"))
        case "vacate" if target.runs == target.wanted:
            lane = come_home(aimed, lambda _: vacate(aimed), lambda _: vacate(aimed), kept(target))
        case "vacate":
            lane = vacate(aimed)
        case "stay":
            lane = _nothing_else(Failed(STAYS))
        case _:
            lane = stop_first(target, plan.drain, plan.hooks, ahead=ahead)
    return aimed, lane


def _home(plan: Plan, target: Target, aimed: Target) -> Lane:
    """The container is the right one; only who is on the way to a release may change it still."""
    if target.runs is None:
        return let_checks_decide(aimed)
    if plan.mode == "repair":
        return come_home(aimed, _nothing_else, _nothing_else)
    if plan.aim(target) is None:
        return come_home(aimed, _nothing_else, _nothing_else, kept(target))

    def again(_: Failed) -> Lane:
        return swap(aimed, plan.drain, None, plan.hooks)

    if plan.mode == "abort":
        return come_home(aimed, again, _nothing_else)
    return come_home(aimed, again, lambda problem: _go_back(aimed, plan, problem), hooks=plan.hooks)


def _go_back(target: Target, plan: Plan, problem: Failed) -> Lane:
    """Its earlier release; some of its servers may be out of rotation and others never touched, so
    that all of them are recorded first."""
    recorded = yield Record(target, "undo")  # never called off: what may be out is urgent
    if isinstance(recorded, Failed):
        return broken(problem, recorded)
    return (yield from fall_back(target, plan.drain, problem))


def _aimed(plan: Plan, target: Target) -> Target:
    """``target`` on its way to what this plan wants of it."""
    if plan.mode == "repair":
        return replace(target, wanted=plan.aim(target) or target.wanted, earlier=None)
    if plan.mode == "abort" and target.task != "roll" and target.earlier is not None:
        return target.back()
    return target


def kept(target: Target) -> Ended:
    """An abort that finds nothing to go back to; a way back that ended where it began."""
    return Ended("restored", f"nothing was there before: it keeps {target.wanted.version}")


def come_home(
    target: Target,
    if_ill: Otherwise,
    if_kept_out: Otherwise,
    ended: Ended = Ended("upgraded"),  # noqa: B008 (frozen)
    hooks: Hooks = NO_HOOKS,
) -> Lane:
    """Its container runs what is wanted: as soon as it is healthy it comes back.

    ``if_ill`` and ``if_kept_out``: what to do when it is not, or when its hook fails or a balancer
    does not take it.
    """
    healthy = yield AwaitHealthy(target, target.wanted)
    if isinstance(healthy, Failed):
        return (yield from if_ill(healthy))
    problem = yield from run_hook(target, hooks, "after_healthy")
    if problem is None:
        problem = yield from come_back(target)
    if problem is not None:
        return (yield from if_kept_out(problem))
    return (yield from close(target, ended))


def swap(target: Target, drain: Drain, runs: Release | None, hooks: Hooks = NO_HOOKS) -> Lane:
    """Its container has to change: straight to maint, idle, the wanted release, and back.

    Capacity is asked for because some balancer may still live on it; where it takes no requests
    that is never refused. ``runs`` is what it goes back into rotation with when it may not leave.
    """
    granted = yield AskCapacity(target)
    if isinstance(granted, Refused | Failed):
        return (yield from remain(target, runs, Failed(granted.reason)))
    recorded = yield Record(target, "undo")
    if isinstance(recorded, Refused | Failed):
        return (yield from remain(target, runs, Failed(recorded.reason)))
    stays = yield from leave(target, drain, at_once=True)
    if stays is not None:
        return (yield from remain(target, runs, stays))
    problem = yield from bring(target, hooks)
    if problem is None:
        return (yield from close(target, Ended("upgraded")))
    return (yield from fall_back(target, drain, problem))


def remain(target: Target, runs: Release | None, problem: Failed) -> Lane:
    """It could not be changed: back into rotation with what it runs, where that is healthy."""
    if runs is None:
        return broken(problem, None)
    healthy = yield AwaitHealthy(target, runs)
    if isinstance(healthy, Failed):
        return broken(problem, healthy)
    kept_out = yield from come_back(target)
    if kept_out is not None:
        return broken(problem, kept_out)
    return (yield from close(target, Ended("untouched", problem.reason, problem.detail)))


def vacate(target: Target) -> Lane:
    """Nothing ran there before: weight and state come back, and checks keep the server out."""
    ordered = yield Admit(target)
    if isinstance(ordered, Failed):
        return broken(ordered, None)
    return (yield from close(target, Ended("upgraded")))


def let_checks_decide(target: Target) -> Lane:
    """What runs there is none of ours, and was there before: its balancers know how it is."""
    problem = yield from come_back(target)
    if problem is not None:
        return broken(problem, None)
    return (yield from close(target, Ended("upgraded")))


def _nothing_else(problem: Failed) -> Lane:
    """It stays as it is, recorded."""
    yield from ()
    return broken(problem, None)
