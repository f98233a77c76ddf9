"""How a rollout ended is told by whoever still holds its locks."""

import pytest

from fabfile.drivers.closing import Closing
from fabfile.drivers.locks import Claim, Locks
from fabfile.drivers.prepare import Prepared
from fabfile.remote import state
from fabfile.rollout.events import Notice, RolloutFinished
from tests.unit.drivers import fakes
from tests.unit.drivers.fakes import FakePool, Fleet, plan, server

ENDED = RolloutFinished("r1", "held", "2.0", 1, 0, 0, 1, (), "told to stop")


class World:
    def __init__(self, tmp_path):
        self.fleet = Fleet(fakes.inventory(tmp_path))
        self.fleet.on("finished.json|rm -f|read -r line")
        for host in ("web1", "lb1"):
            self.fleet[host].on("taken=", "got shop 4\n")
        claims = [Claim("web1", "shop"), Claim("lb1", "shop")]
        locks = Locks(self.fleet.remotes, "r1", claims, {})
        locks.acquire()
        pool = FakePool(lb1=[server()], lb2=[server()])
        self.prepared = Prepared(plan(), fakes.SHOP, self.fleet.remotes, pool, locks, {})
        self.told = []

    def tell(self):
        closing = Closing(self.prepared, self.told.append)
        closing.tell(ENDED, {})
        return closing

    def scripts(self, host):
        return [script for script in self.fleet[host].scripts if "finished.json" in script]


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.prepared.close()


def test_every_host_hears_it_while_the_locks_there_are_ours(world):
    assert not world.tell().replaced
    for host in ("web1", "lb1"):
        (script,) = world.scripts(host)
        assert script.index("r1 4") < script.index("finished.json"), "the lock is looked at first"
    assert world.told == []


def test_who_slept_through_a_take_over_does_not_have_the_last_word(world):
    world.fleet["web1"].on("finished.json", exit_code=state.EXIT_FENCED)
    assert world.tell().replaced
    assert world.told == [Notice("another controller has taken over, and ends it", "web1")]
