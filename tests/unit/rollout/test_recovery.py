"""What a controller that takes over decides, from what it found: each mistake here costs somebody
a server, a version or a weight."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fabfile.drivers.simulated import Behaviour, Crash, Fleet, OperatorSets, Traffic, simulate
from fabfile.inventory.model import Drain
from fabfile.rollout.plan import Plan, Release
from fabfile.rollout.recovery import Found, going_back, replan, report
from fabfile.rollout.steps import AwaitIdle, Done, Hook, Idle
from fabfile.rollout.strategies.recovering import lane_of, urgent
from tests.unit.rollout import crashing, fleets
from tests.unit.rollout.crashing import MODES, Scenario

EDGE = Scenario("edge", fleets.plan(3, serial=1, max_error_rate=100))
TAKEN_OUT, RECREATED = Crash(15, "done"), Crash(19, "done")
"""Orders of web2, the second host: web1 is upgraded, web3 untouched."""


def died(crash: Crash, scenario: Scenario = EDGE) -> Fleet:
    fleet = scenario.crash(crash)
    assert fleet is not None
    return fleet


def tasks(plan: Plan) -> list[str]:
    return [target.task for target in plan.targets]


def changed(found: Found, name: str, **what: object) -> Found:
    """``found`` with another reading of one instance."""
    instance = replace(found.instances[name], **what)
    return replace(found, instances={**found.instances, name: instance})


def test_the_recorded_weight_comes_back_and_not_the_zero_that_was_left_behind():
    fleet = died(TAKEN_OUT)
    found = fleet.found()
    stuck = found.plan.targets[1]
    assert {fleet.servers[ref].uweight for ref in stuck.refs} == {0}
    for mode in MODES:
        plan = replan(found, mode, "r")
        assert plan.targets[1].servers == stuck.servers
        assert plan.baseline == EDGE.plan.baseline


@pytest.mark.parametrize("mode", MODES)
def test_an_operators_later_weight_comes_back_where_it_was_recorded_before_the_drain(mode):
    found = died(TAKEN_OUT).found()
    ref = found.plan.targets[1].refs[0]
    (was,) = (record for record in found.plan.baseline if record.ref == ref)
    newer = replace(found.servers[ref], undo=replace(was, uweight=37))
    plan = replan(replace(found, servers={**found.servers, ref: newer}), mode, "r")
    assert next(r for r in plan.targets[1].servers if r.ref == ref).uweight == 37
    assert next(r for r in plan.baseline if r.ref == ref).uweight == 37


@pytest.mark.parametrize(
    ("crash", "mode", "wanted"),
    [
        (TAKEN_OUT, "repair", ["none", "return", "none"]),
        (TAKEN_OUT, "resume", ["none", "replace", "roll"]),
        (TAKEN_OUT, "abort", ["roll", "return", "none"]),
        (RECREATED, "repair", ["none", "return", "none"]),
        (RECREATED, "resume", ["none", "return", "roll"]),
        (RECREATED, "abort", ["roll", "replace", "none"]),
    ],
)
def test_only_what_may_be_out_gets_a_lane_of_recovery(crash, mode, wanted):
    assert tasks(replan(died(crash).found(), mode, "r")) == wanted


def test_what_is_back_already_only_has_its_record_closed():
    fleet = died(Crash(23, "not"))  # the last record of web2
    assert fleet.undo
    plan = replan(fleet.found(), "repair", "r")
    assert tasks(plan) == ["none", "close", "none"]
    result = simulate(plan, fleet, fleet.timing)
    assert result.finished.verdict == "done"
    assert result.orders == 1
    assert fleet.undo == set()


def test_out_of_rotation_comes_first_and_the_rest_waits_for_it():
    fleet = died(RECREATED)
    result = crashing.recover(fleet, "abort")
    assert result.finished.verdict == "rolled-back"
    begun = fleets.steps_begun(result.events, "recreate")
    assert begun == ["web2/app_1", "web1/app_1"]
    assert fleet.containers["web3/app_1"].started == 0
    last = {name: steps[-1] for name in begun if (steps := fleets.trail(result.events, name))}
    assert last == dict.fromkeys(begun, "record")


def test_an_abort_takes_the_newest_back_first_and_leaves_what_was_never_touched():
    fleet = died(Crash(32, "done"), Scenario("edge", fleets.plan(4, serial=1)))
    result = crashing.recover(fleet, "abort")
    assert fleets.steps_begun(result.events, "recreate")[-2:] == ["web2/app_1", "web1/app_1"]


def test_a_weight_that_an_operator_changed_meanwhile_is_kept_and_said():
    fleet = died(TAKEN_OUT)
    untouched, upgraded = EDGE.plan.targets[2].refs[0], EDGE.plan.targets[0].refs[1]
    fleet.set(untouched, uweight=7)
    fleet.set(upgraded, admin="maint")
    found = fleet.found()
    plan = replan(found, "resume", "r")
    text = "\n".join(report(found, plan))
    assert f"{untouched}: at weight 7 instead of at weight 100, changed by somebody: kept" in text
    assert f"{upgraded}: in maint at weight 100 instead of" in text
    assert simulate(plan, fleet, fleet.timing).finished.verdict == "done"
    now = fleets.state(fleet)
    assert (now[untouched], now[upgraded]) == ((7, "ready"), (100, "maint"))


def test_a_change_on_a_server_that_is_recorded_as_ours_is_not_an_operators():
    fleet = died(TAKEN_OUT)
    ours = EDGE.plan.targets[1].refs[0]
    fault = OperatorSets(0.0, ours, 5)
    simulate(replan(fleet.found(), "repair", "r"), fleet, fleet.timing, faults=[fault])
    assert fleets.state(fleet)[ours] == (100, "ready")


HALF = {"open-ahead": ("open", "ahead"), "open-done": ("open", "done")}


@pytest.mark.parametrize("then", MODES)
@pytest.mark.parametrize("first", HALF.values(), ids=HALF)
def test_what_a_way_back_was_about_to_take_out_is_recorded_before_it_is_shut(first, then):
    """app_2 runs a release that no balancer takes in, and one of its two servers was never
    touched: whoever takes over shuts both, and may die as well."""
    scenario = Scenario(
        "half", crashing._quick(fleets.plan(1, 2)), like={"2-web1/app_2": fleets.UNSEEN}
    )
    tried = 0
    for number in range(1, 140):
        fleet = _half_out(scenario, first)
        if crashing.recover(fleet, "resume", crash=Crash(number, "done")).finished is None:
            tried += 1
            ended = crashing.recover(fleet, then).finished
            assert set(fleets.state(fleet).values()) == {(100, "ready")}, number
            assert ended is not None
            assert ended.broken or fleet.undo == set()
    assert tried > 10


@pytest.mark.parametrize("records", [("ahead", "ahead"), ("ahead", "done"), ("done", "ahead")])
def test_what_was_being_recorded_once_more_ahead_was_not_touched(records):
    fleet = _half_out(Scenario("half", crashing._quick(fleets.plan(1, 2))), records)
    for mode, wanted in (("resume", "none"), ("repair", "none"), ("abort", "roll")):
        assert tasks(replan(fleet.found(), mode, "r"))[1] == wanted


def _half_out(scenario: Scenario, records: tuple[str, str]) -> Fleet:
    fleet = scenario.fleet()
    fleet.plans.append(scenario.plan)
    for target in scenario.plan.targets:
        container = fleet.containers[target.instance.id]
        container.release = container.meant = target.wanted
        fleet.done |= {target.instance.id, *(s.name for s in fleet.of_instance[container.instance])}
    name = scenario.plan.targets[1].instance.id
    fleet.undo.add(name)
    for server, record in zip(fleet.of_instance[name], records, strict=True):
        {"open": fleet.undo, "ahead": fleet.ahead, "done": fleet.done}[record].add(server.name)
        if record == "open":
            fleet.set(server.ref, 0, "maint")
        fleet.mark(server, up=False)
    return fleet


def test_a_recovery_keeps_its_records_with_the_rollout_and_never_with_itself():
    found = died(TAKEN_OUT).found()
    first = replan(found, "abort", "r1", owner="ann", reason="wrong version")
    assert (first.id, first.of, first.journal, first.mode) == (
        "r1",
        "on-paper",
        "on-paper",
        "abort",
    )
    assert (first.owner, first.reason) == ("ann", "wrong version")
    second = replan(replace(found, plan=first), "resume", "r2")
    assert (second.id, second.of, second.journal) == ("r2", "on-paper", "on-paper")
    assert [t.wanted for t in second.targets] == [t.wanted for t in found.plan.targets]
    assert [t.earlier for t in second.targets] == [t.earlier for t in found.plan.targets]


def test_a_recovery_plan_comes_back_from_its_hosts_as_it_was():
    for mode in MODES:
        plan = replan(died(RECREATED).found(), mode, "r")
        assert Plan.from_json(plan.to_json()) == plan


def test_a_plan_from_before_there_was_recovery_can_still_be_recovered():
    raw = json.loads(EDGE.plan.to_json())
    del raw["mode"], raw["of"]
    for target in raw["targets"]:
        del target["task"], target["runs"]
    assert Plan.from_json(json.dumps(raw)) == EDGE.plan


def test_a_repair_starts_what_was_there_before_where_nothing_runs():
    fleet = died(Crash(19, "half"))  # the old container is gone, the new one was never started
    found = fleet.found()
    plan = replan(found, "repair", "r")
    assert plan.targets[1].task == "replace"
    assert "web2/app_1: no container runs" in "\n".join(report(found, plan))
    result = simulate(plan, fleet, fleet.timing)
    assert result.finished.verdict == "done"
    assert fleet.containers["web2/app_1"].release == EDGE.plan.targets[1].earlier
    assert fleets.state(fleet) == {r.ref: (r.uweight, r.admin) for r in EDGE.plan.baseline}
    assert fleet.undo == set()


def test_a_repair_leaves_out_what_never_ran_and_names_it():
    plan = fleets.plan(3, serial=1, min_capacity=25)
    never = (replace(t, earlier=None) if t.instance.host == "web2" else t for t in plan.targets)
    first = Scenario("first", replace(plan, targets=tuple(never)))
    found = (first.crash(Crash(number, "half")) for number in range(1, first.orders()))
    fleet = next(f for f in found if f and "web2/app_1" in f.undo)
    plan = replan(fleet.found(), "repair", "r")
    assert plan.targets[1].task == "stay"
    assert "web2/app_1: no container runs" in "\n".join(report(fleet.found(), plan))
    result = simulate(plan, fleet, fleet.timing)
    assert result.finished.verdict == "needs-repair"
    assert result.finished.broken == ("web2/app_1",)
    assert "web2/app_1" in fleet.undo
    assert plan.journal not in fleet.ended
    assert crashing.recover(fleet, "resume").finished.verdict == "done"


def test_a_change_of_unknown_outcome_is_repeated_before_anybody_is_let_in():
    found = changed(died(TAKEN_OUT).found(), "web2/app_1", settled=False)
    for mode in MODES:
        plan = replan(found, mode, "r")
        assert plan.targets[1].task == "replace"
    assert plan.aim(plan.targets[1]).version == "1"
    lone = changed(found, "web1/app_1", settled=False, record="absent")
    assert tasks(replan(lone, "resume", "r"))[0] == "roll"


def test_a_container_that_died_after_it_was_found_is_started_again_and_not_given_up():
    fleet = died(TAKEN_OUT)
    plan = replan(fleet.found(), "abort", "r")
    fleet.stop(fleet.containers["web2/app_1"])
    result = simulate(plan, fleet, fleet.timing)
    assert result.finished.verdict == "rolled-back"
    container = fleet.containers["web2/app_1"]
    assert (container.release.version, container.healthy) == ("1", True)


@pytest.mark.parametrize("mode", MODES)
def test_a_host_that_cannot_be_asked_stays_recorded_and_the_others_come_back(mode):
    fleet = died(TAKEN_OUT)
    fleet.unreachable.add("web2")
    found = fleet.found()
    plan = replan(found, mode, "r")
    assert plan.targets[1].task == "stay"
    assert any(line.startswith("web2: can't be reached") for line in report(found, plan))
    result = simulate(plan, fleet, fleet.timing)
    assert (result.finished.verdict, result.finished.broken) == ("needs-repair", ("web2/app_1",))
    assert {fleet.servers[ref].uweight for ref in plan.targets[1].refs} == {0}
    fleet.unreachable.clear()
    assert crashing.recover(fleet, mode).finished.verdict != "needs-repair"
    assert fleet.undo == set()


def test_a_repair_passes_over_a_host_that_is_gone_where_nothing_of_it_is_out():
    fleet = died(TAKEN_OUT)
    fleet.unreachable.add("web3")
    assert tasks(replan(fleet.found(), "repair", "r"))[2] == "none"
    assert tasks(replan(fleet.found(), "abort", "r"))[2] == "stay"


def test_a_silent_balancer_does_not_keep_the_other_one_from_being_restored():
    fleet = died(TAKEN_OUT)
    fleet.silent.add("lb2")
    found = fleet.found()
    plan = replan(found, "repair", "r")
    assert any(line.startswith("lb2: this balancer can't be") for line in report(found, plan))
    result = simulate(plan, fleet, fleet.timing)
    assert result.finished.broken == ("web2/app_1",)
    assert [fleet.servers[ref].uweight for ref in plan.targets[1].refs] == [100, 0]
    fleet.silent.clear()
    assert crashing.recover(fleet, "repair").finished.verdict == "done"
    assert [fleet.servers[ref].uweight for ref in plan.targets[1].refs] == [100, 100]
    assert fleet.undo == set()


def test_what_cannot_leave_rotation_comes_back_as_it_is_and_counts_as_failed():
    plan = fleets.plan(2, drain=Drain(timeout=1.0, on_timeout="abort"), on_failure="hold")
    fleet = died(Crash(3, "done"), Scenario("busy", plan, busy={"web1/app_1": 1e9}))
    result = crashing.recover(fleet, "resume")
    assert result.finished.verdict == "rolled-back"
    assert "requests still run" in result.finished.reason
    assert fleets.fates(result.events)["web1/app_1"] == "untouched"
    assert fleet.containers["web1/app_1"].started == 0
    assert fleet.undo == set()


def test_a_first_deploy_can_be_aborted_although_there_is_nothing_to_go_back_to():
    plan = fleets.plan(2, earlier=None, serial=1)
    bad = Scenario("first", plan, bad=("2-web1/app_1",))
    fleet = bad.fleet()
    assert simulate(plan, fleet, fleet.timing).finished.verdict == "needs-repair"
    found = fleet.found()
    back = replan(found, "abort", "r")
    assert tasks(back) == ["vacate", "none"]
    assert "had nothing before" in "\n".join(report(found, back))
    assert simulate(back, fleet, fleet.timing).finished.verdict == "rolled-back"
    assert fleet.undo == set()
    assert not any(fleet.servers[ref].up for ref in back.targets[0].refs)


def test_nobody_is_let_in_unchecked_where_nothing_ran_before():
    plan = fleets.plan(2, earlier=None)
    fleet = Fleet.of_plan(plan, {"2-web1/app_1": fleets.BAD}, fleets.QUICK)
    for server in fleet.servers.values():
        server.checked = False
    simulate(plan, fleet, fleets.QUICK)
    assert crashing.recover(fleet, "abort").finished.broken == ("web1/app_1",)
    assert {fleet.servers[ref].admin for ref in plan.targets[0].refs} == {"maint"}


def test_an_abort_of_a_first_deploy_keeps_what_came_up_well_and_says_so():
    plan = fleets.plan(2, earlier=None)
    fleet = died(Crash(8, "done"), Scenario("first", plan, Traffic()))
    result = crashing.recover(fleet, "abort")
    assert result.finished.verdict == "held"
    assert result.finished.reason == "web1/app_1: nothing was there before: it keeps 2"
    assert all(fleet.servers[ref].takes_new for ref in plan.targets[0].refs)


def test_a_container_of_somebody_else_is_judged_by_the_balancers_alone():
    fleet = died(TAKEN_OUT)
    found = changed(fleet.found(), "web2/app_1", release=None)
    plan = replan(found, "repair", "r")
    assert (plan.targets[1].task, plan.targets[1].runs) == ("return", None)
    result = simulate(plan, fleet, fleet.timing)
    assert result.finished.verdict == "done"
    assert "await-healthy" not in fleets.trail(result.events, "web2/app_1")


def test_a_release_that_nobody_planned_is_kept_by_a_repair_and_replaced_by_an_abort():
    found = changed(died(TAKEN_OUT).found(), "web2/app_1", release="by-hand")
    assert replan(found, "repair", "r").targets[1].runs == Release("by-hand", "unknown version", "")
    assert replan(found, "abort", "r").targets[1].task == "replace"


def test_ctrl_c_in_a_recovery_still_brings_back_what_is_out():
    for at in range(1, 12):
        fleet = died(TAKEN_OUT)
        plan = replan(fleet.found(), "resume", "r")
        result = simulate(plan, fleet, fleet.timing, interrupt_after=at)
        assert result.finished.verdict == "interrupted"
        assert fleet.undo == set()
        assert fleets.state(fleet) == {
            record.ref: (record.uweight, record.admin) for record in plan.baseline
        }


def test_an_earlier_release_that_does_not_come_up_again_is_told_and_not_undone_twice():
    scenario = Scenario("edge", EDGE.plan, bad=("1-web2/app_1",))
    fleet = died(RECREATED, scenario)
    result = crashing.recover(fleet, "abort")
    assert result.finished.verdict == "held"
    running = {name: c.release.version for name, c in fleet.containers.items()}
    assert running == {"web1/app_1": "1", "web2/app_1": "2", "web3/app_1": "1"}
    assert fleet.undo == set()


def test_a_resume_that_fails_takes_back_what_the_first_run_had_upgraded():
    scenario = Scenario("edge", EDGE.plan, bad=("2-web3/app_1",))
    fleet = died(RECREATED, scenario)
    assert crashing.recover(fleet, "resume").finished.verdict == "rolled-back"
    assert {c.release.version for c in fleet.containers.values()} == {"1"}


def test_a_rollback_goes_to_each_instances_own_release_and_is_never_rolled_back():
    now = fleets.plan(3)
    to = {t.instance.id: Release(f"0-{t.instance.id}", "0", "sha256:0") for t in now.targets}
    to["web3/app_1"] = now.targets[2].earlier
    plan = going_back(now, to)
    assert [t.change for t in plan.targets] == [True, True, False]
    assert [t.wanted.version for t in plan.targets] == ["0", "0", "1"]
    assert plan.mode == "rollback"
    bad = {"0-web2/app_1": Behaviour(healthy=False)}
    fleet = Fleet.of_plan(plan, bad, fleets.QUICK)
    assert simulate(plan, fleet).finished.verdict == "held"
    assert fleet.containers["web1/app_1"].release.version == "0"
    assert fleet.containers["web2/app_1"].release.version == "1"


def test_a_report_says_what_was_found_and_what_will_be_done():
    fleet = died(TAKEN_OUT)
    found = fleet.found()
    plan = replan(found, "resume", "r")
    assert report(found, plan) == [
        "resume: rollout on-paper of app to 2, begun by somebody",
        "web2/app_1: runs 1, lb1 has it at weight 0 instead of at weight 100,"
        " lb2 has it at weight 0 instead of at weight 100"
        " -> leaves rotation where it is still in it, gets 2, comes back",
        "web3/app_1: runs 1 -> goes to 2 when there is capacity for it",
        "1 of 3 instances stay untouched",
    ]


def test_what_stopped_by_itself_is_started_by_a_resume_and_left_alone_by_an_abort():
    fleet = died(TAKEN_OUT)
    for name in ("web1/app_1", "web3/app_1"):
        fleet.stop(fleet.containers[name])
    assert tasks(replan(fleet.found(), "resume", "r")) == ["roll", "replace", "roll"]
    assert tasks(replan(fleet.found(), "abort", "r")) == ["roll", "return", "none"]


def test_a_release_that_no_balancer_takes_in_gives_way_to_the_earlier_one():
    fleet = died(RECREATED)
    fleet.behaviours = {"2-web2/app_1": fleets.UNSEEN}
    assert crashing.recover(fleet, "resume").finished.verdict == "rolled-back"
    assert {c.release.version for c in fleet.containers.values()} == {"1"}
    assert fleet.undo == set()


def test_those_that_cost_nothing_come_back_before_any_container_is_changed():
    plan = replan(died(TAKEN_OUT).found(), "resume", "r")
    kinds = ("replace", "return", "close")
    mixed = zip(plan.targets, kinds, strict=True)
    plan = replace(plan, targets=tuple(replace(t, task=task) for t, task in mixed))
    assert [target.task for target in urgent(plan)] == ["return", "close", "replace"]


# hooks


def hooks_of(plan: Plan, task: str, **changes: object) -> list[str]:
    """The hooks that an instance with this task meets on its way, when all goes well."""
    target = replace(plan.targets[0], task=task, **changes)
    _, lane = lane_of(replace(plan, hooks=fleets.HOOKS), target)
    met: list[str] = []
    try:
        step = next(lane)
        while True:
            if isinstance(step, Hook):
                met.append(step.hook)
            step = lane.send(Idle() if isinstance(step, AwaitIdle) else Done())
    except StopIteration:
        return met


BOTH = ["before_drain", "after_healthy"]


@pytest.mark.parametrize(
    ("mode", "task", "met"),
    [
        ("resume", "roll", BOTH),
        ("abort", "roll", BOTH),
        # Its record is open, so what comes before its drain has run already.
        ("resume", "replace", ["after_healthy"]),
        ("abort", "replace", ["after_healthy"]),
        # Nobody knows whether the new one passed; what ran before passed long ago.
        ("resume", "return", ["after_healthy"]),
        ("abort", "return", []),
        ("resume", "close", []),
        ("repair", "return", []),
        ("abort", "vacate", []),
    ],
)
def test_what_was_under_way_meets_the_hooks_that_it_may_not_have_met(mode, task, met):
    plan = replace(EDGE.plan, mode=mode, of="r0")
    wanted, earlier = plan.targets[0].wanted, plan.targets[0].earlier
    assert hooks_of(plan, task, runs=earlier if mode == "abort" else wanted) == met


def test_a_rollback_that_is_resumed_is_still_one_that_no_hook_stops():
    plan = going_back(EDGE.plan, {t.instance.id: t.wanted for t in EDGE.plan.targets})
    assert plan.way_back
    assert Plan.from_json(plan.to_json()).way_back
    assert not EDGE.plan.way_back
    found = Fleet.of_plan(plan).found(plan)
    assert all(target.returning for target in replan(found, "resume", "r").targets)


def test_a_release_that_fails_its_hook_after_a_resume_does_not_come_back():
    plan = fleets.plan(2, hooks=fleets.HOOKS)
    scenario = Scenario("", plan, like={"2-web1/app_1": fleets.SMELLY}, goes=False)
    out = 0
    for number in range(1, scenario.orders()):
        fleet = scenario.crash(Crash(number, "done"))
        if fleet is not None and fleet.containers["web1/app_1"].release.version == "2":
            out += 1
            crashing.put_an_end_to(scenario, fleet, "resume")
            assert fleet.containers["web1/app_1"].release.version == "1"
    assert out > 3


RESTART = Scenario("restart", crashing.restart(fleets.plan(3, serial=1)))


@pytest.mark.parametrize(
    ("crash", "mode", "wanted"),
    [
        (TAKEN_OUT, "repair", ["none", "return", "none"]),
        (TAKEN_OUT, "resume", ["none", "replace", "roll"]),
        (TAKEN_OUT, "abort", ["none", "return", "none"]),
        (RECREATED, "repair", ["none", "return", "none"]),
        (RECREATED, "resume", ["none", "return", "roll"]),
        (RECREATED, "abort", ["none", "return", "none"]),
    ],
)
def test_a_restart_is_taken_up_by_its_containers_and_not_by_their_release(crash, mode, wanted):
    fleet = died(crash, RESTART)
    plan = replan(fleet.found(), mode, "r")
    assert tasks(plan) == wanted
    told = "\n".join(report(fleet.found(), plan))
    assert ("is restarted" in told) is (mode == "resume")


def test_a_resumed_restart_restarts_nothing_twice():
    fleet = died(RECREATED, RESTART)
    before = crashing.runs(fleet)
    assert crashing.recover(fleet, "resume").finished.verdict == "done"
    after = crashing.runs(fleet)
    assert [after[name] == before[name] for name in sorted(after)] == [True, True, False]


def test_a_container_that_does_not_come_back_after_a_restart_holds_the_rest():
    ill = Scenario("ill", RESTART.plan, bad=("1-web2/app_1",), goes=False)
    result = ill.run(crashing.NEVER)
    assert result.finished.verdict == "needs-repair"
    assert result.finished.broken == ("web2/app_1",)
    assert result.fleet.containers["web3/app_1"].started == 0
    assert result.fleet.containers["web1/app_1"].started == 2
