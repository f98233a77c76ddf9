"""The load that goes on through all faults, as the harness sees it; ``users`` makes it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass

from .judge import Bad

RATE = 300.0
"""Fast requests a second, over all frontends together."""
LONG = 20.0
"""Seconds that a long request takes."""
LONG_RATE = 1.0
LATE_FAST = 1.0
"""Seconds after which the answer to a fast request is later than it should be."""
LATE_LONG = LONG + 1.0
PATIENCE = 45.0
"""Seconds a client waits. HAProxy gives up before (``SERVER_TIMEOUT``), and says on which server."""
SERVER_TIMEOUT = 25.0
SETTLED = SERVER_TIMEOUT + 1.0
"""Seconds after which it is known what became of every request that was sent."""
REPORTED = 1.0
"""Seconds after which the harness has heard of it."""


@dataclass(frozen=True)
class Sent:
    """What was sent from one moment to another."""

    fast: int = 0
    long: int = 0
    behind: int = 0
    """Sent late by the prober itself, or not at all."""

    @property
    def kept_schedule(self) -> bool:
        """Whether the figures say more about the service than about this machine."""
        total = self.fast + self.long
        return total > 0 and self.behind <= 0.05 * total


class Load:
    """Fast and long requests to ``urls`` until it is stopped. A context manager."""

    def __init__(self, urls: tuple[str, ...], rate: float = RATE) -> None:
        self._argv = [sys.executable, "-m", "chaos.users", f"{rate:g}", *urls]
        self._guard = threading.Lock()
        self._bad: list[Bad] = []
        self._sent: dict[int, Counter[str]] = {}
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Load:
        self._process = subprocess.Popen(
            self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *problem: object) -> None:
        assert self._process
        if problem[0] is not None:
            self._process.kill()
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(PATIENCE + LONG + 10)

    def check(self) -> None:
        """Raise when the users are gone: then nothing is proved any more."""
        assert self._process
        if self._process.poll() is not None:
            raise RuntimeError(f"the prober ended by itself with {self._process.returncode}")

    def _listen(self) -> None:
        assert self._process
        assert self._process.stdout
        for line in self._process.stdout:
            told = json.loads(line)
            with self._guard:
                if "bad" in told:
                    self._bad.append(Bad(**told["bad"]))
                else:
                    self._sent[told["second"]] = Counter(told["sent"])

    def bad(self, since: float, until: float) -> list[Bad]:
        """Everything wrong that ended between two Unix times."""
        with self._guard:
            return [one for one in self._bad if since <= one.ended <= until]

    def sent(self, since: float, until: float) -> Sent:
        """How much was answered, well or not, between two Unix times."""
        with self._guard:
            counts = [some for second, some in self._sent.items() if since <= second <= until]
        total: Counter[str] = sum(counts, Counter())
        return Sent(total["fast"], total["long"], total["behind"])

    def await_reported(self) -> None:
        """Wait until everything that happened before this call has been heard of."""
        time.sleep(REPORTED)

    def await_known(self) -> None:
        """Wait until it is known what became of all that was sent before this call."""
        time.sleep(SETTLED)
