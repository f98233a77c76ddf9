"""Each step's outcomes, judged by what hosts and balancers answer."""

import json
import threading
import time
from dataclasses import replace

import pytest

from fabfile.drivers import containers, rotation
from fabfile.drivers import hands as h
from fabfile.drivers.locks import Locks
from fabfile.errors import OutcomeUnknown, RemoteError
from fabfile.inventory.model import Drain, Instance
from fabfile.remote.base import Result
from fabfile.rollout import steps as s
from fabfile.rollout.events import StepProgress
from tests.unit.drivers import fakes
from tests.unit.drivers.fakes import NEW, OLD, FakePool, Fleet, plan, record, ref, server, target

OUT = server(uweight=0, weight=0)
MAINT = server(admin="maint", weight=0)
RUNNING = (
    '{"id":"1","service":"app_1","release":"new","version":"2.0","image":"x","status":"running"}\n'
)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(rotation, "POLL", 0.001)
    monkeypatch.setattr(containers, "SETTLE", 0.0)


@pytest.fixture
def fleet(tmp_path):
    found = Fleet(fakes.inventory(tmp_path))
    found.on("")
    return found


def made(fleet, pool=None, the_plan=None, keys=("project.srv.shop",)):
    locks = Locks(fleet.remotes, "r1", [], {})
    locks._tokens = {
        host: dict.fromkeys((*keys, "backend.run.haproxy.admin.sock.shop"), "r1 1")
        for host in fleet.hosts
    }
    notices, told = [], []
    found = h.Hands(
        the_plan or plan(),
        fakes.SHOP,
        fleet.remotes,
        locks,
        pool or FakePool(lb1=[server()]),
        lambda host, text: notices.append((host, text)),
        lambda event: told.append(event),
    )
    found.notices, found.told = notices, told
    return found


# out of rotation


def test_a_drain_is_believed_when_it_is_read_back(fleet):
    pool = FakePool(lb1=[OUT], lb2=[OUT])
    both = target(record("lb1"), record("lb2"))
    assert made(fleet, pool).do(s.TakeOut(both)) == s.Done()
    assert pool.changes == [
        {name: ["set server shop/web1_app_1 weight 0"] for name in ("lb1", "lb2")}
    ]


def test_a_drain_that_one_balancer_ignores_has_failed(fleet):
    pool = FakePool(lb1=[OUT], lb2=[server()])
    outcome = made(fleet, pool).do(s.TakeOut(target(record("lb1"), record("lb2"))))
    assert outcome == s.Failed("still takes requests: lb2:shop/web1_app_1")


def test_a_drain_by_state_leaves_an_operators_maint_alone(fleet):
    pool = FakePool(lb1=[MAINT], lb2=[server(admin="drain")])
    drained = plan(drain=Drain(mode="drain"))
    both = target(record("lb1", admin="maint"), record("lb2"))
    assert made(fleet, pool, drained).do(s.TakeOut(both)) == s.Done()
    assert pool.changes == [{"lb1": [], "lb2": ["set server shop/web1_app_1 state drain"]}]


@pytest.mark.parametrize("step", [s.TakeOut, s.Shut, s.Restore, s.Admit])
def test_a_balancer_that_cannot_be_asked_is_no_success(fleet, step):
    pool = FakePool(lb1=[RemoteError("lb1", "gone")])
    assert made(fleet, pool).do(step(target())) == s.Failed("lb1: gone", "")


def test_a_server_that_vanished_is_named(fleet):
    pool = FakePool(lb1=[server(name="other")])
    outcome = made(fleet, pool).do(s.TakeOut(target()))
    assert outcome == s.Failed("lb1: no server shop/web1_app_1 any more", "")


def test_maint_is_believed_when_it_is_read_back(fleet):
    assert made(fleet, FakePool(lb1=[MAINT])).do(s.Shut(target())) == s.Done()
    wrong = made(fleet, FakePool(lb1=[OUT])).do(s.Shut(target()))
    assert wrong == s.Failed("not in maint: lb1:shop/web1_app_1")


# idle


def idle(fleet, *states, deadline=0.05, maint=False, **pools):
    pool = FakePool(**(pools or {"lb1": states}))
    refs = [record(name) for name in pool.shows]
    outcome = made(fleet, pool).do(s.AwaitIdle(target(*refs), deadline, maint))
    return outcome, pool


def test_idle_takes_two_quiet_readings(fleet):
    outcome, pool = idle(fleet, OUT)
    assert isinstance(outcome, s.Idle)
    assert pool.reads == 2


