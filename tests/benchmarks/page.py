"""docs/benchmarks.md: figures out of results/*.json, words out of page.md beside this file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import bounds as kept
from .bounds import Bound, least_time
from .tables import ratio, table

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = Path(__file__).with_name("page.md")
PAGE = ROOT / "docs" / "benchmarks.md"
Result = Mapping[str, Any]


def bounds(result: Result) -> list[Bound]:
    """What that part has to keep."""
    judges = {
        "rollout": kept.rollout,
        "distance": kept.distance,
        "fleet": kept.fleet,
        "plan": kept.plan,
    }
    judge = judges.get(result["name"])
    return judge(result["rows"]) if judge else []


def section(result: Result) -> str:
    """That part's tables."""
    views = {
        "rollout": rollout,
        "distance": distance,
        "fleet": fleet,
        "plan": plan,
        "balancer": balancer,
    }
    return views[result["name"]](result)


def rollout(result: Result) -> str:
    """A table for each topology, one for the long requests, one for the overhead."""
    rows = result["rows"]
    parts = []
    for front in dict.fromkeys(row["front"] for row in rows):
        nine = [row for row in rows if row["front"] == front and not row["host"]]
        parts.append(f"### Nine instances, {front}\n\n{contenders(nine)}\n{floor(nine)}")
    long = [row for row in rows if row["host"]]
    if long:
        head = f"### One host, three instances, and requests of {result['load']['long']:g} s\n\n"
        parts.append(head + contenders(long))
    ours = [row for row in rows if "overhead" in row]
    parts.append("### Where our time goes\n\n" + overheads(ours))
    return "\n".join(parts)


def floor(rows: list[Mapping[str, Any]]) -> str:
    """What nobody gets below who waits for Docker and for HAProxy's checks."""
    found = {(row["contender"], row["checks"]["name"]): row for row in rows}
    least = least_time(found["limit", "quick"], found["ours", "quick"])
    tuned = found["ansible-tuned", "quick"]["wall"]
    return (
        f"The limit and the admission together are {least:.1f} s: {ratio(least, tuned)} the tuned"
        " playbook's wall time.\n"
    )


def contenders(rows: list[Mapping[str, Any]]) -> str:
    """One line for each; ratios are to our row with the same settings."""
    ours = next(row for row in rows if row["contender"] == "ours")
    long = any(row["long_requests"] for row in rows)
    head = ["", "wall", "to ours", "an instance", "out of rotation, an instance", "longest",
            "capacity lost, instance-seconds", "to ours", "failed of fast requests",
            *(["cut of long requests"] if long else []), "controller CPU", "memory"]  # fmt: skip
    lines = []
    for row in rows:
        there = row["contender"] in ("limit", "docker-rollout")  # it runs on the host itself
        title = row["title"] + ("" if row["checks"]["name"] == "quick" else ", shipped settings")
        lines.append([
            title,
            _wall(row),
            ratio(row["wall"], ours["wall"]),
            f"{row['per_instance']:.2f} s",
            f"{row['lost_per_instance']:.2f} s",
            f"{row['longest_out']:.2f} s",
            f"{row['lost']:.1f}",
            ratio(row["lost"], ours["lost"]),
            f"{row['failed']} of {row['requests']}",
            *([f"{row['cut']} of {row['long_requests']}"] if long else []),
            "-" if there else f"{row['cpu']:.1f} s",
            "-" if there else f"{row['memory']:.0f} MB",
        ])  # fmt: skip
    return table(head, lines)


def _wall(row: Mapping[str, Any]) -> str:
    walls = row.get("walls", [])
    between = f" ({walls[0]:.1f} to {walls[-1]:.1f})" if len(walls) > 1 else ""
    return f"{row['wall']:.1f} s{between}"


def overheads(rows: list[Mapping[str, Any]]) -> str:
    """What our own event log says, one line for each of our rollouts."""
    waits = ("docker", "drain", "health", "admission", "policy")
    own = list(dict.fromkeys(name for row in rows for name in row["overhead"]["own"]))
    head = ["", "first batch to end", *(f"waits: {name}" for name in waits), *own, "overhead",
            "before it", "after it"]  # fmt: skip
    lines = []
    for row in rows:
        found = row["overhead"]
        what = f"{row['host'] or row['front']}, {row['checks']['name']} settings"
        lines.append([
            what,
            f"{row['span']:.1f} s",
            *(f"{found['waited'].get(name, 0):.2f} s" for name in waits),
            *(f"{found['own'].get(name, 0):.2f} s" for name in own),
            f"{100 * found['share']:.1f}%",
            f"{row['before']:.2f} s",
            f"{row['after']:.2f} s",
        ])  # fmt: skip
    return table(head, lines)


def distance(result: Result) -> str:
    """One line for each contender; what is more far away, in trips."""
    found = {(row["contender"], bool(row["trip"])): row for row in result["rows"]}
    trip = result["trip"]
    lines = []
    for name in dict.fromkeys(row["contender"] for row in result["rows"]):
        near, far = found[name, False], found[name, True]
        more = (far["wall"] - near["wall"]) / trip
        lines.append([
            near["title"],
            f"{near['wall']:.1f} s",
            f"{far['wall']:.1f} s",
            ratio(far["wall"], found["ours", True]["wall"]),
            f"{more:.0f}",
            f"{near['lost_per_instance']:.2f} s",
            f"{far['lost_per_instance']:.2f} s",
            f"{near['failed'] + far['failed']} of {near['requests'] + far['requests']}",
        ])  # fmt: skip
    head = ["", "wall, next door", f"wall, {trip * 1000:g} ms away", "to ours",
            "trips waited for", "out of rotation, an instance, next door", "far away",
            "failed requests"]  # fmt: skip
    return table(head, lines)


