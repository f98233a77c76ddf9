"""What has to be reached, as ratios of figures of the same run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Bound:
    """One figure and what it may be at most."""

    what: str
    value: float
    most: float
    unit: str = "x"

    @property
    def reached(self) -> bool:
        """Whether it is kept."""
        return self.value <= self.most

    def __str__(self) -> str:
        word = "reached" if self.reached else "NOT reached"
        return f"{self.what}: {self.value:.2f} {self.unit} (at most {self.most:g}): {word}"


def rollout(rows: Iterable[Row]) -> list[Bound]:
    """Of the rollouts of nine instances, for each topology."""
    found = []
    nine = [row for row in rows if not row["host"]]
    for front in dict.fromkeys(row["front"] for row in nine):
        here = {(r["contender"], r["checks"]["name"]): r for r in nine if r["front"] == front}
        ours = here["ours", "quick"]
        usual, tuned = here["ansible-usual", "quick"], here["ansible-tuned", "quick"]
        found += [
            Bound(f"{front}: wall time / the usual playbook's", ours["wall"] / usual["wall"], 0.25),
            Bound(f"{front}: wall time / the tuned playbook's", ours["wall"] / tuned["wall"], 0.5),
            Bound(
                f"{front}: lost capacity / the usual playbook's", ours["lost"] / usual["lost"], 0.25
            ),
        ]
        for checks in ("quick", "shipped"):
            row = here.get(("ours", checks))
            if row is not None:
                least = least_time(here["limit", "quick"], row)
                needed = "limit + admission"
                needed += " + min_healthy" if row["checks"]["min_healthy"] else ""
                name = f"{front}, {checks} settings: first batch to end / ({needed})"
                found.append(Bound(name, row["span"] / least, 1.3))
                name = f"{front}, {checks} settings: the whole command / ({needed})"
                found.append(Bound(name, row["wall"] / least, 1.3))
        share = 100 * ours["overhead"]["share"]
        found.append(Bound(f"{front}: share of its time that is overhead", share, 10, "%"))
        found.append(Bound(f"{front}: failed requests", ours["failed"], 0, "requests"))
    found += [
        Bound("long requests cut by us", row["cut"], 0, "requests")
        for row in rows
        if row["host"] and row["contender"] == "ours"
    ]
    return found


def distance(rows: Iterable[Row]) -> list[Bound]:
    """Of the same rollout on hosts next door and far away."""
    wall = {(row["contender"], bool(row["trip"])): row["wall"] for row in rows}
    return [
        Bound(
            f"{where}: wall time / the tuned playbook's",
            wall["ours", far] / wall["ansible-tuned", far],
            0.5,
        )
        for where, far in (("next door", False), ("far away", True))
    ] + [
        Bound("far away: failed requests", row["failed"], 0, "requests")
        for row in rows
        if row["contender"] == "ours" and row["trip"]
    ]


def least_time(limit: Row, row: Row) -> float:
    """Seconds that Docker, the balancers' own checks and the policy's own waiting need."""
    checks = row["checks"]
    return float(limit["wall"] + row["instances"] * (checks["admission"] + checks["min_healthy"]))


def fleet(rows: Iterable[Row]) -> list[Bound]:
    """Of the stub fleet: ratios where bare Fabric did the same, memory and growth at the end."""
    table = {(row["hosts"], row["task"], row["contender"]): row for row in rows}
    sizes = sorted({hosts for hosts, _, _ in table})
    found = []
    for size in sizes:
        for task, most in (("rollout", 1.3), ("status", 1.5)):
            bare = table.get((size, task, "bare Fabric"))
            if bare is not None:
                ours = table[size, task, "Evenkeel"]
                name = f"{task} of {size} hosts: wall time / bare Fabric's"
                found.append(Bound(name, ours["wall"] / bare["wall"], most))
                if bare["otherwise"]:  # then it did not do the same, and the ratio says nothing
                    name = f"{task} of {size} hosts: bare Fabric's commands that ended otherwise"
                    found.append(Bound(name, bare["otherwise"], 0, "commands"))
    last = sizes[-1]
    found.append(
        Bound(
            f"rollout of {last} hosts: memory",
            table[last, "rollout", "Evenkeel"]["memory"],
            200,
            "MB",
        )
    )
    watched = max((size for size in sizes if size <= 200), default=last)
    memory = table[watched, "status", "Evenkeel"]["memory"]
    found.append(Bound(f"status of {watched} hosts: memory", memory, 150, "MB"))
    if len(sizes) > 1:
        first = sizes[0]
        for task in ("rollout", "status"):
            for what in ("wall", "cpu"):
                grown = table[last, task, "Evenkeel"][what] / table[first, task, "Evenkeel"][what]
                name = f"{task}: growth of {what} from {first} to {last} hosts / growth of hosts"
                found.append(Bound(name, grown / (last / first), 1))
    return found


def plan(rows: Iterable[Row]) -> list[Bound]:
    """Of the simulation; the program's own start is taken off before growth is judged."""
    nothing, *sizes = sorted(rows, key=lambda row: int(row["hosts"]))
    last, before = sizes[-1], sizes[-2]
    grown = (last["wall"] - nothing["wall"]) / max(before["wall"] - nothing["wall"], 0.01)
    name = f"growth of time from {before['hosts']:,} to {last['hosts']:,} hosts / growth of hosts"
    return [
        Bound(f"{last['hosts']:,} hosts: time", last["wall"], 5, "s"),
        Bound(f"{last['hosts']:,} hosts: memory", last["memory"], 500, "MB"),
        Bound(name, grown / (last["hosts"] / before["hosts"]), 1.2),
    ]
