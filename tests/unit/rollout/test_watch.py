"""A release that passes its health check and answers people with errors must not go further."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from fabfile.balancers.model import BackendReading
from fabfile.drivers.simulated import (
    Behaviour,
    Fleet,
    Flip,
    Reload,
    Simulation,
    Traffic,
    simulate,
)
from fabfile.rollout.events import BatchStarted, StepFinished, StepStarted
from fabfile.rollout.plan import Plan
from fabfile.rollout.watch import ENOUGH, Watch, surely
from tests.unit.rollout import fleets

BUSY = Traffic(rate=200.0, shortest=0.01, longest=0.05)


def run(plan: Plan, ill: dict[str, float], traffic: Traffic = BUSY, **more: object) -> Simulation:
    """``ill``: share of 5xx by release id."""
    behaviours = {name: Behaviour(errors=share) for name, share in ill.items()}
    fleet = Fleet.of_plan(plan, behaviours, fleets.QUICK)
    oracle = fleets.Oracle(plan)
    result = simulate(plan, fleet, watch=oracle, traffic=traffic, **more)
    assert oracle.wrong == []
    assert fleet.lost == [] or plan.targets[0].earlier is None  # nobody served before
    assert fleet.undo == set() or result.finished.broken
    return result


def everything(plan: Plan, share: float = 1.0) -> dict[str, float]:
    return {target.wanted.id: share for target in plan.targets}


def versions(result: Simulation) -> list[str]:
    return [c.release.version for c in result.fleet.containers.values()]


def judged(result: Simulation) -> list[str]:
    return [
        e.instance for _, e in result.events if isinstance(e, StepFinished) and e.step == "watch"
    ]


def test_a_release_that_answers_5xx_is_stopped_in_the_first_batch_and_everything_goes_back():
    plan = fleets.plan(3, 3)
    result = run(plan, everything(plan))
    assert result.finished.verdict == "rolled-back"
    assert "answers 5xx" in result.finished.reason
    assert set(versions(result)) == {"1"}
    batches = [e for _, e in result.events if isinstance(e, BatchStarted)]
    assert [batch.number for batch in batches if not batch.back] == [1]
    assert not any("web2" in name for name in fleets.steps_begun(result.events, "recreate"))


def test_what_answers_5xx_gets_its_earlier_release_before_anything_else_is_upgraded():
    plan = fleets.plan(3, 1, on_failure="continue", min_capacity=30)
    result = run(plan, {plan.targets[1].wanted.id: 1.0})
    assert result.finished.verdict == "held"
    assert versions(result) == ["2", "1", "2"]
    assert judged(result) == ["web2/app_1"]


def test_hold_leaves_the_good_ones_where_they_are_and_stops():
    plan = replace(fleets.plan(3, 1, on_failure="hold"), watch=2.0)
    result = run(plan, {plan.targets[1].wanted.id: 1.0})
    assert result.finished.verdict == "held"
    assert versions(result) == ["2", "1", "1"]


def test_the_last_one_of_all_is_waited_for_when_there_is_enough_to_judge_by():
    plan = replace(fleets.plan(2, 1), watch=2.0)
    result = run(plan, {plan.targets[-1].wanted.id: 1.0})
    assert result.finished.verdict == "rolled-back"
    assert versions(result) == ["1", "1"]


def test_what_begins_to_fail_in_the_pause_between_batches_ends_the_pause():
    plan = fleets.plan(2, 1, pause=600.0)
    result = run(plan, {plan.targets[0].wanted.id: 1.0}, Traffic(10.0, 0.01, 0.05))
    assert result.finished.verdict == "rolled-back"
    assert result.seconds < 60
    assert "web2/app_1" not in fleets.steps_begun(result.events, "recreate")


@pytest.mark.parametrize("share", [0.0, 0.02])
def test_a_few_errors_are_no_reason(share):
    plan = replace(fleets.plan(3, 1), watch=2.0)
    result = run(plan, everything(plan, share), seed=3)
    assert result.finished.verdict == "done"


def test_who_allows_every_error_is_not_stopped():
    plan = fleets.plan(3, 1, max_error_rate=100)
    assert run(plan, everything(plan)).finished.verdict == "done"


def test_a_way_back_is_never_judged_so_that_it_is_never_rolled_back():
    plan = replace(fleets.plan(3, 1), mode="rollback", watch=2.0)
    result = run(plan, everything(plan))
    assert result.finished.verdict == "done"
    assert judged(result) == []


def test_no_requests_no_judgement_and_no_waiting_for_one():
    idle = Traffic(rate=0.0)
    plan = fleets.plan(3, 1)
    waits = run(replace(plan, watch=60.0), everything(plan), idle)
    assert waits.finished.verdict == "done"
    assert waits.seconds < run(plan, everything(plan), idle).seconds + 5


def test_where_nothing_was_before_it_stays_and_is_named():
    plan = replace(fleets.plan(2, 1, earlier=None, min_capacity=0), watch=2.0)
    result = run(plan, {plan.targets[0].wanted.id: 1.0})
    assert result.finished.verdict == "needs-repair"
    assert result.finished.broken == ("web1/app_1",)
    assert fleets.state(result.fleet) == {r.ref: (r.uweight, r.admin) for r in plan.baseline}


def test_its_last_log_lines_are_shown():
    plan = fleets.plan(2, 1)
    result = run(plan, everything(plan))
    assert "read-logs" in [e.step for _, e in result.events if isinstance(e, StepStarted)]
    details = [e.detail for _, e in result.events if isinstance(e, StepFinished)]
    assert "its last words" in details


def test_an_interrupt_drains_nothing_more_for_the_sake_of_errors():
    plan = fleets.plan(2, 1)
    result = run(plan, everything(plan), interrupt_after=6)
    assert result.finished.verdict == "interrupted"
    assert judged(result) == []


# counters


def reading(plan: Plan, requests: int, errors: int, process: int = 1) -> dict:
    """Every server of ``plan`` with these counters."""
    fleet = Fleet.of_plan(plan)
    for server in fleet.servers.values():
        server.stot, server.errors = requests, errors
    return {key: replace(fleet.read(key), process=process) for key in fleet.of_backend}


def watching(**policy: object) -> tuple[Plan, Watch]:
    plan = fleets.plan(1, 1, ("lb1",), **policy)
    watch = Watch(plan)
    watch.begin(plan.targets[0])
    return plan, watch


def test_errors_from_before_its_return_are_not_its_own():
    plan, watch = watching()
    assert watch.see(reading(plan, 1000, 900)) == []
    assert watch.see(reading(plan, 1000 + ENOUGH, 900)) == []


def test_surely_above_the_rate_it_has_failed_and_by_chance_it_has_not():
    plan, watch = watching(max_error_rate=10)
    assert watch.see(reading(plan, 0, 0)) == []
    assert watch.see(reading(plan, 40, 4)) == []
    assert watch.see(reading(plan, 40, 6)) == []  # 15% of so few may well be chance
    (bad,) = watch.see(reading(plan, 40, 8))
    assert (bad.requests, bad.errors) == (40, 8)
    assert watch.see(reading(plan, 50, 20)) == []  # told once
    assert not watch.active


def test_too_few_requests_say_nothing():
    plan, watch = watching()
    watch.see(reading(plan, 0, 0))
    assert watch.see(reading(plan, ENOUGH - 1, ENOUGH - 1)) == []


def test_counters_that_begin_anew_after_a_reload_are_not_taken_for_errors():
    plan, watch = watching()
    watch.see(reading(plan, 0, 0))
    assert watch.see(reading(plan, 5000, 4000, process=2)) == []
    assert watch.see(reading(plan, 5000 + ENOUGH, 4000, process=2)) == []


def test_a_reload_in_the_middle_does_not_hide_errors():
    plan = fleets.plan(2, 1)
    result = run(plan, everything(plan), faults=[Reload(1.0, "lb1", True)])
    assert result.finished.verdict == "rolled-back"


def test_a_backend_that_nobody_watches_is_passed_over():
    _, watch = watching()
    other = {("lb9", "x"): BackendReading("lb9", 1, {})}
    assert watch.see(other) == []


def test_a_sample_of_a_rate_seldom_looks_surely_above_it():
    rng = random.Random(1)
    wrong = 0
    for _ in range(2000):
        errors = sum(rng.random() < 0.05 for _ in range(60))
        wrong += surely(errors, 60) > 0.05
    assert wrong < 2000 * 0.08
    assert surely(0, 20) == 0.0
    assert 0.8 < surely(20, 20) < 1.0


# going down


def flipped(plan: Plan, at: float, name: str, *, healthy: bool = False, **more) -> Simulation:
    return run(plan, {}, Traffic(rate=0.0), faults=[Flip(at, name, healthy)], **more)


def test_an_upgraded_instance_that_dies_before_the_end_is_no_success():
    plan = fleets.plan(2, 1)
    result = flipped(plan, 1.8, "web1/app_1")
    assert result.finished.verdict == "rolled-back"
    assert "went down after its return" in result.finished.reason
    assert set(versions(result)) == {"1"}


def test_one_that_comes_up_again_by_itself_is_waited_for():
    plan = fleets.plan(2, 1)
    faults = [Flip(1.8, "web1/app_1", False), Flip(20.0, "web1/app_1", True)]
    result = run(plan, {}, Traffic(rate=0.0), faults=faults)
    assert result.finished.verdict == "done"
    assert result.seconds > 20


def test_one_that_dies_in_a_rollback_is_named_and_nothing_is_undone():
    plan = replace(fleets.plan(2, 1), mode="rollback")
    result = flipped(plan, 1.8, "web1/app_1")
    assert result.finished.verdict == "needs-repair"
    assert result.finished.broken == ("web1/app_1",)
    assert set(versions(result)) == {"2"}
