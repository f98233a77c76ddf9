"""The coordinator on small fleets: who goes when, what failure means, what an interrupt leaves."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from fabfile.drivers.simulated import (
    Fleet,
    Flip,
    HostLost,
    OperatorSets,
    Reload,
    Silence,
    Simulation,
    Traffic,
    simulate,
)
from fabfile.inventory.model import Count, Drain, Hooks
from fabfile.rollout.engine import Engine
from fabfile.rollout.events import (
    BatchFinished,
    BatchStarted,
    CapacityAwaited,
    CapacityLeft,
    InstanceFinished,
    StepFinished,
    StepStarted,
)
from fabfile.rollout.lanes import Order
from fabfile.rollout.plan import Plan
from fabfile.rollout.steps import (
    Admitted,
    AwaitAdmitted,
    AwaitIdle,
    Done,
    Failed,
    Idle,
    Observe,
    Outcome,
    Seen,
    Step,
)
from tests.unit.rollout import fleets
from tests.unit.rollout.fleets import BAD, fates, notes, steps_begun, trail


def run(plan: Plan, bad: tuple[str, ...] = (), **more: object) -> tuple[Simulation, fleets.Oracle]:
    """``bad``: ids of releases that never get healthy."""
    fleet = Fleet.of_plan(plan, dict.fromkeys(bad, BAD), fleets.QUICK)
    oracle = fleets.Oracle(plan)
    return simulate(plan, fleet, watch=oracle, **more), oracle


def events(result: Simulation, kind: type) -> list:
    return [event for _, event in result.events if isinstance(event, kind)]


def order_of(result: Simulation) -> list[str]:
    return steps_begun(result.events, "take-out")


def test_two_hosts_behind_two_balancers_are_upgraded_one_after_the_other():
    plan = fleets.plan(2, 2)
    result, oracle = run(plan)
    assert result.finished.verdict == "done"
    assert result.finished.upgraded == 4
    assert order_of(result) == ["web1/app_1", "web1/app_2", "web2/app_1", "web2/app_2"]
    assert oracle.wrong == []
    assert trail(result.events, "web1/app_1") == [
        "ask-capacity",
        "record",
        "take-out",
        "await-idle",
        "shut",
        "await-idle",
        "recreate",
        "await-healthy",
        "admit",
        "await-admitted",
        "record",
    ]


def test_a_batch_goes_side_by_side_and_the_next_waits_for_all_of_it():
    plan = fleets.plan(4, serial=2, min_capacity=0)
    result, _ = run(plan)
    begun = [e.hosts for e in events(result, BatchStarted)]
    assert begun == [("web1", "web2"), ("web3", "web4")]
    kinds = [type(e) for _, e in result.events if isinstance(e, BatchStarted | InstanceFinished)]
    assert kinds == [BatchStarted, InstanceFinished, InstanceFinished] * 2


def test_instances_at_once_takes_two_of_a_host_when_there_is_capacity():
    one, _ = run(fleets.plan(2, 4, instances_at_once=1))
    two, oracle = run(fleets.plan(2, 4, instances_at_once=2))
    assert two.finished.verdict == "done"
    assert two.seconds < 0.6 * one.seconds
    assert oracle.wrong == []


def test_a_batch_that_is_too_wide_for_the_floor_is_paced_by_it():
    result, oracle = run(fleets.plan(4, serial=0, min_capacity=75))
    assert result.finished.verdict == "done"
    assert oracle.wrong == []
    lows = [left for e in events(result, CapacityLeft) for _, left, _ in e.pools]
    assert min(lows) == 300
    assert events(result, CapacityAwaited)


def test_waiting_for_capacity_is_said_once_and_not_with_every_look():
    result, _ = run(fleets.plan(6, serial=0, min_capacity=83))
    waits = [e.instance for e in events(result, CapacityAwaited)]
    assert len(waits) == len(set(waits)) == 5


def test_a_single_instance_is_never_taken_from_its_users():
    result, _ = run(fleets.plan(1, min_capacity=0))
    assert result.finished.verdict == "rolled-back"
    assert "last server" in result.finished.reason
    assert order_of(result) == []


def test_a_single_instance_goes_with_allow_outage():
    plan = replace(fleets.plan(1), allow_outage=True)
    assert run(plan)[0].finished.verdict == "done"


def test_a_first_deploy_needs_no_capacity_and_starts_everything():
    plan = fleets.plan(2, 2, earlier=None, serial=0)
    result, oracle = run(plan)
    assert result.finished.verdict == "done"
    assert all(server.up for server in result.fleet.servers.values())
    assert oracle.wrong == []


def test_servers_that_an_operator_took_out_stay_out_and_are_upgraded_all_the_same():
    for changes in ({"admin": "maint"}, {"admin": "drain"}, {"uweight": 0}):
        plan = fleets.plan(4, 1, ["lb1"])
        asleep = replace(plan.targets[0].servers[0], **changes)
        plan = replace(
            plan,
            baseline=(asleep, *plan.baseline[1:]),
            targets=(replace(plan.targets[0], servers=(asleep,)), *plan.targets[1:]),
        )
        result, oracle = run(plan)
        assert result.finished.verdict == "done"
        assert fleets.state(result.fleet)[asleep.ref] == (asleep.uweight, asleep.admin)
        assert oracle.wrong == []


def test_what_is_current_already_stays_untouched():
    plan = fleets.plan(2)
    plan = replace(plan, targets=(replace(plan.targets[0], change=False), plan.targets[1]))
    result, _ = run(plan)
    assert (result.finished.verdict, result.finished.current) == ("done", 1)
    assert order_of(result) == ["web2/app_1"]


def test_nothing_to_do_is_done_at_once():
    plan = fleets.plan(2)
    plan = replace(plan, targets=tuple(replace(t, change=False) for t in plan.targets))
    result, _ = run(plan)
    assert (result.finished.verdict, result.orders) == ("done", 0)


def test_a_bad_release_goes_back_everywhere_the_newest_first():
    plan = fleets.plan(4, serial=1)
    result, oracle = run(plan, ("2-web3/app_1",))
    assert result.finished.verdict == "rolled-back"
    there, back = ["web1/app_1", "web2/app_1", "web3/app_1"], ["web2/app_1", "web1/app_1"]
    assert order_of(result) == there + back
    assert fates(result.events) == dict.fromkeys(["web1/app_1", "web2/app_1"], "restored") | {
        "web3/app_1": "restored"
    }
    assert result.finished.untouched == 1
    assert all(c.release.version == "1" for c in result.fleet.containers.values())
    assert oracle.wrong == []


def test_going_back_begins_with_what_is_down():
    plan = fleets.plan(4, serial=1, min_capacity=50)
    result, oracle = run(plan, ("2-web4/app_1",), faults=[Flip(2.0, "web1/app_1")])
    assert result.finished.verdict == "rolled-back"
    assert order_of(result)[4:] == ["web1/app_1", "web3/app_1", "web2/app_1"]
    assert oracle.wrong == []


def test_hold_stops_where_it_is_and_says_who_runs_what():
    result, _ = run(fleets.plan(3, serial=1, on_failure="hold"), ("2-web2/app_1",))
    finished = result.finished
    assert finished.verdict == "held"
    assert (finished.upgraded, finished.restored, finished.untouched) == (1, 1, 1)
    assert finished.reason.startswith("web2/app_1: not healthy")


def test_continue_goes_on_with_the_others():
    result, _ = run(fleets.plan(3, serial=1, on_failure="continue"), ("2-web2/app_1",))
    assert (result.finished.verdict, result.finished.upgraded) == ("held", 2)


def test_a_failed_instance_spares_the_rest_of_its_host():
    result, _ = run(fleets.plan(2, 3, serial=1), ("2-web1/app_1",))
    assert order_of(result) == ["web1/app_1"]


@pytest.mark.parametrize(("percent", "verdict"), [(24, "rolled-back"), (25, "held")])
def test_max_fail_percentage_stops_strictly_above(percent, verdict):
    plan = fleets.plan(8, serial=4, max_fail_percentage=percent)
    result, _ = run(plan, ("2-web2/app_1",))
    assert result.finished.verdict == verdict
    assert len([e for e in events(result, BatchFinished) if e.failed]) == 1


def test_max_failures_counts_over_all_batches_and_does_not_stop_the_rollback_it_causes():
    plan = fleets.plan(8, serial=4, max_fail_percentage=50, max_failures=1)
    result, _ = run(plan, ("2-web2/app_1", "2-web6/app_1"))
    assert result.finished.verdict == "rolled-back"
    assert result.finished.upgraded == 0
    assert len([e for e in events(result, BatchStarted) if e.back]) == 2


def test_an_unreachable_host_counts_as_failed():
    result, _ = run(fleets.plan(3), faults=[HostLost(0.0, "web2")])
    assert result.finished.verdict == "rolled-back"
    assert "web2: no answer" in result.finished.reason
    assert "web2/app_1" not in order_of(result)


def test_a_rollback_that_fails_is_not_rolled_back():
    plan = fleets.plan(3, serial=1)
    result, _ = run(plan, ("2-web3/app_1", "1-web2/app_1"))
    assert result.finished.verdict == "held"
    assert [e.back for e in events(result, BatchStarted)] == [False, False, False, True]
    running = {name: c.release.version for name, c in result.fleet.containers.items()}
    assert running == {"web1/app_1": "2", "web2/app_1": "2", "web3/app_1": "1"}


def test_both_releases_bad_leaves_the_server_in_maint_and_asks_for_repair():
    plan = fleets.plan(2)
    result, _ = run(plan, ("2-web1/app_1", "1-web1/app_1"))
    assert result.finished.verdict == "needs-repair"
    assert result.finished.broken == ("web1/app_1",)
    states = fleets.state(result.fleet)
    assert {states[ref][1] for ref in plan.targets[0].refs} == {"maint"}


def test_nothing_behind_a_silent_balancer_is_stopped_and_the_rollout_waits_for_it():
    result, oracle = run(fleets.plan(2), faults=[Silence(0.0, "lb2", 10.0)])
    assert result.finished.verdict == "done"
    first = next(time for time, e in result.events if getattr(e, "step", "") == "take-out")
    assert first > 10.0
    assert oracle.wrong == []


def test_a_balancer_that_stays_silent_leaves_everything_untouched():
    result, _ = run(fleets.plan(2), faults=[Silence(0.0, "lb2")])
    assert result.finished.verdict == "rolled-back"
    assert "assumed to serve" in result.finished.reason
    assert order_of(result) == []


def test_a_reload_that_forgot_the_drain_is_noticed_and_drained_again():
    plan = fleets.plan(2, drain=Drain(timeout=60))
    fleet = Fleet.of_plan(plan, timing=fleets.QUICK)
    fleet.servers[plan.targets[0].refs[0]].ends.append(20.0)
    oracle = fleets.Oracle(plan)
    result = simulate(plan, fleet, faults=[Reload(10.0, "lb1", keeps=False)], watch=oracle)
    assert result.finished.verdict == "done"
    assert trail(result.events, "web1/app_1").count("take-out") == 2
    assert "undone on lb1" in notes(result.events, "await-idle")
    assert oracle.wrong == []
    stopped = next(time for time, e in result.events if getattr(e, "step", "") == "recreate")
    assert stopped >= 20.0, "the old worker's requests were not waited for"


def test_an_operator_who_opens_a_drained_server_again_is_overruled_and_told():
    plan = fleets.plan(2)
    ref = plan.targets[0].refs[0]
    fleet = Fleet.of_plan(plan, timing=fleets.QUICK)
    fleet.servers[ref].ends.append(4.0)
    result = simulate(plan, fleet, faults=[OperatorSets(2.0, ref, uweight=5)])
    assert result.finished.verdict == "done"
    assert "undone on lb1" in notes(result.events, "await-idle")
    assert fleets.state(fleet)[ref] == (100, "ready")


@pytest.mark.parametrize(("policy", "verdict"), [("cut", "done"), ("abort", "rolled-back")])
def test_a_request_that_never_ends_is_cut_and_reported_or_the_rollout_gives_way(policy, verdict):
    plan = fleets.plan(2, drain=Drain(sticky_grace=1, timeout=3, on_timeout=policy))
    fleet = Fleet.of_plan(plan, timing=fleets.QUICK)
    fleet.servers[plan.targets[0].refs[0]].ends.append(1e9)
    result = simulate(plan, fleet)
    assert result.finished.verdict == verdict
    assert fleet.cut == ({"web1/app_1": 1} if policy == "cut" else {})
    assert notes(result.events, "cut") == (["closed 1"] if policy == "cut" else [])
    if policy == "abort":
        assert fleet.containers["web1/app_1"].started == 0


def test_sticky_clients_and_a_busy_fleet_lose_nothing():
    plan = fleets.plan(3, 2, drain=Drain(sticky_grace=2))
    result, oracle = run(plan, traffic=Traffic(50.0, 0.01, 20.0, pinned=6), seed=3)
    assert result.finished.verdict == "done"
    assert (result.fleet.lost, oracle.wrong) == ([], [])
    assert sum(server.stot for server in result.fleet.servers.values()) > 1000


def test_a_server_that_came_up_by_its_upgrade_is_not_taken_from_users_again():
    plan = fleets.plan(2, serial=0, min_capacity=0)
    fleet = Fleet.of_plan(plan, timing=fleets.QUICK)
    for name, container in fleet.containers.items():
        fleet.become(container, healthy=False)
        assert not any(server.up for server in fleet.of_instance[name])
    oracle = fleets.Oracle(plan)
    result = simulate(plan, fleet, faults=[Silence(1.1, "lb1")], watch=oracle)
    assert result.finished.verdict == "needs-repair"
    assert any(server.takes_new for server in fleet.of_backend["lb2", "app"].values())
    assert oracle.wrong == []


def test_an_interrupt_lets_an_ill_release_be_replaced_all_the_same():
    result, _ = run(fleets.plan(2), ("2-web1/app_1",), interrupt_after=9)
    assert result.finished.verdict == "interrupted"
    assert result.finished.restored == 1


def test_an_interrupt_finishes_what_is_out_and_begins_nothing_else():
    result, _ = run(fleets.plan(3, serial=1), interrupt_after=6)
    assert result.finished.verdict == "interrupted"
    assert (result.finished.upgraded, result.finished.untouched) == (1, 2)


def test_an_interrupt_before_the_first_drain_changes_nothing():
    result, _ = run(fleets.plan(3, serial=1), interrupt_after=2)
    assert result.finished.verdict == "interrupted"
    assert order_of(result) == []
    assert result.fleet.records["web1/app_1"] == "restored"


def test_an_interrupt_ends_a_long_pause_between_batches_at_once():
    plan = fleets.plan(2, pause=3600.0)
    calm, _ = run(plan)
    assert calm.seconds > 3600
    result, _ = run(plan, interrupt_after=12)
    assert steps_begun(result.events, "take-out") == ["web1/app_1"]
    assert (result.finished.verdict, result.seconds < 60) == ("interrupted", True)


def test_when_the_batch_is_lost_lanes_that_wait_for_capacity_go_home():
    plan = fleets.plan(3, serial=0, min_capacity=66)
    result, _ = run(plan, ("2-web1/app_1",))
    assert order_of(result) == ["web1/app_1"]
    (batch,) = events(result, BatchFinished)
    assert batch.failed == ("web1",)
    assert result.finished.verdict == "rolled-back"


def test_an_observer_that_breaks_grants_nothing_and_begins_no_further_batch():
    seen: list = []
    engine = Engine(fleets.plan(2, serial=1), seen.append)
    (order,) = engine.start()
    assert isinstance(order.work, Observe)
    (again,) = engine.answer(order.id, Failed("unexpected"))
    assert isinstance(again.work, Observe)
    assert len([e for e in seen if isinstance(e, BatchStarted)]) == 1
    assert not [e for e in seen if isinstance(e, CapacityLeft)]


def test_a_reading_from_before_a_failed_drain_does_not_count_the_broken_server():
    plan = fleets.plan(3, 1, ["lb1"], serial=0, min_capacity=60, on_failure="continue")
    fleet, seen = Fleet.of_plan(plan), []
    engine = Engine(plan, seen.append)
    stale = Seen({key: fleet.read(key) for key in fleet.of_backend})
    (look,) = engine.start()
    record, look = engine.answer(look.id, stale)
    (take_out,) = engine.answer(record.id, Done())
    (restore,) = engine.answer(take_out.id, Failed("no answer"))
    assert engine.answer(restore.id, Failed("no answer")) == []
    assert [e.fate for e in seen if isinstance(e, InstanceFinished)] == ["broken"]
    (again,) = engine.answer(look.id, stale)
    assert isinstance(again.work, Observe), "a drain was granted on what the broken server gave"


def admitted(waited: float, *, looked: bool = True, up: bool = True) -> list[str]:
    """What is ordered once the first of two instances of a host was admitted after ``waited``.

    ``looked``: the look that went beside it was answered by then. ``up``: the other host's servers
    were, in that look.
    """
    plan = fleets.plan(2, 2, "self", serial=1)
    fleet = Fleet.of_plan(plan)
    engine = Engine(plan, lambda _: None)

    def seen() -> dict:
        return {key: fleet.read(key) for key in fleet.of_backend}

    (look,) = engine.start()
    orders = engine.answer(look.id, Seen(seen()))
    while not isinstance(orders[0].work, AwaitAdmitted):
        outcome = Idle() if isinstance(orders[0].work, AwaitIdle) else Done()
        orders = engine.answer(orders[0].id, outcome)
    await_admitted, beside = orders
    assert isinstance(beside.work, Observe)
    mine = fleet.of_instance["web1/app_1"][0]
    if not up:
        for server in fleet.servers.values():
            fleet.mark(server, up=server.instance.startswith("web1"))
    fleet.mark(mine, up=False)
    if looked:
        assert engine.answer(beside.id, Seen(seen())) == []
    fleet.mark(mine, up=True)
    orders = engine.answer(await_admitted.id, Admitted("", "", waited, seen()))
    return [f"{order.work.name} {order.work.target.instance.id}"
            if isinstance(order.work, Step) else order.work.name for order in orders]  # fmt: skip


def test_the_next_instance_begins_without_a_look_of_its_own():
    assert admitted(0.2) == ["record web1/app_1", "record web1/app_2"]


def test_what_was_seen_long_ago_is_looked_at_again():
    assert admitted(2.0) == ["record web1/app_1", "observe"]


def test_an_instance_that_was_not_admitted_is_looked_at_before_it_leaves_again():
    """What it is granted then, for its way back, may be somebody's last server."""
    plan = fleets.plan(2, 2, "self", serial=1)
    fleet = Fleet.of_plan(plan)
    engine = Engine(plan, lambda _: None)
    seen = Seen({key: fleet.read(key) for key in fleet.of_backend})
    (look,) = engine.start()
    orders = engine.answer(look.id, seen)
    while not isinstance(orders[0].work, AwaitAdmitted):
        outcome = Idle() if isinstance(orders[0].work, AwaitIdle) else Done()
        orders = engine.answer(orders[0].id, outcome)
    await_admitted, beside = orders
    engine.answer(beside.id, seen)
    (again,) = engine.answer(await_admitted.id, Failed("not let in"))
    assert isinstance(again.work, Observe)


