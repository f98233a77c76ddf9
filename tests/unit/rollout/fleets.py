"""Fleets and plans for the rollout's tests, and an oracle that knows what must never happen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from hypothesis import strategies as st

from fabfile.balancers.model import ServerRef
from fabfile.drivers.simulated import (
    Behaviour,
    Fault,
    Fleet,
    Flip,
    HostLost,
    OperatorSets,
    Reload,
    Silence,
    Timing,
    Traffic,
    plan_on_paper,
)
from fabfile.inventory.model import BalancerSpec, Count, Drain, Hooks, RolloutPolicy, Service
from fabfile.rollout import capacity
from fabfile.rollout.events import Event, InstanceFinished, StepFinished, StepStarted
from fabfile.rollout.grants import CAPACITY_PATIENCE, OBSERVE_AGAIN
from fabfile.rollout.plan import Plan, Release, Target
from fabfile.rollout.steps import Recreate, Shut, Step, TakeOut

QUICK = Timing(health_timeout=3.0, connect_timeout=0.5)
BAD = Behaviour(healthy=False)
ILL = Behaviour(errors=1.0)
UNSEEN = Behaviour(admitted=False)
UNREADY = Behaviour(failing=("before_drain",))
SMELLY = Behaviour(failing=("after_healthy",))
HOOKS = Hooks(before_drain="./ready", after_healthy="./smoke")


def service(
    hosts: int = 2,
    instances: int = 1,
    balancers: Sequence[str] | str = ("lb1", "lb2"),
    policy: RolloutPolicy | None = None,
    drain: Drain | None = None,
) -> Service:
    """``balancers``: names, or ``"self"``."""
    spec = BalancerSpec("haproxy", "self" if balancers == "self" else tuple(balancers), "app")
    return Service(
        "app",
        "web",
        tuple(f"web{n}" for n in range(1, hosts + 1)),
        "img",
        None,
        "/srv/app",
        instances=instances,
        balancers=(spec,) if balancers else (),
        rollout=policy or RolloutPolicy(),
        drain=drain or Drain(),
    )


def plan(
    hosts: int = 2,
    instances: int = 1,
    balancers: Sequence[str] | str = ("lb1", "lb2"),
    *,
    chosen: Sequence[str] | None = None,
    earlier: str | None = "1",
    drain: Drain | None = None,
    hooks: Hooks | None = None,
    **policy: object,
) -> Plan:
    """A plan from version 1 to 2; each instance has releases of its own: ``2-web1/app_1``."""
    if isinstance(policy.get("serial"), int):
        policy["serial"] = (Count(policy["serial"]),)
    made = plan_on_paper(
        service(hosts, instances, balancers, RolloutPolicy(**policy), drain),
        "2",
        earlier,
        hosts=chosen,
    )
    targets = tuple(_own_releases(target) for target in made.targets)
    return replace(made, targets=targets, hooks=hooks or Hooks())


def _own_releases(target: Target) -> Target:
    name, old = target.instance.id, target.earlier
    return replace(
        target,
        wanted=Release(f"2-{name}", "2", "sha256:2"),
        earlier=old and Release(f"1-{name}", "1", "sha256:1"),
    )


def recorded(plan: Plan, **changes: object) -> Plan:
    """``plan`` with every server recorded otherwise: ``uweight``, ``admin``."""
    return replace(
        plan,
        baseline=tuple(replace(record, **changes) for record in plan.baseline),
        targets=tuple(
            replace(t, servers=tuple(replace(record, **changes) for record in t.servers))
            for t in plan.targets
        ),
    )


def trail(events: Iterable[tuple[float, Event]], instance: str) -> list[str]:
    """The steps ``instance`` went through, in order."""
    return [e.step for _, e in events if isinstance(e, StepStarted) and e.instance == instance]


def steps_begun(events: Iterable[tuple[float, Event]], step: str) -> list[str]:
    """The instances that began ``step``, in order."""
    return [e.instance for _, e in events if isinstance(e, StepStarted) and e.step == step]


def fates(events: Iterable[tuple[float, Event]]) -> dict[str, str]:
    """How each instance that had a lane ended, the last lane counting."""
    return {e.instance: e.fate for _, e in events if isinstance(e, InstanceFinished)}


def notes(events: Iterable[tuple[float, Event]], step: str) -> list[str]:
    """What was said at the end of each ``step``."""
    return [e.note for _, e in events if isinstance(e, StepFinished) and e.step == step]


def state(fleet: Fleet) -> dict[ServerRef, tuple[int, str]]:
    """Weight and admin state of every server."""
    return {ref: (server.uweight, server.admin) for ref, server in fleet.servers.items()}


class Oracle:
    """Watches every effect before it happens; counts everything afresh, trusts nothing."""

    def __init__(self, plan: Plan, *, capacity_is_ours: bool = True) -> None:
        """``capacity_is_ours``: nothing but the rollout takes servers out of rotation."""
        self.plan = plan
        self.capacity_is_ours = capacity_is_ours
        self.pools = capacity.pools(plan.baseline, plan.summed)
        self.wrong: list[str] = []
        self.mine = {target.instance.id for target in plan.changing}

    def __call__(self, step: Step, fleet: Fleet) -> None:
        name = step.target.instance.id
        if name not in self.mine:
            self.wrong.append(f"{step.name} touches {name}, which is not to be changed")
        servers = [fleet.servers[ref] for ref in step.target.refs]
        if isinstance(step, Recreate):
            for server in servers:
                if server.sessions(fleet.now):
                    self.wrong.append(f"{name} stopped with requests in flight: {server}")
                if not server.shut:
                    self.wrong.append(f"{name} stopped while a balancer could send: {server}")
        if isinstance(step, TakeOut | Shut) and not self.plan.allow_outage:
            self._check_capacity(step, fleet)

    def _check_capacity(self, step: Step, fleet: Fleet) -> None:
        if not self.capacity_is_ours:
            return
        for pool in self.pools:
            weights = {
                ref: fleet.servers[ref].weight
                for ref in pool.baseline
                if fleet.servers[ref].takes_new
            }
            mine = sum(weights.get(ref, 0) for ref in step.target.refs)
            left = sum(weights.values()) - mine
            floor = left * 100 >= pool.total * self.plan.policy.min_capacity
            # A way back may go below the floor where waiting for a minute did not help.
            patient = step.target.returning and fleet.now > CAPACITY_PATIENCE * OBSERVE_AGAIN
            if mine and (left <= 0 or not (floor or patient)):
                self.wrong.append(f"{step.name} {step.target.instance.id}: {left} in {pool.name}")


# strategies


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any small plan."""
    serial = st.builds(Count, st.integers(0, 3)) | st.builds(
        Count, st.sampled_from([20, 35, 50, 100]), st.just(True)
    )
    hosts = draw(st.integers(1, 4))
    made = plan(
        hosts,
        draw(st.integers(1, 3)),
        draw(st.sampled_from([("lb1",), ("lb1", "lb2"), "self", ()])),
        drain=draw(
            st.builds(
                Drain,
                st.sampled_from(["weight", "drain"]),
                st.sampled_from([0.0, 0.2, 1.0]),
                st.sampled_from([0.0, 0.5, 2.0]),
                st.sampled_from(["cut", "abort", "wait"]),
            )
        ),
        serial=tuple(draw(st.lists(serial, min_size=1, max_size=2))),
        instances_at_once=draw(st.integers(1, 3)),
        max_fail_percentage=draw(st.sampled_from([0, 25, 50, 99])),
        max_failures=draw(st.sampled_from([None, None, 0, 1])),
        on_failure=draw(st.sampled_from(["rollback", "hold", "continue"])),
        min_capacity=draw(st.sampled_from([0, 25, 50, 75])),
        pause=draw(st.sampled_from([0.0, 0.0, 3.0])),
        hooks=draw(st.sampled_from([None, None, HOOKS, replace(HOOKS, before_drain=None)])),
    )
    records = {}
    for record in made.baseline:
        admin = draw(st.sampled_from(["ready"] * 6 + ["drain", "maint"]))
        uweight = draw(st.sampled_from([1, 100, 100, 256, 0]))
        port = draw(st.sampled_from([None, 0]))
        records[record.ref] = replace(record, admin=admin, uweight=uweight, check_port=port)
    kinds = st.sampled_from(["change"] * 6 + ["current", "first"])
    return replace(
        made,
        baseline=tuple(records.values()),
        targets=tuple(_any_kind(target, records, draw(kinds)) for target in made.targets),
        allow_outage=draw(st.sampled_from([False, False, False, True])),
    )


