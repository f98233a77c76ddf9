"""What a rollout's ends mean: how each instance counts, and the verdict over all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from fabfile.rollout.events import InstanceFinished, RolloutFinished, Verdict
from fabfile.rollout.plan import Mode, Plan, Target
from fabfile.rollout.steps import Ended, Fate

OF_RETURN: dict[Fate, Fate] = {
    "upgraded": "restored",
    "restored": "upgraded",
    "untouched": "upgraded",
    "current": "current",
    "broken": "broken",
}
"""A rollback is an upgrade to the earlier release: how its lanes' ends read from outside."""


def at_start(plan: Plan) -> dict[str, Fate]:
    """How each instance counts before its lane, if it gets any."""
    return {target.instance.id: _at_start(plan, target) for target in plan.targets}


def _at_start(plan: Plan, target: Target) -> Fate:
    if not target.change:
        return "current"
    if plan.mode == "resume" and target.task == "none":
        return "upgraded"
    if plan.mode != "abort":
        return "untouched"
    if target.task == "roll" or (target.earlier is None and target.runs == target.wanted):
        return "upgraded"  # and to be taken back, where there is something to go back to
    return "current" if target.task == "none" else "untouched"


def upgraded_before(plan: Plan) -> list[Target]:
    """The targets that an earlier run of the same rollout upgraded, the first one first."""
    tasks = {"resume": "none", "abort": "roll"}
    return [t for t in plan.targets if t.change and t.task == tasks.get(plan.mode)]


def as_seen(mode: Mode, fate: Fate, *, back: bool) -> Fate:
    """A lane's end as it reads from outside; ``back``: it was on its way to what was before."""
    if mode == "repair" and fate == "upgraded":
        return "restored"
    return OF_RETURN[fate] if back else fate


def told(target: Target, ended: Ended, fate: Fate, *, barred: bool) -> InstanceFinished:
    """The event of one lane's end. ``barred``: its turn never came, for what befell another one."""
    release = target.wanted if ended.fate == "upgraded" else target.earlier
    version = release.version if release else ""
    reason = "" if barred and ended.fate == "untouched" else ended.reason
    return InstanceFinished(target.instance.id, fate, version, reason, ended.detail)


def verdict(mode: Mode, fates: Collection[Fate], *, back: bool, stopping: bool) -> Verdict:
    """What all of it comes to."""
    if "broken" in fates:
        return "needs-repair"
    if mode == "repair":
        return "done"
    if all(fate in ("upgraded", "current") for fate in fates) and not back:
        return "done"
    if stopping:
        return "interrupted"
    return "held" if "upgraded" in fates else "rolled-back"


def finished(
    plan: Plan, ends: Mapping[str, Fate], reason: str, *, back: bool, stopping: bool
) -> RolloutFinished:
    """What is said at the end; ``ends``: by instance, how each one ended."""
    counts = Counter(ends.values())
    return RolloutFinished(
        plan.id,
        verdict(plan.mode, list(ends.values()), back=back, stopping=stopping),
        plan.version,
        counts["upgraded"],
        counts["current"],
        counts["restored"],
        counts["untouched"],
        tuple(sorted(name for name, fate in ends.items() if fate == "broken")),
        reason,
    )
