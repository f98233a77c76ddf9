"""The stop-first lane, step by step: the order of things is what keeps requests alive."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from fabfile.inventory.model import Drain, Hooks
from fabfile.rollout.plan import Target
from fabfile.rollout.steps import (
    AwaitIdle,
    Busy,
    Done,
    Ended,
    Failed,
    Idle,
    Outcome,
    Record,
    Recreate,
    Refused,
    Reverted,
    Step,
    TakeOut,
)
from fabfile.rollout.strategies.rolling import (
    CUT_DEADLINE,
    NO_HOOKS,
    REDO_LIMIT,
    WAIT_FACTOR,
    stop_first,
)
from tests.unit.rollout import fleets

TARGET: Target = fleets.plan().targets[0]
REF = TARGET.refs[0]
OUT = ["take-out", "await-idle", "shut", "await-idle"]
IN = ["recreate", "await-healthy", "admit", "await-admitted"]
AWAY = ["ask-capacity", "shut", "await-idle"]
BEFORE = ["ask-capacity", "record:undo"]
NEW, OLD = "recreate:2", "recreate:1"


def word(step: Step) -> str:
    match step:
        case Record(progress=progress):
            return f"record:{progress}"
        case Recreate(release=release):
            return f"recreate:{release.version}"
        case _:
            return step.name


def walk(
    script: Mapping[int, Outcome] | Callable[[int, Step], Outcome | None] | None = None,
    drain: Drain | None = None,
    target: Target = TARGET,
    hooks: Hooks = NO_HOOKS,
) -> tuple[list[str], Ended, list[Step]]:
    """Play a lane; ``script`` answers by the step's number (from 0), all else goes well."""
    lane = stop_first(target, drain or Drain(), hooks)
    answer = script if callable(script) else lambda n, _: (script or {}).get(n)
    steps: list[Step] = []
    outcome: Outcome | None = None
    try:
        while True:
            step = lane.send(outcome) if steps else next(lane)
            steps.append(step)
            outcome = answer(len(steps) - 1, step)
            if outcome is None:
                outcome = Idle(waited=0.1) if isinstance(step, AwaitIdle) else Done()
            assert len(steps) < 200, "the lane never ends"
    except StopIteration as stop:
        return [word(step) for step in steps], stop.value, steps


def test_all_goes_well():
    words, ended, _ = walk()
    assert words == [*BEFORE, *OUT, NEW, *IN[1:], "record:done"]
    assert ended == Ended("upgraded")


def test_without_capacity_nothing_is_even_recorded():
    words, ended, _ = walk({0: Refused("none")})
    assert (words, ended) == (["ask-capacity"], Ended("untouched", "none"))


def test_what_cannot_be_recorded_is_not_touched():
    words, ended, _ = walk({1: Failed("disk full", "df")})
    assert (words, ended) == (BEFORE, Ended("untouched", "disk full", "df"))


def test_a_lane_called_off_after_its_record_takes_the_record_back():
    words, ended, _ = walk({1: Refused("interrupted")})
    assert (words, ended) == ([*BEFORE, "record:restored"], Ended("untouched", "interrupted"))


def test_pinned_clients_get_their_grace_and_are_then_sent_elsewhere():
    words, ended, steps = walk({3: Busy({REF: 1}, 5.0)}, Drain(sticky_grace=5, timeout=30))
    assert words == [*BEFORE, *OUT, NEW, *IN[1:], "record:done"]
    assert ended.fate == "upgraded"
    assert [(s.deadline, s.maint) for s in steps if isinstance(s, AwaitIdle)] == [
        (5.0, False),
        (25.0, True),
    ]


def test_without_anybody_to_have_a_grace_maint_comes_with_the_first_order():
    words, ended, steps = walk(drain=Drain(sticky_grace=0, timeout=30))
    assert words == [*BEFORE, *OUT[:2], NEW, *IN[1:], "record:done"]
    assert ended.fate == "upgraded"
    assert steps[2:4] == [TakeOut(TARGET, maint=True), AwaitIdle(TARGET, 30.0, maint=True)]
    busy = {3: Busy({REF: 1}, 30.0)}
    cut, _, _ = walk(busy, Drain(sticky_grace=0, timeout=30, on_timeout="cut"))
    assert cut[: len(BEFORE) + 4] == [*BEFORE, *OUT[:2], "cut", "await-idle"]


