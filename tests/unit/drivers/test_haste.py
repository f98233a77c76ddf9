"""Told to stop a second time: nobody waits, nothing unhealthy returns, no lock is given up too soon."""

import threading
from types import SimpleNamespace

import pytest

from fabfile.drivers import hands as h
from fabfile.drivers import haste
from fabfile.drivers.locks import Claim, Locks
from fabfile.rollout import steps as s
from tests.unit.drivers import fakes
from tests.unit.drivers.fakes import NEW, FakePool, Fleet, plan, server, target

PROJECT, BACKEND = "project.srv.shop", "backend.run.haproxy.admin.sock.shop"
MAINT = server(admin="maint", weight=0)


class World:
    """web1/app_1 behind lb1, taken out by a lane of ours."""

    def __init__(self, tmp_path, monkeypatch, shows):
        self.fleet = Fleet(fakes.inventory(tmp_path))
        self.fleet.on("")
        self.fleet.on("taken=", self._take)
        self.busy = set()
        claims = [Claim("web1", PROJECT), Claim("web2", PROJECT), Claim("lb1", BACKEND)]
        self.locks = Locks(self.fleet.remotes, "r1", claims, {})
        self.locks.acquire()
        self.pool = FakePool(lb1=shows, lb2=shows)
        monkeypatch.setattr(haste, "Pool", lambda *_: self.pool)
        self.hands = h.Hands(
            plan(), fakes.SHOP, self.fleet.remotes, self.locks, self.pool, lambda *_: None
        )
        self.prepared = SimpleNamespace(
            plan=plan(), service=fakes.SHOP, remotes=self.fleet.remotes, pool=self.pool,
            locks=self.locks,
        )  # fmt: skip

    def _take(self, command):
        keys = command.script.split("\n")[0].removeprefix("keys=").strip("'").split()
        if self.busy & set(keys) and ".stop" in command.script:
            return ""
        return "".join(f"got {key} 1\n" for key in keys)

    def out(self, step=None):
        self.hands.open["web1/app_1"] = target()
        self.hands.doing["web1/app_1"] = step or s.AwaitIdle(target(), 9.0, maint=True)
        if not isinstance(step, s.Record):
            self.hands.touched.add("web1/app_1")

    def let_go(self):
        self.hands.halt()
        (left,) = haste.Haste(self.prepared, self.hands).let_go()
        return left

    def given_back(self, name):
        scripts = self.fleet[name].scripts
        return [t for t in scripts if "rm -f" in t and "taken=" not in t]


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch, [MAINT, server()])


def test_what_never_stopped_and_is_healthy_is_back_at_once_and_recorded(world):
    world.out()
    left = world.let_go()
    assert left == haste.Left("web1/app_1", True, "is healthy and takes requests again with 1.0")
    assert world.pool.changes[-1] == {
        "lb1": ["set server shop/web1_app_1 weight 100", "set server shop/web1_app_1 state ready"]
    }
    assert any("done/server.shop" in script for script in world.fleet["lb1"].scripts)
    assert all(c.urgent for c in world.fleet["lb1"].commands if "done/server" in c.script)
    for name in ("web1", "web2", "lb1"):
        assert world.given_back(name), name


def test_whatever_the_lanes_had_begun_is_fenced_off_first(world):
    world.out()
    world.let_go()
    seized = [t for t in world.fleet["lb1"].scripts if "r1.stop" in t and "taken=" in t]
    assert len(seized) == 1
    assert "over=r1\n" in seized[0]
    assert "stale=0\n" in seized[0]


def test_what_was_only_recorded_is_not_touched_however_it_is(tmp_path, monkeypatch):
    """It waited for its turn: that it is in maint now is somebody's will, and its illness old."""
    world = World(tmp_path, monkeypatch, [server(admin="maint"), server()])
    world.fleet["web1"].on("steady_for", "/ping does not answer\n", exit_code=69)
    world.out(s.Record(target(), "undo"))
    assert world.let_go() == haste.Left("web1/app_1", True, "was not out of rotation yet")
    assert world.pool.changes == []
    assert any("done/server.shop" in script for script in world.fleet["lb1"].scripts)


def test_one_that_was_only_recorded_was_not_out_though_its_balancer_hangs(world):
    world.busy.add(BACKEND)
    world.out(s.Record(target(), "ahead"))
    left = world.let_go()
    assert (left.back, left.text) == (True, f"was not out of rotation yet{haste.UNCLOSED}")
    assert world.pool.changes == []


def test_one_that_is_being_sent_home_was_not_out_either(tmp_path, monkeypatch):
    world = World(tmp_path, monkeypatch, [server(admin="maint"), server()])
    world.out(s.Record(target(), "restored"))
    assert world.let_go().text == "was not out of rotation yet"
    assert world.pool.changes == []


def test_an_ill_container_stays_in_maint(world):
    world.fleet["web1"].on("steady_for", "/ping does not answer\n", exit_code=69)
    world.out()
    left = world.let_go()
    assert not left.back
    assert left.text.endswith("recorded: not healthy: /ping does not answer")
    assert world.pool.changes == []
    assert world.given_back("web1")
    assert world.given_back("lb1")


def test_a_new_container_is_let_in_by_checks(world):
    world.hands.put["web1/app_1"] = NEW
    world.out(s.AwaitHealthy(target(), NEW))
    left = world.let_go()
    assert left.back
    assert "with 2.0" in left.text
    assert world.pool.changes[0]["lb1"][1] == "set server shop/web1_app_1 health down"
    assert any("release=new" in script for script in world.fleet["web1"].scripts)


def test_a_container_that_is_being_replaced_keeps_its_lock(world):
    world.out(s.Recreate(target(), NEW))
    left = world.let_go()
    assert left.text.startswith("its container is being replaced")
    assert world.pool.changes == []
    assert not world.given_back("web1"), "the engine there may still act"
    assert world.given_back("web2")
    assert world.given_back("lb1")
    assert not any("r1.stop" in script for script in world.fleet["web1"].scripts)


def test_a_balancer_whose_lock_cannot_be_had_is_not_changed(world):
    world.busy.add(BACKEND)
    world.out()
    left = world.let_go()
    assert left.text == "stays out of rotation, recorded: lb1 can't be told to take it in"
    assert world.pool.changes == []
    assert not world.given_back("lb1"), "what is at work there keeps it"


def test_a_project_that_is_busy_only_leaves_the_record_open(world):
    world.busy.add(PROJECT)
    world.out()
    left = world.let_go()
    assert left.back
    assert left.text.endswith("its record could not be closed")


def test_nobody_waits_for_a_host_that_hangs(world, monkeypatch):
    monkeypatch.setattr(haste, "PATIENCE", 0.05)
    hangs = threading.Event()

    def hang(_):
        hangs.wait(10)
        return ""

    world.fleet["web1"].on("steady_for", hang)
    world.out()
    left = world.let_go()
    hangs.set()
    assert left.text.startswith("could not be brought back in time")


def test_no_step_begins_once_it_was_said(world):
    world.hands.halt()
    assert world.hands.do(s.Shut(target())) == s.Failed("it was told to stop at once")
    assert world.pool.changes == []


def test_a_weight_that_an_operator_changed_is_what_returns(tmp_path, monkeypatch):
    world = World(tmp_path, monkeypatch, [server(), MAINT, server(uweight=30, admin="maint")])
    world.hands.do(s.Record(target(), "undo"))
    world.hands.do(s.Shut(target()))
    world.pool.shows["lb1"].append(server(uweight=30))
    assert world.let_go().back
    assert "set server shop/web1_app_1 weight 30" in world.pool.changes[-1]["lb1"]
