"""Before the first drain: everything that speaks against a rollout, and nothing left behind."""

import gzip
import json
from dataclasses import replace

import pytest

from fabfile.balancers.haproxy.preflight import Finding
from fabfile.drivers import prepare as p
from fabfile.drivers.locks import Locks
from fabfile.drivers.wish import Wish
from fabfile.errors import Locked, PreflightFailed, RemoteError
from fabfile.inventory.model import Hooks, Secret
from fabfile.remote import state
from fabfile.rollout.events import Notice
from tests.unit.drivers import fakes
from tests.unit.drivers.fakes import DIGEST, FakePool, Fleet, server

OTHER = "sha256:" + "cd" * 32


def facts(**changes):
    parts = {
        "docker": "26.1.5",
        "compose": "2.26.1",
        "project": "ok\nprovisioned",
        "current": "app_1 old",
        "kept": '{"release":"old","version":"1.0","digest":"sha256:1"}',
        "containers": '{"id":"1","service":"app_1","release":"old","version":"1.0","image":"x",'
        '"status":"running"}',
        "state": "ready 5a17",
        "unfinished": "",
    } | changes
    return "".join(f"\n== {name}\n{body}\n" for name, body in parts.items())


FACTS, PULL, STAGE, LOCK, PLAN, GIVE_BACK, FINISH = (
    "say docker", "docker --config", "tar -xf", "taken=", "gzip -dc > .*plan-0001", "rm -f", "finished.json.new",
)  # fmt: skip


class World:
    """Two web hosts and two balancers at rest, with one server each."""

    def __init__(
        self, tmp_path, monkeypatch, service=fakes.SHOP, hosts=("web1", "web2", "lb1", "lb2")
    ):
        self.service = service
        self.inventory = fakes.inventory(tmp_path, service, hosts)
        self.fleet = Fleet(self.inventory)
        self.events = []
        self.fleet.on("head -n 1|read -r line|finished.json")
        self.fleet.on(PLAN)
        self.fleet.on(LOCK, self._lock)
        self.fleet.on(STAGE)
        self.fleet.on(PULL, f"digest {DIGEST}\n")
        self.fleet.on(FACTS, facts())
        both = [server(name=f"{name}_app_1") for name in ("web1", "web2")]
        shows = {b.id: [both] for h in service.hosts for b in service.balancers_of(h)}
        self.pool = FakePool(service, **shows)
        monkeypatch.setattr(p, "Pool", lambda *_: self.pool)

    @staticmethod
    def _lock(command):
        keys = command.script.split("\n")[0].removeprefix("keys=").strip("'").split()
        return "".join(f"got {key} 1\n" for key in keys)

    def prepare(self, hosts=("web1", "web2"), dry=False, **wish):
        asked = Wish(self.service, "2.0", hosts, False, **wish)
        remotes = self.fleet.remotes
        return p.Preparation(self.inventory, asked, remotes, self.events.append, "r1").run(dry=dry)

    def refused(self, error=PreflightFailed, **kwargs):
        with pytest.raises(error) as caught:
            self.prepare(**kwargs)
        return str(caught.value)

    def count(self, word):
        return {
            name: found
            for name, host in self.fleet.hosts.items()
            if (found := sum(word in script for script in host.scripts))
        }


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


def test_a_rollout_is_pulled_staged_locked_and_written_in_that_order(world):
    world.prepare()
    words = ("say docker", "docker --config", "tar -xf", "taken=", "say docker", "plan-0001")
    order = [
        next((w for w in dict.fromkeys(words) if w in s), "?") for s in world.fleet["web1"].scripts
    ]
    assert order[:2] == ["say docker", "docker --config"]
    assert sorted(order[2:-1]) == ["say docker", "taken=", "tar -xf"], "staged beside the locks"
    assert order[-1] == "plan-0001"


def test_the_plan_lies_on_every_host_it_touches_and_travels_by_stdin(world):
    prepared = world.prepare()
    for name in ("web1", "web2", "lb1", "lb2"):
        command = world.fleet[name].commands[-1]
        assert json.loads(gzip.decompress(command.stdin))["id"] == "r1"
        assert "targets" not in command.script
    assert prepared.plan.to_json().encode() == gzip.decompress(
        world.fleet["lb1"].commands[-1].stdin
    )


