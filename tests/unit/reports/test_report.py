"""The report of a rollout: what it says must be what happened, and it must open anywhere."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from fabfile.balancers.model import COUNTED
from fabfile.drivers.simulated import Behaviour, Fleet, Traffic, simulate
from fabfile.errors import BadInput
from fabfile.reports import page, story, traffic
from fabfile.reports.charts import Axis, clock, round_up, short
from fabfile.reports.console import as_json
from fabfile.reports.html import html
from fabfile.rollout.events import (
    Notice,
    PhaseFinished,
    PhaseStarted,
    RolloutStarted,
    ServersCounted,
    StepFinished,
)
from tests.unit.rollout import fleets

AT = 1_700_000_000.0


def log(plan, bad=(), ill=(), **more) -> list[str]:
    """A rollout's event log, as its controller would have written it."""
    behaviours = dict.fromkeys(bad, fleets.BAD) | dict.fromkeys(ill, Behaviour(errors=1.0))
    fleet = Fleet.of_plan(plan, behaviours, fleets.QUICK)
    result = simulate(plan, fleet, traffic=Traffic(100.0, 0.01, 0.05), **more)
    hosts = tuple(dict.fromkeys(t.instance.host for t in plan.targets))
    count = len(plan.targets)
    before = [
        PhaseStarted("preflight"),
        PhaseFinished("preflight", "fine"),
        RolloutStarted(plan.id, plan.service, plan.version, hosts, count, count),
    ]
    return [as_json(event, AT) for event in before] + [
        as_json(event, AT + 1 + at) for at, event in result.events
    ]


def told(lines: list[str]) -> story.Story:
    return story.tell(json.loads(line) for line in lines)


def test_each_instance_goes_its_way_in_order_and_what_it_was_out_is_summed_up():
    told_of = told(log(fleets.plan(2, 2)))
    assert told_of.verdict == "done"
    assert sorted(told_of.ways) == ["web1/app_1", "web1/app_2", "web2/app_1", "web2/app_2"]
    for way in told_of.ways.values():
        kinds = [span.kind for span in way.spans]
        assert kinds == ["wait", "drain", "recreate", "health", "return"]
        assert way.fate == "upgraded"
        ends = [span.end for span in way.spans]
        assert ends == sorted(ends)
        out = way.spans[-1].end - way.spans[1].start
        assert way.out == pytest.approx(out)
    assert [name for _, name in told_of.batches] == ["1/2", "2/2"]


def test_the_lowest_capacity_is_what_was_left_while_one_was_out():
    told_of = told(log(replace(fleets.plan(4, 1), watch=2.0)))
    assert told_of.lowest() == {"lb1:app": (300, 400), "lb2:app": (300, 400)}
    last = {name: seen[-1] for name, seen in told_of.capacity.items()}
    assert [(left, total) for _, left, total in last.values()] == [(400, 400)] * 2


def test_a_failure_is_told_with_its_last_log_lines():
    plan = fleets.plan(2, 1)
    told_of = told(log(plan, ill=[t.wanted.id for t in plan.targets]))
    assert told_of.verdict == "rolled-back"
    assert any("answers 5xx" in mark.text for mark in told_of.failures)
    assert any("its last words" in mark.detail for mark in told_of.notices)


def test_a_log_whose_controller_died_still_tells_how_far_it_came():
    lines = log(fleets.plan(2, 1))
    cut = [line for line in lines if "RolloutFinished" not in line][:12]
    told_of = told(cut)
    assert told_of.verdict == ""
    assert "unfinished" in html(told_of)


class Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found: list[tuple[str, dict]] = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def elements(text: str) -> list[tuple[str, dict]]:
    parser = Elements()
    parser.feed(text)
    return parser.found


def test_it_opens_without_a_network_and_runs_nothing():
    text = html(told(log(fleets.plan(3, 3))))
    for tag, attributes in elements(text):
        assert tag not in ("script", "link", "img", "iframe")
        assert not {"src", "href", "onload"} & set(attributes)
    assert "url(" not in text
    assert len(text) < 500_000


def test_every_drawing_is_well_formed():
    text = html(told(log(fleets.plan(3, 3))))
    drawings = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert len(drawings) > 2
    for drawing in drawings:
        ElementTree.fromstring(drawing)


def test_what_hosts_and_containers_say_is_text_and_not_markup():
    lines = log(fleets.plan(1, 1, min_capacity=0))
    lines.insert(4, as_json(Notice("<script>alert(1)</script>", "<b>web1</b>"), AT + 1))
    text = html(told(lines))
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_a_rollout_over_hundreds_of_instances_still_makes_a_small_page():
    text = html(told(log(fleets.plan(100, 3, ("lb1",), serial=20, max_error_rate=100))))
    assert len(text) < 1_000_000


