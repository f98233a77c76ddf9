"""The live view: what a person sees at every width, and what it must never leave out."""

from __future__ import annotations

import json

import pytest

from fabfile.drivers.simulated import Fleet, simulate
from fabfile.reports.console import as_json
from fabfile.reports.live import Live
from fabfile.reports.live_view import seconds, view
from fabfile.rollout import events as e
from tests.unit.rollout import fleets

AT = 1_700_000_000.0
NAMES = ("web1/app_1", "web1/app_2", "web2/app_1", "web2/app_2")
STORY = [
    (0.0, e.PhaseStarted("preflight")),
    (0.4, e.PhaseFinished("preflight", "2 hosts")),
    (1.0, e.RolloutStarted("r1", "shop", "2.0", ("web1", "web2"), 4, 4, NAMES)),
    (1.0, e.BatchStarted(1, 2, ("web1",))),
    (1.1, e.StepStarted("web1/app_1", "ask-capacity")),
    (1.2, e.CapacitySeen((("lb1:shop", 400, 400), ("lb2:shop", 400, 400)))),
    (1.3, e.CapacityLeft("web1/app_1", (("lb1:shop", 300, 400), ("lb2:shop", 300, 400)))),
    (2.0, e.StepStarted("web1/app_1", "recreate")),
    (6.0, e.InstanceFinished("web1/app_1", "upgraded", "2.0")),
    (6.0, e.CapacitySeen((("lb1:shop", 400, 400),))),
    (7.0, e.StepStarted("web1/app_2", "await-idle")),
    (9.0, e.StepProgress("web1/app_2", "await-idle", "3 in flight on lb1", 3, 30.0)),
]


def after(story=STORY) -> Live:
    live = Live()
    for at, event in story:
        live.take(event, AT + at)
    return live


def seen(live: Live, width: int, height: int = 24, messages=(), at: float = 12.0) -> list[str]:
    lines = view(live, messages, AT + at, width, height)
    assert len(lines) <= height
    assert all(line.cell_len <= width for line in lines)
    return [line.plain.rstrip() for line in lines]


def test_a_wide_terminal_shows_who_is_at_what_and_how_much_is_left():
    assert seen(after(), 120, messages=["    0.4s  preflight: 2 hosts"]) == [
        "shop 2.0  batch 1/2  1/4 done  12s  r1",
        "lb1:shop ██████████ 100% (lowest 75%)   lb2:shop ███████░░░ 75% (lowest 75%)",
        "web1   1/2  app_2   drain       5s/30s  2.0           3 in flight on lb1",
        "web2   0/2  to come",
        "",
        "    0.4s  preflight: 2 hosts",
    ]


def test_eighty_and_forty_columns_keep_what_matters_most():
    assert seen(after(), 79)[2:] == [
        "web1   1/2  app_2   drain       5s/30s  3 left",
        "web2   0/2  to come",
    ]
    assert seen(after(), 39)[3:] == [
        "web1   1/2  app_2   drain     5s/30s 3",
        "web2   0/2  to come",
    ]


@pytest.mark.parametrize("width", [1, 5, 20, 40, 80, 200])
@pytest.mark.parametrize("height", [1, 2, 5, 10, 40])
def test_no_terminal_is_too_small_for_it(width, height):
    for end in range(len(STORY) + 1):
        seen(after(STORY[:end]), width, height, ["one", "two"] * 5)


def test_before_the_first_batch_it_says_what_it_is_busy_with():
    assert seen(after(STORY[:1]), 80, at=3.0) == ["preflight 3s"]
    assert seen(after(STORY[:2]), 80, at=3.0) == ["preparing 3s"]


