"""A run of the prober as text. The only place of ``checks`` that writes to a stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TextIO

from fabfile.checks import record
from fabfile.checks.events import Event, Failed, Second, Seen, SocketEnded
from fabfile.checks.figures import Gap
from fabfile.checks.summary import Figures, Presence, Summary, Verdict

PLAIN_EVERY = 5
"""Seconds between live lines where they cannot be rewritten in place."""


class Screen:
    """Shows events as they come and the summary at the end."""

    def __init__(self, stream: TextIO, *, as_json: bool = False, nagios: bool = False) -> None:
        self._stream = stream
        self._json = as_json
        self._nagios = nagios
        self._terminal = not as_json and stream.isatty()
        self._live = ""
        self._requests = self._failures = 0
        self._open: dict[int, list[Second]] = {}
        self._lanes = 0

    def show(self, events: Iterable[Event]) -> None:
        """Show what happened."""
        for event in events:
            if self._nagios:
                continue
            if self._json:
                self._line(record.line(event))
                continue
            match event:
                case Second():
                    self._second(event)
                case Seen() | Failed() | SocketEnded():
                    self._line(sentence(event))
                case _:
                    self._lanes = len(event.lanes)
        self._stream.flush()

    def end(self, summary: Summary, verdict: Verdict) -> None:
        """Show the summary."""
        self._clear()
        if self._json:
            self._line(record.summary_line(summary, verdict))
        elif self._nagios:
            self._line(one_line(summary, verdict))
        else:
            for text in report(summary, verdict):
                self._line(text)
        self._stream.flush()

    def complain(self, message: str) -> None:
        """One line that says why there is nothing to show."""
        self._line(message)
        self._stream.flush()

    def _second(self, second: Second) -> None:
        self._requests += second.requests
        self._failures += second.failures
        together = self._open.setdefault(second.t, [])
        together.append(second)
        if len(together) < self._lanes:
            return
        del self._open[second.t]
        text = live(second.t + 1, together, self._requests, self._failures)
        if self._terminal:
            self._clear()
            self._live = text
            self._stream.write(text)
        elif (second.t + 1) % PLAIN_EVERY == 0:
            self._line(text)

    def _line(self, text: str) -> None:
        live_line = self._live
        self._clear()
        self._stream.write(text + "\n")
        if live_line:
            self._live = live_line
            self._stream.write(live_line)

    def _clear(self) -> None:
        if self._live:
            self._stream.write("\r\x1b[K")
            self._live = ""


def sentence(event: Seen | Failed | SocketEnded) -> str:
    """``  12.4s  web2/app_1 now answers with 0.0.2``."""
    clock = f"{event.t:6.1f}s  "
    match event:
        case Seen():
            who = event.server or event.url
            return f"{clock}{who} now answers" + (f" with {event.version}" if event.version else "")
        case Failed():
            return f"{clock}FAILED {event.kind}: {event.url} ({event.lane}): {event.detail}"
        case SocketEnded():
            who = f" on {event.server}" if event.server else ""
            return f"{clock}WebSocket{who} ended after {event.lived:.1f} s: {event.how}"


def live(clock: int, seconds: list[Second], requests: int, failures: int) -> str:
    """One line for the last second of all lanes together, and the totals so far."""
    versions: dict[str, int] = {}
    for second in seconds:
        for version, count in second.versions.items():
            versions[version] = versions.get(version, 0) + count
    rate = sum(second.requests for second in seconds)
    busiest = max(seconds, key=lambda second: second.requests)
    shares = " ".join(f"{name}:{count}" for name, count in sorted(versions.items()))
    latency = f"p50 {_time(busiest.p50)} p99 {_time(busiest.p99)}"
    return f"{clock:6d}s  {rate}/s  {latency}  {requests} requests, {failures} failed  {shares}"


def report(summary: Summary, verdict: Verdict) -> list[str]:
    """The summary as lines; the verdict comes last, where it is seen."""
    lines = []
    for figures in summary.lanes.values():
        lines += _lane(figures)
    overall = summary.overall
    lines += [_failure(example) for example in overall.examples]
    lines += [f"  {sentence(ended).strip()}" for ended in overall.sockets]
    lines += _presences("version", overall.versions)
    lines += _presences("server", overall.servers)
    if overall.late or overall.unsent:
        lines.append(
            f"  the prober itself sent {overall.late} requests late and {overall.unsent} not at all"
        )
    reasons = "; ".join(verdict.reasons) or _all_well(summary)
    lines.append(f"{verdict.word}: {reasons}")
    return lines


def one_line(summary: Summary, verdict: Verdict) -> str:
    """The verdict and performance data, as the Monitoring Plugins' guidelines have it."""
    figures = summary.overall
    reasons = "; ".join(verdict.reasons) or _all_well(summary)
    numbers = {
        "requests": f"{figures.requests}",
        "failures": f"{figures.failures};0;",
        "slow": f"{figures.slow};0;",
        "p50": f"{figures.p50:.4f}s",
        "p99": f"{figures.p99:.4f}s",
        "max": f"{figures.max:.4f}s",
        "gap": f"{figures.gap.seconds:.4f}s",
    }
    performance = " ".join(f"{name}={value}" for name, value in numbers.items())
    return f"{verdict.word}: {' '.join(reasons.split()).replace('|', '/')} | {performance}"


def _lane(figures: Figures) -> list[str]:
    lines = [
        f"{figures.name}: {figures.requests} requests, {figures.failures} failed "
        f"({figures.failure_rate:.2%}), {figures.slow} slow, {figures.rate:.1f}/s, "
        f"p50 {_time(figures.p50)}, p99 {_time(figures.p99)}, max {_time(figures.max)}"
    ]
    if figures.kinds:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(figures.kinds.items()))
        lines.append(f"  failures: {kinds}")
    if figures.row.failures > 1:
        row = figures.row
        lines.append(
            f"  most in a row: {row.failures}, over {_time(row.seconds)}, {_at(row.since)}"
        )
    if figures.gaps:
        lines.append(f"  longest gap without a good answer: {_gap(figures.gap)}")
    if len(figures.gaps) > 1:
        lines += [f"    {url}: {_gap(gap)}" for url, gap in figures.gaps.items()]
    return lines


def _gap(gap: Gap) -> str:
    return f"{_time(gap.seconds)}, {_at(gap.since)}"


def _at(moment: float) -> str:
    return f"from {moment:.1f}s on"


def _failure(example: Failed) -> str:
    return "  " + sentence(example).strip()


def _presences(what: str, presences: Mapping[str, Presence]) -> list[str]:
    return [
        f"  {what} {name}: {seen.answers} answers, {seen.first:.1f}s to {seen.last:.1f}s"
        for name, seen in sorted(presences.items())
    ]


def _all_well(summary: Summary) -> str:
    ended = f", all {summary.expect_version} at the end" if summary.expect_version else ""
    overall = summary.overall
    return f"{overall.requests} requests, none failed{ended}"


def _time(seconds: float) -> str:
    milliseconds = seconds * 1000
    return f"{milliseconds:.3g} ms" if seconds < 1 else f"{seconds:.1f} s"
