"""Hooks on hosts: what they are told, what counts as their end, and that none runs blindly twice."""

import json
import re
import threading
from dataclasses import replace

import pytest

from fabfile.drivers import hooks as h
from fabfile.drivers.hooks import Dues
from fabfile.drivers.locks import Locks
from fabfile.drivers.prepare import Prepared
from fabfile.drivers.real import Driver
from fabfile.errors import BadInput, PreflightFailed
from fabfile.inventory.model import Hooks, Instance
from fabfile.remote import state
from fabfile.rollout import steps as s
from fabfile.rollout.events import HookOutput, Notice, RolloutStarted
from tests.unit.drivers import fakes
from tests.unit.drivers.fakes import DIGEST, NEW, FakePool, Fleet, plan, server, target

ALL = Hooks("./migrate", "./warn it's", "./smoke", "./tell", timeout=7)
RUN = "setsid env"
BEGUN = '{"begun": "2026-01-31T12:00:00Z"}'
FAILED = '{"begun": "T1", "ended": "T2", "code": 3}'
DONE = '{"begun": "T1", "ended": "T2", "code": 0}'


@pytest.fixture
def fleet(tmp_path):
    found = Fleet(fakes.inventory(tmp_path))
    found.on("")
    return found


def locks(fleet, hosts=("web1", "web2", "lb1", "lb2")):
    found = Locks(fleet.remotes, "r1", [], {})
    found._tokens = {host: {"project.srv.shop": "r1 1"} for host in hosts}
    return found


def hand(fleet, the_plan=None, hosts=("web1", "web2")):
    events = []
    mine = the_plan or plan(hooks=ALL)
    found = h.HookHand(mine, fakes.SHOP, fleet.remotes, locks(fleet, hosts), events.append)
    found.events = events
    return found


def hooks_run(fleet):
    return [script for host in fleet.hosts.values() for script in host.scripts if RUN in script]


# what they are told


def told(hook="before_drain", the_plan=None, of=None):
    return h.environment(the_plan or plan(hooks=ALL), fakes.SHOP, of or target(), hook)


def test_an_instances_hook_is_told_all_about_it():
    assert told() == {
        "EVENKEEL_HOOK": "before_drain",
        "EVENKEEL_MODE": "deploy",
        "EVENKEEL_ROLLOUT": "r1",
        "EVENKEEL_SERVICE": "shop",
        "EVENKEEL_VERSION": "2.0",
        "EVENKEEL_EARLIER_VERSION": "1.0",
        "EVENKEEL_HOST": "web1",
        "EVENKEEL_INSTANCE": "app_1",
        "EVENKEEL_PORT": "3001",
        "EVENKEEL_IMAGE": f"registry.lab:5000/shop@{DIGEST}",
        "EVENKEEL_RELEASE": "new",
    }


def test_a_hook_of_the_whole_rollout_is_told_of_no_instance():
    found = told("before_rollout", plan(hooks=ALL, version="3.0"))
    assert [found[f"EVENKEEL_{name}"] for name in ("INSTANCE", "PORT", "VERSION", "RELEASE")] == [
        "", "", "3.0", "new",
    ]  # fmt: skip


def test_the_image_is_that_of_the_release_wherever_the_inventory_points_by_now():
    moved = replace(target(), wanted=replace(NEW, image="old.registry/shop@sha256:1"))
    assert told(of=moved)["EVENKEEL_IMAGE"] == "old.registry/shop@sha256:1"


def test_what_is_not_there_is_empty():
    bare = replace(target(), earlier=None, instance=Instance("shop", "web1", 1, 0))
    found = told(of=bare)
    assert (found["EVENKEEL_EARLIER_VERSION"], found["EVENKEEL_PORT"]) == ("", "")


@pytest.mark.parametrize(
    ("changes", "back", "mode"),
    [
        ({}, False, "deploy"),
        ({}, True, "rollback"),
        ({"mode": "rollback"}, True, "rollback"),
        ({"mode": "resume", "of": "r0"}, False, "resume"),
        ({"mode": "resume", "of": "r0"}, True, "rollback"),
        ({"mode": "abort", "of": "r0"}, True, "abort"),
    ],
)
def test_a_hook_knows_which_way_it_goes(changes, back, mode):
    of = target().back() if back else target()
    found = told(the_plan=plan(hooks=ALL, **changes), of=of)
    assert found["EVENKEEL_MODE"] == mode
    assert found["EVENKEEL_VERSION"] == ("1.0" if back else "2.0")
    assert found["EVENKEEL_ROLLOUT"] == changes.get("of", "r1"), "a recovery is of the same rollout"


