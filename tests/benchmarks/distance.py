"""What a rollout costs more where every word to a host takes a while.

The same rollout of nine instances behind two edge HAProxies, once on hosts next door and once on the
same hosts behind a relay that holds everything up. What is more is trips that somebody waited for one
after the other.
"""

from __future__ import annotations

from typing import Any

from fabfile.lab.up import up

from .contenders import Contender, Ours, Pyinfra, prepare
from .relay import Relay
from .rollout import QUICK, TUNED, row
from .scene import Scene
from .show import say

TRIP = 0.04
"""Seconds there and back: another part of the continent."""


def run(*, quick: bool) -> dict[str, Any]:
    """Every contender near and far. ``quick``: without pyinfra."""
    prepare()
    lab = up(lambda _: None)
    rows: list[dict[str, Any]] = []
    for trip in (0.0, TRIP):
        with Scene(lab, "edge", far=bool(trip)) as scene, Relay(trip / 2, scene.far_ports):
            say(f"rollout of 9 instances, hosts {trip * 1000:g} ms away")
            inventory = scene.inventory(QUICK)
            scene.begin_ours(inventory)
            scene.equip()
            contenders: list[Contender] = [Ours(inventory), TUNED]
            if not quick:
                contenders.append(Pyinfra())
            rows += [row(scene, one, QUICK) | {"trip": trip} for one in contenders]
    return {"rows": rows, "trip": TRIP}