def test_the_next_instance_waits_for_the_look_that_is_under_way():
    assert admitted(0.2, looked=False) == ["record web1/app_1"]


def test_nothing_begins_where_the_look_beside_shows_too_little_capacity():
    assert admitted(0.2, up=False) == ["record web1/app_1", "observe"]


NO_GRACE = Drain(sticky_grace=0.0)


def walked_to_admission(drain: Drain, hooks: Hooks | None = None) -> tuple[Engine, list[Order]]:
    """One host's first instance of two waits to be admitted; what was ordered with that."""
    plan = fleets.plan(2, 2, "self", serial=1, drain=drain, hooks=hooks)
    engine = Engine(plan, lambda _: None)
    orders = engine.start()
    while not isinstance(orders[0].work, AwaitAdmitted):
        orders = engine.answer(orders[0].id, well(plan, orders[0]))
    return engine, orders


def well(plan: Plan, order: Order) -> Outcome:
    """What is answered where all is well."""
    if isinstance(order.work, Observe):
        fleet = Fleet.of_plan(plan)
        return Seen({key: fleet.read(key) for key in fleet.of_backend})
    return Idle() if isinstance(order.work, AwaitIdle) else Done()


def names(orders: list[Order]) -> list[str]:
    return [order.work.name for order in orders]


