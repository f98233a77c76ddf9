"""What a person and a machine are told, line by line."""

import dataclasses
import io
import json
import os
import subprocess
import sys
import threading
import typing

import pytest

from fabfile.reports.console import Console, JsonLines, Tee
from fabfile.rollout import events as e

STORY = [
    (0.0, e.PhaseStarted("preflight")),
    (0.4, e.PhaseFinished("preflight", "2 hosts, 2 balancers")),
    (0.5, e.Notice("its checks are slow", "lb1")),
    (0.9, e.HookOutput("web1", "before_rollout", "2 migrations")),
    (1.0, e.RolloutStarted("r1", "shop", "2.0", ("web1", "web2"), 2, 3)),
    (1.0, e.BatchStarted(1, 2, ("web1",))),
    (1.0, e.StepStarted("web1/app_1", "ask-capacity")),
    (1.1, e.CapacityAwaited("web1/app_1", "lb1:shop: 1 of 3 would stay")),
    (1.5, e.StepFinished("web1/app_1", "ask-capacity", True)),
    (1.5, e.StepStarted("web1/app_1", "take-out")),
    (1.6, e.StepFinished("web1/app_1", "take-out", True)),
    (1.6, e.StepStarted("web1/app_1", "await-idle")),
    (3.1, e.StepFinished("web1/app_1", "await-idle", True, "2 still in flight")),
    (3.1, e.StepStarted("web1/app_1", "await-healthy")),
    (3.2, e.HookOutput("web1", "before_drain", "50% full", "web1/app_1")),
    (9.1, e.StepFinished("web1/app_1", "await-healthy", False, "not healthy: gone", "one\ntwo")),
    (9.5, e.InstanceFinished("web1/app_1", "restored", "1.0", "not healthy: gone")),
    (9.5, e.BatchFinished(1, ("web1",))),
    (9.5, e.BatchStarted(1, 1, ("web1",), back=True)),
    (100.0, e.RolloutFinished("r1", "needs-repair", "2.0", 1, 1, 1, 0, ("web2/app_1",), "gone")),
]

GOLDEN = """\
    0.4s  preflight: 2 hosts, 2 balancers
    0.5s  lb1: its checks are slow
    0.9s  web1  before_rollout | 2 migrations
    1.0s  rollout r1: shop to 2.0, 2 of 3 instances on web1, web2
    1.0s  batch 1/2: web1
    1.1s  web1/app_1  waits: lb1:shop: 1 of 3 would stay
    3.1s  web1/app_1  await-idle 1.50s: 2 still in flight
    3.2s  web1/app_1  before_drain | 50% full
    9.1s  web1/app_1  await-healthy 6.00s failed: not healthy: gone
    9.1s      | one
    9.1s      | two
    9.5s  web1/app_1  restored: 1.0 after 8.00s (not healthy: gone)
    9.5s  back, batch 1/1: web1
  100.0s  needs-repair: 1 upgraded, 1 already there, 1 put back, 1 out of rotation
  100.0s  because gone
  100.0s  needs repair: web2/app_1
"""


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def told(story, make):
    stream, clock = io.StringIO(), Clock()
    receiver = make(stream, clock)
    for clock.now, event in story:
        receiver(event)
    return stream.getvalue()


def test_a_rollout_reads_like_this():
    assert told(STORY, Console) == GOLDEN


def test_nothing_to_do_is_said():
    end = e.RolloutFinished("r1", "done", "2.0", 0, 0, 0, 0, ())
    assert told([(0.0, end)], Console) == "    0.0s  done: nothing to do\n"


def test_every_event_is_one_json_line_with_its_name_and_time():
    lines = [json.loads(line) for line in told(STORY, JsonLines).splitlines()]
    assert [line["event"] for line in lines] == [type(event).__name__ for _, event in STORY]
    assert [line["at"] for line in lines] == [at for at, _ in STORY]
    assert lines[4]["hosts"] == ["web1", "web2"]


def test_text_of_a_container_cannot_break_a_json_line():
    event = e.StepFinished("a", "b", False, "\n\u2028\x00", 'x"\n}{')
    (line,) = told([(0.0, event)], JsonLines).split("\n")[:-1]
    assert json.loads(line)["detail"] == 'x"\n}{'


