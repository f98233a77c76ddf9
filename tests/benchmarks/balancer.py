"""What it costs a HAProxy to be watched as closely as in the middle of a rollout, and how soon it
has a server back.

The stub fleet's HAProxy has 100 servers and 100 requests a second. Its processor time is read off
/proc for a while without us, and for a while with our observer asking as often as it can: a reading
of all servers, 20 ms of rest, the next one.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

from fabfile.checks.lanes import FastLane
from fabfile.checks.prober import Probe
from fabfile.drivers.balancers import BalancerHand
from fabfile.drivers.rotation import POLL
from fabfile.inventory import loader
from fabfile.remote.pool import Remotes

from . import returning
from .measure import parents, tree
from .show import say
from .stubfleet import Fleet, fleet

HOSTS = 50
SERVERS = 2 * HOSTS
RATE = 100.0
SECONDS = 15.0
TICK = os.sysconf("SC_CLK_TCK")


class Watch:
    """Our observer at work, in a thread. A context manager."""

    def __init__(self, there: Fleet) -> None:
        inventory = loader.load(there.inventory)
        balancer = inventory.services["shop"].balancers_of("h001")[0]
        self._remotes = Remotes(inventory)
        self._hand = BalancerHand(balancer, self._remotes, None)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.readings = 0

    def _ask(self) -> None:
        while not self._over.wait(POLL):
            assert len(self._hand.read().servers) == SERVERS
            self.readings += 1

    def __enter__(self) -> Watch:
        self._hand.read()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._hand.close()
        self._remotes.close()


def run(*, quick: bool) -> dict[str, Any]:
    """With and without us, under load and idle; then servers that come back."""
    seconds = 5.0 if quick else SECONDS
    rows = []
    with fleet(HOSTS) as there:
        for rate in (0.0, RATE):
            for watched in (False, True):
                rows.append(row(there, rate, seconds, watched))
    back = returning.run(quick=quick)
    return {"rows": rows, "returning": back, "servers": SERVERS, "seconds": seconds}


def row(there: Fleet, rate: float, seconds: float, watched: bool) -> dict[str, Any]:
    """HAProxy's processor time in ``seconds``, as percent of one core."""
    url = f"http://127.0.0.1:{there.users}/"
    load: AbstractContextManager[Any] = nullcontext()
    if rate:
        load = Probe([FastLane((url,), rate=rate, timeout=5.0)])
    watch = Watch(there) if watched else None
    with load as probe, watch or nullcontext():
        time.sleep(1.0)
        asked = watch.readings if watch else 0
        used = spent(haproxy(there), lambda: time.sleep(seconds))
        readings = (watch.readings if watch else 0) - asked
        failed = probe.stop().overall.failures if probe else 0
    found = {
        "requests_per_second": rate,
        "watched": watched,
        "cpu_percent": round(100 * used / seconds, 2),
        "readings_per_second": round(readings / seconds, 1),
        "failed": failed,
    }
    say(
        f"{rate:g} requests/s, {'watched' if watched else 'alone':8} {found['cpu_percent']:.2f}% of a core"
    )
    return found


def haproxy(there: Fleet) -> int:
    """The first process of HAProxy's container."""
    argv = ["docker", "inspect", "-f", "{{.State.Pid}}", f"{there.container}-haproxy"]
    return int(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)


def spent(root: int, work: Callable[[], None]) -> float:
    """Processor seconds of a process and all below it while ``work`` goes on."""
    before = _seconds(root)
    work()
    return _seconds(root) - before


def _seconds(root: int) -> float:
    found = 0
    for pid in tree(root, parents()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        found += int(fields[11]) + int(fields[12])
    return found / TICK
