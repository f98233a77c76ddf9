"""The schedule depends on nothing but the clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile.checks.schedule import GIVE_UP_AFTER, Schedule


@given(st.lists(st.floats(0, 20), min_size=1).map(sorted), st.integers(1, 300))
def test_every_request_is_handed_out_once_or_counted_as_left_out(looks, rate):
    schedule = Schedule(rate, end=10.0)
    taken = [due for now in looks for due in schedule.take(now)]
    owed = sum(1 for n in range(rate * 10) if n / rate <= looks[-1])

    assert len(taken) + schedule.skipped == owed
    assert taken == sorted(set(taken))


def test_a_run_of_thirty_seconds_at_fifty_sends_exactly_1500():
    schedule = Schedule(50, end=30)
    taken = [due for tick in range(3200) for due in schedule.take(tick / 100)]

    assert len(taken) == 1500
    assert schedule.next_due is None


def test_a_prober_that_slept_does_not_flood_the_service_when_it_wakes():
    schedule = Schedule(100)
    schedule.take(0.0)
    burst = schedule.take(60.0)

    assert len(burst) <= 100 * GIVE_UP_AFTER + 1
    assert schedule.skipped == 6000 - len(burst)


def test_times_do_not_drift_over_a_long_run():
    assert Schedule(3).due(3 * 3600 * 24) == pytest.approx(3600 * 24, abs=1e-6)