def test_both_speak_of_every_kind_of_event():
    kinds = e.Event.__subclasses__()
    assert len(kinds) > 10
    samples = {int: 1, str: "x", bool: True, "Verdict": "done"}
    for kind in kinds:
        hints = typing.get_type_hints(kind)
        values = {
            field.name: samples.get(hints[field.name], ()) for field in dataclasses.fields(kind)
        }
        assert json.loads(told([(0.0, kind(**values))], JsonLines))["event"] == kind.__name__
        told([(0.0, kind(**values))], Console)


def test_letters_the_terminal_does_not_know_are_spelled_out():
    raw = io.BytesIO()
    terminal = io.TextIOWrapper(raw, encoding="ascii")
    Console(terminal)(e.Notice("größe €"))
    assert raw.getvalue().endswith(b"gr\\xf6\\xdfe \\u20ac\n")


class Broken:
    def __init__(self):
        self.asked = 0

    def __call__(self, event):
        self.asked += 1
        raise BrokenPipeError(32, "Broken pipe")


def test_a_receiver_that_breaks_does_not_stop_the_rollout_nor_the_others():
    heard, broken = [], Broken()
    tee = Tee(broken, heard.append)
    tee(e.Notice("one"))
    tee(e.Notice("two"))
    assert broken.asked == 1
    assert e.Notice("one") in heard
    assert e.Notice("two") in heard
    assert any("Broken pipe" in event.text for event in heard)


def test_events_of_many_threads_do_not_mix():
    stream = io.StringIO()
    tee = Tee(JsonLines(stream))
    threads = [
        threading.Thread(target=lambda: [tee(e.Notice("x" * 50)) for _ in range(50)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([json.loads(line) for line in stream.getvalue().splitlines()]) == 400


@pytest.mark.parametrize("kind", ["Console", "JsonLines"])
def test_a_closed_pipe_does_not_take_the_place_of_the_exit_code(kind):
    script = (
        f"from fabfile.reports.console import {kind}, Tee\n"
        "from fabfile.rollout.events import Notice\n"
        f"tee = Tee({kind}())\n"
        "for _ in range(5000): tee(Notice('x' * 100))\n"
        "raise SystemExit(7)\n"
    )
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=write, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (7, b"")


# long waits


def waited(steps, ticks):
    stream, clock = io.StringIO(), Clock()
    console = Console(stream, clock)
    for event in steps:
        console(event)
    for clock.now in ticks:
        console.tick()
    return stream.getvalue().splitlines()


def test_a_long_wait_says_every_ten_seconds_that_it_goes_on_and_for_what():
    steps = [
        e.PhaseStarted("pull"),
        e.PhaseFinished("pull"),
        e.StepStarted("web1/app_1", "await-idle"),
        e.StepProgress("web1/app_1", "await-idle", "3 in flight on lb1", 3),
        e.StepStarted("web2/app_1", "recreate"),
        e.StepFinished("web2/app_1", "recreate", True),
    ]
    assert waited(steps, range(1, 25))[1:-1] + waited(steps, range(1, 25))[-1:] == [
        "    0.0s  web2/app_1  recreate 0.00s",
        "   10.0s  web1/app_1  await-idle still waits after 10s: 3 in flight on lb1",
        "   20.0s  web1/app_1  await-idle still waits after 20s: 3 in flight on lb1",
    ]
    assert waited([e.PhaseStarted("pull")], [10]) == ["   10.0s  pull still goes on after 10s"]


def test_hundreds_that_wait_do_not_fill_the_log():
    lines = waited([e.StepStarted(f"web{n}/app_1", "recreate") for n in range(300)], range(11))
    assert len(lines) == 9
    assert lines[-1].endswith("and 292 more wait")


def test_a_closed_pipe_found_while_waiting_does_not_end_the_rollout():
    class Gone(Console):
        def tick(self):
            raise BrokenPipeError(32, "Broken pipe")

    heard = []
    tee = Tee(Gone(io.StringIO()), heard.append)
    tee.tick()
    tee(e.Notice("one"))
    assert heard[-1] == e.Notice("one")
