from __future__ import annotations

from pathlib import Path

import pytest

from fabfile.balancers.haproxy.change import Expectation, check_change, verify
from fabfile.balancers.haproxy.observe import parse_poll, read_backend, request
from fabfile.balancers.haproxy.parse import Refused, Unreadable
from fabfile.balancers.haproxy.sessions import Session, seconds, who
from fabfile.balancers.haproxy.shell import Unusable, problem
from fabfile.balancers.model import ServerRef
from fabfile.errors import BadInput
from fabfile.remote.base import Result

REPLIES = Path(__file__).parent / "replies"


def reply(name: str) -> str:
    return (REPLIES / f"{name}.txt").read_text()


def test_maint_weight_zero_and_drain_are_told_apart() -> None:
    servers = read_backend("lb1", "app", reply("poll_maint_weight0_drain")).servers
    maint, zero, drain = servers["web1_app_1"], servers["web1_app_2"], servers["web2_app_1"]
    assert (maint.admin, maint.up, maint.weight, maint.uweight) == ("maint", False, 0, 1)
    assert (zero.admin, zero.up, zero.weight, zero.uweight) == ("ready", True, 0, 0)
    assert (drain.admin, drain.up, drain.weight, drain.uweight) == ("drain", True, 0, 50)
    assert not any(server.in_rotation for server in servers.values())
    assert all(server.checked for server in servers.values())
    assert zero.iweight == 100


def test_a_server_that_waits_for_its_fresh_checks_is_not_up() -> None:
    server = read_backend("lb1", "app", reply("poll_down")).servers["web1_app_1"]
    assert (server.admin, server.up) == ("drain", False)


def test_a_server_whose_checks_go_elsewhere_says_where() -> None:
    text = reply("poll_down")
    servers = read_backend("lb1", "app", text.replace("26101 - 0 0 -", "26101 - 0 1 -")).servers
    assert {server.check_port for server in servers.values()} == {0, 1}
    assert servers["web1_app_1"].check_port == 1
    older = read_backend("lb1", "app", text.replace("srv_check_port", "srv_something"))
    assert older.servers["web1_app_1"].check_port == 0


def test_requests_of_a_process_of_before_a_reload_keep_a_server_busy() -> None:
    reading = read_backend("lb1", "app", reply("poll_old_worker"))
    assert reading.process == 416
    assert reading.old_workers == 1
    server = reading.servers["web1_app_2"]
    assert (server.scur, server.stot) == (2, 2)
    assert reading.servers["web1_app_1"].scur == 0


def test_a_process_that_answered_just_before_a_reload_is_not_counted_twice() -> None:
    text = reply("poll_old_worker").replace("Pid: 416", "Pid: 412")
    reading = read_backend("lb1", "app", text)
    assert reading.servers["web1_app_2"].scur == 1
    assert reading.old_workers == 0


def test_an_old_process_that_is_gone_or_lacks_the_backend_adds_nothing() -> None:
    text = reply("poll_old_worker")
    head, _, tail = text.partition("@evenkeel old 412\n")
    header = tail.splitlines()[0] + "\n"
    for answer in (reply("answer_no_such_process"), header):
        reading = read_backend("lb1", "app", f"{head}@evenkeel old 412\n{answer}@evenkeel end\n")
        assert reading.servers["web1_app_2"].scur == 1


def test_an_old_process_on_its_way_out_leaves_everything_open_and_is_asked_again() -> None:
    head, _, _ = reply("poll_old_worker").partition("@evenkeel old 412\n")
    answer = reply("answer_process_leaving")
    with pytest.raises(Unreadable, match="does not answer"):
        read_backend("lb1", "app", f"{head}@evenkeel old 412\n{answer}@evenkeel end\n")


def test_queued_requests_count() -> None:
    text = reply("poll_old_worker").replace("app,web1_app_2,0,0,1", "app,web1_app_2,4,0,1")
    text = text.replace("app,BACKEND,0,", "app,BACKEND,2,")
    reading = read_backend("lb1", "app", text)
    assert reading.servers["web1_app_2"].qcur == 8
    assert reading.queued == 4


def test_5xx_of_a_server_are_counted_apart() -> None:
    poll = parse_poll(reply("poll_maint_weight0_drain"))
    row = next(r for r in poll.stats["app"] if r["svname"] == "web1_app_2")
    server = read_backend("lb1", "app", reply("poll_maint_weight0_drain")).servers["web1_app_2"]
    kinds = ("1xx", "2xx", "3xx", "4xx", "5xx", "other")
    assert server.requests == sum(int(row[f"hrsp_{kind}"]) for kind in kinds)
    assert server.errors_5xx == int(row["hrsp_5xx"])


