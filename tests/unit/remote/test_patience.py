"""A deadline gives again what was taken from it."""

from fabfile.remote.patience import Deadline


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_seconds_pass():
    clock = Clock()
    deadline = Deadline(3.0, clock)
    for left in (2.0, 1.0, 0.0):
        clock.now += 1.0
        assert deadline.left() == left


def test_the_time_in_which_nobody_ran_does_not_count():
    clock = Clock()
    deadline = Deadline(3.0, clock)
    clock.now += 1.0
    assert deadline.left() == 2.0
    clock.now += 3600.0
    assert deadline.left() == 2.0, "what has come in the meantime is read first"
    clock.now += 2.0
    assert deadline.left() == 0.0
