"""Percentiles and gaps against their plain definitions."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile.checks.figures import GapMeter, Histogram, percentile

latencies = st.floats(min_value=1e-5, max_value=1e3)
completions = st.lists(st.tuples(st.floats(0, 100), st.booleans())).map(sorted)


def at_most(values: list[float], limit: float) -> float:
    return 100 * sum(value <= limit for value in values) / len(values)


@given(st.lists(latencies, min_size=1), st.floats(1, 100))
def test_a_percentile_is_a_latency_that_was_measured_and_covers_its_share(values, percent):
    found = percentile(sorted(values), percent)

    assert found in values
    assert at_most(values, found) >= percent - 1e-6
    below = [value for value in values if value < found]
    assert not below or at_most(values, max(below)) < percent + 1e-6


@given(st.lists(latencies, min_size=1), st.sampled_from([1, 50, 99, 100]))
def test_long_runs_keep_percentiles_within_one_percent_and_the_exact_maximum(values, percent):
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = percentile(sorted(values), percent)

    assert histogram.max == max(values)
    assert exact * (1 - 1e-9) <= histogram.percentile(percent) <= exact * 1.01 * (1 + 1e-9)


def test_no_answers_have_no_latency():
    assert Histogram().percentile(99) == percentile([], 50) == 0


@given(completions, st.floats(0, 10))
def test_the_longest_gap_is_the_widest_space_between_good_answers(ended, tail):
    meter = GapMeter()
    for moment, good in ended:
        meter.add(moment, good=good)
    end = (ended[-1][0] if ended else 0) + tail
    marks = [0.0, *(moment for moment, good in ended if good), end]
    widest = max(b - a for a, b in pairwise(marks))
    found = meter.longest(end)

    assert found.seconds == pytest.approx(widest)
    inside = (found.since + 1e-6, found.since + found.seconds - 1e-6)
    assert not any(inside[0] < mark < inside[1] for mark in marks)


@given(completions)
def test_the_longest_row_of_failures_is_not_broken_by_anything_but_a_good_answer(ended):
    meter = GapMeter()
    for moment, good in ended:
        meter.add(moment, good=good)
    rows: list[list[float]] = [[]]
    for moment, good in ended:
        if good:
            rows.append([])
        else:
            rows[-1].append(moment)
    longest = max(rows, key=len)

    assert meter.worst_row.failures == len(longest)
    if longest:
        assert meter.worst_row.since == longest[0]
        assert meter.worst_row.seconds == pytest.approx(longest[-1] - longest[0])


def test_a_service_that_never_comes_back_has_a_gap_to_the_end():
    meter = GapMeter()
    meter.add(1.0, good=True)
    meter.add(2.0, good=False)

    assert (meter.longest(30.0).since, meter.longest(30.0).seconds) == (1.0, 29.0)