def test_the_next_instance_writes_its_record_while_the_last_one_is_admitted():
    engine, orders = walked_to_admission(NO_GRACE)
    assert names(orders) == ["await-admitted", "observe", "record"]
    admission, _, record = orders
    assert record.work.target.instance.id == "web1/app_2"
    assert engine.answer(record.id, Done()) == [], "it waits for its turn"
    orders = engine.answer(admission.id, Admitted())
    assert names(orders) == ["record"], "the look is still under way"


@pytest.mark.parametrize("outcome", [Done(), Failed("no answer")])
def test_a_last_record_is_not_in_the_way_of_the_next_drain(outcome):
    engine, (admission, beside, record) = walked_to_admission(NO_GRACE)
    engine.answer(record.id, Done())
    seen = well(engine.plan, beside)
    engine.answer(beside.id, seen)
    (drain,) = engine.answer(admission.id, Admitted("", "", 0.1, seen.readings))
    assert (drain.work.name, drain.work.target.instance.id) == ("take-out", "web1/app_2")
    _, last = engine.answer(drain.id, outcome)
    assert (last.work.name, last.work.target.instance.id) == ("record", "web1/app_1")
    engine.answer(last.id, Done())
    assert engine.fates["web1/app_1"] == "upgraded"


def test_a_last_record_does_not_wait_for_a_drain_when_it_is_told_to_stop():
    """Told so a second time, it would count as out of rotation."""
    engine, (admission, beside, record) = walked_to_admission(NO_GRACE)
    engine.answer(record.id, Done())
    seen = well(engine.plan, beside)
    engine.answer(beside.id, seen)
    (drain,) = engine.answer(admission.id, Admitted("", "", 0.1, seen.readings))
    (last,) = engine.interrupt("somebody asked")
    assert (last.work.name, last.work.target.instance.id) == ("record", "web1/app_1")
    assert names(engine.answer(drain.id, Done())) == ["await-idle"]
    assert engine.interrupt("again") == []