# an instance's


def instance(fleet, answer="ended 0 1 \n", of=None, **how):
    fleet["web1"].on(RUN, answer, **how)
    found = hand(fleet)
    return found.instance(s.Hook(of or target(), "before_drain")), found


def test_a_hook_that_succeeds_is_done_and_every_line_of_it_is_told(fleet):
    outcome, found = instance(fleet, "ended 0 1 \nall\n\nwell\n")
    assert outcome == s.Done()
    assert found.events == [
        HookOutput("web1", "before_drain", line, "web1/app_1") for line in ("all", "well")
    ]


def test_a_hook_runs_only_where_the_lock_is_still_ours_and_within_its_deadline(fleet):
    instance(fleet)
    (command,) = fleet["web1"].commands
    assert re.search(
        r"(?s)^\(\ncd .*locks.*project\.srv\.shop\.lock.*r1 1.* exit 75", command.script
    )
    assert "\n) || exit $?\n" in command.script
    assert "seconds=7\n" in command.script
    assert command.timeout == 7 + h.runtime.MARGIN


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("ended 3 1 \nno\nroom\n", "before_drain ended with exit code 3: room"),
        ("ended 3 1 \n", "before_drain ended with exit code 3"),
        ("ended 124 7 late\nhm\n", "before_drain was ended by its deadline of 7 s: hm"),
        ("", "web1: before_drain could not be run: exit code 0"),
    ],
)
def test_a_hook_that_fails_says_how_and_its_last_line(fleet, answer, why):
    outcome, _ = instance(fleet, answer)
    assert outcome == s.Failed(why)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"lose": "before"}, "it is not known how before_drain ended"),
        ({"lose": "after"}, "it is not known how before_drain ended"),
        ({"exit_code": 124}, "it is not known how before_drain ended"),
        ({"exit_code": 75}, "another controller has taken over"),
        ({"exit_code": 74}, "an earlier hook of a rollout is still at work on web1"),
        ({"exit_code": 71, "stderr": "cd: no such folder"}, "could not be run: cd: no such folder"),
    ],
)
def test_a_hook_whose_end_nobody_saw_has_failed_and_is_not_tried_again(fleet, how, why):
    outcome, _ = instance(fleet, **how)
    assert isinstance(outcome, s.Failed)
    assert why in outcome.reason
    assert len(hooks_run(fleet)) == (how.get("lose") != "before")


def test_a_host_out_of_reach_fails_the_hook_and_nothing_more(fleet):
    fleet["web1"].down = True
    assert "connection refused" in instance(fleet)[0].reason


def test_a_host_that_could_not_be_locked_runs_nothing(fleet):
    outcome = hand(fleet, hosts=("web2",)).instance(s.Hook(target(), "before_drain"))
    assert "could not be locked" in outcome.reason
    assert hooks_run(fleet) == []


def test_on_the_way_back_it_is_said_that_it_goes_on(fleet):
    outcome, found = instance(fleet, "ended 1 1 \n", of=target().back())
    assert isinstance(outcome, s.Failed), "the lane decides, and the event says that it failed"
    assert found.events == [
        Notice("before_drain failed, and stops no way back: it goes on", "web1")
    ]


def test_many_hooks_of_a_host_leave_sessions_for_signs_of_life(fleet):
    running, most, turn, all_in = 0, 0, threading.Lock(), threading.Event()

    def answer(_):
        nonlocal running, most
        with turn:
            running += 1
            most = max(most, running)
            if running == h.AT_ONCE:
                all_in.set()
        all_in.wait(10)
        with turn:
            running -= 1
        return "ended 0 1 \n"

    fleet["web1"].on(RUN, answer)
    found = hand(fleet)
    steps = [s.Hook(target(instance=Instance("shop", "web1", n, 3000)), "before_drain")
             for n in range(8)]  # fmt: skip
    threads = [threading.Thread(target=found.instance, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == h.AT_ONCE


# what a recovery owes


def known(**records):
    return state.Unfinished("r1", hooks=records)


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        (known(), Dues("run", "run")),
        (None, Dues("run", "run")),
        (known(before_rollout=DONE), Dues("skip", "run")),
        (known(before_rollout=DONE, after_rollout=DONE), Dues("skip", "skip")),
        (known(before_rollout=DONE, after_rollout=BEGUN), Dues("skip", "unknown")),
    ],
)
def test_a_hook_of_the_rollout_is_run_by_a_resume_only_where_it_never_began(host, wanted):
    assert h.dues(plan(hooks=ALL), "resume", host, "", blind=False) == wanted


