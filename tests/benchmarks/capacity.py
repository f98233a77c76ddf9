"""What was out of rotation, and how long: arithmetic over samples of the balancers' own figures."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Weights = Mapping[str, float]
"""By server: the effective weight it takes requests with, 0 when it takes none."""


@dataclass(frozen=True)
class Sample:
    """One look at one balancer."""

    at: float
    """Unix time."""
    weights: Weights


def weights(stat: str) -> dict[str, float]:
    """Effective weights out of what ``show stat`` says; its header is among it."""
    lines = [line for line in stat.splitlines() if line.strip()]
    start = next(n for n, line in enumerate(lines) if line.startswith("# "))
    rows = csv.DictReader([lines[start][2:], *lines[start + 1 :]])
    return {
        row["svname"]: float(row["weight"] or 0) if _takes(row["status"]) else 0.0
        for row in rows
        if row["svname"] not in ("FRONTEND", "BACKEND")
    }


def _takes(status: str) -> bool:
    # "UP 1/3": one check failed, requests still come. "DOWN 1/2": none do.
    return status.partition(" ")[0] == "UP" or status == "no check"


def lost(samples: Sequence[Sample], instances: int) -> float:
    """Instance-seconds missing: 1 for an instance that was out of rotation for a second.

    The first sample's weights, divided by ``instances``, are what one instance is worth. More than
    at first (a tool that doubles containers) makes up for nothing at another moment.
    """
    if len(samples) < 2:
        return 0.0
    total = sum(samples[0].weights.values())
    missing = 0.0
    for sample, after in itertools.pairwise(samples):
        gone = max(0.0, total - sum(sample.weights.values()))
        missing += gone * (after.at - sample.at)
    return missing / total * instances if total else 0.0


def outages(samples: Sequence[Sample]) -> dict[str, float]:
    """By server of the first sample: seconds it took fewer requests than at first."""
    found = dict.fromkeys(samples[0].weights, 0.0) if samples else {}
    for sample, after in itertools.pairwise(samples):
        for name, weight in samples[0].weights.items():
            if sample.weights.get(name, 0.0) < weight:
                found[name] += after.at - sample.at
    return found


def longest(samples: Sequence[Sample]) -> float:
    """Seconds between the two samples that are furthest apart: how coarse the figures may be."""
    return max((b.at - a.at for a, b in itertools.pairwise(samples)), default=0.0)