def test_every_reason_is_told_at_once(world):
    world.fleet["web1"].on(FACTS, facts(docker="sh: docker: not found", state="missing"))
    world.fleet["web2"].on(FACTS, facts(project="absent"))
    world.pool.findings = [Finding("refuse", "x", "lb: the socket is not admin")]
    said = world.refused()
    for reason in (
        "web1: Docker is not installed", "web1: /var/lib/evenkeel is missing",
        "web2: /srv/shop holds no compose project yet", "the socket is not admin",
    ):  # fmt: skip
        assert reason in said
    assert world.count("docker --config") == {}


def test_a_host_that_does_not_answer_in_time_is_a_reason_and_no_crash(world):
    world.fleet["web2"].on(FACTS, lose="before")
    assert "web2: no answer to: preflight (the connection broke)" in world.refused()


def test_hosts_that_cannot_be_reached_are_all_named(world):
    world.fleet["web2"].down = world.fleet["lb1"].down = True
    said = world.refused()
    assert said.endswith("unreachable: web2, lb1: connection refused (fake)")


def test_an_unfinished_rollout_is_in_the_way_and_its_ways_out_are_named(world):
    world.fleet["web2"].on(FACTS, facts(unfinished="r0"))
    said = world.refused(Locked)
    assert "unfinished rollout r0 on web2" in said
    assert "fab resume" in said


def test_a_rollout_that_broke_off_while_we_pulled_is_seen_under_the_locks(world):
    world.fleet["web2"].on(FACTS, facts(unfinished="r0"))
    world.fleet["web2"].on(FACTS, facts(), times=1)
    world.refused(Locked)
    assert set(world.count("rm -f")) >= {"web1", "web2", "lb1", "lb2"}, "locks are given back"
    assert world.count("plan-0001.json.new") == {}


def test_what_is_to_be_put_back_is_read_under_the_locks(world):
    later = facts(current="app_1 newer", containers=facts().split("containers\n")[1].split("\n")[0].replace('"old"', '"newer"'),
                  kept='{"release":"newer","version":"1.9","digest":"sha256:2"}')  # fmt: skip
    for name in ("web1", "web2"):
        world.fleet[name].on(FACTS, later)
        world.fleet[name].on(FACTS, facts(), times=1)
    assert {t.earlier.version for t in world.prepare().plan.targets} == {"1.9"}


def test_nothing_to_do_takes_no_lock_and_stages_nothing(world):
    world.prepare().close()
    current = {}
    for command in world.fleet["web1"].commands:
        if "tar -xf" in command.script:
            current["web1"] = command
    ids = [line for line in current["web1"].script.splitlines() if line.startswith("ids=")]
    release = ids[0].removeprefix("ids=")
    text = facts(current=f"app_1 {release}").replace('"release":"old"', f'"release":"{release}"')
    for name in ("web1", "web2"):
        world.fleet[name].on(FACTS, text)
    for host in world.fleet.hosts.values():
        host.commands.clear()
    prepared = world.prepare(hosts=("web1",))
    assert prepared.locks is None
    assert prepared.plan.changing == ()
    for word in ("tar -xf", "taken=", "plan-0001.json.new"):
        assert world.count(word) == {}, word


def test_a_dry_run_pulls_stages_locks_and_writes_nothing(world):
    world.fleet["web1"].on("local \\$held", f"local {DIGEST}\n")
    world.fleet["web2"].on("local \\$held")
    prepared = world.prepare(dry=True)
    assert len(prepared.plan.changing) == 2
    for word in ("docker --config", "tar -xf", "taken=", "plan-0001.json.new"):
        assert world.count(word) == {}, word


# images


def test_hosts_that_get_another_digest_for_the_tag_get_the_first_ones(world):
    world.fleet["web2"].on(f"reference=.*@{DIGEST}", f"digest {DIGEST}\n")
    world.fleet["web2"].on("reference=.*shop:2.0", f"digest {OTHER}\n")
    assert world.prepare().plan.digest == DIGEST


def test_a_host_that_only_gets_another_digest_is_named(world):
    world.fleet["web2"].on(PULL, f"digest {OTHER}\n")
    assert f"web2 gets {OTHER}" in world.refused()
    assert world.count("taken=") == {}


