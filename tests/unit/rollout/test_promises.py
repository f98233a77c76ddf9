"""What a rollout promises, on any fleet, whatever goes wrong. A failure here loses requests."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from fabfile.drivers.simulated import Fleet, OperatorSets, Reload, Simulation, simulate
from fabfile.rollout.events import BatchStarted, RolloutFinished, StepStarted
from fabfile.rollout.plan import Plan
from tests.unit.rollout import fleets

MANY = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
JITTERY = replace(fleets.QUICK, jitter=0.3)


def run(data: st.DataObject, plan: Plan, *, quiet: bool = False, **more: object) -> tuple:
    behaviours = data.draw(fleets.behaviours(plan), "behaviours")
    faults = data.draw(fleets.troubles(plan, quiet=quiet), "faults")
    fleet = Fleet.of_plan(plan, behaviours, JITTERY)
    for target in plan.changing:
        # An earlier release that is ill was ill before: the balancers know.
        container = fleet.containers[target.instance.id]
        if not fleet.behaviour(container.release).healthy:
            fleet.become(container, healthy=False)
    for server in fleet.servers.values():
        server.ends.append(data.draw(st.sampled_from([0.0, 0.0, 1.0, 4.0, 1e9])))
    oracle = fleets.Oracle(plan, capacity_is_ours=quiet)
    result = simulate(
        plan,
        fleet,
        faults=faults,
        traffic=data.draw(fleets.traffic(), "traffic"),
        seed=data.draw(st.integers(0, 99), "seed"),
        watch=oracle,
        **more,
    )
    note(f"{result.finished}")
    return result, oracle, faults


@MANY
@given(fleets.plans(), st.data())
def test_no_container_stops_while_a_balancer_could_still_send_it_a_request(plan, data):
    _, oracle, _ = run(data, plan)
    assert oracle.wrong == []


@MANY
@given(fleets.plans(), st.data())
def test_our_own_drains_never_take_the_floor_or_the_last_server(plan, data):
    _, oracle, _ = run(data, plan, quiet=True)
    assert oracle.wrong == []


@MANY
@given(fleets.plans(), st.data())
def test_nobody_meets_a_server_that_does_not_answer_unless_it_broke_by_itself(plan, data):
    result, _, _ = run(data, plan, quiet=True)
    assert [line for line in result.fleet.lost if "does not answer" in line] == []


@MANY
@given(fleets.plans(), st.data())
def test_every_server_ends_as_it_was_recorded_and_others_are_never_touched(plan, data):
    result, _, faults = run(data, plan)
    _assert_put_back(plan, result, faults)


@MANY
@given(fleets.plans(), st.data())
def test_fates_tell_what_runs_where_and_the_verdict_sums_them_up(plan, data):
    result, _, _ = run(data, plan)
    _assert_truthful(plan, result)


@MANY
@given(fleets.plans(), st.integers(1, 60), st.data())
def test_after_an_interrupt_nothing_new_is_drained_and_what_is_out_comes_back(plan, at, data):
    result, oracle, faults = run(data, plan, interrupt_after=at)
    assert oracle.wrong == []
    _assert_put_back(plan, result, faults)
    _assert_truthful(plan, result)
    if result.interrupted_at is not None:
        before = [e for _, e in result.events[: result.interrupted_at]]
        after = [e for _, e in result.events[result.interrupted_at :]]
        out = {e.instance for e in before if isinstance(e, StepStarted) and e.step == "take-out"}
        new = {e.instance for e in after if isinstance(e, StepStarted) and e.step == "take-out"}
        assert new <= out
        assert not any(isinstance(e, BatchStarted) for e in after)


@MANY
@given(fleets.plans(), st.data())
def test_failures_stop_the_rollout_as_the_policy_says(plan, data):
    result, _, _ = run(data, plan)
    begun = [e for _, e in result.events if isinstance(e, BatchStarted)]
    finished = result.finished
    if plan.policy.on_failure != "rollback":
        assert not any(batch.back for batch in begun)
    if plan.policy.on_failure == "continue":
        assert len(begun) == (begun[0].of if begun else 0)
    turned = [batch.back for batch in begun]
    assert turned == sorted(turned), "a rollback is never rolled back"
    if finished.verdict == "done":
        assert not any(turned)


def _assert_put_back(plan: Plan, result: Simulation, faults: list) -> None:
    """All but what is broken, and what somebody else changed."""
    hands = {fault.ref for fault in faults if isinstance(fault, OperatorSets)}
    reset = {f.balancer for f in faults if isinstance(f, Reload) and not f.keeps}
    broken = set(result.finished.broken)
    now = fleets.state(result.fleet)
    wrong = {
        record.ref: now[record.ref]
        for record in plan.baseline
        if record.ref not in hands
        and record.ref.balancer not in reset
        and result.fleet.servers[record.ref].instance not in broken
        and now[record.ref] != (record.uweight, record.admin)
    }
    assert wrong == {}
    for target in plan.targets:
        if not target.change:
            assert result.fleet.containers[target.instance.id].started == 0


def _assert_truthful(plan: Plan, result: Simulation) -> None:
    finished = result.finished
    assert finished is not None
    assert [e for _, e in result.events if isinstance(e, RolloutFinished)] == [finished]
    counts = finished.upgraded, finished.restored, finished.untouched, len(finished.broken)
    assert sum(counts) + finished.current == len(plan.targets)
    releases = {name: c.release for name, c in result.fleet.containers.items()}
    wanted = [
        t for t in plan.changing if releases[t.instance.id] == t.wanted and not _lost(t, finished)
    ]
    assert finished.upgraded == len(wanted)
    for target in plan.changing:
        if not _lost(target, finished):
            assert releases[target.instance.id] in (target.wanted, target.earlier)
    if finished.broken:
        assert finished.verdict == "needs-repair"
    elif not finished.restored and not finished.untouched:
        assert finished.verdict in ("done", "held", "interrupted")
    elif finished.verdict == "rolled-back":
        assert finished.upgraded == 0
    else:
        assert finished.verdict in ("held", "interrupted")
    assert (finished.verdict == "done") <= (finished.upgraded == len(plan.changing))


def _lost(target: object, finished: RolloutFinished) -> bool:
    return target.instance.id in finished.broken