def test_a_session_between_two_quiet_readings_is_no_idleness(fleet):
    outcome, pool = idle(fleet, OUT, replace(OUT, stot=6), replace(OUT, stot=6), deadline=5)
    assert isinstance(outcome, s.Idle)
    assert pool.reads == 3


def test_a_reload_between_two_quiet_readings_is_no_idleness(fleet):
    outcome, pool = idle(fleet, (OUT, 7), (OUT, 8), (OUT, 8), deadline=5)
    assert isinstance(outcome, s.Idle)
    assert pool.reads == 3


def test_a_server_that_never_stands_still_is_busy_at_the_deadline(fleet):
    outcome, _ = idle(fleet, *[replace(OUT, stot=n) for n in range(1000)])
    assert outcome.sessions == {}
    assert isinstance(outcome, s.Busy)


@pytest.mark.parametrize("what", ["scur", "qcur"])
def test_what_runs_or_waits_on_any_balancer_is_busy(fleet, what):
    outcome, _ = idle(fleet, lb1=[OUT], lb2=[replace(OUT, **{what: 2})])
    assert isinstance(outcome, s.Busy)
    assert outcome.sessions == {ref("lb2"): 2}
    assert outcome.waited >= 0.05


def test_a_quiet_server_is_idle_though_no_time_is_left(fleet):
    outcome, _ = idle(fleet, OUT, deadline=0.0)
    assert isinstance(outcome, s.Idle)


def test_a_server_that_gets_quiet_at_the_last_moment_is_idle(fleet):
    outcome, _ = idle(fleet, replace(OUT, scur=1), OUT, OUT, deadline=0.0005)
    assert isinstance(outcome, s.Idle | s.Busy)
    if isinstance(outcome, s.Busy):
        assert outcome.sessions, "nothing in flight is not busy"


def test_a_drain_that_a_reload_undid_is_noticed(fleet):
    outcome, _ = idle(fleet, lb1=[OUT], lb2=[OUT, server()])
    assert isinstance(outcome, s.Reverted)
    assert outcome.balancers == ("lb2",)


def test_in_maint_weight_0_is_not_enough(fleet):
    outcome, _ = idle(fleet, OUT, maint=True)
    assert isinstance(outcome, s.Reverted)
    assert isinstance(idle(fleet, MAINT, maint=True)[0], s.Idle)


def test_a_long_drain_tells_how_many_are_left_and_nothing_twice(fleet, monkeypatch):
    monkeypatch.setattr(rotation, "SAY_AFTER", 0.0)
    monkeypatch.setattr(rotation, "SAY_EVERY", 0.0)
    both = [replace(OUT, scur=n) for n in (3, 3, 2, 2, 1, 0, 0)]
    hands = made(fleet, FakePool(lb1=both))
    hands.do(s.AwaitIdle(target(), 5.0, maint=False))
    assert hands.told == [
        StepProgress("web1/app_1", "await-idle", f"{n} in flight on lb1", n, 5.0) for n in (3, 2, 1)
    ]


def test_a_drain_that_takes_a_moment_tells_nothing(fleet):
    hands = made(fleet, FakePool(lb1=[replace(OUT, scur=1), OUT]))
    hands.do(s.AwaitIdle(target(), 5.0, maint=False))
    assert hands.told == []


def test_who_waits_for_a_balancers_checks_says_whose(fleet, monkeypatch):
    monkeypatch.setattr(rotation, "SAY_AFTER", 0.0)
    monkeypatch.setattr(rotation, "SAY_EVERY", 0.0)
    down = server(up=False, weight=0)
    hands = made(fleet, FakePool(lb1=[down, down, server()], lb2=[server()]))
    hands.do(s.AwaitAdmitted(target(record("lb1"), record("lb2")), 5.0))
    assert [event.text for event in hands.told] == ["not up yet on lb1"]


def test_an_instance_without_balancers_is_idle_at_once(fleet):
    alone = replace(target(), servers=())
    assert isinstance(made(fleet).do(s.AwaitIdle(alone, 0.0, maint=True)), s.Idle)
    assert made(fleet).do(s.TakeOut(alone)) == s.Done()
    assert isinstance(made(fleet).do(s.AwaitAdmitted(alone, 0.0)), s.Admitted)


def test_a_cut_says_whose_sessions_were_closed(fleet):
    pool = FakePool(lb1=[replace(MAINT, scur=2)])
    outcome = made(fleet, pool).do(s.Cut(target()))
    assert outcome == s.Done("closed 2 that would not end: 192.0.2.7:5 for 95 s on lb1")
    assert pool.changes == [{"lb1": ["shutdown sessions server shop/web1_app_1"]}]


