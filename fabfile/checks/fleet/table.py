"""A report as text: the table for people, Nagios' one line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from fabfile.checks.fleet.host_rules import (
    CERTIFICATE_CRITICAL,
    CERTIFICATE_WARNING,
    DISK_CRITICAL,
    DISK_WARNING,
)
from fabfile.checks.fleet.judge import Cell, Report, Row

HEAD = ("host", "instance", "version", "container", "state", "weight", "sessions")


def lines(report: Report) -> list[str]:
    """Everything a person wants to see; the verdict comes last, where it is seen."""
    found: list[str] = []
    several = len(report.fleet.services) > 1
    for service in report.fleet.services:
        if several:
            found.append(f"{service.name}:")
        rows = [_texts(row) for row in report.rows if row.service == service.name]
        found += columns([HEAD, *rows])
    found += [f"note: {note}" for note in report.notes]
    for verdict in report.verdicts:
        found.append(f"{verdict.severity:8}  {verdict.name}  {verdict.subject}: {verdict.text}")
        found.append(f"{'':8}  -> {verdict.mend}")
    return [*found, report.headline]


def _texts(row: Row) -> tuple[str, ...]:
    return (
        row.host,
        row.instance,
        row.version or "-",
        row.container,
        _alike(row.cells, lambda cell: cell.state),
        _alike(row.cells, _weight),
        str(row.sessions) if row.cells else "-",
    )


def _weight(cell: Cell) -> str:
    return "-" if cell.state in ("?", "missing") else str(cell.weight)


def _alike(cells: Sequence[Cell], what: Callable[[Cell], str]) -> str:
    """One word where all balancers agree, else each with its own."""
    words = [what(cell) for cell in cells]
    if len(set(words)) <= 1:
        return words[0] if words else "-"
    pairs = zip(cells, words, strict=True)
    return " ".join(f"{cell.balancer}:{word}" for cell, word in pairs)


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of equally many cells, aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        padded = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        yield "  ".join(padded).rstrip()


def nagios(report: Report) -> str:
    """One line and performance data, as the Monitoring Plugins' guidelines have it."""
    return f"{plain(report.headline)} | {' '.join(_performance(report))}"


def plain(text: str) -> str:
    """One line without the bar that begins performance data."""
    return " ".join(text.split()).replace("|", "/")


def _performance(report: Report) -> Iterable[str]:
    total = len(report.rows)
    healthy = sum(row.healthy for row in report.rows)
    counts = dict.fromkeys(("CRITICAL", "WARNING", "UNKNOWN"), 0)
    for verdict in report.verdicts:
        counts[verdict.severity] += 1
    yield f"instances={total}"
    yield f"healthy={healthy};{total}:;1:"
    if report.lowest is not None:
        yield f"capacity={report.lowest}%;100:;1:"
    yield f"versions={len(report.versions)}"
    yield f"sessions={sum(row.sessions for row in report.rows)}"
    yield f"critical={counts['CRITICAL']};;0"
    yield f"warning={counts['WARNING']};0;"
    yield f"unknown={counts['UNKNOWN']}"
    yield f"unreachable={len(report.fleet.unreachable)};0;"
    yield f"disk={report.fullest}%;{DISK_WARNING};{DISK_CRITICAL}"
    if report.certificate_days is not None:
        days = report.certificate_days
        yield f"certificate_days={days};{CERTIFICATE_WARNING}:;{CERTIFICATE_CRITICAL}:"
    yield f"time={report.fleet.elapsed:.3f}s"