def test_a_last_record_waits_for_no_drain_of_another_host():
    """One at a time may be out: an instance that comes back lets one of the other host drain."""
    plan = fleets.plan(2, 2, serial=0, drain=NO_GRACE, min_capacity=75)
    engine = Engine(plan, lambda _: None)
    orders, others, dice = engine.start(), 0, random.Random(1)
    while orders:
        order = orders.pop(dice.randrange(len(orders)))
        admitted = isinstance(order.work, AwaitAdmitted)
        readings = well(plan, Order(0, Observe(0.0))).readings
        outcome = Admitted("", "", 0.1, readings) if admitted else well(plan, order)
        begun = engine.answer(order.id, outcome)
        for drain in (one.work for one in begun if one.work.name == "take-out" and admitted):
            if drain.target.instance.host != order.work.target.instance.host:
                others += 1
                assert names(begun)[0] == "record"
        orders += begun
    assert others
    assert engine.finished


@pytest.mark.parametrize(
    ("drain", "hooks"),
    [(Drain(sticky_grace=1.0), None), (NO_GRACE, Hooks(before_drain="./ready"))],
)
def test_no_record_is_written_ahead_where_a_hook_or_a_grace_comes_before_the_drain(drain, hooks):
    _, orders = walked_to_admission(drain, hooks)
    assert names(orders) == ["await-admitted", "observe"]


