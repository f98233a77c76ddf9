"""The hosts' own records, merged: what any machine is told of past rollouts."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from fabfile.drivers.history import merge, read
from fabfile.errors import PreflightFailed
from fabfile.remote import state
from fabfile.rollout import history
from fabfile.rollout.events import RolloutFinished
from tests.unit.drivers import fakes
from tests.unit.drivers.fakes import Fleet, plan

ID = "20260131-142530-9f3c"
PLAN = replace(plan(), id=ID, reason="it's new", mode="deploy", chosen=True)
END = RolloutFinished(ID, "done", "2.0", 1, 0, 0, 0, ())
FACTS = history.facts(
    PLAN, END, {"web1/app_1": "upgraded"}, {}, datetime(2026, 1, 31, 14, 26, 0, tzinfo=UTC)
)


def ended(rollout=ID, **changes):
    return state.Ended(rollout, FACTS | changes)


def opened(rollout=ID, text=None):
    return state.Ended(rollout, {}, ended=False, plan=PLAN.to_json() if text is None else text)


def test_an_end_is_told_with_all_that_a_person_asks_about():
    assert json.loads(json.dumps(FACTS)) == FACTS
    (past,) = merge("shop", {"web1": [ended()], "lb1": [ended()]})
    assert (past.verdict, past.version, past.before, past.owner) == (
        "done",
        "2.0",
        ("1.0",),
        "anna",
    )
    assert (past.began, past.ended, past.seconds) == (
        "2026-01-31T14:25:30Z",
        "2026-01-31T14:26:00Z",
        30.0,
    )
    assert (past.hosts, past.chosen, past.why) == (("web1",), True, "it's new")
    assert (past.upgraded, past.failed, past.notes) == (1, 0, ())


def test_an_older_file_still_reads_with_the_plans_help():
    old = state.Ended(ID, {"verdict": "done", "upgraded": 3, "reason": ""}, plan=PLAN.to_json())
    (past,) = merge("shop", {"web1": [old]})
    assert (past.verdict, past.upgraded, past.version, past.seconds) == ("done", 3, "2.0", None)
    assert past.began == "2026-01-31T14:25:30Z"


def test_a_later_file_tells_what_we_know_of_it():
    (past,) = merge("shop", {"web1": [ended(format=9, seconds="long", hosts=7, colour="green")]})
    assert (past.verdict, past.seconds, past.hosts) == ("done", None, ())


def test_an_unfinished_one_is_shown_as_such_and_a_living_one_as_running():
    (past,) = merge("shop", {"web1": [opened()]})
    assert (past.verdict, past.version, past.owner) == ("unfinished", "2.0", "anna")
    assert merge("shop", {"web1": [opened()]}, [ID])[0].verdict == "running"


def test_a_host_that_was_not_told_the_end_is_named():
    (past,) = merge("shop", {"web1": [ended()], "web2": [opened()]}, [ID])
    assert past.verdict == "done"
    assert past.notes == ("web2 was not told that it is over",)


def test_a_damaged_end_is_named_and_the_other_hosts_are_believed():
    torn = state.Ended(ID, {}, plan=PLAN.to_json())
    (past,) = merge("shop", {"web1": [torn], "web2": [ended()]})
    assert (past.verdict, past.notes) == ("done", ("web1: finished.json can't be read",))
    (alone,) = merge("shop", {"web1": [torn]})
    assert (alone.verdict, alone.version) == ("unknown", "2.0")


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("{", "its plan can't be read"),
        (PLAN.to_json().replace('"format": 2', '"format": 3'), "newer"),
    ],
)
def test_a_plan_that_cannot_be_read_is_named(text, note):
    (past,) = merge("shop", {"web1": [opened(text=text)]})
    assert past.verdict == "unfinished"
    assert note in past.notes[0]


def test_another_services_rollouts_are_not_shown():
    assert merge("shop", {"web1": [ended(service="other")]}) == []


def test_the_newest_comes_first():
    known = {
        "web1": [ended("20260101-000000-aaaa")],
        "web2": [ended("20260201-000000-aaaa"), ended()],
    }
    assert [past.rollout[:6] for past in merge("shop", known)] == ["202602", "202601", "202601"]


@pytest.mark.parametrize(
    ("fates", "reasons", "mode", "failed"),
    [
        ({"a": "restored", "b": "restored"}, {"a": "not healthy"}, "deploy", 1),
        ({"a": "broken", "b": "upgraded"}, {}, "deploy", 1),
        ({"a": "untouched", "b": "untouched"}, {"b": "still busy"}, "deploy", 1),
        ({"a": "restored"}, {"a": "nothing was there before"}, "abort", 0),
    ],
)
def test_only_what_went_wrong_counts_as_failed(fates, reasons, mode, failed):
    assert history.Past("r", "held", mode=mode, fates=fates, reasons=reasons).failed == failed


def test_an_id_that_is_no_time_has_no_beginning():
    assert [history.began(one) for one in ("r1", "20269931-142530-9f3c", "")] == [None] * 3


# from hosts


@pytest.fixture
def fleet(tmp_path):
    found = Fleet(fakes.inventory(tmp_path))
    text = f"== ended {ID}\n{json.dumps(FACTS)}\n\n== locks ==\n"
    found.on("is_known", text)
    return found


def test_a_host_out_of_reach_is_a_line_and_the_others_still_tell(fleet):
    fleet["web2"].down = True
    fleet["lb2"].on("is_known", exit_code=1, stderr="no such folder")
    past, problems = read(fakes.SHOP, fleet.remotes)
    assert [one.rollout for one in past] == [ID]
    assert len(problems) == 2
    assert problems[0].startswith("web2: ")
    assert "lb2: read the history failed" in problems[1]


def test_without_any_host_there_is_nothing_to_tell(fleet):
    for host in fleet.hosts.values():
        host.down = True
    with pytest.raises(PreflightFailed, match="no host can be asked: web1: "):
        read(fakes.SHOP, fleet.remotes)


def test_a_lock_with_signs_of_life_is_a_rollout_that_runs(fleet):
    lock = f"held project.srv.shop 2\n{ID} 7\n{{}}\nnow\n"
    text = f"== open {ID}\n== plan plan-0001\n{PLAN.to_json()}\n\n== locks ==\n"
    fleet.on("is_known", text)
    fleet["web1"].on("is_known", text + lock)
    assert read(fakes.SHOP, fleet.remotes)[0][0].verdict == "running"
