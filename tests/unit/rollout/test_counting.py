"""What balancers counted: exactly what came during the rollout, whatever was reloaded."""

from fabfile.balancers.model import COUNTED, BackendReading
from fabfile.rollout.counting import Counting


def read(process=7, **servers):
    """Each server: requests, 5xx, retries, redispatches, not_connected, no_answer, queue."""
    return {("lb1", "shop"): BackendReading("lb1", process, {}, counts=servers)}


def told(*looks):
    counting = Counting()
    for look in looks:
        counting.see(look)
    (event,) = counting.told()
    return event


def figures(event, server="a"):
    return tuple(event.servers[server][name] for name in COUNTED)


def test_only_what_came_during_the_rollout_counts():
    event = told(
        read(a=(100, 5, 1, 1, 0, 0, 3)),
        read(a=(150, 5, 2, 1, 0, 1, 3)),
        read(a=(200, 6, 3, 2, 4, 1, 3)),
    )
    assert figures(event) == (100, 1, 2, 1, 4, 1, 0)
    assert event.resets == 0


def test_a_queue_that_grew_longer_than_ever_before_is_this_rollouts():
    event = told(read(a=(0, 0, 0, 0, 0, 0, 3)), read(a=(0, 0, 0, 0, 0, 0, 8)))
    assert event.servers["a"]["longest_queue"] == 8


def test_a_reload_resets_the_counters_and_it_is_said():
    event = told(
        read(a=(100, 5, 0, 0, 0, 0, 0)),
        read(a=(110, 6, 0, 0, 0, 0, 0)),
        read(9, a=(4, 1, 0, 0, 0, 0, 2)),
        read(9, a=(5, 1, 0, 0, 0, 0, 2)),
    )
    assert figures(event) == (15, 2, 0, 0, 0, 0, 2)
    assert event.resets == 1


def test_a_look_that_comes_late_takes_nothing_back():
    event = told(
        read(a=(100, 0, 0, 0, 0, 0, 0)),
        read(a=(120, 0, 0, 0, 0, 0, 0)),
        read(a=(110, 0, 0, 0, 0, 0, 0)),
        read(a=(130, 0, 0, 0, 0, 0, 0)),
    )
    assert event.servers["a"]["requests"] == 30


def test_a_balancer_that_counts_nothing_or_was_seen_once_is_not_told_of():
    counting = Counting()
    counting.see(read())
    counting.see(read(a=(1, 0, 0, 0, 0, 0, 0)))
    assert counting.told() == []