# back


def test_a_checked_server_comes_back_as_down_and_is_let_in_by_its_checks(fleet):
    pool = FakePool(lb1=[MAINT])
    made(fleet, pool).do(s.Admit(target(record(uweight=40))))
    name = "set server shop/web1_app_1"
    assert pool.changes == [
        {
            "lb1": [
                f"{name} state drain",
                f"{name} health down",
                f"{name} weight 40",
                f"{name} state ready",
            ]
        }
    ]


def test_an_unchecked_server_is_never_marked_down_for_good(fleet):
    pool = FakePool(lb1=[replace(MAINT, checked=False)])
    made(fleet, pool).do(s.Admit(target()))
    assert not any("health down" in line for line in pool.changes[0]["lb1"])


def test_an_operators_maint_and_drain_are_kept(fleet):
    pool = FakePool(lb1=[MAINT], lb2=[MAINT])
    both = target(record("lb1", admin="maint"), record("lb2", admin="drain"))
    made(fleet, pool).do(s.Admit(both))
    (change,) = pool.changes
    assert change["lb1"] == ["set server shop/web1_app_1 weight 100"]
    assert change["lb2"][-1] == "set server shop/web1_app_1 state drain"


def test_admitted_means_recorded_and_up_on_every_balancer(fleet):
    pool = FakePool(lb1=[server()], lb2=[server(up=False)] * 3 + [server()])
    both = target(record("lb1"), record("lb2"))
    assert isinstance(made(fleet, pool).do(s.AwaitAdmitted(both, 5)), s.Admitted)
    assert pool.reads == 4


def test_a_server_its_balancer_does_not_let_in_has_failed(fleet):
    pool = FakePool(lb1=[server(up=False)])
    outcome = made(fleet, pool).do(s.AwaitAdmitted(target(), 0.01))
    assert outcome == s.Failed("its balancer's own checks do not let it in: lb1:shop/web1_app_1")


def test_slowstart_is_no_failure_to_restore(fleet):
    pool = FakePool(lb1=[server(weight=13)])
    assert isinstance(made(fleet, pool).do(s.AwaitAdmitted(target(), 1)), s.Admitted)


def test_a_return_that_was_undone_is_noticed(fleet):
    pool = FakePool(lb1=[server(uweight=0)])
    assert made(fleet, pool).do(s.AwaitAdmitted(target(), 1)) == s.Reverted(("lb1",))


def test_a_server_that_an_operator_drained_need_not_be_up(fleet):
    pool = FakePool(lb1=[server(admin="drain", up=False)])
    drained = target(record(admin="drain"))
    assert isinstance(made(fleet, pool).do(s.AwaitAdmitted(drained, 0)), s.Admitted)


def test_restored_is_judged_by_what_is_read_back(fleet):
    assert made(fleet, FakePool(lb1=[server()])).do(s.Restore(target())) == s.Done()
    outcome = made(fleet, FakePool(lb1=[OUT])).do(s.Restore(target()))
    assert outcome == s.Failed("not restored: lb1:shop/web1_app_1")


# records


def test_each_record_lies_on_the_host_it_concerns(fleet):
    both = target(record("lb1"), record("lb2"))
    pool = FakePool(lb1=[server()], lb2=[server()])
    assert made(fleet, pool).do(s.Record(both, "undo")) == s.Done()
    assert "undo/instance.shop.app_1.json" in fleet["web1"].scripts[0]
    for name in ("lb1", "lb2"):
        (script,) = fleet[name].scripts
        assert "undo/server.shop.web1_app_1.json" in script
        assert "backend.run.haproxy.admin.sock.shop.lock" in script, "fenced by its lock"


def test_with_a_balancer_on_its_own_host_all_is_written_there_once(tmp_path):
    service = replace(fakes.SHOP, balancers=(fakes.SELF,))
    fleet = Fleet(fakes.inventory(tmp_path, service))
    fleet.on("")
    pool = FakePool(service, web1=[server()])
    assert made(fleet, pool).do(s.Record(target(record("web1")), "undo")) == s.Done()
    (script,) = fleet["web1"].scripts
    for word in ("project.srv.shop.lock", "sock.shop.lock", "instance.shop", "server.shop"):
        assert word in script


def test_a_record_that_cannot_be_written_stops_the_instance(fleet):
    fleet["lb1"].on("undo", exit_code=1, stderr="No space left on device")
    outcome = made(fleet).do(s.Record(target(), "undo"))
    assert outcome == s.Failed("lb1: could not write its record", "No space left on device")


