"""What a run of the prober comes to, and the verdict over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from fabfile.checks.events import Failed, SocketEnded
from fabfile.checks.figures import Gap, Streak
from fabfile.checks.sample import Failure

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")

CRITICAL_SHARE = 0.01
"""Share of failed requests from which a run is CRITICAL, unless a number of failures is set."""

LATE_SHARE = 0.05
"""Share of requests the prober sent late or not at all above which it has no verdict to give."""


@dataclass(frozen=True)
class Presence:
    """How often something answered well, and when. Seconds since the run began."""

    answers: int
    first: float
    last: float


@dataclass(frozen=True)
class Figures:
    """One lane, or all lanes together. Durations in seconds."""

    name: str
    requests: int = 0
    """Requests that came to an end, good or bad."""
    failures: int = 0
    kinds: Mapping[str, int] = field(default_factory=dict)
    """Failures by kind."""
    examples: tuple[Failed, ...] = ()
    """The first few failures of each kind."""
    slow: int = 0
    """Good answers that took longer than the lane's ``slow_after``."""
    late: int = 0
    """Requests the prober itself sent late. They count as requests like all others."""
    unsent: int = 0
    """Requests the prober was too far behind to send, or had no files or ports for."""
    seconds: float = 0.0
    """How long requests were sent."""
    p50: float = 0.0
    p99: float = 0.0
    max: float = 0.0
    """Latency of good answers."""
    gap: Gap = field(default_factory=Gap)
    """The longest interval without a good answer."""
    gaps: Mapping[str, Gap] = field(default_factory=dict)
    """The same for each URL."""
    row: Streak = field(default_factory=Streak)
    """The longest row of failures."""
    versions: Mapping[str, Presence] = field(default_factory=dict)
    servers: Mapping[str, Presence] = field(default_factory=dict)
    sockets: tuple[SocketEnded, ...] = ()
    """WebSockets that ended, other than by us."""

    @property
    def good(self) -> int:
        """Requests that were answered well."""
        return self.requests - self.failures

    @property
    def failure_rate(self) -> float:
        """0 to 1."""
        return self.failures / self.requests if self.requests else 0.0

    @property
    def rate(self) -> float:
        """Requests per second achieved."""
        return self.requests / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Summary:
    """A whole run."""

    overall: Figures
    """All lanes. Its gap is that of the lanes whose requests are short."""
    lanes: Mapping[str, Figures]
    expect_version: str | None = None
    expected_seen: bool = True
    """The last answers were all of the expected version, and there were some."""


@dataclass(frozen=True)
class Verdict:
    """Nagios' view of a run."""

    exit_code: int
    reasons: tuple[str, ...]

    @property
    def word(self) -> str:
        """OK, WARNING, CRITICAL or UNKNOWN."""
        return WORDS[self.exit_code]


def judge(summary: Summary, *, max_failures: int | None = None) -> Verdict:
    """The verdict.

    UNKNOWN: nothing was sent, or more than 5 % went out late, so the figures say more about this
    machine than about the service. CRITICAL: no good answer at all, the expected version is not
    what answers at the end, or too many failures: more than ``max_failures``, or without it 1 %
    of the requests. WARNING: any other failure, or a slow answer.
    """
    figures = summary.overall
    unknown = _unknown(figures)
    if unknown:
        return Verdict(UNKNOWN, (unknown,))
    critical = _critical(summary, max_failures)
    if critical:
        return Verdict(CRITICAL, critical)
    small = []
    if figures.failures:
        small.append(f"{figures.failures} of {figures.requests} requests failed")
    if figures.slow:
        small.append(f"{figures.slow} slow answers")
    return Verdict(WARNING if small else OK, tuple(small))


def _unknown(figures: Figures) -> str:
    planned = figures.requests + figures.unsent
    if not planned:
        return "nothing was sent"
    behind = figures.late + figures.unsent
    if behind > planned * LATE_SHARE:
        return (
            f"the prober could not keep up: {figures.late} of {planned} requests sent late, "
            f"{figures.unsent} not at all"
        )
    return ""


def _critical(summary: Summary, max_failures: int | None) -> tuple[str, ...]:
    figures = summary.overall
    # A wrong version has a reason of its own; those requests were answered.
    lost = figures.failures - figures.kinds.get(Failure.WRONG_VERSION.value, 0)
    reasons = []
    if lost >= figures.requests:
        reasons.append(f"none of {figures.requests} requests was answered")
    elif lost and _too_many(lost, figures.requests, max_failures):
        share = f"{lost / figures.requests:.2%}"
        reasons.append(f"{lost} of {figures.requests} requests failed ({share})")
    if not summary.expected_seen:
        reasons.append(f"the last answers are not all of version {summary.expect_version}")
    return tuple(reasons)


def _too_many(lost: int, requests: int, max_failures: int | None) -> bool:
    if max_failures is not None:
        return lost > max_failures
    return lost >= requests * CRITICAL_SHARE


def to_dict(summary: Summary, verdict: Verdict) -> dict[str, object]:
    """For JSON: everything, with the derived figures spelled out."""
    return {
        "event": "summary",
        "exit_code": verdict.exit_code,
        "verdict": verdict.word,
        "reasons": list(verdict.reasons),
        "expect_version": summary.expect_version,
        "overall": _figures(summary.overall),
        "lanes": {name: _figures(figures) for name, figures in summary.lanes.items()},
    }


def _figures(figures: Figures) -> dict[str, object]:
    derived = {"failure_rate": round(figures.failure_rate, 6), "rate": round(figures.rate, 2)}
    return asdict(figures) | derived
