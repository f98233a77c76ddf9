"""One run alone may be a fifth off: whom a bound compares runs several times, in turns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

ROUNDS = 3


def middle(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each contender the run with the middle wall time; requests are those of all its runs."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for one in rows:
        runs.setdefault(one["contender"], []).append(one)
    found = []
    for mine in runs.values():
        by_wall = sorted(mine, key=lambda one: float(one["wall"]))
        sums = {name: sum(one[name] for one in mine) for name in ("requests", "failed", "late")}
        walls = [one["wall"] for one in by_wall]
        found.append(by_wall[len(mine) // 2] | sums | {"walls": walls})
    return found
