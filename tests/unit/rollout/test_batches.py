"""Ansible's meaning of ``serial`` and ``max_fail_percentage``, in whole numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile.inventory.model import Count
from fabfile.rollout.batches import batches, over_budget, size_of


def sizes(total: int, *serial: Count) -> list[int]:
    return [len(batch) for batch in batches([f"web{n}" for n in range(total)], serial)]


def test_a_third_of_seven_hosts_is_two_not_three():
    assert size_of(Count(35, percent=True), 7) == 2


def test_29_percent_of_100_hosts_is_29_and_not_the_28_that_floats_make_of_it():
    assert int((29 / 100.0) * 100) == 28
    assert size_of(Count(29, percent=True), 100) == 29


def test_half_of_one_host_is_that_host_and_not_nobody():
    assert sizes(1, Count(50, percent=True)) == [1]


def test_a_percentage_is_of_all_hosts_not_of_those_that_are_left():
    assert sizes(10, Count(30, percent=True)) == [3, 3, 3, 1]


def test_the_last_entry_of_a_list_repeats():
    assert sizes(10, Count(1), Count(35, percent=True)) == [1, 3, 3, 3]
    assert sizes(7, Count(1), Count(2)) == [1, 2, 2, 2]


@pytest.mark.parametrize("count", [Count(0), Count(-1), Count(0, percent=True), Count(9)])
def test_zero_less_or_more_than_there_are_means_all_at_once(count):
    assert sizes(5, count) == [5]


def test_no_serial_at_all_is_a_mistake():
    with pytest.raises(ValueError, match="empty"):
        batches(["web1"], [])


def test_no_hosts_make_no_batches():
    assert batches([], [Count(1)]) == ()


@given(
    st.integers(0, 60),
    st.lists(st.builds(Count, st.integers(-2, 120), st.booleans()), min_size=1, max_size=4),
)
def test_every_host_is_in_exactly_one_batch_and_the_order_is_kept(total, serial):
    hosts = [f"web{n}" for n in range(total)]
    assert [host for batch in batches(hosts, serial) for host in batch] == hosts
    assert all(batches(hosts, serial))


@pytest.mark.parametrize(
    ("failed", "size", "percent", "stops"),
    [
        (0, 1, 0, False),
        (1, 10, 0, True),
        (1, 10, 10, False),
        (2, 10, 10, True),
        (3, 10, 30, False),
        (4, 10, 30, True),
        (10, 10, 100, True),
        (1, 1, 100, True),
    ],
)
def test_the_budget_ends_strictly_above_and_a_batch_that_failed_whole_always_stops(
    failed, size, percent, stops
):
    assert over_budget(failed, size, percent) is stops
