"""A server that nobody is pinned to waits in drain, with checks that fail, for its new container."""

from dataclasses import replace

import pytest

from fabfile.balancers.haproxy.change import PARKED
from fabfile.drivers import rotation as r
from fabfile.drivers.balancers import record_of
from fabfile.drivers.operators import Operators
from fabfile.errors import RemoteError
from fabfile.rollout import steps as s
from tests.unit.drivers.fakes import FakePool, record, ref, server, target

NAME = "shop/web1_app_1"
PARK = [
    f"set server {NAME} weight 0",
    f"set server {NAME} check-port 1",
    f"set server {NAME} state drain",
    f"set server {NAME} health down",
]
PARKED_NOW = server(admin="drain", weight=0, uweight=0, up=False, check_port=PARKED)
WAITS = server(admin="drain", weight=0, uweight=0, up=False)
DOWN = server(up=False)
MINE = target(record(check_port=0))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(r, "POLL", 0.001)


def made(pool, mode="weight"):
    return r.Rotation(pool, mode, Operators(lambda *_: None))


def test_its_checks_are_sent_where_nobody_answers(monkeypatch):
    pool = FakePool(lb1=[PARKED_NOW], pins=False, parks=True)
    rotation = made(pool)
    assert rotation.take_out(s.TakeOut(MINE, maint=True)) == s.Done()
    assert pool.changes == [{"lb1": PARK}]
    assert isinstance(rotation.await_idle(s.AwaitIdle(MINE, 1.0, maint=True)), s.Idle)


def test_in_drain_mode_its_weight_stays():
    pool = FakePool(lb1=[PARKED_NOW], pins=False, parks=True)
    made(pool, "drain").take_out(s.TakeOut(MINE, maint=True))
    assert pool.changes == [{"lb1": PARK[1:]}]


@pytest.mark.parametrize(
    ("parks", "found"),
    [
        (False, record(check_port=0)),  # clients may be pinned, or HAProxy is too old
        (True, record()),  # it is not checked
        (True, record(check_port=0, admin="maint")),  # an operator's
    ],
)
def test_everybody_else_goes_into_maint(parks, found):
    pool = FakePool(lb1=[server(admin="maint", uweight=0)], pins=not parks, parks=parks)
    assert made(pool).take_out(s.TakeOut(target(found), maint=True)) == s.Done()
    assert pool.changes == [{"lb1": [PARK[0], f"set server {NAME} state maint"]}]


def test_somebody_who_sends_its_checks_back_in_mid_drain_undid_it():
    pool = FakePool(lb1=[WAITS], pins=False, parks=True)
    seen = made(pool).await_idle(s.AwaitIdle(MINE, 1.0, maint=True))
    assert isinstance(seen, s.Reverted)


def test_its_checks_come_back_when_the_old_container_is_gone():
    pool = FakePool(lb1=[PARKED_NOW, WAITS], pins=False, parks=True)
    made(pool).check_anew(MINE)
    assert pool.changes == [{"lb1": [f"set server {NAME} check-port 0"]}]


def test_one_whose_checks_passed_all_the_same_is_put_down_first():
    up = server(admin="drain", weight=0, uweight=0, check_port=PARKED)
    pool = FakePool(lb1=[up, WAITS], pins=False, parks=True)
    made(pool).check_anew(MINE)
    assert pool.changes == [{"lb1": [*PARK[2:], f"set server {NAME} check-port 0"]}]


BACK = [f"set server {NAME} weight 100", f"set server {NAME} state ready"]


@pytest.mark.parametrize("port", [0, 9003])
def test_one_that_is_admitted_is_checked_where_it_was_checked(port):
    pool = FakePool(lb1=[PARKED_NOW], pins=False, parks=True)
    assert made(pool).admit(s.Admit(target(record(check_port=port)))) == s.Done()
    assert pool.changes == [{"lb1": [f"set server {NAME} check-port {port}", *BACK]}]


def test_one_whose_checks_are_back_already_only_gets_weight_and_state():
    pool = FakePool(lb1=[WAITS], pins=False, parks=True)
    made(pool).admit(s.Admit(MINE))
    assert pool.changes == [{"lb1": BACK}]


def test_one_that_still_stands_parked_is_not_back():
    pool = FakePool(lb1=[server(check_port=PARKED)])
    assert isinstance(made(pool).await_admitted(s.AwaitAdmitted(MINE, 1.0)), s.Reverted)


