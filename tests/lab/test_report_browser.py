"""The report as a browser shows it: legible, whole, in the dark and on paper, without a network."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from browser import DARK, Browser, find

from fabfile.drivers.simulated import Behaviour, Fleet, Timing, Traffic, simulate
from fabfile.reports import story, traffic
from fabfile.reports.console import as_json
from fabfile.reports.html import html
from fabfile.rollout import events as e
from tests.unit.rollout import fleets

AT = 1_700_000_000.0
COUNTS = {
    "requests": 12345,
    "errors_5xx": 3,
    "retries": 2,
    "redispatches": 1,
    "not_connected": 1,
    "no_answer": 1,
    "longest_queue": 7,
}
LONG = "a-host-with-a-very-long-name.eu-central.example"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = find()
    if not program:
        pytest.skip("no Chromium here, and it can't be installed")
    return Browser(program, tmp_path_factory.mktemp("browser"))


def page_of(folder, plan, *, ill=(), **more):
    """The report of a simulated rollout with everything in it that a page can show."""
    behaviours = dict.fromkeys(ill, Behaviour(errors=1.0))
    fleet = Fleet.of_plan(plan, behaviours, Timing())
    result = simulate(plan, fleet, traffic=Traffic(100.0, 0.01, 0.05), **more)
    hosts = tuple(dict.fromkeys(t.instance.host for t in plan.targets))
    count = len(plan.targets)
    first = plan.targets[0].instance.id
    events = [
        (0.0, e.PhaseStarted("preflight")),
        (0.5, e.PhaseFinished("preflight", "fine")),
        (1.0, e.RolloutStarted(plan.id, plan.service, plan.version, hosts, count, count)),
        (1.0, e.Notice("something " + "very-long-and-unbroken" * 12, hosts[0])),
        (1.5, e.StepFinished(first, "cut", True, "closed 2 that would not end: 192.0.2.7")),
    ]
    told = [(1 + at, event) for at, event in result.events]
    events += told[:-1]
    events.append((told[-1][0], e.ServersCounted("lb1", "app", {"BACKEND": COUNTS, "s1": COUNTS})))
    events.append(told[-1])
    lines = [as_json(event, AT + at) for at, event in events]
    record = folder / "probe.jsonl"
    seconds = [
        {"event": "second", "t": t, "lane": "fast", "requests": 97, "failures": t % 7 == 0}
        | {"p50": 0.01, "p99": 0.2 + t / 10, "versions": {"1": 97 - t % 90, "2": t % 90}}
        for t in range(int(told[-1][0]))
    ]
    began = {"event": "began", "at": AT, "lanes": ["fast"]}
    record.write_text("\n".join(json.dumps(one) for one in [began, *seconds]))
    text = html(story.tell(map(json.loads, lines)), traffic.read(record))
    assert len(text) < 500_000
    path = folder / "report.html"
    path.write_text(text)
    return path


def long_named(plan):
    """The same on hosts whose names are longer than the room for them."""
    names = {f"web{n}": f"{n}.{LONG}" for n in range(1, 10)}
    targets = tuple(
        replace(t, instance=replace(t.instance, host=names[t.instance.host])) for t in plan.targets
    )
    batches = tuple(tuple(names[host] for host in batch) for batch in plan.batches)
    return replace(plan, targets=targets, batches=batches)


PLANS = {
    "nine": lambda: fleets.plan(3, 3),
    "long-names": lambda: long_named(fleets.plan(3, 3)),
    "fifty-batches": lambda: fleets.plan(50, 1, serial=1),
}


@pytest.mark.parametrize("name", PLANS)
def test_every_label_can_be_read_and_nothing_is_asked_of_a_network(browser, tmp_path, name):
    page = page_of(tmp_path, PLANS[name]())
    for width in (1060, 420) if name == "long-names" else (1060,):
        seen = browser.measured(page, width)
        assert seen["texts"] > 30
        assert {k: seen[k] for k in ("errors", "outside", "overlapping", "requests")} == {
            "errors": [],
            "outside": [],
            "overlapping": [],
            "requests": [],
        }
        assert seen["wide"] <= 0, f"{width}: it has to be scrolled sideways"


def test_light_dark_and_paper_differ_and_show_something(browser, tmp_path):
    plan = fleets.plan(3, 3)
    page = page_of(tmp_path, plan, ill=[t.wanted.id for t in plan.targets[3:]])
    paper = tmp_path / "paper.html"
    text = page.read_text().replace("@media screen and", "@media print and")
    paper.write_text(text.replace("@media print {", "@media screen {"))
    light, dark = browser.picture(page), browser.picture(page, DARK)
    on_paper, on_paper_at_night = browser.picture(paper), browser.picture(paper, DARK)
    assert min(p.colours for p in (light, dark, on_paper)) > 20
    assert dark.brightness < 90
    assert min(light.brightness, on_paper.brightness, on_paper_at_night.brightness) > 200
    assert len({light.data, dark.data, on_paper.data}) == 3


def test_it_can_be_printed(browser, tmp_path):
    page, out = page_of(tmp_path, fleets.plan(3, 3)), tmp_path / "report.pdf"
    browser.run(page, "--no-pdf-header-footer", f"--print-to-pdf={out}")
    data = out.read_bytes()
    assert data.startswith(b"%PDF")
    assert len(data) > 20_000