@pytest.mark.parametrize(
    ("record", "blind", "says"),
    [
        (BEGUN, False, "before_rollout had begun at 2026-01-31T12:00:00Z and nobody knows"),
        ('{"beg', False, "before_rollout had begun and nobody knows"),
        (FAILED, False, "before_rollout failed (exit code 3) on web1"),
        (None, True, "it can't be asked how far before_rollout is on web1"),
    ],
)
def test_a_migration_in_doubt_is_for_a_person_to_judge(record, blind, says):
    host = known(**({"before_rollout": record} if record else {}))
    mine = plan(hooks=ALL)
    with pytest.raises(BadInput, match=re.escape(says)) as caught:
        h.dues(mine, "resume", host, "", blind=blind)
    for way in ("--before-rollout again", "--before-rollout done", "fab abort"):
        assert way in str(caught.value)
    assert "\n" not in str(caught.value)
    assert h.dues(mine, "resume", host, "again", blind=blind).before == "again"
    assert h.dues(mine, "resume", host, "done", blind=blind).before == "as done"
    for mode in ("abort", "repair"):
        assert h.dues(mine, mode, host, "", blind=blind).before == "skip"


def test_abort_says_that_a_migration_may_still_be_at_work():
    assert (
        "nobody knows"
        in h.dues(plan(hooks=ALL), "abort", known(before_rollout=BEGUN), "", blind=False).warning
    )


def test_a_rollback_in_doubt_goes_on_and_says_so():
    back = plan(target().back(), hooks=ALL)
    owed = h.dues(back, "resume", known(before_rollout=BEGUN), "", blind=False)
    assert owed.before == "skip"
    assert "it stops no way back" in owed.warning


def test_a_host_out_of_reach_is_told_nothing_and_that_is_said(fleet):
    found = hand(fleet, hosts=())
    found.as_done("before_rollout", "anna")
    (event,) = found.events
    assert "is not recorded as done: web1: it could not be locked" in event.text
    assert fleet["web1"].commands == []


def test_a_choice_about_a_hook_that_is_not_there_is_a_mistake():
    with pytest.raises(BadInput, match="no such hook"):
        h.dues(plan(), "resume", known(), "again", blind=False)


# the whole rollout


class World:
    """A driver whose rollout has nothing to change, so that its hooks are all there is."""

    def __init__(self, fleet, dues=None, **changes):
        self.fleet = fleet
        self.events = []
        self.order = []
        targets = (replace(target(), change=False), self._second())
        mine = plan(*changes.pop("targets", targets), hooks=ALL, **changes)
        pool = FakePool(lb1=[server()], lb2=[server()])
        prepared = Prepared(mine, fakes.SHOP, fleet.remotes, pool, locks(fleet), {}, dues or Dues())
        self.driver = Driver(prepared, self.emit)

    @staticmethod
    def _second():
        return replace(target(instance=Instance("shop", "web2", 1, 3001)), change=False)

    def emit(self, event):
        self.events.append(event)
        if isinstance(event, RolloutStarted):
            self.order.append("the rollout")

    def answers(self, hook, answer="ended 0 1 \n", host="web1", **how):
        def run(_):
            self.order.append(hook)
            return answer

        self.fleet[host].on(f"EVENKEEL_HOOK={hook}", run, **how)

    def finished(self):
        """What each host was told about the end."""
        found = {}
        for name, host in self.fleet.hosts.items():
            for command in host.commands:
                if "finished.json" in command.script:
                    found[name] = json.loads(command.stdin)
        return found


