"""What a rollout is going to do, as plain text: ``fab plan`` and ``--dry-run``.

Made from a plan and from the events of a run of it on paper (``drivers.simulated``), so it tells
what the engine does and not what somebody believes it does.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from fabfile.rollout.events import (
    BatchStarted,
    CapacityAwaited,
    CapacityLeft,
    Event,
    InstanceFinished,
    RolloutFinished,
    StepStarted,
)
from fabfile.rollout.plan import Plan, Target
from fabfile.rollout.strategies.rolling import WAIT_FACTOR

LOWEST_SHOWN = 6
"""Pools at most that the summary names; with a balancer on each host there are very many."""
NARROWEST = 40
INDENT = " " * 4

WORDS = {
    "await-idle": "wait until idle",
    "shut": "maint",
    "ask-capacity": "ask for capacity again",
    "cut": "cut what is left",
    "recreate": "recreate",
    "await-healthy": "wait until healthy",
    "admit": "recorded weight and state back",
    "await-admitted": "wait until let in",
    "restore": "put back",
    "before_drain": "hook before_drain",
    "after_healthy": "hook after_healthy",
}
"""How a step reads; ``record`` and ``take-out`` are told in other ways."""


@dataclass
class _Lane:
    """One way of an instance through its steps."""

    instance: str
    asked: float
    has_asked: bool = False
    began: float = 0.0
    ended: float = 0.0
    steps: list[str] = field(default_factory=list)
    left: tuple[tuple[str, int, int], ...] = ()
    awaited: list[str] = field(default_factory=list)
    finished: InstanceFinished | None = None


@dataclass
class _Run:
    """The events, sorted out."""

    batches: list[tuple[BatchStarted, list[_Lane]]] = field(default_factory=list)
    end: RolloutFinished | None = None
    seconds: float = 0.0


def plan_view(plan: Plan, events: Iterable[tuple[float, Event]], *, width: int = 80) -> str:
    """Every batch and instance of ``plan`` in the order they begin, and what it all amounts to.

    ``events`` come with seconds from the start; ``width`` is in columns. Ends with a newline.
    """
    run = _sort_out(plan, events)
    width = max(width, NARROWEST)
    targets = {target.instance.id: target for target in plan.targets}
    lines = [
        *_head(plan, width),
        *(line for batch, lanes in run.batches for line in _batch(batch, lanes, targets, width)),
        *_foot(plan, run, width),
    ]
    return "\n".join(lines) + "\n"


def _sort_out(plan: Plan, events: Iterable[tuple[float, Event]]) -> _Run:
    run = _Run()
    open_lanes: dict[str, _Lane] = {}
    for time, event in events:
        run.seconds = time
        match event:
            case BatchStarted():
                run.batches.append((event, []))
            case StepStarted(instance, step):
                if instance not in open_lanes:
                    open_lanes[instance] = lane = _Lane(instance, time)
                    run.batches[-1][1].append(lane)
                _add_step(open_lanes[instance], step, time, plan)
            case CapacityLeft(instance, pools):
                open_lanes[instance].left = pools
            case CapacityAwaited(instance, reason):
                open_lanes[instance].awaited.append(reason)
            case InstanceFinished(instance):
                lane = open_lanes.pop(instance)
                lane.finished, lane.ended = event, time
            case RolloutFinished():
                run.end = event
    return run


def _add_step(lane: _Lane, step: str, time: float, plan: Plan) -> None:
    if step == "ask-capacity" and not lane.has_asked:
        lane.has_asked = True
        return
    if not lane.began and lane.has_asked:  # before that its record may have been written ahead
        lane.began = time
    if step == "record":
        word = "record done" if "record" in lane.steps else "record"
    elif step == "take-out":
        word = "weight 0" if plan.drain.mode == "weight" else "state drain"
        if plan.drain.sticky_grace <= 0:
            word = "weight 0, maint" if plan.drain.mode == "weight" else "maint"
    else:
        word = WORDS.get(step, step)
    lane.steps.append(word)


# head


def _head(plan: Plan, width: int) -> Iterator[str]:
    hosts = {host for batch in plan.batches for host in batch}
    changing = len(plan.changing)
    choice = ", chosen by hand" if plan.chosen else ""
    yield from _wrap(
        f"{plan.service} to {plan.version}: {_count(changing, 'instance')} of {len(plan.targets)}"
        f" on {_count(len(hosts), 'host')}{choice}",
        width,
    )
    policy, drain = plan.policy, plan.drain
    floor = (
        "no capacity is kept (--allow-outage)"
        if plan.allow_outage
        else (f"at least {policy.min_capacity}% of every balancer's capacity stays")
    )
    serial = ", ".join(map(str, policy.serial))
    yield from _wrap(
        f"{policy.strategy}, {policy.order}, serial {serial}"
        f" in {_count(len(plan.batches), 'batch', 'batches')}; {floor};"
        f" on failure {policy.on_failure} (above {policy.max_fail_percentage}% of a batch)",
        width,
    )
    grace = f"pinned clients are sent elsewhere after {drain.sticky_grace:g} s"
    yield from _wrap(
        f"a drain lasts until idle, {drain.timeout:g} s at most, then {drain.on_timeout};"
        f" {grace if drain.sticky_grace else 'no client is pinned'}",
        width,
    )

    hooks, host = plan.hooks, plan.first_host
    if plan.changing and hooks.before_rollout is not None:
        yield from _wrap(f"before all of it, once on {host}: hook before_rollout", width)
    if plan.changing and hooks.after_rollout is not None:
        yield from _wrap(f"when all of it is done, once on {host}: hook after_rollout", width)


# batches


def _batch(
    batch: BatchStarted, lanes: Iterable[_Lane], targets: Mapping[str, Target], width: int
) -> Iterator[str]:
    back = " (back)" if batch.back else ""
    yield ""
    yield from _wrap(f"Batch {batch.number} of {batch.of}{back}: {', '.join(batch.hosts)}", width)
    for lane in sorted(lanes, key=lambda lane: lane.began or lane.asked):
        yield from _lane(lane, targets[lane.instance], batch, width)


def _lane(lane: _Lane, target: Target, batch: BatchStarted, width: int) -> Iterator[str]:
    when = f"{lane.began or lane.asked:.1f} s"
    yield from _wrap(f"  {lane.instance}  {_from_to(target, batch.back)}  at {when}", width)
    for reason in lane.awaited:
        yield from _wrap(f"waits for capacity: {reason}", width, INDENT)
    if lane.left:
        yield from _wrap(f"leaves {', '.join(map(_share, lane.left))}", width, INDENT)
    if lane.steps:
        yield from _wrap(", ".join(lane.steps), width, INDENT)
    ended = lane.finished
    if ended is not None and ended.fate != ("restored" if batch.back else "upgraded"):
        why = f": {ended.reason}" if ended.reason else ""
        yield from _wrap(f"ends {ended.fate}{why}", width, INDENT)


def _from_to(target: Target, back: bool) -> str:
    earlier = target.earlier.version if target.earlier else "nothing"
    wanted = target.wanted.version
    if target.container:
        return f"{wanted} (restarted)"
    if earlier == wanted:
        return f"{wanted} (its settings change)"
    return f"{wanted} -> {earlier}" if back else f"{earlier} -> {wanted}"


def _share(pool: tuple[str, int, int]) -> str:
    name, left, total = pool
    return f"{name} {100 * left // total if total else 0}% ({left} of {total})"


# foot


def _foot(plan: Plan, run: _Run, width: int) -> Iterator[str]:
    yield ""
    current = [t.instance.id for t in plan.targets if not t.change]
    if current:
        yield from _wrap(f"Already as wanted, not touched: {', '.join(current)}", width)
    if run.end is not None and run.end.verdict != "done":
        yield from _wrap(f"It would not get through: {run.end.verdict}: {run.end.reason}", width)
    lowest = _lowest(run)
    if lowest:
        shown = [f"{_share(pool)} at {instance}" for pool, instance in lowest[:LOWEST_SHOWN]]
        more = len(lowest) - len(shown)
        rest = f"; {more} more pools no lower" if more > 0 else ""
        yield from _wrap(f"Lowest capacity: {'; '.join(shown)}{rest}", width)
    if not plan.changing:
        yield "Nothing to do."
    elif run.end is not None and run.end.verdict == "done":
        drain = plan.drain
        limit = drain.timeout * (WAIT_FACTOR if drain.on_timeout == "wait" else 1)
        each = f"each of the {len(plan.changing)} drains" if plan.changing[1:] else "the drain"
        yield from _wrap(
            f"Expected to take {duration(run.seconds)} while nobody holds a server; {each} may"
            f" add up to {duration(limit)}.",
            width,
        )


def _lowest(run: _Run) -> list[tuple[tuple[str, int, int], str]]:
    """Each pool at its lowest, the lowest first."""
    found: dict[str, tuple[tuple[str, int, int], str]] = {}
    for lane in (lane for _, lanes in run.batches for lane in lanes):
        for pool in lane.left:
            name, left, _ = pool
            if name not in found or left < found[name][0][1]:
                found[name] = (pool, lane.instance)
    return sorted(found.values(), key=lambda item: item[0][1] / max(item[0][2], 1))


def duration(seconds: float) -> str:
    """``0.8 s``, ``47 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    whole = round(seconds / 60)
    return f"{whole // 60} h {whole % 60} min" if whole % 60 else f"{whole // 60} h"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _wrap(text: str, width: int, indent: str = "") -> list[str]:
    lead = indent or " " * (len(text) - len(text.lstrip()))
    return textwrap.wrap(
        text.strip(),
        width,
        initial_indent=lead,
        subsequent_indent=lead + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
