"""Charts as SVG text: a timeline of lanes, steps over time, bars over time.

Colours are classes of the page's style sheet, so that dark mode and print are its business.
Every chart of a page shares one time axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from fabfile.reports.story import Span, Way

WIDTH, LEFT, RIGHT = 960, 130, 12
"""Of a chart, in units of its own: the page scales it."""
TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
"""Seconds between two ticks of the time axis."""
LETTER = 6.4
"""How wide a letter is at most, on average, in the units of a chart."""
NAME = 18
"""Letters of a name in front of a row."""


@dataclass(frozen=True)
class Axis:
    """The time axis: from ``start`` to ``end``, seconds since 1970."""

    start: float
    end: float
    zero: float | None = None
    """The moment that is called 0; the start, where none is given."""

    def x(self, at: float) -> float:
        """Where ``at`` is drawn; what lies outside is drawn at the edge."""
        share = (at - self.start) / max(self.end - self.start, 1e-9)
        return round(LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT), 1)

    @property
    def origin(self) -> float:
        """What labels count from."""
        return self.start if self.zero is None else self.zero

    def ticks(self) -> list[float]:
        """At most ten or so, at round distances from 0."""
        length = self.end - self.start
        step = next((tick for tick in TICKS if length / tick <= 10), TICKS[-1])
        first = ceil(round((self.start - self.origin) / step, 6))
        found = [self.origin + step * n for n in range(first, first + int(length / step) + 2)]
        return [tick for tick in found if tick <= self.end]

    def grid(self, height: float) -> str:
        """Lines and labels."""
        parts = []
        for tick in self.ticks():
            x, label = self.x(tick), clock(tick - self.origin)
            parts.append(f'<line class="grid" x1="{x}" y1="0" x2="{x}" y2="{height}"/>')
            parts.append(f'<text class="tick" x="{x}" y="{height + 14}">{label}</text>')
        return "".join(parts)


def clock(seconds: float) -> str:
    """``75`` as ``1:15``; below a minute ``12s``."""
    whole = round(seconds)
    if whole < 0:
        return f"-{clock(-seconds)}"
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def svg(height: float, body: str, title: str) -> str:
    """A chart; ``title`` is for who can't see it."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height + 20:g}" role="img" aria-label="{escape(title)}">'
        f"{body}</svg>"
    )


def timeline(
    axis: Axis,
    ways: Sequence[Way],
    batches: Sequence[tuple[float, str]],
    seconds: Mapping[str, str],
) -> str:
    """One row an instance; ``seconds``: what is written behind each."""
    row = 20 if len(ways) <= 60 else max(3.0, 1200 / len(ways))
    height = row * len(ways) + 16
    parts = [axis.grid(height)]
    free = 0.0
    for at, name in batches:
        x = axis.x(at)
        parts.append(f'<line class="batch" x1="{x}" y1="0" x2="{x}" y2="{height:g}"/>')
        if x >= free and x + width(name) < WIDTH:
            parts.append(f'<text class="tick left" x="{x + 3}" y="10">{escape(name)}</text>')
            free = x + width(name) + 6
    for number, way in enumerate(ways):
        top = 16 + row * number
        if row >= 10:
            text = f'<text class="name" x="{LEFT - 8}" y="{top + row * 0.7:g}">'
            parts.append(f"{text}{escape(short(way.instance))}</text>")
        parts += [_bar(axis, span, top, row) for span in way.spans]
        if row >= 10 and way.spans:
            parts.append(_behind(axis, way, seconds.get(way.instance, ""), top + row * 0.7))
    return svg(height, "".join(parts), "What each instance did when")


def width(text: str) -> float:
    """How much room ``text`` takes."""
    return LETTER * len(text)


def short(name: str, letters: int = NAME) -> str:
    """``name``, without its beginning where it is too long: its end tells it from others."""
    return name if len(name) <= letters else f"…{name[1 - letters :]}"