def test_whoever_lost_its_lock_is_told_so(fleet):
    fleet["lb1"].on("undo", exit_code=75)
    outcome = made(fleet).do(s.Record(target(), "undo"))
    assert outcome.reason == "lb1: another controller has taken over; nothing was changed"


# operators


def written(fleet, name="lb1"):
    """The undo records on a balancer's host, in the order they were written."""
    found = [script for script in fleet[name].scripts if "printf '%s\\n' '" in script]
    return [json.loads(t.split("printf '%s\\n' '")[1].split("' >")[0]) for t in found]


THEIRS = (
    "web1",
    "somebody changed lb1:shop/web1_app_1 from weight 100 to weight 40: theirs is kept",
)


def test_a_weight_changed_before_an_instances_turn_is_what_comes_back(fleet):
    pool = FakePool(lb1=[server(uweight=40), OUT, server(uweight=40)])
    hands = made(fleet, pool)
    hands.do(s.Record(target(), "undo"))
    assert [record["uweight"] for record in written(fleet)] == [100, 40]
    assert hands.notices == [THEIRS]
    assert hands.do(s.TakeOut(target())) == s.Done()
    assert hands.do(s.Restore(target())) == s.Done()
    assert pool.changes[-1]["lb1"][0] == "set server shop/web1_app_1 weight 40"


def test_one_that_is_changed_after_its_record_as_well(fleet):
    pool = FakePool(lb1=[server(), server(uweight=40), OUT, server(uweight=40)])
    pool.changed = {"lb1"}
    hands = made(fleet, pool)
    hands.do(s.Record(target(), "undo"))
    assert hands.notices == []
    assert hands.do(s.TakeOut(target())) == s.Done()
    assert [record["uweight"] for record in written(fleet)] == [100, 40]
    assert hands.notices == [THEIRS]
    assert hands.do(s.Restore(target())) == s.Done()
    assert pool.changes[-1]["lb1"][0] == "set server shop/web1_app_1 weight 40"


def test_the_command_that_takes_a_server_out_opens_what_was_recorded_ahead(fleet):
    both = target(record("lb1"), record("lb2"))
    pool = FakePool(lb1=[server(), OUT], lb2=[server(), OUT])
    hands = made(fleet, pool, plan(both))
    assert hands.do(s.Record(both, "ahead")) == s.Done()
    assert "undo/instance.shop.app_1.json" in fleet["web1"].scripts[0]
    for name in ("lb1", "lb2"):
        assert "ahead/server.shop.web1_app_1.json.new" in fleet[name].scripts[0]
        assert "undo/" not in fleet[name].scripts[0]
    assert hands.do(s.TakeOut(both, opens=True)) == s.Done()
    name = ("server.shop.web1_app_1",)
    assert pool.opened == [{"lb1": name, "lb2": name}]
    assert hands.do(s.TakeOut(both)) == s.Done()
    assert pool.opened[-1] == {}, "nothing of it was recorded ahead"


def test_what_somebody_changed_before_its_turn_counts_no_sooner_than_the_rest(fleet):
    pool = FakePool(lb1=[server(uweight=40), server(uweight=30), OUT])
    pool.changed = {"lb1"}
    hands = made(fleet, pool)
    hands.do(s.Record(target(), "ahead"))
    assert [record["uweight"] for record in written(fleet)] == [100, 40]
    assert "undo/" not in "".join(fleet["lb1"].scripts)
    assert hands.do(s.TakeOut(target(), opens=True)) == s.Done()
    assert written(fleet)[-1]["uweight"] == 30
    assert "undo/server.shop.web1_app_1.json.new" in fleet["lb1"].scripts[-1], "it is being touched"


def test_what_somebody_changed_where_no_order_arrived_is_not_put_back(fleet):
    both = target(record("lb1"), record("lb2"))
    silent = RemoteError("lb2", "no answer")
    for theirs, comes in (
        (server(uweight=40), 40),  # an operator's
        (server(uweight=0), 100),  # it may be our own order
        ((server(uweight=40), 9), 100),  # a reload's
    ):
        pool = FakePool(lb1=[server(), OUT], lb2=[server(), silent, theirs])
        hands = made(fleet, pool, plan(both))
        hands.do(s.Record(both, "ahead"))
        assert isinstance(hands.do(s.TakeOut(both, opens=True)), s.Failed)
        hands.do(s.Restore(both))
        assert f"set server shop/web1_app_1 weight {comes}" in pool.changes[-1]["lb2"]
        assert "set server shop/web1_app_1 weight 100" in pool.changes[-1]["lb1"]


