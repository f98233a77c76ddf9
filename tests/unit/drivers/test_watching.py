"""A rollout seen from elsewhere: the hosts' records become what happened since the last look."""

import dataclasses
import json

import pytest

from fabfile.drivers.watching import Watching
from fabfile.errors import PreflightFailed
from fabfile.inventory.model import Instance
from fabfile.rollout import events as e
from fabfile.rollout.plan import Plan, Target
from tests.unit.drivers.fakes import NEW, OLD, SHOP, Fleet, inventory

ID = "20261120-120000-aaaa"
TARGETS = tuple(Target(Instance("shop", host, 1, 3001), NEW, OLD, ()) for host in ("web1", "web2"))
PLAN = Plan(ID, "shop", "2.0", "", "anna@laptop:1", "", (("web1",), ("web2",)), TARGETS, ())
NOW = 1_900_000_000.0


def says(undo=(), done=(), ahead=(), touched=(), age=1, owner=ID, plan="plan-0001", known=True):
    """What one host answers."""
    lines = [f"== rollout {ID}", f"plan {plan}"] if known else []
    lines += [f"undo {name}" for name in undo] + [f"done {name}" for name in done]
    lines += [f"ahead-of {name}" for name in ahead] + [f"undo-of {name}" for name in touched]
    facts = json.dumps({"by": "anna@laptop:1", "reason": "deploy 2.0"})
    lines += ["== locks"]
    if age is not None:
        lines += [f"held project.srv.shop {age}", f"{owner} 4", facts, "2026-11-20"]
    return "\n".join(lines) + "\n"


RECORD = "instance.shop.app_1"


@pytest.fixture
def fleet(tmp_path):
    found = Fleet(inventory(tmp_path))
    found.on("cat /var/lib/evenkeel/rollouts/", answer=PLAN.to_json())
    return found


def looking(fleet, **answers):
    for host in fleet.hosts:
        fleet[host].on("== locks", answer=answers.get(host, says(known=False, age=None)))


@pytest.fixture
def watching(fleet):
    return Watching(SHOP, fleet.remotes, lambda: NOW)


def kinds(sight):
    return [type(event).__name__ for event, _ in sight.events]


def test_nothing_running_is_nothing(fleet, watching):
    looking(fleet)
    sight = watching.look()
    assert (sight.rollout, sight.events, sight.ended) == ("", (), None)


def test_what_is_done_out_and_to_come_is_told_once(fleet, watching):
    looking(fleet, web1=says(undo=[RECORD]), web2=says())
    sight = watching.look()
    assert sight.rollout == ID
    assert [event for event, _ in sight.events] == [
        e.RolloutStarted(ID, "shop", "2.0", ("web1", "web2"), 2, 2, ("web1/app_1", "web2/app_1")),
        e.StepStarted("web1/app_1", "at-work"),
        e.BatchStarted(1, 2, ("web1",)),
    ]
    assert sight.alive == "by anna@laptop:1, last sign of life 1 s ago"
    assert not sight.dead
    assert kinds(watching.look()) == []
    looking(fleet, web1=says(done=[RECORD]), web2=says(undo=[RECORD]))
    assert [event for event, _ in watching.look().events] == [
        e.InstanceFinished("web1/app_1", "through", ""),
        e.StepStarted("web2/app_1", "at-work"),
        e.BatchStarted(2, 2, ("web2",)),
    ]


def test_one_that_was_only_recorded_is_not_at_work_yet(fleet, watching):
    looking(fleet, web1=says(undo=[RECORD]), lb1=says(ahead=["web1/app_1"]))
    assert kinds(watching.look()) == ["RolloutStarted", "BatchStarted"]
    one_of_two = {"lb1": says(touched=["web1/app_1"]), "lb2": says(ahead=["web1/app_1"])}
    looking(fleet, web1=says(undo=[RECORD]), **one_of_two)
    assert [event for event, _ in watching.look().events] == [
        e.StepStarted("web1/app_1", "at-work")
    ]


@pytest.mark.parametrize(("age", "says_so"), [(40, "no sign of life for 40 s"), (None, "nobody")])
def test_a_controller_that_is_silent_is_called_dead(fleet, watching, age, says_so):
    looking(fleet, web1=says(undo=[RECORD], age=age), web2=says(age=age))
    sight = watching.look()
    assert sight.dead
    assert says_so in sight.alive
    assert "fab resume" in sight.alive


def test_its_recovery_is_a_sign_of_life_of_it(fleet, watching):
    looking(fleet, web1=says(owner=f"{ID}.20261120-130000-bbbb"), web2=says())
    assert not watching.look().dead


def test_a_rollout_of_another_service_is_not_ours(fleet, watching):
    other = dataclasses.replace(PLAN, service="other")
    fleet.on("cat /var/lib/evenkeel/rollouts/", answer=other.to_json())
    looking(fleet, web1=says())
    assert watching.look().rollout == ""


def test_a_host_that_can_not_be_asked_is_named_once_and_spoils_nothing(fleet, watching):
    looking(fleet, web1=says(undo=[RECORD]))
    fleet["web2"].on("== locks", lose="before")
    sight = watching.look()
    notices = [event for event, _ in sight.events if isinstance(event, e.Notice)]
    assert [notice.host for notice in notices] == ["web2"]
    assert e.StepStarted("web1/app_1", "at-work") in [event for event, _ in sight.events]
    assert kinds(watching.look()) == []


def test_hosts_that_all_fall_silent_do_not_end_it(fleet, tmp_path):
    now = [NOW]
    watching = Watching(SHOP, fleet.remotes, lambda: now[0])
    looking(fleet, web1=says(undo=[RECORD]))
    assert watching.look().rollout == ID
    for host in fleet.hosts:
        fleet[host].on("== locks", lose="before")
    sight = watching.look()
    assert sight.rollout == ID
    assert "can be asked" in sight.alive


def test_nobody_to_be_asked_is_an_error_that_names_all(fleet, watching):
    for host in fleet.hosts:
        fleet[host].on("== locks", lose="before")
    with pytest.raises(PreflightFailed, match=r"no host can be asked: .*lb2"):
        watching.look()


def test_its_end_is_told_as_the_hosts_know_it(fleet, watching):
    looking(fleet, web1=says(undo=[RECORD]), web2=says())
    watching.look()
    looking(fleet)
    ended = {"format": 1, "service": "shop", "verdict": "done", "version": "2.0", "upgraded": 2}
    fleet.on("newest_plan", answer=f"== ended {ID}\n{json.dumps(ended)}\n")
    sight = watching.look()
    assert sight.rollout == ""
    assert (sight.ended.verdict, sight.ended.upgraded) == ("done", 2)
