"""A rollout's figures for Prometheus, made of its story alone.

All are of the last rollout of a service: gauges, and a histogram and summaries that begin anew
with each rollout.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fabfile.errors import BadInput
from fabfile.exposition import gauge, histogram, summary
from fabfile.files import replace_file
from fabfile.reports.story import Story, read

VERDICTS = ("done", "rolled-back", "held", "needs-repair", "interrupted", "unfinished")
FATES = {"upgraded": "upgraded", "current": "current", "restored": "restored",
         "untouched": "untouched", "broken": "out-of-rotation"}  # fmt: skip
BOUNDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
"""Seconds."""
JOB = "evenkeel_rollout"
SUCCESS = "evenkeel_rollout_last_success_timestamp_seconds"


@dataclass(frozen=True)
class Outcome:
    """What the story does not know."""

    service: str
    success: bool
    """It ended as whoever began it wanted."""
    last_success: float | None = None
    """Seconds since 1970: of the rollout before, where this one was none."""


def exposition(story: Story, outcome: Outcome) -> str:
    """The text of a ``.prom`` file, or of what a Pushgateway gets."""
    labels = {"service": outcome.service}
    lines = [*_ended(story, outcome, labels), *_instances(story, labels), *_times(story, labels),
             *_capacity(story, labels)]  # fmt: skip
    return "".join(f"{line}\n" for line in lines)


def write(log: Path, path: Path) -> None:
    """The figures of a rollout whose event log is ``log``, into ``path``.

    Raises :class:`BadInput` for what can't be read or written, or where no rollout began.
    """
    story = read(log)
    if not story.service:
        raise BadInput(f"{log}: no rollout began, so there are no figures")
    text = exposition(story, Outcome(story.service, story.verdict == "done"))
    try:
        replace_file(path, text, 0o644)
    except OSError as error:
        raise BadInput(f"{path}: can't be written: {error.strerror}") from None


def last_success(text: str, service: str) -> float | None:
    """What an earlier file of ``service`` says about it."""
    found = re.search(rf'^{SUCCESS}{{service="{re.escape(service)}"}} ([0-9.]+)$', text, re.M)
    return float(found[1]) if found else None


def _ended(story: Story, outcome: Outcome, labels: Mapping[str, str]) -> Iterator[str]:
    verdict = story.verdict or "unfinished"
    success = story.end if outcome.success else outcome.last_success
    yield from gauge(
        "rollout_info",
        "The last rollout",
        [({**labels, "rollout": story.rollout, "version": story.version}, 1)],
    )
    yield from gauge(
        "rollout_verdict",
        "1: how the last rollout ended",
        [({**labels, "verdict": each}, int(each == verdict)) for each in VERDICTS],
    )
    yield from gauge(
        "rollout_success",
        "1: the last rollout ended as it was wanted",
        [(labels, int(outcome.success))],
    )
    for name, help_text, value in (
        ("started_timestamp_seconds", "When the last rollout began", story.start),
        ("finished_timestamp_seconds", "When the last rollout ended", story.end),
        ("last_success_timestamp_seconds", "When one last ended as it was wanted", success),
    ):
        samples = [] if value is None else [(labels, f"{value:.3f}")]
        yield from gauge(f"rollout_{name}", help_text, samples)


def _instances(story: Story, labels: Mapping[str, str]) -> Iterator[str]:
    yield from gauge(
        "rollout_instances",
        "What became of the selected instances",
        [({**labels, "fate": word}, story.counts.get(fate, 0)) for fate, word in FATES.items()],
    )
    yield from gauge("rollout_failed_steps", "Steps that failed", [(labels, len(story.failures))])
    yield from gauge(
        "rollout_requests_cut", "Requests closed at a drain's deadline", [(labels, story.cut)]
    )


def _times(story: Story, labels: Mapping[str, str]) -> Iterator[str]:
    out = [way.out for way in story.ways.values() if way.out > 0]
    phases: dict[str, float] = defaultdict(float)
    for phase, took, _ in story.phases:
        phases[phase] += took
    by_kind: dict[str, list[float]] = defaultdict(list)
    for span in story.spans:
        by_kind[span.kind].append(span.seconds)
    yield from gauge(
        "rollout_duration_seconds",
        "From the first look at the hosts to the end",
        [(labels, f"{story.end - story.start:.3f}")],
    )
    yield from gauge(
        "rollout_phase_seconds",
        "What came before the first batch",
        [({**labels, "phase": phase}, f"{took:.3f}") for phase, took in phases.items()],
    )
    yield from summary(
        "rollout_step_seconds",
        "Steps of instances by kind",
        [({**labels, "step": kind}, took) for kind, took in sorted(by_kind.items())],
    )
    yield from histogram(
        "rollout_out_of_rotation_seconds",
        "How long instances took no new requests",
        labels,
        out,
        BOUNDS,
    )
    yield from gauge(
        "rollout_longest_out_of_rotation_seconds",
        "The longest of these",
        [(labels, f"{max(out, default=0.0):.3f}")],
    )


def _capacity(story: Story, labels: Mapping[str, str]) -> Iterator[str]:
    yield from gauge(
        "rollout_capacity_lost_seconds",
        "Share of the weight that was missing, over time",
        [({**labels, "pool": pool}, f"{lost:.3f}") for pool, lost in story.lost().items()],
    )
    yield from gauge(
        "rollout_lowest_capacity_ratio",
        "The least share of the weight that was left in rotation",
        [
            ({**labels, "pool": pool}, f"{left / total if total else 1.0:.4f}")
            for pool, (left, total) in story.lowest().items()
        ],
    )