LOST = OutcomeUnknown("lb1", "it may or may not have run")


def test_an_order_that_may_not_have_arrived_is_sent_again(fleet):
    pool = FakePool(lb1=[server(), LOST, OUT])
    hands = made(fleet, pool)
    hands.do(s.Record(target(), "undo"))
    assert hands.do(s.TakeOut(target())) == s.Done()
    assert len(pool.changes) == 2
    assert hands.notices == []


def test_one_that_had_arrived_is_not_taken_for_an_operators_will(fleet, monkeypatch):
    pool = FakePool(lb1=[server(), LOST, OUT])
    answers = iter([False, True])
    monkeypatch.setattr(pool, "_is_changed", lambda *_: next(answers))
    hands = made(fleet, pool)
    hands.do(s.Record(target(), "undo"))
    assert hands.do(s.TakeOut(target())) == s.Done()
    assert hands.notices == []
    pool.shows = {"lb1": [server()]}
    monkeypatch.setattr(pool, "_is_changed", lambda *_: False)
    hands.do(s.Restore(target()))
    assert pool.changes[-1]["lb1"][0] == "set server shop/web1_app_1 weight 100"


@pytest.mark.parametrize("out", [s.TakeOut(target()), s.Shut(target())])
def test_what_somebody_changed_between_a_return_and_the_way_back_is_kept(fleet, out):
    again = MAINT if isinstance(out, s.Shut) else OUT
    pool = FakePool(lb1=[server(), OUT, server(), server(uweight=60), again])
    hands = made(fleet, pool)
    hands.do(s.Record(target(), "undo"))
    assert hands.do(s.TakeOut(target())) == s.Done()
    assert hands.do(s.Restore(target())) == s.Failed("not restored: lb1:shop/web1_app_1")
    hands.do(s.Record(target(), "done"))
    pool.shows = {"lb1": [server()]}
    hands.do(s.Restore(target()))
    hands.do(s.Record(target(), "undo"))
    pool.shows, pool.changed = {"lb1": [server(uweight=60), again]}, {"lb1"}
    assert hands.do(out) == s.Done()
    assert [text for _, text in hands.notices] == [THEIRS[1].replace("40", "60")]
    pool.shows = {"lb1": [server(uweight=60)]}
    assert hands.do(s.Restore(target())) == s.Done()
    assert pool.changes[-1]["lb1"][0] == "set server shop/web1_app_1 weight 60"


def test_what_is_kept_is_no_damage_however_often_it_is_written(fleet):
    pool = FakePool(lb1=[server(uweight=40)])
    hands = made(fleet, pool)
    hands.do(s.Record(target(), "undo"))
    hands.do(s.Record(target(), "undo"))
    assert [record.get("changed") for record in written(fleet)] == [None, True, True]


def test_what_is_drained_on_one_balancer_is_not_taken_for_somebodys_will(fleet):
    pool = FakePool(lb1=[server(), OUT], lb2=[server(), server(uweight=40), OUT])
    pool.changed = {"lb2"}
    both = target(record("lb1"), record("lb2"))
    hands = made(fleet, pool, plan(both))
    hands.do(s.Record(both, "undo"))
    assert hands.do(s.TakeOut(both)) == s.Done()
    kept = hands._operators.target(both).servers
    assert [record.uweight for record in kept] == [100, 40]


def test_what_a_recovery_finds_at_weight_0_was_nobodys_will(fleet):
    found = replace(target(), task="replace")
    hands = made(fleet, FakePool(lb1=[OUT]), plan(found))
    hands.do(s.Record(replace(found, task="roll"), "undo"))
    assert written(fleet)[0]["uweight"] == 100
    assert hands.notices == []


@pytest.mark.parametrize(
    ("mode", "theirs", "kept"),
    [
        ("weight", {"uweight": 30, "weight": 30}, (30, "ready")),
        ("weight", {"uweight": 0, "weight": 0, "admin": "maint"}, (100, "maint")),
        ("drain", {"admin": "drain", "uweight": 30}, (30, "ready")),
        ("drain", {"admin": "maint"}, (100, "maint")),
    ],
)
def test_a_change_in_mid_drain_is_kept_and_written_down(fleet, mode, theirs, kept):
    drained = OUT if mode == "weight" else server(admin="drain", weight=0)
    pool = FakePool(lb1=[server(), drained, server(**theirs)])
    hands = made(fleet, pool, plan(drain=Drain(mode=mode)))
    hands.do(s.Record(target(), "undo"))
    hands.do(s.TakeOut(target()))
    hands.do(s.AwaitIdle(target(), 0.01, maint=False))
    assert (written(fleet)[-1]["uweight"], written(fleet)[-1]["admin"]) == kept
    hands.do(s.Admit(target()))
    assert hands._operators.record(record()).uweight == kept[0]
    assert f"set server shop/web1_app_1 weight {kept[0]}" in pool.changes[-1]["lb1"]
    assert len(hands.notices) == 1