def _any_kind(target: Target, records: dict, kind: str) -> Target:
    return replace(
        target,
        servers=tuple(records[ref] for ref in target.refs),
        change=kind != "current",
        earlier=None if kind == "first" else target.earlier,
    )


@st.composite
def behaviours(draw: st.DrawFn, plan: Plan) -> dict[str, Behaviour]:
    """What each release is like; most are well."""
    kinds = st.sampled_from(
        [Behaviour()] * 7 + [BAD, ILL, UNSEEN, Behaviour(start=1.0), UNREADY, SMELLY]
    )
    found = {t.wanted.id: draw(kinds) for t in plan.changing}
    old = st.sampled_from(
        [Behaviour()] * 8 + [BAD, Behaviour(failing=("before_drain", "after_healthy"))]
    )
    return found | {t.earlier.id: draw(old) for t in plan.changing if t.earlier}


@st.composite
def troubles(draw: st.DrawFn, plan: Plan, *, quiet: bool = False) -> list[Fault]:
    """Faults; ``quiet``: none that changes what is in rotation."""
    moment = st.floats(0, 1) | st.floats(0, 8)
    while_ = st.sampled_from([0.3, 2.0, float("inf")])
    hosts = sorted({t.instance.host for t in plan.targets})
    kinds = [st.builds(HostLost, moment, st.sampled_from(hosts), while_)]
    refs = [record.ref for record in plan.baseline]
    balancers = sorted({ref.balancer for ref in refs})
    if balancers:
        kinds.append(st.builds(Silence, moment, st.sampled_from(balancers), while_))
        kinds.append(st.builds(Reload, moment, st.sampled_from(balancers), st.just(True)))
    if balancers and not quiet:
        kinds.append(st.builds(Reload, moment, st.sampled_from(balancers), st.booleans()))
        weight = st.sampled_from([None, 0, 7, 7])
        admin = st.sampled_from([None, "ready", "ready", "drain", "maint"])
        kinds.append(st.builds(OperatorSets, moment, st.sampled_from(refs), weight, admin))
    if not quiet:
        names = [t.instance.id for t in plan.targets]
        kinds.append(st.builds(Flip, moment, st.sampled_from(names), st.booleans()))
    return draw(st.lists(st.one_of(kinds), max_size=3))


def traffic() -> st.SearchStrategy[Traffic]:
    """From nobody to people who hold on to one server."""
    return st.builds(
        Traffic,
        st.sampled_from([0.0, 2.0, 8.0, 60.0]),
        st.just(0.01),
        st.sampled_from([0.1, 1.0, 5.0]),
        st.integers(0, 2),
    )