def test_one_that_was_ahead_of_a_failure_closes_its_record_and_is_left_alone():
    engine, (admission, beside, record) = walked_to_admission(NO_GRACE)
    engine.answer(beside.id, Seen({}))
    engine.answer(record.id, Done())
    orders = engine.answer(admission.id, Failed("not let in"))
    begun = []
    while orders:
        begun.append(orders[0].work)
        orders = [*orders[1:], *engine.answer(orders[0].id, well(engine.plan, orders[0]))]
    of_next = [work for work in begun if getattr(work, "target", None) == record.work.target]
    assert [(work.name, work.progress) for work in of_next] == [("record", "restored")]
    assert engine.fates["web1/app_2"] == "untouched"


def test_one_that_is_ahead_of_a_way_back_does_not_keep_its_record_open_for_so_long():
    engine, (admission, beside, record) = walked_to_admission(NO_GRACE)
    engine.answer(beside.id, Seen({}))
    engine.answer(record.id, Done())
    orders = engine.answer(admission.id, Failed("not let in"))
    assert names(orders) == ["record", "observe"]
    assert orders[0].work.progress == "restored"


def test_what_was_seen_before_a_record_that_took_its_time_grants_nothing():
    engine, (admission, beside, record) = walked_to_admission(NO_GRACE)
    engine.answer(beside.id, well(engine.plan, beside))
    orders = engine.answer(admission.id, Admitted())
    assert names(orders) == ["record"], "of the first one"
    orders = engine.answer(record.id, Done())
    assert names(orders) == ["observe"]