def test_with_the_registry_down_a_rollout_goes_on_where_every_host_has_the_image(world):
    world.fleet.on(PULL, f"local {DIGEST}\n", exit_code=67, stderr="refused")
    assert world.prepare().plan.digest == DIGEST
    assert any("registry can't be asked" in e.text for e in world.events if isinstance(e, Notice))


def test_with_the_registry_down_a_host_without_the_image_is_named(world):
    world.fleet.on(PULL, f"local {DIGEST}\n", exit_code=67, stderr="refused")
    world.fleet["web2"].on(PULL, exit_code=67, stderr="connection refused")
    said = world.refused()
    assert "web2: could not pull registry.lab:5000/shop:2.0: connection refused" in said
    assert "web1" not in said


def test_a_version_the_registry_lacks_is_told_as_such(world):
    world.fleet.on(PULL, exit_code=68, stderr="manifest unknown")
    said = world.refused()
    assert said.endswith(
        "web1, web2: the registry has no registry.lab:5000/shop:2.0 (manifest unknown)"
    )


def test_an_image_without_a_digest_is_no_image(world):
    world.fleet.on(PULL, "digest \n")
    assert "Docker names no digest for it" in world.refused()


# what is left behind by a failure


def test_what_cannot_be_staged_keeps_no_lock_and_writes_no_plan(world):
    world.fleet["web2"].on(STAGE, exit_code=65, stderr="services.app_1 is nonsense")
    assert "web2: stage releases failed (65): services.app_1 is nonsense" in world.refused()
    assert world.count("plan-0001") == {}
    assert set(world.count("rm -f")) == {"web1", "web2", "lb1", "lb2"}


def test_what_cannot_be_staged_is_told_before_anybody_waits_for_a_lock(world):
    world.fleet["web2"].on(STAGE, exit_code=65, stderr="services.app_1 is nonsense")
    assert "services.app_1 is nonsense" in world.refused(lock_wait=60.0)
    assert world.count("taken=") == {}


def test_somebodys_lock_keeps_no_other(world):
    world.fleet["web2"].on(LOCK, "held project 3\nr0 1\n", exit_code=state.EXIT_HELD)
    assert "web2: locked by" in world.refused(Locked)
    assert world.pool.closed
    assert "lb1" in world.count("rm -f")


@pytest.mark.parametrize("exit_code", [1, None])
def test_a_plan_that_cannot_be_written_everywhere_is_called_off(world, exit_code):
    world.fleet["lb2"].on(PLAN, exit_code=exit_code or 0, lose=None if exit_code else "before")
    assert "lb2: " in world.refused()
    assert set(world.count("not begun")) == {"web1", "web2", "lb1", "lb2"}
    assert set(world.count("rm -f")) == {"web1", "web2", "lb1", "lb2"}


def test_a_host_that_vanishes_before_the_plan_is_written_leaves_no_unfinished_rollout(world):
    def vanish(command):
        world.fleet["lb2"].down = True
        return World._lock(command)

    world.fleet["lb2"].on(LOCK, vanish)
    assert "lb2: no answer to: write the plan" in world.refused()
    assert set(world.count("not begun")) == {"web1", "web2", "lb1"}


def test_a_balancer_that_falls_silent_under_the_locks_gives_them_back(world):
    world.pool.shows["lb2"] = [RemoteError("lb2", "gone")]
    assert world.refused() == "nothing was changed: lb2: gone"
    assert set(world.count("rm -f")) == {"web1", "web2", "lb1", "lb2"}


def test_the_last_server_is_not_taken(world):
    only = [server(name="web1_app_1"), server(name="web2_app_1", up=False, weight=0)]
    world.pool.shows = {"lb1": [only], "lb2": [only]}
    said = world.refused()
    assert "web1/app_1: " in said
    assert "--allow-outage" in said
    assert "web2/app_1: " not in said, "what is down already is never held back"


def test_an_outage_may_be_allowed(world):
    only = [server(name="web1_app_1"), server(name="web2_app_1", up=False, weight=0)]
    world.pool.shows = {"lb1": [only], "lb2": [only]}
    assert world.prepare(allow_outage=True).plan.allow_outage


