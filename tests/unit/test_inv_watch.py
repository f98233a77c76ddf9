"""`inv watch`: what somebody at another terminal is told, and how it ends."""

import json
import re

import pytest

from fabfile.drivers.watching import Sight
from fabfile.errors import BadInput
from fabfile.jobs import watch
from fabfile.reports.eventlog import Log
from fabfile.rollout import events as e
from fabfile.rollout.history import Past
from tests.unit.drivers.fakes import SHOP, inventory

STARTED = e.RolloutStarted("r1", "shop", "2.0", ("web1",), 1, 1, ("web1/app_1",))
STEP = e.StepStarted("web1/app_1", "recreate")
ENDED = e.RolloutFinished("r1", "done", "2.0", 1, 0, 0, 0, ())


class Hosts:
    """In place of ``Watching``: what each look finds."""

    def __init__(self, *sights):
        self.sights = list(sights)

    def look(self):
        return self.sights.pop(0)


@pytest.fixture
def running(tmp_path, monkeypatch):
    """Runs ``inv watch`` with a look at hosts that a test says; no time goes by."""
    monkeypatch.setattr(watch, "EVERY", 0.0)
    monkeypatch.setattr(watch, "FOLLOW", 0.0)

    def run(*sights, **flags):
        monkeypatch.setattr(watch, "Watching", lambda *_: Hosts(*sights))
        watch._watch(inventory(tmp_path), SHOP, watch.Flags(**flags))

    return run


@pytest.fixture
def log(tmp_path):
    made = Log(tmp_path / ".evenkeel" / "rollouts" / "r1.jsonl")
    yield made
    made.close()


def test_nothing_running_is_said(running, capsys):
    running(Sight())
    assert capsys.readouterr().out == "no rollout of shop runs\n"
    running(Sight(), once=True, json=True)
    assert capsys.readouterr().out == "{}\n"


def test_wait_waits_until_one_begins(running, capsys):
    begun = Sight("r1", ((STARTED, 1.0),), "by anna, last sign of life 1 s ago")
    past = Past("r1", "done", version="2.0", fates={"web1/app_1": "upgraded"})
    running(Sight(), Sight(), begun, Sight(ended=past), wait=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "no rollout of shop runs yet"
    assert "rollout r1: shop to 2.0" in lines[1]
    assert lines[2] == "by anna, last sign of life 1 s ago"
    assert lines[3].endswith("done: 1 upgraded")


def test_one_on_this_machine_is_followed_by_its_log_to_its_end(running, log, capsys, monkeypatch):
    log(STARTED)
    turns = iter([lambda: log(STEP), lambda: log(ENDED)])
    monkeypatch.setattr(watch.time, "sleep", lambda _: next(turns)())
    running()
    lines = capsys.readouterr().out.splitlines()
    assert "rollout r1" in lines[0]
    assert lines[-1].endswith("done: 1 upgraded")


def test_one_picture_for_people_and_for_machines(running, log, capsys):
    log(STARTED)
    log(STEP)
    running(once=True)
    assert re.search(r"web1\s+0/1\s+app_1\s+recreate", capsys.readouterr().out)
    running(once=True, json=True)
    facts = json.loads(capsys.readouterr().out)
    assert facts["instances"][0]["step"] == "recreate"


def test_a_log_of_another_service_or_of_one_that_is_over_is_not_followed(running, log, capsys):
    log(e.RolloutStarted("r2", "other", "2.0", ("web1",), 1, 1, ()))
    running(Sight())
    log(STARTED)
    log(ENDED)
    running(Sight())
    assert capsys.readouterr().out == "no rollout of shop runs\n" * 2


def test_a_controller_that_dies_while_it_is_watched_is_told(running, log, capsys, monkeypatch):
    log(STARTED)
    monkeypatch.setattr(watch.time, "sleep", lambda _: log.close())
    running()
    assert "its controller is gone" in capsys.readouterr().out.splitlines()[-1]


def test_a_silent_controller_elsewhere_is_told_and_ends_it(running, capsys):
    running(Sight("r1", ((STARTED, 1.0),), "no sign of life for 40 s: `fab resume`", dead=True))
    assert "no sign of life for 40 s" in capsys.readouterr().out


def test_json_of_one_elsewhere_is_events(running, capsys):
    running(Sight("r1", ((STARTED, 1.0),)), Sight(ended=Past("r1", "not begun")), json=True)
    names = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert names == ["RolloutStarted", "Notice"]


def test_flags_that_exclude_each_other_are_one_line():
    with pytest.raises(BadInput, match="exclude"):
        watch.run_watch(watch.Flags(once=True, wait=True))
