"""scripts/chaos judges; here it is judged: whatever was lost or left behind must not pass."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "lab"))

from chaos.catalogue import FAULTS  # noqa: E402
from chaos.deploys import When  # noqa: E402
from chaos.judge import Bad, Command, Expectation, Lost, Row, Window, count, judge  # noqa: E402
from chaos.load import Sent  # noqa: E402
from chaos.table import Page, fault_cells, kill_cells  # noqa: E402
from chaos.world import read_servers  # noqa: E402

OLD = dict.fromkeys(("web1/app_1", "web1/app_2", "web2/app_1"), "0.0.1")
NEW = dict.fromkeys(OLD, "0.0.2")
MIXED = {**OLD, "web1/app_1": "0.0.2"}
GOOD = Row(
    "a-fault", "it is made", Expectation(), OLD, "0.0.2", Command("deploy", 0, 40.0), versions=NEW
)
KILLED = replace(
    GOOD,
    deploy=Command("deploy", -9),
    expected=Expectation(frozenset({-9}), safe_within=30.0),
    recovery=Command("resume", 0, 20.0),
    taken_up=True,
    safe=12.0,
)


def bad(**facts):
    given = {"sent": 100.0, "ended": 101.0, "lane": "fast", "url": "http://127.0.0.1:1/", **facts}
    return Bad(**{"kind": "HTTP 5xx", **given})


def test_a_row_in_which_all_went_well_is_ok():
    assert judge(GOOD) == []
    assert judge(KILLED) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"added": Lost(fast=1)}, "lost: 1 / 0 / 0"),
        ({"added": Lost(long=1)}, "lost: 0 / 1 / 0"),
        ({"added": Lost(late=1)}, "lost: 0 / 0 / 1"),
        ({"mine": Lost(fast=1)}, "the fault itself took"),
        ({"out": ("lb1:web1_app_1",)}, "not as recorded: lb1:web1_app_1"),
        ({"locks": ("web1: project.srv",)}, "locked"),
        ({"unfinished": ("20261120-1",)}, "unfinished"),
        ({"oddities": ("web1/app_1 has 2 containers",)}, "2 containers"),
        ({"deploy": Command("deploy", 1)}, "deploy ended with 1"),
        ({"deploy": Command("deploy", 7), "versions": OLD}, "deploy ended with 7"),
        ({"versions": OLD}, "wanted: what was new"),
        ({"versions": MIXED}, "mixed"),
        ({"versions": {**NEW, "web1/app_1": ""}}, "web1/app_1 runs nothing"),
        ({"kept_schedule": False}, "schedule"),
        ({"wrong": ("its moment never came",)}, "never came"),
    ],
)
def test_whatever_is_not_as_expected_makes_a_row_not_ok(change, says):
    row = replace(GOOD, **change)
    assert says in "; ".join(judge(row))
    assert "**NOT ok**" in fault_cells(row, None)[-1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"safe": 30.1}, "safe after 30 s"),
        ({"safe": None}, "never came to a safe state"),
        ({"recovery": Command("resume", 6)}, "resume ended with 6"),
        ({"versions": OLD}, "wanted: what was new"),
        ({"recovery": Command("abort", 0)}, "wanted: what was old"),
        ({"recovery": Command("repair", 0), "versions": {**OLD, "web1/app_1": "0.0.9"}}, "0.0.9"),
        ({"taken_up": False, "versions": MIXED}, "mixed"),
        ({"deploy": Command("deploy", 0)}, "deploy ended with 0"),
        ({"added": Lost(fast=1)}, "lost"),
    ],
)
def test_a_kill_is_not_ok_when_its_recovery_is_not(change, says):
    row = replace(KILLED, **change)
    assert says in "; ".join(judge(row))
    assert "**NOT ok**" in kill_cells(row)[-1]


def test_a_repair_may_leave_two_versions_behind_and_nobody_else():
    repaired = replace(KILLED, recovery=Command("repair", 0), versions=MIXED)
    assert judge(repaired) == []
    assert judge(replace(repaired, recovery=Command("resume", 0)))
    assert judge(replace(repaired, recovery=Command("abort", 0)))


def test_an_exit_code_has_to_be_true_of_the_fleet():
    either = replace(GOOD, expected=Expectation(frozenset({0, 7})))
    back = Command("deploy", 7)
    assert judge(replace(either, deploy=back, versions=OLD)) == []
    assert judge(replace(either, deploy=back, versions=NEW))
    assert judge(replace(either, versions=OLD))


def test_what_a_fault_takes_by_itself_is_forgiven_where_that_was_expected_and_only_there():
    row = replace(GOOD, mine=Lost(fast=9), expected=Expectation(losses="own"))
    assert judge(row) == []
    assert judge(replace(row, added=Lost(fast=1)))


def test_a_busy_machine_excuses_late_answers_and_nothing_else():
    row = replace(GOOD, added=Lost(late=5), idle=0.1)
    assert judge(row) == []
    assert "not judged: 10% of the machine idle" in fault_cells(row, None)[-1]
    assert judge(replace(row, added=Lost(fast=1)))
    assert judge(replace(row, idle=0.5))


def test_a_fault_is_blamed_for_its_own_servers_while_it_lasts():
    window = Window(100.0, 110.0, ("web2/",))
    assert window.explains(bad(server="web2/app_1"))
    assert not window.explains(bad(server="web1/app_1"))
    assert not window.explains(bad(server="")), "nobody knows whose it was: so it is ours"
    assert not window.explains(bad(server="web2/app_1", sent=111.0, ended=111.5))
    assert window.explains(bad(server="web2/app_1", sent=90.0, ended=111.5)), "it hung"
    cut = bad(kind="closed without answer", detail="as request 7 of a kept connection")
    assert window.explains(cut), "HAProxy passes the end of a connection on, without a name"
    assert not window.explains(replace(cut, sent=120.0, ended=120.1))
    assert not Window().explains(bad(server="web2/app_1"))


def test_a_fault_is_blamed_for_the_frontend_it_took_but_not_for_what_that_says_of_servers():
    window = Window(100.0, 110.0, url="http://127.0.0.1:1")
    assert window.explains(bad(kind="connect refused"))
    assert not window.explains(bad(kind="HTTP 5xx", server="web1/app_1"))
    assert not window.explains(bad(kind="connect refused", url="http://127.0.0.1:2/"))
    kept = replace(window, kept=True)
    cut = "closed without an answer, as request 3 of a kept connection"
    assert kept.explains(bad(kind="closed without answer", detail=cut))
    assert not kept.explains(bad(kind="closed without answer", detail="closed"))


def test_a_version_is_blamed_for_its_own_answers_only():
    window = Window(version="0.0.5")
    assert window.explains(bad(version="0.0.5"))
    assert not window.explains(bad(version="0.0.1"))
    assert not window.explains(bad(kind="reset", version="0.0.5"))


def test_failed_and_late_requests_are_counted_apart():
    some = [bad(), bad(lane="long"), bad(kind="late"), bad(lane="long", kind="late")]
    assert count(some) == Lost(1, 1, 2)


def test_a_prober_that_fell_behind_proves_nothing():
    assert Sent(1000, 20, 50).kept_schedule
    assert not Sent(1000, 20, 60).kept_schedule


def test_a_moment_is_an_event_of_the_rollout():
    when = When(step="recreate", host="web2")
    event = {"event": "StepStarted", "step": "recreate", "instance": "web2/app_1"}
    assert when.fits(event)
    assert not when.fits({**event, "instance": "web1/app_1"})
    assert not when.fits({**event, "event": "StepFinished"})
    assert not when.fits({"event": "Notice", "text": "recreate"})


def test_the_page_keeps_what_was_not_run_again(tmp_path):
    path = tmp_path / "chaos.md"
    path.write_text("# Faults\n\nBy hand.\n\nMachine: ?\n")
    page = Page(path, "two cores")
    page.put("faults", fault_cells(GOOD, None))
    page.put("faults", fault_cells(replace(GOOD, name="another", added=Lost(fast=3)), None))
    page.note("faults", "Last renewed today.")
    page = Page(path, "two cores", ["another", "a-fault"])
    page.put("faults", fault_cells(replace(GOOD, name="another"), GOOD))
    page.put("kills", kill_cells(replace(KILLED, name="1")))
    text = path.read_text()
    assert text.startswith("# Faults\n\nBy hand.\n\nMachine: two cores\n")
    assert "\n\n\n" not in text
    assert text.count("| a-fault |") == text.count("| another |") == 1
    assert "NOT ok" not in text, "the old line of that name is gone"
    assert "Last renewed today." in text
    assert text.index("| another |") < text.index("| a-fault |") < text.index("| 1 |")
    assert text.index("<!-- faults -->") < text.index("<!-- kills -->")


def test_every_fault_of_the_matrix_has_a_name_of_its_own_and_says_what_it_does():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert all(fault.what for fault in FAULTS)
    takers = [fault for fault in FAULTS if fault.servers or fault.url is not None]
    assert all(fault.expected.losses == "own" for fault in takers)


def test_what_haproxy_says_of_its_servers_is_read_by_column_name():
    text = (
        "1\n# be_id be_name srv_id srv_name srv_op_state srv_admin_state srv_uweight\n"
        "3 challenge 1 web1_app_1 2 0 100\n3 challenge 2 web1_app_2 0 4 7\n4 other 1 x 2 0 1\n\n"
    )
    assert read_servers("lb1", text) == {
        "lb1:web1_app_1": ("2", "0", "100"),
        "lb1:web1_app_2": ("0", "4", "7"),
    }
