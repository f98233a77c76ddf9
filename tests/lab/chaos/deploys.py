"""A `fab` that is watched while it works: events as they come, and what is done to it meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollouts import ROOT

Event = dict[str, Any]


@dataclass(frozen=True)
class When:
    """The moment of a fault: an event of the rollout, and the how many-th of its kind."""

    event: str = "StepStarted"
    step: str = ""
    host: str = ""
    nth: int = 1
    phase: str = ""

    def fits(self, event: Event) -> bool:
        """Whether ``event`` is one of its kind."""
        return (
            event["event"] == self.event
            and self.step in ("", event.get("step", ""))
            and self.phase in ("", event.get("phase", ""))
            and (not self.host or event.get("instance", "").startswith(self.host + "/"))
        )

    def __str__(self) -> str:
        what = self.step or self.phase or self.event
        return f"{what} #{self.nth}" + (f" on {self.host}" if self.host else "")


LIVE: list[Fab] = []
"""Every one that was begun: none may outlive the harness."""


def end_all() -> None:
    """kill -9 of what still runs, when the harness itself is on its way out."""
    for fab in LIVE:
        fab.signal(signal.SIGKILL)


class Fab:
    """A running `fab`; its events are kept, and written to ``log`` as they come."""

    def __init__(
        self, inventory: Path, *args: str, log: Path, cwd: Path = ROOT, gate: bool = False
    ) -> None:
        """``gate``: it starts only when :meth:`open` is called."""
        env = {**os.environ, "PYTHONWARNINGS": "ignore", "EVENKEEL_INVENTORY": str(inventory)}
        argv = [str(Path(sys.executable).parent / "fab"), *args]
        if gate:
            argv = ["sh", "-c", 'read -r _; exec "$@"', "gate", *argv]
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        self.events: list[Event] = []
        self.began = time.time()
        self.ended = 0.0
        self._news = threading.Condition()
        self._over = False
        self._errors = log.with_suffix(".err").open("w")
        self.process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE if gate else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )
        LIVE.append(self)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def open(self) -> None:
        """Let a gated one start."""
        assert self.process.stdin
        self.process.stdin.close()

    def _read(self) -> None:
        assert self.process.stdout
        with self.log.open("w") as log:
            for line in self.process.stdout:
                log.write(line)
                log.flush()
                with self._news:
                    if line.startswith('{"event"'):
                        self.events.append(json.loads(line))
                    self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()

    def await_event(
        self, fits: Callable[[Event], bool], nth: int = 1, timeout: float = 240
    ) -> bool:
        """Wait for the ``nth`` such event; ``False`` when it ends without one."""
        ends = time.monotonic() + timeout

        def there() -> bool:
            return sum(map(fits, self.events)) >= nth

        with self._news:
            while not there() and not self._over and time.monotonic() < ends:
                self._news.wait(0.5)
            return there()

    def await_when(self, when: When) -> bool:
        """Wait for ``when``; ``False`` when it ends before."""
        return self.await_event(when.fits, when.nth)

    def signal(self, number: int) -> None:
        """Send it a signal; one that ended gets none."""
        if self.process.poll() is None:
            os.kill(self.process.pid, number)

    def wait(self, timeout: float = 400) -> int:
        """Its exit code. One that hangs is killed, which counts as -9."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            code = self.process.wait(10)
        self.ended = time.time()
        self._reader.join(10)
        self._errors.close()
        return code

    @property
    def errors(self) -> str:
        """What it said on stderr."""
        return self.log.with_suffix(".err").read_text()

    def of(self, kind: str) -> list[Event]:
        """Its events of one kind."""
        with self._news:
            return [event for event in self.events if event["event"] == kind]

    def stand(self) -> str:
        """Its last step, for a person: what it was about when something happened to it."""
        with self._news:
            for event in reversed(self.events):
                if event["event"] == "StepStarted":
                    return f"{event['step']} of {event['instance']}"
                if event["event"] in ("PhaseStarted", "RolloutFinished", "RolloutStarted"):
                    return str(event.get("phase", event["event"]))
        return "its start"