def fleet(result: Result) -> str:
    """A table for each task; a line for each contender and size."""
    rows = result["rows"]
    parts = []
    for task, title in TASKS.items():
        chosen = [row for row in rows if row["task"] == task]
        parts.append(f"### {title}\n\n{tasks(chosen)}")
    ours = [row for row in rows if row["task"] == "rollout" and "span" in row]
    lines = [
        (row["hosts"], *(f"{row[name]:.1f} s" for name in ("preflight", "before", "span", "wall")))
        for row in ours
    ]
    head = ["hosts", "connected and looked at, after", "first batch begins, after",
            "first batch to end", "all"]  # fmt: skip
    return "\n".join([*parts, "### The parts of our rollout\n\n" + table(head, lines)])


TASKS = {
    "rollout": "A rollout with `serial: 10%`",
    "status": "`inv status`",
    "five commands": "Connect, and five commands on every host",
}


def tasks(rows: list[Mapping[str, Any]]) -> str:
    """Ratios are to bare Fabric at the same size, growth is from the smallest size there is."""
    lines = []
    for row in rows:
        same = [other for other in rows if other["contender"] == row["contender"]]
        first = min(same, key=lambda one: int(one["hosts"]))
        bare = next(
            (r for r in rows if r["hosts"] == row["hosts"] and r["contender"] == "bare Fabric"),
            None,
        )
        lines.append([
            row["hosts"],
            row["contender"],
            f"{row['wall']:.1f} s",
            ratio(row["wall"], bare["wall"] if bare else 0),
            f"{row['cpu']:.1f} s",
            f"{row['memory']:.0f} MB",
            "" if first is row else (
                f"{row['wall'] / first['wall']:.1f} x wall, {row['cpu'] / first['cpu']:.1f} x CPU"
                f" for {row['hosts'] / first['hosts']:g} x hosts"
            ),
        ])  # fmt: skip
    head = ["hosts", "", "wall", "to bare Fabric", "CPU here", "memory", "growth"]
    return table(head, lines)


def plan(result: Result) -> str:
    """One line for each size."""
    return table(
        ["hosts", "instances", "wall", "CPU", "memory"],
        [
            (f"{r['hosts']:,}", f"{r['instances']:,}", f"{r['wall']:.2f} s", f"{r['cpu']:.2f} s",
             f"{r['memory']:.0f} MB")
            for r in result["rows"]
        ],
    )  # fmt: skip


def balancer(result: Result) -> str:
    """What a reading costs, and how soon a server is back."""
    words = (
        "A server is let back that was out for a while, its application alive all the time"
        " (`inter 1s fastinter 100ms downinter 200ms rise 2`). Until HAProxy has it UP:"
    )
    return f"{watched(result)}\n{words}\n\n{returning(result)}"


def returning(result: Result) -> str:
    """One line for each time that a server was out."""
    found = {(row["out"], row["way"]): row for row in result["returning"]}
    return table(
        ["", "maint: least", "median", "most", "parked: least", "median", "most"],
        [
            (f"out for {out:g} s", *(f"{found[out, way][name]:.2f} s" for way in
                                     ("maint", "parked") for name in ("least", "median", "most")))
            for out in sorted({out for out, _ in found})
        ],
    )  # fmt: skip


def watched(result: Result) -> str:
    """One line for each state."""
    return table(
        ["requests/s", "", "readings/s", "HAProxy's CPU", "failed requests"],
        [
            (f"{r['requests_per_second']:g}", "watched" if r["watched"] else "alone",
             r["readings_per_second"], f"{r['cpu_percent']:.2f}% of a core", r["failed"])
            for r in result["rows"]
        ],
    )  # fmt: skip


def kept_table(found: list[Bound]) -> str:
    """Reached or not."""
    return table(
        ["what", "measured", "at most", ""],
        [
            (b.what, f"{b.value:.2f} {b.unit}", f"{b.most:g} {b.unit}",
             "reached" if b.reached else "**not reached**")
            for b in found
        ],
    )  # fmt: skip


def provenance(result: Result) -> str:
    """When, where and how it was measured."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return (
        f"Measured {result['when']} by `{result['command']}` in {result['took']:.0f} s on"
        f" {result['machine']}. {versions}.\n"
    )


def write(results: Path) -> None:
    """Fill the template: ``<!-- NAME -->`` and ``<!-- NAME bounds -->`` are replaced."""
    text = TEMPLATE.read_text()
    for path in sorted(results.glob("*.json")):
        result = json.loads(path.read_text())
        name = result["name"]
        found = bounds(result)
        text = text.replace(f"<!-- {name} -->\n", f"{section(result)}\n{provenance(result)}")
        text = text.replace(f"<!-- {name} bounds -->\n", kept_table(found) if found else "")
    PAGE.write_text(text)
