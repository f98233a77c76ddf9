"""The fleet on paper: what other tests and ``--dry-run`` rely on."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from fabfile.drivers.simulated import (
    Crash,
    Fleet,
    HostLost,
    Reload,
    Silence,
    Timing,
    Traffic,
    plan_on_paper,
    simulate,
)
from fabfile.drivers.simulated.hands import Hands
from fabfile.inventory.model import Count, Drain, RolloutPolicy
from fabfile.rollout.plan import Plan
from fabfile.rollout.steps import (
    AwaitIdle,
    Busy,
    Done,
    Failed,
    Idle,
    Observe,
    Outcome,
    Reverted,
    Shut,
    TakeOut,
    Work,
)
from tests.unit.rollout import fleets

BUSY = Traffic(5.0, 0.01, 3.0, pinned=1)
JITTERY = replace(fleets.QUICK, jitter=0.5)


def play(fleet: Fleet, work: Work, mode: str = "weight") -> Outcome:
    """Carry ``work`` out with nothing else going on."""
    process = Hands(fleet, mode).begin(work)
    while True:
        try:
            fleet.now += next(process)
        except StopIteration as stop:
            return stop.value


def test_the_same_seed_tells_the_same_story_and_another_one_another():
    def story(seed: int) -> list:
        plan = fleets.plan(6, 2, serial=3)
        return simulate(plan, timing=JITTERY, traffic=BUSY, seed=seed).events

    assert story(1) == story(1)
    assert story(1) != story(2)


def test_lanes_that_end_in_the_same_moment_end_in_an_order_that_only_the_seed_knows():
    plan = fleets.plan(6, serial=0, min_capacity=0)
    orders = {
        tuple(fleets.fates(simulate(plan, seed=seed, timing=Timing()).events)) for seed in range(9)
    }
    assert len(orders) > 3


def test_one_idle_instance_takes_what_its_steps_take():
    t = Timing()
    result = simulate(fleets.plan(2))
    steps = t.observe + 2 * t.record + 3 * t.drain + 2 * t.poll + t.recreate + t.healthy + t.admit
    assert result.seconds == pytest.approx(2 * steps, abs=2 * t.poll)


def test_a_drain_lasts_as_long_as_the_request_and_not_longer():
    plan = fleets.plan(2)
    fleet = Fleet.of_plan(plan)
    fleet.servers[plan.targets[0].refs[0]].ends.append(4.0)
    play(fleet, TakeOut(plan.targets[0]))
    idle = play(fleet, AwaitIdle(plan.targets[0], 30.0, maint=False))
    assert isinstance(idle, Idle)
    assert idle.waited == pytest.approx(4.0, abs=0.1)


def test_busy_names_who_is_still_served():
    plan = fleets.plan(2)
    fleet = Fleet.of_plan(plan)
    ref = plan.targets[0].refs[1]
    fleet.servers[ref].ends += [9.0, 9.0]
    play(fleet, Shut(plan.targets[0]))
    busy = play(fleet, AwaitIdle(plan.targets[0], 1.0, maint=True))
    assert isinstance(busy, Busy)
    assert busy.sessions == {ref: 2}


def test_requests_of_a_process_from_before_a_reload_are_waited_for():
    plan = fleets.plan(2)
    fleet = Fleet.of_plan(plan)
    fleet.servers[plan.targets[0].refs[0]].ends.append(9.0)
    play(fleet, Shut(plan.targets[0]))
    fleet.reload("lb1", keeps=True)
    assert isinstance(play(fleet, AwaitIdle(plan.targets[0], 1.0, maint=True)), Busy)


def test_a_drained_server_is_not_yet_in_maint():
    plan = fleets.plan(2)
    fleet = Fleet.of_plan(plan)
    play(fleet, TakeOut(plan.targets[0]))
    assert play(fleet, AwaitIdle(plan.targets[0], 1.0, maint=True)) == Reverted(("lb1", "lb2"), 0.0)


@pytest.mark.parametrize("mode", ["weight", "drain"])
def test_taking_out_what_is_in_maint_lets_nobody_in(mode):
    plan = fleets.plan(2)
    fleet = Fleet.of_plan(plan)
    play(fleet, Shut(plan.targets[0]))
    assert play(fleet, TakeOut(plan.targets[0]), mode) == Done()
    assert {fleet.servers[ref].admin for ref in plan.targets[0].refs} == {"maint"}


def test_a_silent_balancer_fails_the_step_but_the_other_one_is_changed():
    plan = fleets.plan(2)
    fleet = Fleet.of_plan(plan)
    fleet.silent.add("lb2")
    assert play(fleet, TakeOut(plan.targets[0])) == Failed("lb2: no answer")
    assert [fleet.servers[ref].uweight for ref in plan.targets[0].refs] == [0, 100]


def test_after_the_first_look_only_what_changed_is_told_unless_a_balancer_falls_silent():
    plan = fleets.plan(3)
    fleet = Fleet.of_plan(plan)
    hands = Hands(fleet, "weight")

    def look():
        process = hands.begin(Observe())
        while True:
            try:
                next(process)
            except StopIteration as stop:
                return stop.value

    first = look()
    assert not first.partial
    assert {len(backend.servers) for backend in first.readings.values()} == {3}
    fleet.set(plan.targets[0].refs[0], uweight=0)
    second = look()
    assert second.partial
    assert {k: list(b.servers) for k, b in second.readings.items()} == {
        ("lb1", "app"): ["web1_app_1"]
    }
    fleet.silent.add("lb1")
    assert (third := look()).partial is False
    assert list(third.readings) == [("lb2", "app")]


def every_order(plan: Plan) -> range:
    return range(1, simulate(plan, timing=fleets.QUICK).orders + 1)


@pytest.mark.parametrize("effect", ["done", "half", "not"])
def test_a_controller_may_die_at_any_order_and_no_request_is_lost_for_it(effect):
    plan = fleets.plan(2, 2, serial=0, instances_at_once=2, min_capacity=25)
    for number in every_order(plan):
        fleet = Fleet.of_plan(plan, timing=fleets.QUICK)
        oracle = fleets.Oracle(plan)
        result = simulate(
            plan, fleet, crash=Crash(number, effect), traffic=BUSY, seed=number, watch=oracle
        )
        assert oracle.wrong == []
        assert fleet.lost == []
        if result.finished is None:
            assert result.orders == number or effect == "done"


def test_an_order_that_never_left_changed_nothing_and_one_that_was_done_did():
    plan = fleets.plan(2)
    take_out = 3
    for effect, weights in {"not": [100, 100], "half": [0, 100], "done": [0, 0]}.items():
        fleet = Fleet.of_plan(plan)
        result = simulate(plan, fleet, crash=Crash(take_out, effect))
        assert result.finished is None
        assert [fleet.servers[ref].uweight for ref in plan.targets[0].refs] == weights


def test_half_a_recreate_has_stopped_the_old_container_and_not_started_the_new_one():
    plan = fleets.plan(2)
    fleet = Fleet.of_plan(plan)
    simulate(plan, fleet, crash=Crash(7, "half"))
    container = fleet.containers["web1/app_1"]
    assert (container.running, container.release.version) == (False, "1")


def test_what_was_under_way_at_a_crash_goes_on_in_the_next_run():
    plan = fleets.plan(2)
    fleet = Fleet.of_plan(plan)
    simulate(plan, fleet, crash=Crash(9, "done"))
    server = fleet.servers[plan.targets[0].refs[0]]
    assert not server.up
    rest = replace(plan, batches=(("web2",),), targets=plan.targets[1:])
    assert simulate(rest, fleet).finished.verdict == "done"
    assert server.up


def test_a_rollout_that_hangs_is_an_error_and_not_an_endless_test(monkeypatch):
    monkeypatch.setattr("fabfile.rollout.engine.Engine.answer", lambda *_: [])
    with pytest.raises(RuntimeError, match="stuck"):
        simulate(fleets.plan(2))


def test_a_balancer_that_lost_its_state_sends_requests_to_what_is_not_there():
    plan = fleets.plan(2, balancers=["lb1"])
    fleet = Fleet.of_plan(plan, timing=replace(fleets.QUICK, recreate=5.0))
    fault = Reload(2.0, "lb1", keeps=False)
    simulate(plan, fleet, faults=[fault], traffic=Traffic(50.0, 0.01, 0.05))
    assert any("does not answer" in line for line in fleet.lost), "the simulation sees no losses"


def test_faults_end_by_themselves():
    plan = fleets.plan(2)
    fleet = Fleet.of_plan(plan, timing=fleets.QUICK)
    faults = [HostLost(0.0, "web1", 1.0), Silence(0.0, "lb1", 2.0)]
    assert simulate(plan, fleet, faults=faults).finished.verdict == "done"
    assert (fleet.unreachable, fleet.silent) == (set(), set())


def test_a_plan_on_paper_knows_every_server_and_what_was_chosen():
    made = plan_on_paper(fleets.service(3, 2, "self", drain=Drain(timeout=7)), "2", None)
    assert len(made.baseline) == 6
    assert made.summed == ("web1", "web2", "web3")
    assert (made.drain.timeout, made.chosen) == (7, False)
    some = plan_on_paper(fleets.service(3), "2", "1", hosts=["web2"])
    assert some.batches == (("web2",),)
    assert some.chosen
    assert len(some.baseline) == 6


def test_ten_times_the_hosts_take_about_ten_times_as_long():
    def cost(hosts: int) -> float:
        policy = RolloutPolicy(serial=(Count(10, percent=True),))
        plan = plan_on_paper(fleets.service(hosts, 4, policy=policy), "2", "1")
        began = time.process_time()
        assert simulate(plan, on_event=lambda *_: None).finished.upgraded == 4 * hosts
        return time.process_time() - began

    small = min(cost(40), cost(40))
    assert cost(400) < 30 * small, "something in the engine counts all for each"
