"""What recovery promises on any fleet, wherever the controller died, and again where it did."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from fabfile.drivers.simulated import Crash, Fleet, Simulation, simulate
from fabfile.rollout.plan import Plan
from fabfile.rollout.recovery import replan, report
from tests.unit.rollout import fleets
from tests.unit.rollout.crashing import EFFECTS, MODES, check_repaired, runs

MANY = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TIMING = replace(fleets.QUICK, jitter=0.3, health_timeout=2.0)
crashes = st.builds(Crash, st.integers(1, 80), st.sampled_from(EFFECTS))


def crashed(data: st.DataObject, plan: Plan) -> Fleet | None:
    """A fleet with anything that can go wrong but operators, left by a dead controller."""
    faults = data.draw(fleets.troubles(plan, quiet=True), "faults")
    fleet = Fleet.of_plan(plan, data.draw(fleets.behaviours(plan), "behaviours"), TIMING)
    for target in plan.changing:
        container = fleet.containers[target.instance.id]
        if not fleet.behaviour(container.release).healthy:
            fleet.become(container, healthy=False)
    for server in fleet.servers.values():
        server.ends.append(data.draw(st.sampled_from([0.0, 0.0, 1.0, 4.0, 1e9])))
    result = simulate(
        plan,
        fleet,
        TIMING,
        faults=faults,
        traffic=data.draw(fleets.traffic(), "traffic"),
        seed=data.draw(st.integers(0, 99), "seed"),
        crash=data.draw(crashes, "crash"),
    )
    return fleet if result.finished is None else None


def recover(data: st.DataObject, fleet: Fleet, mode: str, crash: Crash | None) -> Simulation:
    found = fleet.found()
    plan = replan(found, mode, f"recovery-{len(fleet.plans)}")
    note("\n".join(report(found, plan)))
    oracle = fleets.Oracle(plan)
    oracle.mine = {target.instance.id for target in plan.targets if target.change}
    before = runs(fleet)
    result = simulate(
        plan,
        fleet,
        TIMING,
        faults=data.draw(fleets.troubles(plan, quiet=True), "faults of the recovery"),
        seed=data.draw(st.integers(0, 99)),
        crash=crash,
        watch=oracle,
    )
    note(f"{result.finished}")
    assert oracle.wrong == []
    if mode == "repair":
        check_repaired(plan, before, fleet)
    return result


@MANY
@given(fleets.plans(), st.sampled_from(MODES), st.data())
def test_whatever_died_where_all_that_is_not_named_as_broken_is_put_back(plan, mode, data):
    fleet = crashed(data, plan)
    if fleet is not None:
        _check(plan, fleet, mode, recover(data, fleet, mode, None))


@MANY
@given(fleets.plans(), st.sampled_from(MODES), st.sampled_from(MODES), crashes, st.data())
def test_a_recovery_that_died_can_be_recovered_in_any_direction(plan, first, then, crash, data):
    fleet = crashed(data, plan)
    if fleet is None:
        return
    if recover(data, fleet, first, crash).finished is None:
        _check(plan, fleet, then, recover(data, fleet, then, None))


def _check(plan: Plan, fleet: Fleet, mode: str, result: Simulation) -> None:
    finished = result.finished
    assert finished is not None
    broken = set(finished.broken)
    now = fleets.state(fleet)
    for record in plan.baseline:
        server = fleet.servers[record.ref]
        if server.instance not in broken:
            assert now[record.ref] == (record.uweight, record.admin), server
            if record.ref.balancer not in fleet.silent:
                assert str(record.ref) not in fleet.undo
    for target in plan.changing:
        if target.instance.id not in broken and target.instance.host not in fleet.unreachable:
            assert target.instance.id not in fleet.undo
    assert [line for line in fleet.lost if "does not answer" in line] == []
    releases = {name: container.release for name, container in fleet.containers.items()}
    if mode == "resume" and finished.verdict == "done":
        assert all(releases[t.instance.id] == t.wanted for t in plan.changing)
    if mode == "abort" and finished.verdict == "rolled-back":
        assert all(releases[t.instance.id] == t.earlier for t in plan.changing if t.earlier)
    for target in plan.targets:
        if not target.change:
            assert fleet.containers[target.instance.id].started == 0
