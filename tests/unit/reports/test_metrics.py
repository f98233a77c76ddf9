"""A rollout's figures: Prometheus can read them, and they are what happened."""

import json

import pytest

from fabfile.errors import BadInput
from fabfile.reports import metrics, story
from fabfile.reports.console import as_json
from fabfile.reports.metrics import Outcome, exposition
from fabfile.rollout.events import CapacitySeen, RolloutFinished, RolloutStarted, StepFinished
from tests.unit.exposition import names, read, value
from tests.unit.reports.test_report import AT, log, told
from tests.unit.rollout import fleets

P = "evenkeel_rollout_"
WELL = Outcome("app", success=True)
ILL = Outcome("app", success=False)


def figures(plan, outcome=WELL, **more):
    return exposition(told(log(plan, **more)), outcome)


def test_a_rollout_that_went_well_is_read_back_as_what_it_was():
    text = figures(fleets.plan(2, 2))
    assert value(text, P + "success", service="app") == 1
    assert value(text, P + "verdict", service="app", verdict="done") == 1
    assert sum(v for (n, _), v in read(text).items() if n == P + "verdict") == 1
    assert value(text, P + "instances", fate="upgraded") == 4
    assert value(text, P + "instances", fate="out-of-rotation") == 0
    assert value(text, P + "failed_steps") == 0
    assert value(text, P + "info", version="2", service="app") == 1
    ended = value(text, P + "finished_timestamp_seconds")
    assert value(text, P + "last_success_timestamp_seconds") == ended
    began = value(text, P + "started_timestamp_seconds")
    assert value(text, P + "duration_seconds") == pytest.approx(ended - began, abs=0.01)
    assert value(text, P + "phase_seconds", phase="preflight") == 0


def test_the_time_out_of_rotation_is_that_of_each_instance():
    told_of = told(log(fleets.plan(2, 2)))
    text = exposition(told_of, WELL)
    out = [way.out for way in told_of.ways.values()]
    assert value(text, P + "out_of_rotation_seconds_count") == 4
    assert value(text, P + "out_of_rotation_seconds_sum") == pytest.approx(sum(out), abs=0.01)
    assert value(text, P + "longest_out_of_rotation_seconds") == pytest.approx(max(out), abs=0.01)
    by_step = sum(v for (n, have), v in read(text).items()
                  if n == P + "step_seconds_sum" and not {("step", "wait")} & have)  # fmt: skip
    assert by_step == pytest.approx(sum(out), abs=0.01)


def events(*timed):
    return story.tell(json.loads(as_json(event, AT + at)) for at, event in timed)


BEGIN = RolloutStarted("r1", "app", "2", ("web1",), 1, 1)
END = RolloutFinished("r1", "done", "2", 1, 0, 0, 0, ())


def test_capacity_lost_is_the_missing_share_over_time():
    text = exposition(
        events(
            (0, BEGIN),
            (1, CapacitySeen((("lb1:app", 300, 400), ("lb2:app", 400, 400)))),
            (5, CapacitySeen((("lb1:app", 200, 400),))),
            (7, CapacitySeen((("lb1:app", 400, 400),))),
            (20, END),
        ),
        WELL,
    )
    assert value(text, P + "capacity_lost_seconds", pool="lb1:app") == 4 * 0.25 + 2 * 0.5
    assert value(text, P + "capacity_lost_seconds", pool="lb2:app") == 0
    assert value(text, P + "lowest_capacity_ratio", pool="lb1:app") == 0.5


def test_capacity_that_never_came_back_is_lost_to_the_end():
    gone = CapacitySeen((("lb1:app", 0, 100), ("lb2:app", 0, 0)))
    text = exposition(events((0, BEGIN), (2, gone), (12, END)), ILL)
    assert value(text, P + "capacity_lost_seconds", pool="lb1:app") == 10
    assert value(text, P + "capacity_lost_seconds", pool="lb2:app") == 0


def test_requests_that_were_cut_are_counted():
    cut = StepFinished("web1/app_1", "cut", True, "closed 3 that would not end: 10.0.0.9")
    again = StepFinished("web1/app_2", "cut", True, "closed 2 that would not end")
    text = exposition(events((0, BEGIN), (1, cut), (2, again), (3, END)), WELL)
    assert value(text, P + "requests_cut") == 5


def test_a_failure_keeps_the_last_success():
    plan = fleets.plan(2, 1)
    ill = [target.wanted.id for target in plan.targets]
    text = figures(plan, Outcome("app", success=False, last_success=1234.5), ill=ill)
    assert value(text, P + "success") == 0
    assert value(text, P + "verdict", verdict="rolled-back") == 1
    assert value(text, P + "failed_steps") > 0
    assert metrics.last_success(text, "app") == 1234.5
    assert metrics.last_success(text, "ap") is None


def test_who_never_succeeded_has_no_last_success():
    text = exposition(events((0, BEGIN), (3, END)), ILL)
    assert P + "last_success_timestamp_seconds" not in names(text)


def test_a_rollout_whose_controller_died_is_told_as_unfinished():
    lines = [line for line in log(fleets.plan(2, 1)) if "RolloutFinished" not in line][:12]
    text = exposition(told(lines), ILL)
    assert value(text, P + "verdict", verdict="unfinished") == 1


def test_names_from_outside_cannot_break_the_format():
    odd = RolloutStarted("r1", "app", "2", ("web1",), 1, 1)
    ended = RolloutFinished('r"1', "done", 'v\\1\n"', 1, 0, 0, 0, ())
    assert value(exposition(events((0, odd), (1, ended)), WELL), P + "info", rollout='r"1') == 1


def test_figures_of_an_old_rollout_come_from_its_log(tmp_path):
    source, place = tmp_path / "r1.jsonl", tmp_path / "r1.prom"
    source.write_text("\n".join(log(fleets.plan(2, 1))) + "\n")
    metrics.write(source, place)
    assert value(place.read_text(), P + "instances", fate="upgraded") == 2
    with pytest.raises(BadInput, match="can't be written: No such file"):
        metrics.write(source, tmp_path / "none" / "x.prom")


def test_a_log_in_which_no_rollout_began_is_one_line(tmp_path):
    source = tmp_path / "r1.jsonl"
    source.write_text(as_json(END, AT) + "\n")
    with pytest.raises(BadInput, match="no rollout began"):
        metrics.write(source, tmp_path / "x.prom")
