"""The report of one rollout: a single HTML file with no script, which opens without a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fabfile.reports import charts
from fabfile.reports.story import Counted, Span, Story
from fabfile.reports.traffic import Moment, Traffic

HERE = Path(__file__).parent
MARGIN = 3.0
"""Seconds shown before the first drain and after the end, where the prober was at work."""
SLOWEST = 8
POOLS = 6
"""Capacity lines in one chart; of more pools the ones that were lowest are shown."""
SERVERS = 20
"""Servers of one balancer that are listed with their trouble, the worst first."""
COLOURS = 6
"""Classes ``c0`` … of the style sheet."""


@dataclass(frozen=True)
class Tile:
    """One figure at the top."""

    value: str
    name: str
    bad: bool = False


@dataclass(frozen=True)
class Chart:
    """One chart, with what its colours mean: ``(css class, name)``."""

    title: str
    svg: Markup
    legend: tuple[tuple[str, str], ...] = ()


def html(story: Story, traffic: Traffic | None = None) -> str:
    """The page. ``traffic``: what a prober recorded meanwhile."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    start = story.began - (MARGIN if traffic else 0.5)
    axis = charts.Axis(start, story.end + (MARGIN if traffic else 0.5), story.start)
    moments = traffic.between(axis.start, axis.end) if traffic else []
    return environment.get_template("report.html.j2").render(
        story=story,
        when=_when(story.start),
        verdict=story.verdict or "unfinished",
        good=story.verdict == "done",
        tiles=tiles(story, moments),
        counted=balancers(story.counted),
        charts=[*_own(story, axis), *(_felt(axis, moments) if moments else [])],
        slowest=sorted(story.spans, key=lambda span: -span.seconds)[:SLOWEST],
        marks=sorted(story.failures + story.notices, key=lambda mark: mark.at),
        clock=lambda at: f"{at - story.start:.1f} s",
    )


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def tiles(story: Story, moments: list[Moment]) -> list[Tile]:
    """The figures that people ask for first."""
    found = [Tile(charts.clock(story.end - story.start), "from the first look to the end")]
    names = {"upgraded": False, "current": False, "restored": True, "broken": True}
    words = {"current": "already there", "restored": "put back", "broken": "out of rotation"}
    found += [
        Tile(str(story.counts[name]), words.get(name, name), bad)
        for name, bad in names.items()
        if story.counts.get(name)
    ]
    out = [way.out for way in story.ways.values() if way.out]
    if out:
        text = f"{sum(out) / len(out):.2f} s"
        found.append(Tile(text, f"out of rotation, mean; longest {max(out):.2f} s"))
    shares = [100 * left // total for left, total in story.lowest().values() if total]
    if shares:
        found.append(Tile(f"{min(shares)}%", "lowest capacity of any backend"))
    if story.cuts:
        found.append(Tile(str(len(story.cuts)), "drains cut at their deadline", bad=True))
    if moments:
        requests, failures = (
            sum(m.requests for m in moments),
            sum(m.failures for m in moments),
        )
        found.append(Tile(f"{requests:,}", "requests of the prober"))
        found.append(Tile(str(failures), "of them failed", failures > 0))
        worst = max(moments, key=lambda moment: moment.p99)
        found.append(Tile(f"{1000 * worst.p99:.0f} ms", "p99 of the slowest second"))
    return found


def _own(story: Story, axis: charts.Axis) -> list[Chart]:
    ways = sorted(story.ways.values(), key=lambda way: _first(way.spans))
    behind = {
        way.instance: f"{way.out:.2f} s, {way.fate} {way.version}" if way.fate else "no end of it"
        for way in ways
    }
    kinds = ("wait", "hook", "drain", "recreate", "health", "return")
    used = {span.kind for span in story.spans}
    found = []
    if ways:
        legend = tuple((kind, kind) for kind in kinds if kind in used)
        batches = [(at, f"batch {name}") for at, name in story.batches]
        drawn = charts.timeline(axis, ways, batches, behind)
        found.append(Chart("Instances, seconds out of rotation", Markup(drawn), legend))  # noqa: S704
    if story.capacity:
        found.append(_capacity(story, axis))
    return found


def _first(spans: list[Span]) -> float:
    return spans[0].start if spans else float("inf")


def _capacity(story: Story, axis: charts.Axis) -> Chart:
    lowest = story.lowest()
    same: dict[tuple[tuple[float, float], ...], list[str]] = {}
    for name in sorted(lowest, key=lambda name: lowest[name][0] / max(lowest[name][1], 1)):
        seen = tuple((at, 100 * left / total) for at, left, total in story.capacity[name] if total)
        same.setdefault(seen, []).append(name)
    found = [
        charts.Line(_names(names), points, f"c{number % COLOURS}", steps=True)
        for number, (points, names) in enumerate(list(same.items())[:POOLS])
    ]
    title = "Capacity left, % of the weights at the start"
    if len(same) > len(found):
        title += f" (the {len(found)} lowest of {len(same)})"
    drawn = charts.lines(axis, found, title, "%", most=100)
    return Chart(title, Markup(drawn), tuple((line.css, line.name) for line in found))  # noqa: S704


def _names(names: list[str]) -> str:
    """Pools that went the same way are one line of a chart."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


@dataclass(frozen=True)
class Balancer:
    """What one balancer counted: of all its servers, and of those with any trouble."""

    name: str
    total: Mapping[str, int]
    own: int
    """Answers with 5xx that came from no server."""
    resets: int
    servers: list[Counted]
    more: int
    """Further servers with trouble, which are not shown."""


def balancers(counted: list[Counted]) -> list[Balancer]:
    """A balancer and backend each."""
    groups: dict[str, list[Counted]] = {}
    for one in counted:
        groups.setdefault(f"{one.balancer}:{one.backend}", []).append(one)
    found = []
    for name, ones in groups.items():
        servers = [one for one in ones if not one.whole]
        total = next((one.figures for one in ones if one.whole), Counter[str]())
        own = total.get("errors_5xx", 0) - sum(one.figures["errors_5xx"] for one in servers)
        bad = sorted((one for one in servers if one.odd), key=lambda one: -one.odd)
        resets = max(one.resets for one in ones)
        more = max(len(bad) - SERVERS, 0)
        found.append(Balancer(name, total, max(own, 0), resets, bad[:SERVERS], more))
    return found


def _felt(axis: charts.Axis, moments: list[Moment]) -> list[Chart]:
    requests = charts.bars(
        axis,
        [(m.at, (("good", m.requests - m.failures), ("bad", m.failures))) for m in moments],
        "Requests a second, good and failed",
    )
    latency = [
        charts.Line("p99", [(m.at + 0.5, 1000 * m.p99) for m in moments if m.p99], "c1"),
        charts.Line("p50", [(m.at + 0.5, 1000 * m.p50) for m in moments if m.p50], "c0"),
    ]
    versions = _colours(moments)
    answering = charts.bars(
        axis,
        [
            (m.at, [(css, m.versions.get(version, 0)) for version, css in versions.items()])
            for m in moments
        ],
        "Answers a second by version",
    )
    return [
        Chart(
            "What the prober saw: requests a second",
            Markup(requests),  # noqa: S704
            (("good", "good"), ("bad", "failed")),
        ),
        Chart(
            "Latency, ms",
            Markup(charts.lines(axis, latency, "Latency", " ms")),  # noqa: S704
            tuple((line.css, line.name) for line in latency),
        ),
        Chart(
            "Versions answering, requests a second",
            Markup(answering),  # noqa: S704
            tuple((css, version) for version, css in versions.items()),
        ),
    ]


def _colours(moments: list[Moment]) -> Mapping[str, str]:
    """A colour for each version, the earlier ones first."""
    seen: Counter[str] = Counter()
    for moment in moments:
        seen.update(dict.fromkeys(moment.versions, 1))
    return {version: f"c{number % COLOURS}" for number, version in enumerate(seen)}
