"""A prober beside a rollout: what people got while it ran, recorded for the report."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

from fabfile.checks.lanes import FastLane
from fabfile.checks.prober import Probe
from fabfile.checks.record import Recorder
from fabfile.checks.show import report
from fabfile.checks.summary import judge

RATE = 50.0
"""Requests a second, all URLs together."""
_TICK = 0.2


class Beside:
    """Probes ``urls`` while the ``with`` block runs, and records it to ``path``.

    Raises :class:`BadInput` on entering, when a URL or the file can't work.
    """

    def __init__(self, urls: tuple[str, ...], path: Path) -> None:
        self.path = path
        self._urls = urls
        self._over = threading.Event()
        self._lines: list[str] = []

    @property
    def lines(self) -> list[str]:
        """The summary, for a person, once it is over."""
        return self._lines

    def __enter__(self) -> Beside:
        self._probe = Probe([FastLane(self._urls, rate=RATE)])
        self._recorder = Recorder(self.path)
        self._probe.start()
        self._writer = threading.Thread(target=self._write, name="probe record", daemon=True)
        self._writer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._probe.wait(1.0)  # a whole second after the end belongs to the picture
        summary = self._probe.stop(at_once=error is not None)
        self._over.set()
        self._writer.join()
        verdict = judge(summary)
        self._recorder.add(self._probe.drain())
        self._recorder.close(summary, verdict)
        self._lines = report(summary, verdict)

    def _write(self) -> None:
        while not self._over.wait(_TICK):
            self._recorder.add(self._probe.drain())
