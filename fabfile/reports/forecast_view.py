"""``inv simulate``: a rollout on paper, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fabfile.reports.plan_view import duration
from fabfile.rollout.plan import Plan

BLOCKS = " ▁▂▃▄▅▆▇█"
SHOWN = 6
"""Pools and batches that are named; there may be thousands."""


def forecast_view(
    plan: Plan,
    verdicts: Mapping[str, int],
    seconds: Sequence[float],
    lowest: Mapping[str, tuple[int, int]],
    curve: Sequence[tuple[float, int]],
    *,
    fail: float,
    source: str,
    width: int = 80,
) -> str:
    """The lines, ending with a newline. ``source`` says where the step times come from."""
    hosts = [len(batch) for batch in plan.batches]
    sizes = ", ".join(map(str, hosts[:SHOWN])) + (", …" if len(hosts) > SHOWN else "")
    lines = [
        f"{plan.service} to {plan.version}: {len(plan.changing):,} instances on"
        f" {sum(hosts):,} hosts, {len(hosts)} {'batch' if len(hosts) == 1 else 'batches'}"
        f" of {sizes} hosts",
        f"expected duration: {_took(seconds)} ({source})",
        *_lowest(lowest),
    ]
    if len(curve) > 1:
        lines += ["", *plot(curve, width)]
    if fail or set(verdicts) != {"done"}:
        lines += ["", _odds(verdicts, fail)]
    return "\n".join(lines) + "\n"


def _took(seconds: Sequence[float]) -> str:
    middle, late = (
        seconds[len(seconds) // 2],
        seconds[min(int(len(seconds) * 0.95), len(seconds) - 1)],
    )
    if len(seconds) == 1 or late - middle < 0.05 * middle:
        return duration(middle)
    return f"{duration(middle)}; 95 of 100 times at most {duration(late)}"


def _lowest(lowest: Mapping[str, tuple[int, int]]) -> list[str]:
    if not lowest:
        return ["no balancer, so no capacity to watch"]
    ordered = sorted(lowest.items(), key=lambda one: one[1][0] / max(one[1][1], 1))
    lines = [
        f"lowest capacity: {name} {100 * left // max(total, 1)}% ({left} of {total})"
        for name, (left, total) in ordered[:SHOWN]
    ]
    if len(ordered) > SHOWN:
        lines.append(f"                 and {len(ordered) - SHOWN} more, none of them lower")
    return lines


def plot(curve: Sequence[tuple[float, int]], width: int) -> list[str]:
    """Percent left over time, lowest of each column, four rows high."""
    columns = max(min(width - 8, 100), 10)
    end = max(curve[-1][0], 1e-9)
    lows = [100] * columns
    for (at, percent), (until, _) in zip(curve, [*curve[1:], (end, 0)], strict=True):
        first, last = int(at / end * (columns - 1)), int(until / end * (columns - 1))
        for column in range(first, last + 1):
            lows[column] = min(lows[column], percent)
    rows = []
    for top, label in ((4, "100%"), (3, " 75%"), (2, " 50%"), (1, " 25%")):
        filled = [min(max(low * 4 / 100 - (top - 1), 0.0), 1.0) for low in lows]
        rows.append(f"{label} " + "".join(BLOCKS[round(share * 8)] for share in filled))
    rows.append(f"     0{duration(end):>{columns - 1}}")
    return rows


def _odds(verdicts: Mapping[str, int], fail: float) -> str:
    runs = sum(verdicts.values())
    said = ", ".join(
        f"{verdict} {100 * count / runs:.3g}%"
        for verdict, count in sorted(verdicts.items(), key=lambda one: -one[1])
    )
    what = f"with {100 * fail:.3g}% of instances failing" if fail else "as it stands"
    return f"odds {what}, in {runs} {'run' if runs == 1 else 'runs'}: {said}"