def test_who_never_got_its_turn_is_not_said_to_have_failed():
    like = {"2-web1/app_1": fleets.UNSEEN}
    plan = fleets.plan(2, 2, "self", serial=1, drain=NO_GRACE, on_failure="hold")
    result = simulate(plan, Fleet.of_plan(plan, like, fleets.QUICK))
    (ended,) = [e for e in events(result, InstanceFinished) if e.instance == "web1/app_2"]
    assert (ended.fate, ended.reason) == ("untouched", "")
    mine = [e for e in events(result, StepFinished) if e.instance == "web1/app_2"]
    assert [(e.step, e.ok) for e in mine] == [("record", True), ("record", True)]


def test_one_whose_record_can_not_be_closed_says_why():
    engine, (admission, beside, record) = walked_to_admission(NO_GRACE)
    heard = []
    engine._emit = heard.append
    engine.answer(beside.id, Seen({}))
    engine.answer(record.id, Done())
    closing, _ = engine.answer(admission.id, Failed("not let in"))
    engine.answer(closing.id, Failed("no answer"))
    (ended,) = [event for event in heard if isinstance(event, InstanceFinished)]
    assert (ended.fate, ended.reason) == ("broken", "not recorded: no answer")


def test_an_interrupt_closes_the_record_of_one_that_was_ahead():
    engine, (admission, _, record) = walked_to_admission(NO_GRACE)
    engine.answer(record.id, Done())
    engine.interrupt("somebody asked")
    orders = engine.answer(admission.id, Admitted())
    while orders:
        orders = [*orders[1:], *engine.answer(orders[0].id, Done())]
    assert engine.fates["web1/app_1"] == "upgraded"
    assert engine.fates["web1/app_2"] == "untouched"


