"""`inv simulate`: the plan and the capacity scheduler for many hosts with 4 instances each."""

from __future__ import annotations

from typing import Any

from .contenders import clean
from .measure import measured
from .scene import ROOT, program
from .show import say

SIZES = (100, 1_000, 10_000)
QUICK = (100, 1_000)
NOTHING = 3
"""Hosts of a plan that takes no time: what is left is the program's start."""
INSTANCES = 4
RUNS = 3


def run(*, quick: bool) -> dict[str, Any]:
    """The best of three runs of each size."""
    rows = []
    for size in (NOTHING, *(QUICK if quick else SIZES)):
        argv = [
            program("inv"),
            "-r",
            str(ROOT),
            "simulate",
            "--inventory",
            str(ROOT / "hosts.yaml"),
        ]
        argv += ["--hosts", str(size), "--instances", str(INSTANCES), "--serial", "10%"]
        costs = [
            measured(argv, env=clean(), cwd=ROOT).check("inv simulate").cost for _ in range(RUNS)
        ]
        cost = min(costs, key=lambda one: one.wall)
        say(f"{size} hosts: {cost.wall:.2f} s, {cost.memory:.0f} MB")
        rows.append({"hosts": size, "instances": size * INSTANCES, **cost.as_json()})
    return {"rows": rows}