def test_at_the_deadline_cut_closes_what_is_left_and_waits_until_it_is_gone():
    words, ended, steps = walk({5: Busy({REF: 1}, 30.0)}, Drain(on_timeout="cut"))
    assert words == [*BEFORE, *OUT, "cut", "await-idle", NEW, *IN[1:], "record:done"]
    assert ended.fate == "upgraded"
    assert steps[7] == AwaitIdle(TARGET, CUT_DEADLINE, maint=True)


def test_a_reload_in_the_moment_of_the_cut_is_drained_again_before_the_container_stops():
    words, _, _ = walk({5: Busy({REF: 1}, 30.0), 7: Reverted(("lb1",))}, Drain(on_timeout="cut"))
    again = [*BEFORE, *OUT, "cut", "await-idle", *OUT, NEW]
    assert words[: len(again)] == again


def test_at_the_deadline_abort_puts_the_instance_back_and_never_stops_it():
    words, ended, _ = walk({5: Busy({REF: 2}, 29.9)}, Drain(on_timeout="abort"))
    assert words == [*BEFORE, *OUT, "restore", "record:restored"]
    assert ended == Ended("untouched", "2 requests still run after 30 s")


def test_a_drain_that_was_given_up_says_how_long_it_took_in_all():
    busy = Drain(sticky_grace=5, timeout=5, on_timeout="abort")
    _, ended, _ = walk({3: Busy({REF: 1}, 5.0), 5: Busy({REF: 1}, 0.0)}, busy)
    assert ended.reason == "1 requests still run after 5 s"


def test_wait_waits_ten_times_as_long_and_then_gives_up_like_abort():
    words, ended, steps = walk(
        {5: Busy({REF: 1}, 300.0)}, Drain(on_timeout="wait", sticky_grace=5, timeout=30)
    )
    assert words == [*BEFORE, *OUT, "restore", "record:restored"]
    assert ended.fate == "untouched"
    assert steps[5].deadline == pytest.approx(30 * WAIT_FACTOR - 0.1)


@pytest.mark.parametrize("at", [3, 5])
def test_a_drain_that_a_reload_undid_is_done_again_from_the_start(at):
    words, ended, _ = walk({at: Reverted(("lb1",), 0.5)})
    first = OUT[: at - 1]
    assert words == [*BEFORE, *first, *OUT, NEW, *IN[1:], "record:done"]
    assert ended.fate == "upgraded"


def test_a_drain_that_is_undone_forever_is_given_up_and_put_back():
    def undone(_: int, step: Step) -> Outcome | None:
        return Reverted(("lb1",)) if isinstance(step, AwaitIdle) else None

    words, ended, _ = walk(undone)
    tries = ["take-out", "await-idle"] * REDO_LIMIT
    assert words == [*BEFORE, *tries, "restore", "record:restored"]
    assert ended.fate == "untouched"


@pytest.mark.parametrize("at", [2, 3, 4, 5])
def test_a_balancer_that_fails_in_the_drain_costs_nothing_when_it_can_be_restored(at):
    words, ended, _ = walk({at: Failed("no answer")})
    assert words == [*BEFORE, *OUT[: at - 1], "restore", "record:restored"]
    assert ended == Ended("untouched", "no answer")


def test_a_server_that_cannot_be_restored_is_for_a_person_to_repair():
    words, ended, _ = walk({2: Failed("no answer"), 3: Failed("still none")})
    assert words == [*BEFORE, "take-out", "restore"]
    assert ended == Ended("broken", "no answer; then still none")


@pytest.mark.parametrize("at", [6, 7, 8, 9])
def test_a_bad_release_is_replaced_by_the_earlier_one_without_ever_leaving_maint(at):
    words, ended, _ = walk({at: Failed("ill", "its log")})
    came = [NEW, *IN[1:]][: at - 5]
    assert words == [*BEFORE, *OUT, *came, *AWAY, OLD, *IN[1:], "record:restored"]
    assert ended == Ended("restored", "ill", "its log")