def many(hosts: int) -> Live:
    names = tuple(f"web{n:03}" for n in range(hosts))
    ids = tuple(f"{name}/app_{n}" for name in names for n in (1, 2))
    live = after([(0.0, e.RolloutStarted("r", "shop", "2.0", names, len(ids), len(ids), ids))])
    live.take(e.BatchStarted(1, 2, names), AT)
    for name in names[:100]:
        for n in (1, 2):
            live.take(e.InstanceFinished(f"{name}/app_{n}", "upgraded", "2.0"), AT)
    for name in names[150:153]:
        live.take(e.StepStarted(f"{name}/app_1", "recreate"), AT + 1)
    live.take(e.InstanceFinished("web120/app_1", "restored", "1.0", "not healthy"), AT + 2)
    return live


def test_of_two_hundred_hosts_those_at_work_come_first_and_the_rest_is_counted():
    lines = seen(many(200), 80, 24)
    assert [line.split()[0] for line in lines[1:5]] == ["web150", "web151", "web152", "web120"]
    assert "app_1: not healthy" in lines[4]
    assert lines[5] == "… hosts: 100 done, 96 to come"
    assert "201/400 done" in lines[0]


def test_with_a_balancer_on_each_of_many_hosts_the_sum_and_the_lowest_are_shown():
    live = many(200)
    pools = tuple((f"web{n:03}:shop", 200 - n, 200) for n in range(200))
    live.take(e.CapacitySeen((*pools, ("all hosts together", 390, 400))), AT)
    lines = seen(live, 80, 24)
    assert lines[1].startswith("all hosts together 97%")
    assert lines[2].startswith("web197:shop 1%")
    assert lines[3].endswith("+195")
    assert "web150" in lines[4]


def test_when_more_are_at_work_than_fit_the_others_are_counted():
    live = many(200)
    for n in range(60):
        live.take(e.StepStarted(f"web1{n:02}/app_2", "recreate"), AT + 1)
    lines = seen(live, 80, 24)
    assert len(lines) == 24
    assert lines[-1].startswith("… hosts: 38 at work")


def test_what_goes_back_is_to_come_again():
    live = after([*STORY, (10.0, e.BatchStarted(1, 1, ("web1",), back=True))])
    assert live.done == 0
    assert seen(live, 80)[0].startswith("shop 2.0  back, batch 1/1  0/4 done")
    live.take(e.InstanceFinished("web1/app_1", "restored", "1.0"), AT + 11)
    assert live.rows["web1"].pieces[0].state == "done"


def test_text_of_a_host_cannot_steer_the_terminal():
    live = after(
        [*STORY, (9.0, e.StepProgress("web1/app_2", "await-healthy", "\x1b[2Jgone\n\x07"))]
    )
    text = "\n".join(seen(live, 120, messages=["\x1b]0;title\x07 x\x9b31m"]))
    assert not {"\x1b", "\x07", "\x9b"} & set(text)
    assert "gone" in text


def test_it_follows_a_whole_rollout_from_its_log_to_the_end():
    plan = fleets.plan(3, 2)
    result = simulate(plan, Fleet.of_plan(plan, {}, fleets.QUICK))
    ids = tuple(target.instance.id for target in plan.changing)
    hosts = tuple(h for batch in plan.batches for h in batch)
    live = Live()
    live.take(e.RolloutStarted(plan.id, "app", "2", hosts, 6, 6, ids), AT)
    for at, event in result.events:
        again = e.read(json.loads(as_json(event, AT + at)))
        assert again == event
        live.take(again, AT + at)
        seen(live, 80, at=at)
    assert (live.verdict, live.done, live.changing) == ("done", 6, 6)
    assert live.facts(AT)["instances"][0]["state"] == "done"


def test_an_event_of_another_version_is_passed_over():
    assert e.read({"event": "Unheard", "at": 1}) is None
    assert e.read({"event": "BatchStarted", "at": 1, "number": 1}) is None
    assert e.read({"event": "Notice", "at": 1, "text": "x", "colour": "red"}) == e.Notice("x")


@pytest.mark.parametrize(("length", "text"), [(0.4, "0s"), (65, "1:05"), (3723, "1:02:03")])
def test_times_are_written_as_people_write_them(length, text):
    assert seconds(length) == text