def test_nobody_drains_before_the_one_ahead_of_it_is_admitted():
    result, oracle = run(fleets.plan(3, 3, "self", serial=0, drain=NO_GRACE))
    assert oracle.wrong == []
    out: dict[str, str] = {}
    for _, event in result.events:
        if isinstance(event, StepStarted) and event.step == "take-out":
            host = event.instance.partition("/")[0]
            assert host not in out, f"{event.instance} leaves while {out[host]} is out"
            out[host] = event.instance
        if isinstance(event, StepFinished) and event.step == "await-admitted":
            del out[event.instance.partition("/")[0]]
    recorded = [e for e in events(result, StepStarted) if e.step == "record"]
    assert len(recorded) == 18


def test_a_list_of_batch_sizes_is_walked_to_the_end():
    plan = fleets.plan(6, serial=(Count(1), Count(35, percent=True)))
    result, _ = run(plan)
    assert [len(e.hosts) for e in events(result, BatchStarted)] == [1, 2, 2, 1]
    assert result.finished.verdict == "done"


def test_a_broken_instance_never_counts_as_capacity_again():
    plan = fleets.plan(3, 1, ["lb1"], on_failure="continue", min_capacity=60)
    result, oracle = run(plan, ("2-web1/app_1", "1-web1/app_1"))
    assert order_of(result) == ["web1/app_1"]
    assert "2 of" not in result.finished.reason
    assert result.finished.untouched == 2
    assert oracle.wrong == []


def test_a_way_back_is_not_blocked_for_good_by_capacity_that_somebody_else_took():
    three = ("web1", "web2", "web3")
    plan = replace(fleets.plan(4, 1, chosen=three, serial=0, min_capacity=75), mode="rollback")
    fourth = [record.ref for record in plan.baseline if "web4" in record.ref.server]
    assert fourth
    gone = [OperatorSets(0.0, ref, None, "maint") for ref in fourth]
    assert run(replace(plan, mode="deploy"), faults=gone)[0].finished.verdict != "done"
    result, _ = run(plan, faults=gone)
    assert result.finished.verdict == "done"
    assert result.seconds > 60, "it waits before it goes below the floor"
    drained = [at for at, e in result.events if isinstance(e, CapacityLeft)]
    assert len(drained) == len(set(drained)) == 3, "one at a time"


def test_a_way_back_never_takes_the_last_server():
    plan = replace(fleets.plan(2, 1, serial=0, min_capacity=50), mode="rollback")
    result, oracle = run(plan, bad=("2-web2/app_1",), faults=[Flip(0.0, "web2/app_1", False)])
    assert result.finished.verdict != "done"
    assert not any("0 in" in wrong for wrong in oracle.wrong)