def test_both_releases_bad_leaves_it_in_maint_with_both_reasons():
    words, ended, _ = walk({7: Failed("ill", "log 2"), 12: Failed("ill too", "log 1")})
    there, back = [NEW, "await-healthy"], [*AWAY, OLD, "await-healthy", "shut"]
    assert words == [*BEFORE, *OUT, *there, *back]
    assert ended == Ended("broken", "ill; then ill too", "log 2\nlog 1")


def test_a_release_that_serves_somewhere_is_not_taken_away_when_nothing_else_is_left():
    words, ended, _ = walk({9: Failed("lb1: no answer"), 10: Refused("the last server")})
    assert words == [*BEFORE, *OUT, NEW, *IN[1:], "ask-capacity"]
    assert ended == Ended("broken", "lb1: no answer; then the last server")


def test_a_healthy_earlier_release_stays_where_it_was_let_in_when_one_balancer_fails():
    words, ended, _ = walk({7: Failed("ill"), 14: Failed("lb1: no answer")})
    assert words == [*BEFORE, *OUT, NEW, "await-healthy", *AWAY, OLD, *IN[1:]]
    assert ended == Ended("broken", "ill; then lb1: no answer")


def test_a_first_deploy_that_fails_has_nothing_to_go_back_to():
    (target,) = fleets.plan(1, earlier=None).targets
    words, ended, _ = walk({7: Failed("ill")}, target=target)
    assert words[-2:] == ["shut", "await-idle"]
    assert ended == Ended("broken", "ill")


def test_an_admission_that_a_reload_undid_is_ordered_again():
    words, ended, _ = walk({9: Reverted(("lb1",))})
    assert words == [*BEFORE, *OUT, NEW, *IN[1:], "admit", "await-admitted", "record:done"]
    assert ended.fate == "upgraded"


def test_upgraded_but_not_recorded_asks_for_a_repair():
    _, ended, _ = walk({10: Failed("disk full")})
    assert ended == Ended("broken", "not recorded: disk full")


# hooks

HOOKED = ["ask-capacity", "before_drain", *BEFORE]
ENTERS = [NEW, "await-healthy", "after_healthy", *IN[2:]]


def test_hooks_run_before_anything_is_recorded_and_before_anything_is_let_in():
    words, ended, steps = walk(hooks=fleets.HOOKS)
    assert words == [*HOOKED, *OUT, *ENTERS, "record:done"]
    assert ended == Ended("upgraded")
    assert {step.target for step in steps} == {TARGET}


@pytest.mark.parametrize("name", ["before_drain", "after_healthy"])
def test_a_service_with_one_hook_is_asked_for_no_other(name):
    words, _, _ = walk(hooks=Hooks(**{name: "true"}))
    assert [word for word in words if "_" in word] == [name]


def test_an_instance_whose_hook_fails_is_never_touched():
    words, ended, _ = walk({1: Failed("not now", "why")}, hooks=fleets.HOOKS)
    assert (words, ended) == (HOOKED[:2], Ended("untouched", "not now", "why"))


def test_capacity_that_was_lost_while_a_hook_ran_is_not_drained_away():
    words, ended, _ = walk({2: Refused("two have died")}, hooks=fleets.HOOKS)
    assert (words, ended) == (HOOKED[:3], Ended("untouched", "two have died"))


def test_a_release_that_fails_its_hook_is_replaced_without_ever_being_let_in():
    words, ended, _ = walk({10: Failed("it smells")}, hooks=fleets.HOOKS)
    assert words == [*HOOKED, *OUT, *ENTERS[:3], *AWAY, OLD, *IN[1:], "record:restored"]
    assert ended == Ended("restored", "it smells")


@pytest.mark.parametrize("at", [1, 10])
def test_on_the_way_back_a_failing_hook_stops_nothing(at):
    back = TARGET.back()
    words, ended, _ = walk({at: Failed("broken")}, target=back, hooks=fleets.HOOKS)
    assert words == [*HOOKED, *OUT, OLD, *ENTERS[1:], "record:done"]
    assert ended == Ended("upgraded")
