"""Prometheus' text format, without timestamps: those the textfile collector refuses.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

PREFIX = "evenkeel_"

Labels = Mapping[str, str]


def gauge(name: str, help_text: str, samples: Sequence[tuple[Labels, object]]) -> Iterator[str]:
    """The lines of one metric; none where there is no sample."""
    if samples:
        yield from _head(name, "gauge", help_text)
        for labels, value in samples:
            yield _sample(name, labels, value)


def summary(
    name: str, help_text: str, samples: Sequence[tuple[Labels, Sequence[float]]]
) -> Iterator[str]:
    """Sum and count of each list of values, which are seconds."""
    if samples:
        yield from _head(name, "summary", help_text)
        for labels, values in samples:
            yield from _total(name, labels, values)


def histogram(
    name: str, help_text: str, labels: Labels, values: Sequence[float], bounds: Sequence[float]
) -> Iterator[str]:
    """How many ``values`` (seconds) lie at or below each of ``bounds``."""
    yield from _head(name, "histogram", help_text)
    for bound in bounds:
        count = sum(value <= bound for value in values)
        yield _sample(f"{name}_bucket", {**labels, "le": f"{bound:g}"}, count)
    yield _sample(f"{name}_bucket", {**labels, "le": "+Inf"}, len(values))
    yield from _total(name, labels, values)


def _head(name: str, kind: str, help_text: str) -> Iterator[str]:
    yield f"# HELP {PREFIX}{name} {help_text}"
    yield f"# TYPE {PREFIX}{name} {kind}"


def _total(name: str, labels: Labels, values: Sequence[float]) -> Iterator[str]:
    yield _sample(f"{name}_sum", labels, f"{sum(values):.3f}")
    yield _sample(f"{name}_count", labels, len(values))


def _sample(name: str, labels: Labels, value: object) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{PREFIX}{name}{{{inside}}} {value}" if inside else f"{PREFIX}{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