def test_a_change_in_maint_is_seen_before_the_return(fleet):
    pool = FakePool(lb1=[server(), MAINT, replace(MAINT, uweight=30), server(uweight=30)])
    hands = made(fleet, pool)
    hands.do(s.Record(target(), "undo"))
    hands.do(s.Shut(target()))
    pool.changed = {"lb1"}
    hands.do(s.Admit(target()))
    assert "set server shop/web1_app_1 weight 30" in pool.changes[-1]["lb1"]
    assert isinstance(hands.do(s.AwaitAdmitted(target(), 1)), s.Admitted)


def test_a_change_after_the_return_is_kept_and_not_undone(fleet):
    pool = FakePool(lb1=[MAINT, server(up=False), server(uweight=30)])
    hands = made(fleet, pool)
    hands.do(s.Admit(target()))
    assert isinstance(hands.do(s.AwaitAdmitted(target(), 1)), s.Admitted)
    assert hands.notices[0][1].endswith("from weight 100 to weight 30: theirs is kept")


def test_a_reload_is_no_operator(fleet):
    pool = FakePool(lb1=[server(), OUT, (server(uweight=30), 8)])
    hands = made(fleet, pool)
    hands.do(s.Record(target(), "undo"))
    hands.do(s.TakeOut(target()))
    seen = hands.do(s.AwaitIdle(target(), 0.01, maint=False))
    assert isinstance(seen, s.Reverted)
    assert hands.notices == []


def test_a_balancer_that_died_does_not_keep_the_others_from_taking_it_in(fleet):
    gone = RemoteError("lb2", "gone")
    pool = FakePool(lb1=[MAINT, server()], lb2=[gone])
    both = target(record("lb1"), record("lb2"))
    assert made(fleet, pool).do(s.Admit(both)) == s.Failed("lb2: gone", "")
    assert "set server shop/web1_app_1 state ready" in pool.changes[-1]["lb1"]
    assert pool.changes[-1]["lb2"] == []


def test_what_was_changed_of_servers_that_are_through_is_told(fleet):
    pool = FakePool(lb1=[server(uweight=30)])
    hands = made(fleet, pool, plan(baseline=(record(),)))
    assert hands.differences() == ["lb1:shop/web1_app_1: weight 30, it was weight 100: kept"]
    assert made(fleet, pool, plan(baseline=(record(uweight=30),))).differences() == []


# containers


def test_a_container_of_the_wanted_release_is_what_counts(fleet):
    fleet["web1"].on("compose -p", RUNNING)
    assert made(fleet).do(s.Recreate(target(), NEW)) == s.Done()
    outcome = made(fleet).do(s.Recreate(target(), OLD))
    assert outcome.reason == "Compose ended well, but the wanted release does not run"


@pytest.mark.parametrize("lose", ["before", "after"])
def test_a_connection_that_breaks_is_followed_by_the_same_again(fleet, lose):
    fleet["web1"].on("compose -p", RUNNING)
    fleet["web1"].on("compose -p", RUNNING, lose=lose, times=1)
    hands = made(fleet)
    assert hands.do(s.Recreate(target(), NEW)) == s.Done()
    asked = [command for command in fleet["web1"].commands if "compose -p" in command.script]
    assert len(asked) == (1 if lose == "before" else 2)
    assert "not known what became of" in hands.notices[0][1]


def test_a_recreate_that_ran_into_its_deadline_is_asked_for_again(fleet):
    fleet["web1"].on("compose -p", RUNNING)
    fleet["web1"].on("compose -p", exit_code=124, times=1)
    assert made(fleet).do(s.Recreate(target(), NEW)) == s.Done()


def test_a_connection_that_stays_away_is_a_failure_and_not_a_success(fleet):
    fleet["web1"].on("compose -p", lose="after")
    outcome = made(fleet).do(s.Recreate(target(), NEW))
    assert outcome.reason == "web1: could not recreate app_1"


def test_what_compose_said_comes_with_the_failure(fleet):
    fleet["web1"].on("compose -p", exit_code=70, stderr="port is already allocated")
    outcome = made(fleet).do(s.Recreate(target(), NEW))
    assert outcome == s.Failed("web1: could not recreate app_1", "port is already allocated")