def test_what_the_prober_saw_is_drawn_beside_it(tmp_path):
    record = tmp_path / "run.jsonl"
    seconds = [
        {"event": "second", "t": t, "lane": lane, "requests": 10, "failures": int(t == 2)}
        | {"p50": 0.01, "p99": 0.2 + t, "versions": {"1" if t < 3 else "2": 10 - (t == 2)}}
        for t in range(6)
        for lane in ("fast", "long")
    ]
    lines = [json.dumps({"event": "began", "at": AT, "lanes": ["fast", "long"]})]
    lines += [json.dumps(second) for second in seconds]
    record.write_text("\n".join(lines) + '\n{"event": "sec')
    found = traffic.read(record)
    assert (found.requests, found.failures) == (120, 2)
    assert [moment.at for moment in found.moments] == [AT + t for t in range(6)]
    text = html(told(log(fleets.plan(2, 1))), found)
    assert "Versions answering" in text
    assert re.search(r'class="tile bad"><b>2</b><span>of them failed', text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (75, "1:15"), (3661, "1:01:01")]
)
def test_times_are_written_as_people_write_them(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize("length", [0.5, 3, 70, 4000, 10**6])
def test_an_axis_has_a_few_ticks_whatever_its_length(length):
    assert 1 <= len(Axis(0, length).ticks()) <= 13


def counted(servers, resets=0):
    """A rollout's log in which one balancer counted ``servers``: 5xx and retries of each."""
    figures = {
        name: dict.fromkeys(COUNTED, 0) | {"requests": 1000, "errors_5xx": bad, "retries": again}
        for name, (bad, again) in servers.items()
    }
    lines = log(fleets.plan(1, 1, min_capacity=0))
    lines.insert(-1, as_json(ServersCounted("lb1", "app", figures, resets), AT + 9))
    return html(told(lines))


def test_trouble_that_a_balancer_counted_is_listed_with_its_servers():
    text = counted({"BACKEND": (7, 2), "web1_app_1": (4, 2), "web2_app_1": (0, 0)})
    assert "web1_app_1</td>" in text
    assert "web2_app_1</td>" not in text
    assert "3 of its 5xx came from no server" in text
    assert "No server had any" not in text


def test_no_trouble_is_said_in_so_many_words():
    text = counted({"BACKEND": (0, 0), "web1_app_1": (0, 0)})
    assert "No server had any retry" in text
    assert "counter was reset" not in text


def test_counters_that_began_anew_are_not_passed_over():
    assert "counter was reset:" in counted({"BACKEND": (0, 0)}, resets=1)
    assert "counter was reset 2 times" in counted({"BACKEND": (0, 0)}, resets=2)


def test_what_was_cut_has_a_place_of_its_own():
    lines = log(fleets.plan(1, 1, min_capacity=0))
    cut = StepFinished("web1/app_1", "cut", True, "closed 2 that would not end: 192.0.2.7")
    lines.insert(4, as_json(cut, AT + 1))
    story_of = told(lines)
    assert [mark.text for mark in story_of.cuts] == [cut.note]
    text = html(story_of)
    assert "Cut at a drain" in text
    assert "drains cut at their deadline" in text
    assert "192.0.2.7" in text


def test_names_that_are_too_long_keep_their_end():
    assert short("web1/app_1") == "web1/app_1"
    assert short("web1.eu-central.example.net/app_1") == "…example.net/app_1"


@pytest.mark.parametrize(("value", "top"), [(0, 1), (53, 60), (189, 200), (100, 100), (0.7, 0.8)])
def test_scales_end_on_round_numbers(value, top):
    assert round_up(value) == pytest.approx(top)


# where pages lie


@pytest.fixture
def root(tmp_path):
    folder = page.logs(tmp_path)
    folder.mkdir(parents=True)
    for name in ("20260101-000000-aaaa", "20260102-000000-bbbb"):
        (folder / f"{name}.jsonl").write_text("\n".join(log(fleets.plan(1, 1, min_capacity=0))))
    (folder / "20260102-000000-bbbb.probe.jsonl").write_text(
        json.dumps({"event": "began", "at": AT})
    )
    return tmp_path


def test_the_newest_is_drawn_when_none_is_named_and_the_beginning_of_an_id_is_enough(root):
    assert page.log_of(root, "").stem == "20260102-000000-bbbb"
    assert page.log_of(root, "20260101").stem == "20260101-000000-aaaa"
    assert page.write(page.log_of(root, "")).read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(("name", "says"), [("2027", "no rollout 2027"), ("2026", "any of")])
def test_an_unknown_or_ambiguous_rollout_is_one_line(root, name, says):
    with pytest.raises(BadInput, match=says):
        page.log_of(root, name)


def test_what_cannot_be_read_or_written_is_one_line(root, tmp_path):
    log_of = page.log_of(root, "")
    with pytest.raises(BadInput, match="can't be written"):
        page.write(log_of, out=tmp_path / "missing" / "x.html")
    with pytest.raises(BadInput, match="can't be read"):
        page.write(log_of, record=tmp_path / "none")
    broken = tmp_path / "broken.jsonl"
    broken.write_text("not json\n{}\n")
    with pytest.raises(BadInput, match="broken.jsonl:1"):
        page.write(broken)
    broken.write_text("")
    with pytest.raises(BadInput, match="holds no events"):
        page.write(broken)
