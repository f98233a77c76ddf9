"""How soon a server takes requests again once it may: out in maint, and out parked.

A private HAProxy with the checks of the quick settings, and a server whose application never went
away: what is measured is HAProxy alone, from the order that lets the server back to its first UP.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from haproxy_rig import Rig, image, rig

from fabfile.balancers.haproxy import change
from fabfile.balancers.model import ServerRef
from fabfile.lab.engine import Docker

from .show import say

OUT = (0.3, 0.6, 1.1)
"""Seconds that the server is out."""
TRIES = 12
LOOK = 0.005
SERVER = "web1_app_1"
FULL = 100
"""Its weight."""


def run(*, quick: bool) -> list[dict[str, Any]]:
    """Both ways, for each time that a server is out."""
    with tempfile.TemporaryDirectory() as logs, rig(image(Docker(), Path(logs))) as there:
        return [
            row(there, seconds, parked=parked, tries=3 if quick else TRIES)
            for seconds in (OUT[-1:] if quick else OUT)
            for parked in (False, True)
        ]


def row(there: Rig, seconds: float, *, parked: bool, tries: int) -> dict[str, Any]:
    """Seconds until it is UP, over some tries."""
    # Whenever its last check was: a rollout does not choose the moment either.
    moments = random.Random(7)
    found = []
    for _ in range(tries):
        there.until(lambda reading: reading.servers[SERVER].in_rotation)
        time.sleep(0.4 + moments.random())
        found.append(_once(there, there.ref(SERVER), seconds, parked=parked))
    way = "parked" if parked else "maint"
    say(f"out for {seconds:g} s, {way}: UP after {statistics.median(found):.2f} s")
    return {
        "out": seconds,
        "way": way,
        "tries": tries,
        "least": round(min(found), 3),
        "median": round(statistics.median(found), 3),
        "most": round(max(found), 3),
    }


def _once(there: Rig, ref: ServerRef, seconds: float, *, parked: bool) -> float:
    out = change.park(ref) if parked else change.set_state(ref, "maint")
    there.ask(";".join((*change.set_weight(ref, 0), *out)))
    time.sleep(seconds)
    fresh = change.check_at(ref, 0) if parked else change.admit_first(ref, checked=True)
    began = time.monotonic()
    there.ask(";".join((*fresh, *change.admit(ref, FULL, "ready"))))
    while not _up(there):
        time.sleep(LOOK)
    return time.monotonic() - began


def _up(there: Rig) -> bool:
    lines = there.ask("show stat app 4 -1").splitlines()
    return any(f",{SERVER}," in line and ",UP," in line for line in lines)
