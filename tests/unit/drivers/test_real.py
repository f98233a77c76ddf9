"""Who is woken when, while a rollout runs for real."""

import threading

import pytest

from fabfile.drivers.locks import Locks
from fabfile.drivers.prepare import Prepared
from fabfile.drivers.real import Driver
from fabfile.rollout.lanes import Order
from fabfile.rollout.steps import Observe, Pause, Seen
from tests.unit.drivers import fakes
from tests.unit.drivers.fakes import FakePool, Fleet, plan, server

LONG = 60.0


class World:
    def __init__(self, tmp_path):
        fleet = Fleet(fakes.inventory(tmp_path))
        self.looks = 0
        pool = FakePool(lb1=[server()], lb2=[server()])
        read = pool.read

        def counted(*args):
            self.looks += 1
            return read(*args)

        pool.read = counted
        locks = Locks(fleet.remotes, "r1", [], {})
        self.driver = Driver(Prepared(plan(), fakes.SHOP, fleet.remotes, pool, locks, {}), print)

    def begin(self, work):
        """What ``work`` comes to, as it does."""
        outcome = []
        thread = threading.Thread(
            target=lambda: outcome.append(self.driver._outcome(Order(1, work))), daemon=True
        )
        thread.start()
        return thread, outcome


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_the_balancers_are_not_asked_more_often_once_it_was_told_to_stop(world):
    pause, _ = world.begin(Pause(LONG))
    world.driver.interrupt("SIGINT")
    assert world.driver._heard() == "SIGINT"
    pause.join(LONG / 2)
    assert not pause.is_alive()
    looking, _ = world.begin(Observe(LONG))
    looking.join(0.05)
    assert looking.is_alive()
    assert world.looks == 0


def test_nobody_waits_for_a_look_when_the_rollout_is_over(world):
    looking, outcome = world.begin(Observe(LONG))
    world.driver._let_go = lambda: "ended"
    world.driver._engine.start = list
    world.driver.hurry()
    assert world.driver.run() == "ended"
    looking.join(LONG / 2)
    assert outcome == [Seen({})]
    assert world.looks == 0
