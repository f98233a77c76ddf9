"""Balancers as one: lanes travel together, and the mistake of one stays its own."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fabfile.balancers.haproxy.change import AsLeft
from fabfile.balancers.haproxy.shell import Unusable
from fabfile.drivers import balancers as b
from fabfile.errors import EvenkeelError, Fenced, OutcomeUnknown
from fabfile.remote.base import Result
from fabfile.remote.fake import FakeTransport
from fabfile.remote.pool import Remotes
from tests.unit.drivers import fakes

POLL = (Path(__file__).parents[1] / "balancers/replies/poll_down.txt").read_text()
ANSWER = "@evenkeel answer\n"


@pytest.fixture
def lb1():
    host = FakeTransport("lb1")
    host.on_lines("", lambda _: POLL)
    host.on("", POLL)
    return host


@pytest.fixture
def hand(lb1, tmp_path, monkeypatch):
    monkeypatch.setattr(b, "RELOAD_PATIENCE", 0.3)
    monkeypatch.setattr(b, "RELOAD_PAUSE", 0.01)
    spec = fakes.replace(fakes.EDGE, backend="app")
    remotes = Remotes(fakes.inventory(tmp_path), make=lambda _: lb1)
    balancer = fakes.SHOP.balancers_of("web1")[0]
    balancer = fakes.replace(balancer, spec=spec)
    return b.BalancerHand(balancer, remotes, lambda host, keys, effect: f"FENCED\n{effect}")


def said(lines):
    return ANSWER + "\n" * lines + POLL


def test_readings_come_from_one_conversation(hand, lb1):
    assert hand.read().servers
    hand.read()
    assert len(lb1.conversations) == 1
    assert lb1.commands == []


def test_a_conversation_that_broke_is_replaced(hand, lb1):
    hand.read()
    lb1.conversations[0].broken = True
    assert hand.read().servers
    assert len(lb1.commands) == 1, "asked once by itself"
    hand.read()
    assert len(lb1.conversations) == 2


def test_a_change_is_fenced_and_read_back(hand, lb1):
    lb1.on("FENCED", said(1))
    assert hand.change(b.Change(("set server app/s1 weight 0",))).servers
    assert "set server app/s1 weight 0" in lb1.scripts[0]


AS_LEFT = AsLeft("s1", "drain", 0)


def test_a_change_on_condition_is_refused_on_the_host_and_not_made(hand, lb1):
    lb1.on("FENCED", exit_code=95, stderr="evenkeel: a server of app is not as it was left")
    with pytest.raises(Unusable, match="not as it was left") as refused:
        hand.change(b.Change(("set server app/s1 weight 0",), (AS_LEFT,)))
    assert refused.value.kind == "changed"
    assert "ek_guard app s1=drain=0" in lb1.scripts[0]
    assert lb1.scripts[0].index("ek_guard app s1") < lb1.scripts[0].index("set server app/s1")


def test_a_condition_of_one_lane_stops_no_other(hand, lb1):
    def judged(command):
        if "ek_guard app" in command.script:
            return Result("lb1", "", 95, "", "evenkeel: not as it was left", 0.0)
        return said(1)

    lb1.on("FENCED", judged)
    hand._trips.ask = lambda change: hand._trip([change, b.Change(("set server app/s9 x",))])
    with pytest.raises(Unusable):
        b.Pool._alone(hand, b.Change(("set server app/s1 weight 0",), (AS_LEFT,)))
    hand._trips.ask = lambda change: hand._trip([change, b.Change(("x",), (AS_LEFT,))])
    assert b.Pool._alone(hand, b.Change(("set server app/s2 weight 0",))).servers


def test_a_lost_connection_is_never_taken_for_success(hand, lb1):
    lb1.on("FENCED", said(1), lose="after")
    with pytest.raises(OutcomeUnknown):
        hand.change(b.Change(("set server app/s1 weight 0",)))


def test_a_change_under_a_lock_that_was_taken_over_is_refused(hand, lb1):
    lb1.on("FENCED", exit_code=75)
    with pytest.raises(Fenced):
        hand.change(b.Change(("set server app/s1 weight 0",)))


def test_a_haproxy_that_reloads_is_given_a_moment(hand, lb1):
    lb1.on("FENCED", said(1))
    lb1.on("FENCED", exit_code=93, stderr="evenkeel: nobody answers", times=3)
    assert hand.change(b.Change(("set server app/s1 weight 0",))).servers


def test_the_moment_begins_when_it_first_does_not_answer_however_long_the_way(hand, lb1):
    def far_away(_):
        time.sleep(0.4)
        return Result("lb1", "", 93, "", "evenkeel: nobody answers", 0.4)

    lb1.on("FENCED", said(1))
    lb1.on("FENCED", far_away, times=1)
    assert hand.change(b.Change(("set server app/s1 weight 0",))).servers


def test_a_haproxy_that_stays_away_is_not_waited_for_for_ever(hand, lb1):
    lb1.on("FENCED", exit_code=93, stderr="evenkeel: nobody answers at x")
    with pytest.raises(EvenkeelError, match="lb1: nobody answers at x"):
        hand.change(b.Change(("set server app/s1 weight 0",)))


def test_a_haproxy_that_stays_away_is_waited_for_once_and_not_at_every_look(hand, lb1):
    lb1.on("FENCED", exit_code=93, stderr="evenkeel: nobody answers at x")
    for _ in range(2):
        lb1.commands.clear()
        with pytest.raises(EvenkeelError):
            hand.change(b.Change(("set server app/s1 weight 0",)))
    assert len(lb1.commands) == 1
    lb1.on("FENCED", said(1))
    assert hand.change(b.Change(("set server app/s1 weight 0",))).servers
    lb1.on("FENCED", exit_code=93, stderr="evenkeel: nobody answers", times=3)
    assert hand.change(b.Change(("set server app/s1 weight 0",))).servers, (
        "it reloads: it is given a moment"
    )


def test_a_missing_permission_is_told_at_once(hand, lb1):
    lb1.on("FENCED", exit_code=92, stderr="evenkeel: permission denied")
    began = time.monotonic()
    with pytest.raises(EvenkeelError, match="permission denied"):
        hand.change(b.Change(("set server app/s1 weight 0",)))
    assert time.monotonic() - began < 0.25


def answer_refusing_s9(lb1):
    go, arrived = threading.Event(), threading.Event()

    def answer(command):
        arrived.set()
        go.wait(5)
        if "app/s9" in command.script:
            return Result("", "", 96, "", "evenkeel: HAProxy refused: No such server.", 0.0)
        return said(command.script.count("weight 0'") or 1)

    lb1.on("FENCED", answer)
    return go, arrived


def test_one_lanes_mistake_does_not_fail_the_lanes_that_travel_with_it(hand, lb1):
    go, arrived = answer_refusing_s9(lb1)
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(b.Pool._alone, hand, b.Change(("set server app/s0 weight 0",)))
        arrived.wait(5)
        good = threads.submit(b.Pool._alone, hand, b.Change(("set server app/s1 weight 0",)))
        bad = threads.submit(b.Pool._alone, hand, b.Change(("set server app/s9 weight 0",)))
        reads = [threads.submit(hand.read) for _ in range(3)]
        while len(hand._trips._waiting) < 5:
            time.sleep(0.001)
        go.set()
        assert first.result(5).servers
        assert good.result(5).servers
        for read in reads:
            assert read.result(5).servers
        with pytest.raises(EvenkeelError, match="No such server"):
            bad.result(5)


def test_a_read_that_fails_by_itself_is_not_made_twice(hand, lb1):
    lb1.on_lines("", lambda _: "evenkeel: permission denied\n@evenkeel failed 92\n")
    with pytest.raises(EvenkeelError, match="permission denied"):
        hand.read()
    assert len(lb1.conversations[0].asked) == 1


def test_a_trip_asks_for_no_more_servers_than_its_lanes_want(hand, lb1):
    hand._trip([b.Change(servers=frozenset({"s1"})), b.Change(servers=frozenset({"s2"}))])
    assert lb1.conversations[0].asked == ["app =s1 =s2"]
    hand._rested = 0.0
    hand._trip([b.Change(servers=frozenset({"s1"})), b.Change()])
    assert lb1.conversations[0].asked[-1] == "app"
    lb1.on("FENCED", said(1))
    hand._trip([b.Change(("set server app/s1 weight 0",), (), frozenset({"s1"}))])
    assert "ek_save_poll app =s1" in lb1.scripts[-1]


@pytest.mark.parametrize(
    ("code", "out"),
    [(97, said(1)), (96, ANSWER + "no such server\n"), (93, ANSWER), (124, ANSWER)],
)
def test_what_was_sent_once_is_not_held_against_its_condition_again(hand, lb1, code, out):
    """Our own drained state would be taken for somebody's will."""
    wanted = b.Change(("set server app/s1 weight 0",), (AS_LEFT,))
    lb1.on("FENCED", said(1))
    lb1.on("ek_guard app", exit_code=95, stderr="evenkeel: not as it was left")
    lb1.on("ek_guard app", out, exit_code=code, stderr="evenkeel: it went wrong", times=1)
    assert b.Pool._alone(hand, wanted).servers
    assert "ek_guard app" not in lb1.scripts[-1]


def test_neither_is_what_a_reload_answered_half(hand, lb1):
    wanted = b.Change(("set server app/s1 weight 0",), (AS_LEFT,))
    lb1.on("FENCED", said(1))
    lb1.on("ek_guard app", exit_code=95, stderr="evenkeel: not as it was left")
    lb1.on("ek_guard app", ANSWER + "\n@evenkeel runtime\n", times=1)
    assert hand.change(wanted).servers


def test_what_was_never_sent_keeps_its_condition(hand, lb1):
    lb1.on("FENCED", said(1))
    lb1.on("ek_guard app", exit_code=93, stderr="evenkeel: nobody answers", times=1)
    wanted = b.Change(("set server app/s1 weight 0",), (AS_LEFT,))
    assert hand.change(wanted).servers
    assert "ek_guard app" in lb1.scripts[-1]