def test_a_secret_that_cannot_be_read_contacts_nobody(world, monkeypatch):
    from fabfile.errors import BadInput

    monkeypatch.delenv("NOWHERE", raising=False)
    world.service = replace(world.service, secrets=(Secret("KEY", env="NOWHERE"),))
    assert "NOWHERE is not set" in world.refused(BadInput)
    assert all(not host.commands for host in world.fleet.hosts.values())


def test_a_password_is_in_no_script(world, monkeypatch):
    monkeypatch.setenv("PASSWORD", "hunter2")
    login = ("anna", Secret("registry", env="PASSWORD"))
    world.service = replace(world.service, registry_login=login)
    world.prepare().close()
    scripts = [script for host in world.fleet.hosts.values() for script in host.scripts]
    assert not any("hunter2" in script for script in scripts)
    assert any(b"hunter2" in c.stdin for c in world.fleet["web1"].commands)


# shapes of a service


def test_a_balancer_on_each_host_is_locked_and_written_once_with_its_project(tmp_path, monkeypatch):
    service = replace(fakes.SHOP, balancers=(fakes.SELF,), instances=2)
    world = World(tmp_path, monkeypatch, service)
    for name in ("web1", "web2"):
        world.pool.shows[name] = [[server(name=f"{name}_app_{n}") for n in (1, 2)]]
    prepared = world.prepare()
    assert world.count("taken=") == {"web1": 1, "web2": 1}
    lock = next(s for s in world.fleet["web1"].scripts if "taken=" in s)
    assert lock.startswith("keys='backend.run.haproxy.admin.sock.shop project.srv.shop'")
    assert world.count("plan-0001.json.new") == {"web1": 1, "web2": 1}
    assert prepared.plan.summed == ("web1", "web2")


def test_a_host_chosen_by_hand_leaves_its_siblings_balancers_unlocked(tmp_path, monkeypatch):
    service = replace(fakes.SHOP, balancers=(fakes.SELF,), instances=2)
    world = World(tmp_path, monkeypatch, service)
    for name in ("web1", "web2"):
        world.pool.shows[name] = [[server(name=f"{name}_app_{n}") for n in (1, 2)]]
    prepared = world.prepare(hosts=("web1",))
    assert world.count("taken=") == {"web1": 1}
    assert len(prepared.plan.baseline) == 4, "the sum is over all hosts"


def test_several_balancer_entries_are_all_locked_and_drained(tmp_path, monkeypatch):
    inner = replace(fakes.EDGE, hosts=("lb2",), backend="inner")
    service = replace(fakes.SHOP, balancers=(fakes.EDGE, inner))
    world = World(tmp_path, monkeypatch, service)
    prepared = world.prepare(hosts=("web1",))
    refs = {str(ref) for ref in prepared.plan.targets[0].refs}
    assert refs == {"lb1:shop/web1_app_1", "lb2/shop:shop/web1_app_1", "lb2/inner:inner/web1_app_1"}
    lock = next(s for s in world.fleet["lb2"].scripts if "taken=" in s)
    assert "sock.inner" in lock
    assert "sock.shop" in lock


def test_a_service_without_balancers_is_rolled_out_too(tmp_path, monkeypatch):
    world = World(tmp_path, monkeypatch, replace(fakes.SHOP, balancers=()), ("web1", "web2"))
    prepared = world.prepare()
    assert [t.servers for t in prepared.plan.targets] == [(), ()]
    assert isinstance(prepared.locks, Locks)


def test_the_only_instance_behind_a_hosts_own_balancer_is_not_taken_silently(tmp_path, monkeypatch):
    service = replace(fakes.SHOP, balancers=(fakes.SELF,))
    world = World(tmp_path, monkeypatch, service)
    for name in ("web1", "web2"):
        world.pool.shows[name] = [server(name=f"{name}_app_1")]
    assert "web1/app_1: web1:shop: that would take its last server" in world.refused()


def test_the_plan_carries_the_hooks_and_the_image_they_are_told(tmp_path, monkeypatch):
    hooks = Hooks(before_rollout="./migrate", timeout=7)
    prepared = World(tmp_path, monkeypatch, replace(fakes.SHOP, hooks=hooks)).prepare()
    assert prepared.plan.hooks == hooks
    assert prepared.plan.first_host == "web1"
    assert not prepared.plan.way_back
    for target in prepared.plan.targets:
        assert target.wanted.image == f"registry.lab:5000/shop@{DIGEST}"
