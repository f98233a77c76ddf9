"""The terminal: what stays on it, and that it never holds a rollout up."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fabfile.reports import screen
from fabfile.reports.console import JsonLines, Tee, wanted
from fabfile.reports.screen import Screen
from fabfile.rollout import events as e
from tests.unit.reports.terminal import Terminal
from tests.unit.reports.test_console import GOLDEN
from tests.unit.reports.test_console import STORY as ENDING
from tests.unit.reports.test_live import AT, STORY


class Pipe:
    """A terminal's other end."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        self.stream = os.fdopen(self.write, "w", encoding="utf-8")

    def text(self) -> str:
        self.stream.close()
        with os.fdopen(self.read, "rb") as read:
            return read.read().decode()


@pytest.fixture
def pipe():
    made = Pipe()
    yield made
    for end in (made.stream.close, lambda: os.close(made.read)):
        with contextlib.suppress(OSError):
            end()


def sized(width: int, height: int = 24):
    return lambda: os.terminal_size((width, height))


def until(true) -> None:
    ends = time.monotonic() + 10
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_the_picture_goes_and_what_was_said_stays_with_the_summary(pipe):
    told = Screen(pipe.stream, size=sized(100))
    for at, event in ENDING:
        told.take(event, AT + at)
    told.take(e.Notice("report: x.html"), AT + 101)
    told.close()
    terminal = Terminal(100, 24).feed(pipe.text())
    lines = terminal.text.splitlines()
    routine = ("await-idle 1.50s", "waits: lb1:shop")
    expected = [line for line in GOLDEN.splitlines() if not any(word in line for word in routine)]
    assert lines == [*expected, "  101.0s  report: x.html"]
    assert terminal.odd == []


def test_it_draws_over_itself_and_changes_no_mode_of_the_terminal(pipe, monkeypatch):
    monkeypatch.setattr(screen, "FRAME", 0.01)
    drawn = threading.Event()
    told = Screen(pipe.stream, lambda: AT + 12, size=sized(80))
    frame = told._frame

    def watched(*args):
        text = frame(*args)
        drawn.set()
        return text

    told._frame = watched
    for at, event in STORY:
        drawn.clear()
        told.take(event, AT + at)
        assert drawn.wait(10)
    told._ending = True  # as if it were killed: no last picture
    told._lost = OSError()
    told._woken.set()
    told._painter.join()
    terminal = Terminal(80, 24).feed(pipe.text())
    assert terminal.odd == []
    assert terminal.text.count("web1   1/2  app_2") <= 1


def test_lines_of_a_terminal_that_was_made_narrower_are_counted_anew(pipe):
    told = Screen(pipe.stream, size=sized(80))
    told.close()
    from rich.text import Text

    told._frame((), [Text("x" * 70), Text("y" * 30)], 80)
    assert told._frame((), [Text("z")], 40).startswith("\r\x1b[3A")


def test_a_terminal_that_is_gone_is_dropped_and_the_log_goes_on():
    pipe, kept = Pipe(), io.StringIO()
    told = Screen(pipe.stream, size=sized(80))
    os.close(pipe.read)
    tee = Tee(told, JsonLines(kept))
    tee(e.Notice("one"))
    until(lambda: not told._painter.is_alive())
    tee(e.Notice("two"))
    tee(e.Notice("three"))
    told.close()
    assert kept.getvalue().count('"three"') == 1
    assert "no more events here" in kept.getvalue()
    pipe.stream.close()


def test_a_terminal_that_takes_nothing_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(screen, "PATIENCE", 0.05)
    pipe, kept = Pipe(), []
    os.set_blocking(pipe.write, True)
    filled = threading.Event()

    def fill() -> None:
        os.set_blocking(pipe.write, False)
        try:
            while True:
                os.write(pipe.write, b"x" * 4096)
        except BlockingIOError:
            os.set_blocking(pipe.write, True)
        filled.set()

    fill()
    told = Screen(pipe.stream, size=sized(80))
    tee = Tee(told, kept.append)
    for number in range(1000):
        tee(e.Notice(str(number)))
    tee(e.RolloutFinished("r", "done", "2", 1, 0, 0, 0, ()))
    assert len(kept) == 1001
    os.read(pipe.read, 1 << 20)  # somebody pressed Ctrl-Q
    told._painter.join(10)
    assert not told._painter.is_alive()
    os.close(pipe.read)
    pipe.stream.close()


def test_a_mistake_in_the_drawing_costs_the_picture_and_not_the_rollout(pipe, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(screen, "view", broken)
    kept = []
    told = Screen(pipe.stream, size=sized(80))
    tee = Tee(told, kept.append)
    until(lambda: not told._painter.is_alive())
    tee(e.Notice("one"))
    tee(e.RolloutFinished("r", "done", "2", 1, 0, 0, 0, ()))
    told.close()
    assert len(kept) == 2
    assert pipe.text().splitlines() == ["    0.0s  one", "    0.0s  done: 1 upgraded"]


def test_a_terminal_that_somebody_made_non_blocking_gets_all_the_same(pipe):
    os.set_blocking(pipe.write, False)
    told = Screen(pipe.stream, size=sized(80))
    heard: list[bytes] = []
    reader = threading.Thread(
        target=lambda: heard.extend(iter(lambda: os.read(pipe.read, 999), b""))
    )
    reader.start()
    for number in range(20000):
        told(e.Notice(f"number {number}"))
    told.close()
    pipe.stream.close()
    reader.join()
    text = b"".join(heard).decode()
    assert "no more events" not in text
    assert text.count("number 19999\n") == 1
    assert text.count("number 0\n") >= 1


@pytest.mark.parametrize(("term", "is_wanted"), [("xterm", True), ("dumb", False), ("", False)])
def test_only_a_terminal_that_can_be_drawn_on_gets_a_picture(monkeypatch, term, is_wanted):
    monkeypatch.setenv("TERM", term)
    leader, follower = os.openpty()
    with os.fdopen(follower, "w") as stream:
        assert wanted(stream) is is_wanted
    os.close(leader)
    assert not wanted(io.StringIO())


SCRIPT = """
import os, sys, time
from fabfile.reports.screen import Screen
from fabfile.rollout import events as e
told = Screen()
told(e.RolloutStarted("r1", "shop", "2.0", ("web1",), 1, 1, ("web1/app_1",)))
told(e.StepStarted("web1/app_1", "recreate"))
time.sleep(60)
"""


@pytest.mark.parametrize("colour", [True, False])
def test_kill_nine_leaves_a_terminal_as_it_was(colour):
    leader, follower = os.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "", "PYTHONPATH": str(Path.cwd())}
    env.pop("NO_COLOR", None)
    if not colour:
        env["NO_COLOR"] = "1"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=follower, env=env)
    os.close(follower)
    text = ""
    try:
        while "recreate" not in text:
            text += os.read(leader, 65536).decode()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(leader)
    assert Terminal(80, 24).feed(text).odd == []
    assert ("\x1b[34m" in text) is colour