def test_unchecked_and_tracking_servers_are_not_taken_for_checked() -> None:
    text = reply("preflight_nocheck")
    servers = read_backend("lb1", "nocheck", text).servers
    assert {name: server.checked for name, server in servers.items()} == {
        "s1": False,
        "bk": True,
        "tr": False,
    }
    assert servers["bk"].backup
    assert not servers["bk"].in_rotation


def test_a_backend_that_is_not_there_is_an_error_and_hides_no_other() -> None:
    text = reply("poll_missing_backend")
    with pytest.raises(Refused) as caught:
        read_backend("lb1", "nope", text)
    assert caught.value.kind == "no-such-backend"
    assert len(read_backend("lb1", "app", text).servers) == 3


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
def test_a_poll_that_was_cut_off_is_never_read(share: float) -> None:
    text = reply("poll_old_worker")
    with pytest.raises(Unreadable, match="lb1"):
        read_backend("lb1", "app", text[: int(len(text) * share)])


def test_a_socket_without_statistics_is_an_error() -> None:
    text = reply("poll_down").partition("Name: HAProxy")[0]
    denied = "Permission denied\n\n"
    with pytest.raises(Refused) as caught:
        read_backend("lb1", "app", f"{text}{denied}{denied}{denied}@evenkeel end\n")
    assert caught.value.kind == "permission"


def test_a_poll_that_failed_in_a_conversation_says_why() -> None:
    with pytest.raises(Unusable, match="lb1: nobody answers at") as caught:
        read_backend("lb1", "app", reply("conversation_failed"))
    assert caught.value.kind == "not-running"


def test_a_request_line_can_not_carry_a_command() -> None:
    assert request(["app", "api"]) == "app api"
    with pytest.raises(BadInput):
        request(["app;set"])


def test_a_refused_change_is_raised_although_its_read_back_is_there() -> None:
    text = reply("change_refused")
    commands = ["set server app/nope weight 0", "set server app/web1_app_2 weight 100"]
    with pytest.raises(Refused, match="`set server app/nope weight 0`: No such server"):
        check_change("lb1", commands, text)
    assert read_backend("lb1", "app", text).servers["web1_app_2"].uweight == 100
    with pytest.raises(Unreadable):
        check_change("lb1", commands, "")


REF = ServerRef("lb1", "app", "web1_app_2")


def test_a_read_back_that_differs_from_the_order_is_a_problem() -> None:
    reading = read_backend("lb1", "app", reply("poll_maint_weight0_drain"))
    good = Expectation(REF, uweight=0, admin="ready", up=True, process=reading.process, idle=True)
    assert verify(reading, good) is None
    bad = [
        (Expectation(REF, uweight=100), "weight is 0, expected 100"),
        (Expectation(REF, admin="maint"), "state is ready, expected maint"),
        (Expectation(REF, up=False), "up is True, expected False"),
        (Expectation(REF, process=1), "HAProxy was reloaded"),
        (Expectation(ServerRef("lb1", "app", "gone")), "not in the backend"),
    ]
    for expected, said in bad:
        assert said in (verify(reading, expected) or "")
    busy = read_backend("lb1", "app", reply("poll_old_worker"))
    assert "2 requests running" in (verify(busy, Expectation(REF, idle=True)) or "")


def test_only_sessions_on_the_server_itself_are_reported_as_cut() -> None:
    text = reply("sessions_old_worker")
    assert who(text, "app", "web1_app_2") == [
        Session("127.0.0.1:52354", 1, 412),
        Session("127.0.0.1:52364", 0),
    ]
    assert who(text, "app", "web1_app_1") == []
    with pytest.raises(Unreadable):
        who(text[: text.rindex("@evenkeel")], "app", "web1_app_2")
    with pytest.raises(Refused):
        who("@evenkeel sess\nPermission denied\n\n@evenkeel end\n", "app", "web1_app_2")


def test_the_age_of_long_sessions_is_understood() -> None:
    assert [seconds(age) for age in ("0s", "59s", "1m5s", "2h3m", "1d2h", "")] == [
        0,
        59,
        65,
        7380,
        93600,
        0,
    ]


@pytest.mark.parametrize(
    ("code", "kind"), [(90, "no-socat"), (92, "permission"), (94, "container"), (97, "state-file")]
)
def test_each_exit_code_of_our_scripts_has_its_meaning(code: int, kind: str) -> None:
    result = Result("lb1", "poll", code, "", "noise\nevenkeel: what it was\nmore\n", 0.1)
    found = problem("lb1", result)
    assert found is not None
    assert (found.kind, str(found)) == (kind, "lb1: what it was")


@pytest.mark.parametrize("code", [None, 0, 75, 124, 137])
def test_unknown_outcomes_deadlines_and_the_fence_are_not_ours_to_explain(code: int | None) -> None:
    assert problem("lb1", Result("lb1", "poll", code, "", "x", 0.1)) is None
