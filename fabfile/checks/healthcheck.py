"""``inv healthcheck``: one run of the prober, from flags to an exit code."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TextIO

from fabfile.checks.lanes import Connections, FastLane
from fabfile.checks.prober import Probe
from fabfile.checks.record import Recorder
from fabfile.checks.show import Screen
from fabfile.checks.summary import UNKNOWN, Summary, judge
from fabfile.errors import BadInput

STICKY_CLIENTS = 10
"""Clients that ``--cookies`` lets take turns."""

_TICK = 0.1


@dataclass(frozen=True)
class Options:
    """What ``inv healthcheck`` was asked to do. Durations in seconds."""

    urls: tuple[str, ...]
    rate: float = 50.0
    duration: float | None = 30.0
    """``None``: until interrupted."""
    connections: Connections = "both"
    expect_version: str | None = None
    until_version: str | None = None
    timeout: float = 5.0
    slow_after: float = 1.0
    as_json: bool = False
    record: Path | None = None
    cookies: bool = False
    max_failures: int | None = None
    nagios: bool = False


def run_healthcheck(options: Options, stream: TextIO | None = None) -> int:
    """Probe, show, and return Nagios' exit code: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.

    Bad input is UNKNOWN and one line: nothing has been learned about the service.
    """
    screen = Screen(stream or sys.stdout, as_json=options.as_json, nagios=options.nagios)
    try:
        recorder = Recorder(options.record) if options.record else None
        probe = _probe(options)
        probe.start()
    except BadInput as error:
        Screen(sys.stderr).complain(f"UNKNOWN: {error}")
        return UNKNOWN
    stop = _Stop(probe)
    with _signals(stop.ask):
        summary = _watch(probe, screen, recorder)
    verdict = judge(summary, max_failures=options.max_failures)
    if recorder is not None:
        recorder.close(summary, verdict)
    screen.end(summary, verdict)
    return verdict.exit_code


def _probe(options: Options) -> Probe:
    lane = FastLane(
        options.urls,
        rate=options.rate,
        connections=options.connections,
        timeout=options.timeout,
        slow_after=options.slow_after,
        clients=STICKY_CLIENTS if options.cookies else 0,
    )
    return Probe(
        [lane],
        duration=options.duration,
        expect_version=options.expect_version,
        until_version=options.until_version,
    )


def _watch(probe: Probe, screen: Screen, recorder: Recorder | None) -> Summary:
    over = False
    while not over:
        over = probe.wait(_TICK)
        events = probe.drain()
        screen.show(events)
        if recorder is not None:
            recorder.add(events)
    return probe.summary()


class _Stop:
    """The first signal ends the sending, the second one also the waiting."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._asked = False

    def ask(self) -> None:
        if self._asked:
            self._probe.give_up()
        self._asked = True
        self._probe.ask_stop()


@contextmanager
def _signals(handle: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call ``handle``, where this thread may have handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        handle()

    before = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