def test_they_run_once_on_the_first_host_around_the_rollout(fleet):
    world = World(fleet)
    world.answers("before_rollout", "ended 0 1 \nmigrated\n")
    world.answers("after_rollout")
    assert world.driver.run().verdict == "done"
    assert world.order == ["before_rollout", "the rollout", "after_rollout"]
    assert HookOutput("web1", "before_rollout", "migrated", "") in world.events
    assert len(hooks_run(fleet)) == 2
    assert all("rollouts/r1/hooks/" in script for script in hooks_run(fleet))
    assert not world.driver.hook_failed
    scripts = fleet["web1"].scripts
    closed = next(n for n, script in enumerate(scripts) if "finished.json" in script)
    assert closed > max(n for n, script in enumerate(scripts) if RUN in script)


@pytest.mark.parametrize("how", [{"answer": "ended 3 1 \nno\n"}, {"lose": "after"}])
def test_a_migration_that_failed_ends_the_rollout_before_it_began(fleet, how):
    world = World(fleet)
    world.answers("before_rollout", **how)
    with pytest.raises(PreflightFailed, match="nothing was drained: .*before_rollout"):
        world.driver.run()
    assert world.order == ["before_rollout"]
    assert {facts["verdict"] for facts in world.finished().values()} == {"not begun"}
    assert set(world.finished()) == {"web1", "lb1"}


@pytest.mark.parametrize(("due", "task"), [("run", "none"), ("again", "roll")])
def test_a_migration_that_fails_when_more_may_be_under_way_leaves_it_unfinished(fleet, due, task):
    done, open_ = replace(target(), task=task), replace(World._second(), change=True)
    world = World(fleet, Dues(due, "run"), targets=(done, open_), mode="resume", of="r0")
    world.answers("before_rollout", "ended 3 1 \n")
    with pytest.raises(PreflightFailed, match="stays unfinished, `fab abort` ends it"):
        world.driver.run()
    assert world.finished() == {}
    (script,) = hooks_run(fleet)
    assert ("again=yes" in script) == (due == "again")
    assert "rollouts/r0/hooks/before_rollout.json" in script


def test_a_failing_migration_stops_no_rollback(fleet):
    back = replace(target().back(), change=False)
    world = World(fleet, targets=(back,), mode="rollback")
    world.answers("before_rollout", "ended 3 1 \n")
    world.answers("after_rollout")
    assert world.driver.run().verdict == "done"
    assert world.order == ["before_rollout", "the rollout", "after_rollout"]
    assert any("stops no way back" in e.text for e in world.events if isinstance(e, Notice))


def test_ctrl_c_in_a_migration_lets_it_end_and_begins_nothing_after_it(fleet):
    world = World(fleet, targets=(target(), World._second()))

    def answer(_):
        world.driver.interrupt("interrupted by SIGINT")
        return "ended 0 1 \n"

    fleet["web1"].on("EVENKEEL_HOOK=before_rollout", answer)
    ended = world.driver.run()
    assert ended.verdict == "interrupted"
    assert ended.untouched == 1
    assert not any("undo" in script for script in fleet["web1"].scripts)


def test_a_done_rollout_stays_done_when_its_last_hook_fails(fleet):
    world = World(fleet)
    world.answers("before_rollout")
    world.answers("after_rollout", "ended 4 1 \nnobody listens\n")
    assert world.driver.run().verdict == "done"
    assert world.driver.hook_failed
    assert world.finished()["web1"]["verdict"] == "done"
    said = [e.text for e in world.events if isinstance(e, Notice)]
    assert said[2:] == [
        "the rollout is done, but after_rollout ended with exit code 4: nobody listens"
    ]


@pytest.mark.parametrize("mode", ["repair", "abort"])
def test_what_only_puts_things_right_runs_no_hook_of_the_rollout(fleet, mode):
    owed = h.dues(plan(hooks=ALL), mode, known(), "", blind=False)
    World(fleet, owed, mode=mode, of="r0").driver.run()
    assert hooks_run(fleet) == []


def test_a_last_hook_that_had_begun_is_not_repeated_and_not_passed_over_either(fleet):
    world = World(fleet, Dues("skip", "unknown"), mode="resume", of="r0")
    assert world.driver.run().verdict == "done"
    assert world.driver.hook_failed
    assert hooks_run(fleet) == []


def test_what_a_person_takes_for_done_is_written_down_and_not_run(fleet):
    world = World(fleet, Dues("as done", "skip"), mode="resume", of="r0")
    assert world.driver.run().verdict == "done"
    assert hooks_run(fleet) == []
    assert any("rollouts/r0/hooks/before_rollout.json" in s for s in fleet["web1"].scripts)