def _behind(axis: Axis, way: Way, text: str, y: float) -> str:
    """What is written behind a row, or in front of it where there is no more room behind."""
    x, css = axis.x(way.spans[-1].end) + 5, "tick left"
    if x + width(text) > WIDTH:
        x, css = axis.x(way.spans[0].start) - 5, "name soft"
    if css == "name soft" and x - width(text) < LEFT:
        return ""
    return f'<text class="{css}" x="{x:g}" y="{y:g}">{escape(text)}</text>'


def _bar(axis: Axis, span: Span, top: float, row: float) -> str:
    x, wide = axis.x(span.start), max(axis.x(span.end) - axis.x(span.start), 1.0)
    said = f"{span.instance}: {span.kind} {span.seconds:.2f} s"
    said += f": {span.note}" if span.note else ""
    kind = span.kind if span.ok else f"{span.kind} failed"
    return (
        f'<rect class="{kind}" x="{x}" y="{top + row * 0.15:g}" width="{wide:.1f}"'
        f' height="{row * 0.7:g}"><title>{escape(said)}</title></rect>'
    )


@dataclass(frozen=True)
class Line:
    """One line of a chart: ``points`` of time and value; ``css`` its class."""

    name: str
    points: Sequence[tuple[float, float]]
    css: str
    steps: bool = False
    """A value holds until the next one."""


def lines(
    axis: Axis,
    found: Sequence[Line],
    title: str,
    unit: str = "",
    *,
    most: float = 0.0,
    height: float = 110,
) -> str:
    """Lines over time, from 0 to ``most`` or to what is there."""
    top = round_up(max([most, *(value for line in found for _, value in line.points)], default=0))
    parts = [axis.grid(height), _scale(top, unit, height)]
    for line in found:
        path = _path(axis, line, top, height)
        parts.append(
            f'<path class="line {line.css}" d="{path}"><title>{escape(line.name)}</title></path>'
        )
    return svg(height, "".join(parts), title)


def round_up(value: float) -> float:
    """The next number that people like on a scale; 1 for 0."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** floor(log10(value))
    return next(unit * step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15) if unit * step >= value)


def _path(axis: Axis, line: Line, top: float, height: float) -> str:
    parts: list[str] = []
    for at, value in line.points:
        x, y = axis.x(at), round(height - value / top * (height - 8), 1)
        if not parts:
            parts.append(f"M{x} {y}")
        else:
            parts.append(f"H{x}V{y}" if line.steps else f"L{x} {y}")
    if line.steps and parts:
        parts.append(f"H{axis.x(axis.end)}")
    return "".join(parts)


def _scale(top: float, unit: str, height: float) -> str:
    parts = []
    for share in (0.0, 0.5, 1.0):
        y, value = round(height - share * (height - 8), 1), top * share
        number = f"{value:.0f}" if value >= 10 or value == 0 else f"{value:.2g}"
        line = f'<line class="grid" x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}"/>'
        below = 4 if share else 0  # the lowest one leaves room for the time below it
        text = f'<text class="name" x="{LEFT - 8}" y="{y + below}">{number}{unit}</text>'
        parts.append(line + text)
    return "".join(parts)


def bars(
    axis: Axis,
    stacks: Iterable[tuple[float, Sequence[tuple[str, float]]]],
    title: str,
    *,
    height: float = 110,
) -> str:
    """One bar a second: ``(moment, ((css class, value), …))``, stacked from below."""
    found = list(stacks)
    top = round_up(max((sum(v for _, v in stack) for _, stack in found), default=0.0))
    parts = [axis.grid(height), _scale(top, "", height)]
    for at, stack in found:
        x = axis.x(at)
        wide = max(axis.x(at + 1) - x - 0.5, 0.6)
        y = float(height)
        for css, value in stack:
            size = value / top * (height - 8)
            y -= size
            if value:
                parts.append(
                    f'<rect class="{css}" x="{x}" y="{y:.1f}" width="{wide:.1f}"'
                    f' height="{max(size, 1):.1f}"/>'
                )
    return svg(height, "".join(parts), title)