def test_one_whose_container_never_stopped_is_waited_for_until_it_is_up():
    pool = FakePool(lb1=[PARKED_NOW, DOWN, DOWN, server()], pins=False, parks=True)
    assert made(pool).restore(s.Restore(MINE)) == s.Done()
    assert pool.changes == [{"lb1": [f"set server {NAME} check-port 0", *BACK]}]
    assert pool.shows == {"lb1": [server()]}


def test_one_that_was_down_before_is_not_waited_for_for_long(monkeypatch):
    monkeypatch.setattr(r, "PASS", 0.0)
    pool = FakePool(lb1=[PARKED_NOW, DOWN], pins=False, parks=True)
    assert made(pool).restore(s.Restore(MINE)) == s.Done()


def test_a_balancer_that_is_silent_keeps_no_other_from_taking_it_in():
    gone = RemoteError("lb2", "gone")
    pool = FakePool(lb1=[PARKED_NOW, server()], lb2=[gone], pins=False, parks=True)
    both = target(record(check_port=0), record("lb2", check_port=0))
    with pytest.raises(RemoteError):
        made(pool).admit(s.Admit(both))
    assert pool.changes[0]["lb1"] == [f"set server {NAME} check-port 0", *BACK]


@pytest.mark.parametrize(
    ("shown", "port"),
    [
        (server(), 0),
        (server(check_port=9003), 9003),
        (server(check_port=PARKED), 0),  # left behind by somebody who was given up
        (server(checked=False), None),
    ],
)
def test_where_its_checks_go_is_recorded(shown, port):
    reading = FakePool(lb1=[shown]).read()["lb1"]
    assert record_of(ref(), reading).check_port == port


def out(rotation):
    assert rotation.take_out(s.TakeOut(MINE, maint=True)) == s.Done()


def test_what_stands_as_it_was_left_is_admitted_without_another_look():
    pool = FakePool(lb1=[PARKED_NOW, server()], pins=False, parks=True)
    out(rotation := made(pool))
    assert rotation.admit(s.Admit(MINE)) == s.Done()
    assert pool.reads == 0
    assert pool.changes[1:] == [{"lb1": [f"set server {NAME} check-port 0", *BACK]}]


def test_what_somebody_changed_meanwhile_is_looked_at_before_it_is_admitted():
    theirs = server(uweight=30, admin="drain", weight=0, up=False, check_port=PARKED)
    pool = FakePool(lb1=[PARKED_NOW, theirs, server(uweight=30)], pins=False, parks=True)
    out(rotation := made(pool))
    pool.changed = {"lb1"}
    assert rotation.admit(s.Admit(MINE)) == s.Done()
    assert pool.reads == 1
    assert f"set server {NAME} weight 30" in pool.changes[-1]["lb1"]


def test_a_change_on_one_balancer_is_no_change_on_the_other():
    theirs = replace(PARKED_NOW, uweight=30)
    pool = FakePool(
        lb1=[PARKED_NOW, server()],
        lb2=[PARKED_NOW, theirs, server(uweight=30)],
        pins=False,
        parks=True,
    )
    both = target(record(check_port=0), record("lb2", check_port=0))
    rotation = made(pool)
    assert rotation.take_out(s.TakeOut(both, maint=True)) == s.Done()
    pool.changed = {"lb2"}
    assert rotation.admit(s.Admit(both)) == s.Done()
    assert rotation._operators.target(both).servers == (
        record(check_port=0),
        record("lb2", 30, check_port=0),
    )


def test_one_that_an_operator_puts_into_maint_while_it_is_parked_ends_there_unparked():
    theirs = server(admin="maint", weight=0, uweight=0, up=False, check_port=PARKED)
    there = server(admin="maint", weight=0)
    pool = FakePool(lb1=[PARKED_NOW, theirs, there], pins=False, parks=True)
    out(rotation := made(pool))
    pool.changed = {"lb1"}
    rotation.admit(s.Admit(MINE))
    assert f"set server {NAME} check-port 0" in pool.changes[-1]["lb1"]
    assert isinstance(rotation.await_admitted(s.AwaitAdmitted(MINE, 1.0)), s.Admitted)


def test_one_whose_checks_pass_all_the_same_needs_fresh_ones():
    up = server(admin="drain", weight=0, uweight=0, check_port=PARKED)
    pool = FakePool(lb1=[up, server()], pins=False, parks=True)
    made(pool).admit(s.Admit(MINE))
    first = [*PARK[2:], f"set server {NAME} check-port 0"]
    assert pool.changes == [{"lb1": [*first, *BACK]}]