def test_lanes_of_one_host_wait_for_each_other_here_and_never_fail_on_the_hosts_lock(fleet):
    busy, most, inside = threading.Lock(), [], []

    def slow(_):
        inside.append(1)
        most.append(len(inside))
        busy.acquire(timeout=0.05)
        inside.pop()
        return RUNNING.replace("app_1", "app_x")

    busy.acquire()
    fleet["web1"].on("compose -p|rollouts", slow)
    hands = made(fleet)
    wanted = [target(instance=Instance("shop", "web1", n, 3000 + n)) for n in (1, 2, 3)]
    steps = [s.Recreate(t, NEW) for t in wanted] + [s.Record(t, "undo") for t in wanted]
    threads = [threading.Thread(target=hands.do, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 6
    assert max(most) == 1


def test_an_unhealthy_instance_shows_its_last_lines(fleet):
    fleet["web1"].on("steady_for", "/ping does not answer\n", exit_code=69)
    fleet["web1"].on("docker logs", "Traceback\nKeyError: DATABASE\n")
    outcome = made(fleet).do(s.AwaitHealthy(target(), NEW))
    assert outcome == s.Failed(
        "not healthy: /ping does not answer", "Traceback\nKeyError: DATABASE"
    )


def test_a_long_wait_for_health_says_what_is_wrong_meanwhile(fleet, monkeypatch):
    monkeypatch.setattr(containers, "FIRST_PEEK", 0.0)
    told = threading.Event()

    def checked(command):
        if command.label == "peek":
            return Result("web1", "peek", 69, "/ping answers 503, not 200\n", "", 0.0)
        assert told.wait(10), "nobody said anything"
        return Result("web1", "health check", 0, "healthy after 10 ms\n", "", 0.0)

    fleet.on("steady_for", checked)
    hands = made(fleet)
    hands._containers._progress = lambda event: (hands.told.append(event), told.set())
    assert hands.do(s.AwaitHealthy(target(), NEW)) == s.Done("healthy after 10 ms")
    assert hands.told[0] == StepProgress(
        "web1/app_1", "await-healthy", "/ping answers 503, not 200", limit=60.0
    )


def test_a_healthy_instance_says_how_long_it_took(fleet):
    fleet["web1"].on("steady_for", "healthy after 640 ms\n")
    assert made(fleet).do(s.AwaitHealthy(target(), NEW)) == s.Done("healthy after 640 ms")


def test_a_health_check_whose_connection_broke_is_made_again(fleet):
    fleet["web1"].on("steady_for", "healthy after 640 ms\n")
    fleet["web1"].on("steady_for", lose="after", times=1)
    assert isinstance(made(fleet).do(s.AwaitHealthy(target(), NEW)), s.Done)


@pytest.mark.parametrize(("gone", "there"), [("web1", "lb1"), ("lb1", "web1")])
def test_what_was_written_of_an_instance_that_can_not_begin_is_closed_again(fleet, gone, there):
    fleet[gone].down = True
    outcome = made(fleet, FakePool(lb1=[server()])).do(s.Record(target(), "undo"))
    assert isinstance(outcome, s.Failed)
    assert f"{gone}: could not write its record: connection refused" in outcome.reason
    assert "/undo/" in fleet[there].scripts[0]
    assert "/done/" in fleet[there].scripts[-1]


def test_lanes_that_were_cut_off_from_a_balancer_try_again_together(fleet):
    fleet["lb1"].on("rollouts", lose="before", times=1)
    hands = made(fleet, FakePool(lb1=[server()]))
    assert hands.do(s.Record(target(), "undo")) == s.Done()
    assert len(fleet["lb1"].commands) == 1


def test_records_can_be_read_as_json(fleet):
    pool = FakePool(lb1=[server(uweight=37, admin="drain")])
    made(fleet, pool).do(s.Record(target(record(uweight=37, admin="drain")), "undo"))
    text = fleet["lb1"].scripts[0].split("printf '%s\\n' '")[1].split("' >")[0]
    found = json.loads(text)
    assert (found["uweight"], found["admin"], found["ref"]["backend"]) == (37, "drain", "shop")


# checks that begin beside the replacement

ANEW = ["set server shop/web1_app_1 state drain", "set server shop/web1_app_1 health down"]


def recreated(fleet, pool, *, the_target=None):
    """A container was replaced, and the checks that may begin then were told to."""
    fleet["web1"].on("up -d", RUNNING)
    hands = made(fleet, pool)
    assert isinstance(hands.do(s.Recreate(the_target or target(), NEW)), s.Done)
    for beginning in hands._containers._beginning.values():
        beginning.join()
    return hands


def test_its_balancers_are_through_even_when_its_host_is_lost(fleet):
    """A late order of theirs must not be taken for somebody's will."""
    pool = FakePool(lb1=[MAINT], pins=False)
    slow, go = threading.Event(), threading.Event()
    change = pool.change
    pool.change = lambda *wanted: (slow.set(), go.wait(5), change(*wanted))[-1]
    fleet["web1"].on("up -d", RUNNING)
    fleet["web1"].on("steady_for", "no answer yet\n", exit_code=69)
    hands = made(fleet, pool)
    assert isinstance(hands.do(s.Recreate(target(), NEW)), s.Done)
    slow.wait(5)
    fleet["web1"].down = True
    threading.Timer(0.1, go.set).start()
    assert isinstance(hands.do(s.AwaitHealthy(target(), NEW)), s.Failed)
    assert pool.changes == [{"lb1": ANEW}]


def test_checks_begin_when_the_container_was_replaced(fleet):
    fleet["web1"].on("steady_for", "healthy after 640 ms\n")
    pool = FakePool(lb1=[MAINT], pins=False)
    hands = recreated(fleet, pool)
    assert isinstance(hands.do(s.AwaitHealthy(target(), NEW)), s.Done)
    assert pool.changes == [{"lb1": ANEW}]


def test_they_do_not_begin_while_nobody_knows_that_it_was(fleet):
    fleet["web1"].on("up -d", exit_code=70)
    pool = FakePool(lb1=[MAINT], pins=False)
    assert isinstance(made(fleet, pool).do(s.Recreate(target(), NEW)), s.Failed)
    assert pool.changes == []


def test_where_clients_may_be_pinned_it_stays_in_maint_until_it_is_healthy(fleet):
    pool = FakePool(lb1=[MAINT], pins=True)
    recreated(fleet, pool)
    assert pool.changes == []


def test_a_server_an_operator_has_in_maint_is_not_checked_anew(fleet):
    pool = FakePool(lb1=[MAINT], pins=False)
    recreated(fleet, pool, the_target=target(record(admin="maint")))
    assert pool.changes == [{"lb1": []}]


def test_a_balancer_that_refuses_early_checks_is_no_reason_to_stop(fleet):
    pool = FakePool(lb1=[RemoteError("lb1", "gone")], pins=False)
    assert recreated(fleet, pool).notices == [("web1", "checks begin later: lb1: gone")]


def recording(fleet, names, *, wrong=""):
    """Lanes of several instances that record at once, the first one's trip still under way."""
    begun, go = threading.Event(), threading.Event()

    def slow(command):
        begun.set()
        assert go.wait(5)
        return Result("lb1", "", 71 if wrong and wrong in command.script else 0, "", "", 0.0)

    fleet["lb1"].on("rollouts", slow)
    hands = made(fleet)
    found = {}

    def lane(name):
        mine = replace(record(), ref=replace(ref(), server=name))
        one = replace(target(mine), instance=Instance("shop", "web1", 1, 3001))
        found[name] = hands.do(s.Record(one, "undo"))

    threads = [threading.Thread(target=lane, args=(name,)) for name in names]
    threads[0].start()
    assert begun.wait(5)
    for thread in threads[1:]:
        thread.start()
    ends = time.monotonic() + 5
    while len(hands._shared_records._waiting) < len(names) - 1 and time.monotonic() < ends:
        time.sleep(0.001)
    go.set()
    for thread in threads:
        thread.join()
    return found


def test_many_lanes_do_not_queue_for_the_lock_of_a_balancer_to_record(fleet, monkeypatch):
    monkeypatch.setattr(h.Hands, "_project", lambda *_: threading.Lock())
    found = recording(fleet, ["a", "b", "c", "d"])
    assert set(found.values()) == {s.Done()}
    assert len(fleet["lb1"].commands) == 2
    assert all(f"server.shop.{name}.json" in fleet["lb1"].scripts[1] for name in "bcd")


def test_one_record_that_can_not_be_written_is_no_failure_of_the_others(fleet, monkeypatch):
    monkeypatch.setattr(h.Hands, "_project", lambda *_: threading.Lock())
    found = recording(fleet, ["a", "b", "c"], wrong="server.shop.c.json")
    assert (found["a"], found["b"]) == (s.Done(), s.Done())
    assert isinstance(found["c"], s.Failed)
