"""Machines that vanish, people that interfere or lose patience: what everybody is promised."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from lab_tools import login
from rollouts import (
    FAST_CHECKS,
    ROOT,
    Ran,
    ask,
    fab,
    lost,
    one_line,
    servers_state,
    traffic,
    variant,
)
from test_rollout import Fleet, versions


@pytest.fixture(scope="module")
def fleet(lab, edge_inventory):
    change = {
        "health": {"min_healthy": "300ms", "interval": "100ms"},
        "drain": {"sticky_grace": "1s", "timeout": "8s"},
        "rollout": {"serial": [1], "min_capacity": "30%"},
        "balancers": {"options": {**FAST_CHECKS, "retries": "0", "redispatch": "no"}},
    }
    return Fleet(lab, "edge", variant(edge_inventory, "trouble", change))


class Going:
    """A `fab --json` under way, whose events can be awaited."""

    def __init__(self, inventory, *args):
        env = {**os.environ, "EVENKEEL_INVENTORY": str(inventory), "PYTHONWARNINGS": "ignore"}
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [str(Path(sys.executable).parent / "fab"), *args, "--json"],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.events = []
        self._lines = queue.SimpleQueue()
        self._err = []
        self._readers = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=lambda: self._err.append(self.process.stderr.read())),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _next(self, timeout):
        line = self._lines.get(timeout=timeout)
        if line is not None and line.startswith("{"):
            self.events.append(json.loads(line))
        return line

    def until(self, timeout=120, **wanted):
        """The next event that says all of ``wanted``."""
        while self._next(timeout) is not None:
            event = self.events[-1]
            if all(event.get(name) == value for name, value in wanted.items()):
                return event
        raise AssertionError(f"it ended without {wanted}: {self._err}")

    def signal(self, number):
        self.process.send_signal(number)

    def interrupted(self, number):
        """One signal, and wait until it was heard: two of a kind at once count as one."""
        self.signal(number)
        text = (
            f"interrupted by {number.name}: what is out of rotation comes back first, then it stops"
        )
        self.until(event="Notice", text=text)

    def end(self, timeout=300):
        while self._next(timeout) is not None:
            pass
        code = self.process.wait(timeout)
        for reader in self._readers:
            reader.join(timeout)
        self.process.stdout.close()
        self.process.stderr.close()
        said = "\n".join(event.get("text", "") for event in self.events)
        return Ran(code, said, "".join(self._err), time.monotonic() - self.began, self.events)


def deploy(fleet, version, *args):
    return Going(fleet.inventory, "deploy", "--version", version, *args)


def weights(fleet):
    return {
        (name, row["srv_name"]): (int(row["srv_uweight"]), row["srv_admin_state"])
        for name in fleet.balancers
        for row in servers_state(fleet.lab, name)
    }


def set_weight(fleet, balancer, server, weight):
    said = ask(fleet.lab, balancer, f"set server challenge/{server} weight {weight}")
    assert said.strip() == "", said


# operators


@pytest.mark.slow
def test_what_an_operator_changes_while_it_runs_is_kept_and_told(fleet):
    fleet.at("0.0.1")
    before = weights(fleet)
    with traffic(fleet.urls, rate=40, slow=3, slow_rate=3, sockets=False) as probe:
        time.sleep(3)
        going = deploy(fleet, "0.0.2")
        going.until(event="StepFinished", instance="web1/app_1", step="take-out")
        set_weight(fleet, "lb1", "web1_app_1", 60)  # in drain
        set_weight(fleet, "lb2", "web3_app_2", 70)  # not yet touched
        set_weight(fleet, "lb2", "web2_app_1", 0)  # the same, and out
        going.until(event="InstanceFinished", instance="web1/app_2")
        set_weight(fleet, "lb1", "web1_app_2", 80)  # through
        done = going.end()
        seen = probe.stop()
    try:
        assert done.code == 0, done.text
        assert lost(seen) == {}
        wanted = before | {
            ("lb1", "web1_app_1"): (60, "0"),
            ("lb2", "web3_app_2"): (70, "0"),
            ("lb2", "web2_app_1"): (0, "0"),
            ("lb1", "web1_app_2"): (80, "0"),
        }
        assert weights(fleet) == wanted
        for ref in wanted.keys() - {k for k in wanted if wanted[k] == before[k]}:
            name = f"{ref[0]}:challenge/{ref[1]}"
            assert any(name in e["text"] for e in done.of("Notice")), f"{name} is not told"
        assert versions(fleet.containers()) == {"0.0.2"}
    finally:
        for (balancer, name), (weight, _) in before.items():
            set_weight(fleet, balancer, name, weight)


@pytest.mark.slow
def test_an_operators_later_weight_outlives_the_controller(fleet):
    fleet.at("0.0.1")
    before = weights(fleet)
    with traffic(fleet.urls, rate=20, slow=3, slow_rate=9, sockets=False):
        time.sleep(3)
        going = deploy(fleet, "0.0.2")
        going.until(event="StepFinished", instance="web1/app_1", step="take-out")
        set_weight(fleet, "lb1", "web1_app_1", 60)
        going.until(event="StepFinished", instance="web1/app_1", step="await-idle")
        going.signal(signal.SIGKILL)
        going.end()
    done = fleet.fab("abort", "--json", "--force")
    try:
        assert done.code == 0, done.text
        assert weights(fleet) == before | {("lb1", "web1_app_1"): (60, "0")}
    finally:
        set_weight(fleet, "lb1", "web1_app_1", before["lb1", "web1_app_1"][0])


def _died_ahead(fleet, on):
    """The controller is killed while web1/app_2 is recorded and its turn has not come."""
    for _ in range(5):
        fleet.at("0.0.1")
        going = deploy(fleet, "0.0.2")
        going.until(event="StepFinished", instance="web1/app_2", step="record")
        going.signal(signal.SIGKILL)
        going.end()
        if on("lb1", "ls /var/lib/evenkeel/rollouts/*/ahead/").count("web1_app_2.json"):
            return
        fleet.fab("abort", "--force")  # its turn came all the same
    raise AssertionError("app_1 was always admitted sooner than the controller could be killed")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["resume", "abort", "repair"])
def test_what_was_only_recorded_ahead_is_its_operators(fleet, on, mode):
    fleet.at("0.0.1")
    before = weights(fleet)
    _died_ahead(fleet, on)
    set_weight(fleet, "lb1", "web1_app_2", 60)
    try:
        done = fleet.fab(mode, "--json", "--force")
        assert done.code == 0, done.text
        assert weights(fleet) == before | {("lb1", "web1_app_2"): (60, "0")}
        assert not on("web1", "ls /var/lib/evenkeel/rollouts/*/undo/").count("app_2")
        assert "nothing to do" in fleet.fab("abort").out
    finally:
        set_weight(fleet, "lb1", "web1_app_2", before["lb1", "web1_app_2"][0])


# signals


@pytest.mark.slow
def test_a_second_ctrl_c_in_mid_drain_brings_back_what_is_healthy_at_once(fleet):
    fleet.at("0.0.1")
    before, states = fleet.containers(), fleet.states()
    with traffic(fleet.urls, rate=40, slow=6, slow_rate=3, sockets=False) as probe:
        time.sleep(6)
        going = deploy(fleet, "0.0.2")
        going.until(event="StepFinished", instance="web1/app_1", step="take-out")
        going.interrupted(signal.SIGINT)
        began = time.monotonic()
        going.signal(signal.SIGINT)
        done = going.end()
        took = time.monotonic() - began
        after = fleet.states()
        seen = probe.stop()
    assert done.code == 6, done.text
    assert took < 6, "it waited for the drain"
    assert lost(seen) == {}
    assert after == states
    assert fleet.containers() == before
    assert "web1/app_1: is healthy and takes requests again with 0.0.1" in done.out
    assert "Traceback" not in done.err
    assert "nothing is locked" in fleet.fab("lock.status").out
    refused = fleet.fab("deploy", "--version", "0.0.2")
    assert refused.code == 4, "it can be resumed, and is in the way until then"
    assert fleet.fab("repair").code == 0
    assert fleet.states() == states


def test_a_second_sigterm_in_mid_recreate_leaves_it_out_and_does_not_wait(fleet):
    fleet.at("0.0.1")
    slow = fleet.deploy("0.0.6", before=("-H", "web1"))  # it ignores SIGTERM: its end takes 10 s
    assert slow.code == 0, slow.text
    states = fleet.states()
    with traffic(fleet.urls, rate=40, slow=1, sockets=False) as probe:
        time.sleep(1)
        going = deploy(fleet, "0.0.1")
        going.until(event="StepStarted", instance="web1/app_1", step="recreate")
        going.interrupted(signal.SIGTERM)
        began = time.monotonic()
        going.signal(signal.SIGTERM)
        done = going.end()
        took = time.monotonic() - began
        out = weights(fleet)
        locked = fleet.fab("lock.status").out
        repaired = fleet.fab("repair", "--json")
        seen = probe.stop()
    assert done.code == 6, done.text
    assert took < 8
    assert "its container is being replaced" in done.out
    assert done.of("RolloutFinished")[0]["broken"] == ["web1/app_1"]
    assert out["lb1", "web1_app_1"] == (0, "8"), "it is parked: in drain at weight 0"
    assert "project" in locked, "what the engine still does keeps its lock"
    assert "backend" not in locked
    assert repaired.code == 0, repaired.text
    assert fleet.states() == states
    assert lost(seen) == {}
    fleet.at("0.0.1")


@pytest.mark.slow
def test_a_third_ctrl_c_ends_it_without_a_traceback(fleet):
    fleet.at("0.0.1")
    states = fleet.states()
    going = deploy(fleet, "0.0.2")
    going.until(event="StepFinished", instance="web1/app_1", step="await-idle")
    going.interrupted(signal.SIGINT)
    going.signal(signal.SIGINT)
    going.until(event="Notice", text="told to stop again: only what is healthy this moment comes"
                " back")  # fmt: skip
    going.signal(signal.SIGINT)
    done = going.end()
    assert done.code == 6, done.text
    assert "Traceback" not in done.text
    assert fleet.fab("abort", "--force").code == 0
    assert fleet.states() == states


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_before_the_first_drain_change_nothing_and_leave_no_lock(fleet, number):
    fleet.at("0.0.1")
    going = deploy(fleet, "0.0.2")
    going.until(event="PhaseFinished", phase="preflight")
    going.signal(number)
    done = going.end()
    assert done.code == 128 + number, done.text
    assert "Traceback" not in done.text
    assert "nothing is locked" in fleet.fab("lock.status").out
    assert versions(fleet.containers()) == {"0.0.1"}


# balancers


@pytest.fixture
def on(fleet):
    """Say something on a host of the lab."""

    def say(host, command):
        said = login(fleet.lab, fleet.node(host), command)
        assert said.returncode == 0, said.stderr
        return said.stdout

    return say


@pytest.fixture
def lb2_is_dead(fleet, on):
    """HAProxy on lb2 stopped, and started again afterwards."""
    fleet.at("0.0.1")
    on("lb2", "docker stop haproxy")
    yield
    on("lb2", "docker start haproxy")
    awaited(lambda: all(row["srv_op_state"] == "2" for row in servers_state(fleet.lab, "lb2")))


def awaited(what, timeout=60):
    ends = time.monotonic() + timeout
    while True:
        try:
            if what():
                return
        except AssertionError:
            pass
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_dead_balancer_is_left_out_by_name_and_costs_nobody_anything(fleet, on, lb2_is_dead):
    refused = fleet.deploy("0.0.2")
    assert refused.code == 5, refused.text
    assert "lb2" in refused.err
    alive = fleet.deploy("0.0.2", "--without-balancer", "lb1")
    assert alive.code == 2, alive.text
    assert one_line(alive.err) == "--without-balancer: lb1 can be asked: leave the flag out"
    unknown = fleet.deploy("0.0.2", "--without-balancer", "lb9")
    assert unknown.code == 2, unknown.text
    with traffic(fleet.urls[:1], rate=40, slow=2, sockets=False) as probe:
        time.sleep(1)
        done = fleet.deploy("0.0.2", "--without-balancer", "lb2")
        seen = probe.stop()
    assert done.code == 0, done.text
    assert lost(seen) == {}
    assert versions(fleet.containers()) == {"0.0.2"}
    assert any("goes on without lb2: nobody can connect" in e["text"] for e in done.of("Notice"))
    ended = on("web1", "cat $(ls -d /var/lib/evenkeel/rollouts/*/ | tail -1)finished.json")
    assert json.loads(ended)["without"] == ["lb2"]


@pytest.mark.slow
def test_a_balancer_that_cannot_be_asked_but_serves_is_refused(fleet, on):
    fleet.at("0.0.1")
    on("lb2", "docker exec haproxy mv /run/haproxy/admin.sock /run/haproxy/hidden.sock")
    try:
        refused = fleet.deploy("0.0.2", "--without-balancer", "lb2")
        accepted = fleet.fab(
            "plan", "--version", "0.0.2", "--without-balancer", "lb2", "--allow-loss"
        )
    finally:
        on("lb2", "docker exec haproxy mv /run/haproxy/hidden.sock /run/haproxy/admin.sock")
    assert refused.code == 5, refused.text
    said = one_line(refused.err)
    assert "lb2 can't be asked, but its frontend" in said
    assert "still answers" in said
    assert accepted.code == 0, accepted.text
    assert "requests through it may be lost" in accepted.out
    assert versions(fleet.containers()) == {"0.0.1"}


@pytest.mark.slow
def test_one_that_comes_back_different_is_noticed(fleet):
    fleet.at("0.0.1")
    set_weight(fleet, "lb2", "web2_app_2", 7)
    try:
        looked = fleet.fab("plan", "--version", "0.0.2")
    finally:
        set_weight(fleet, "lb2", "web2_app_2", 100)
    assert looked.code == 0, looked.text
    assert "challenge/web2_app_2: its balancers disagree and stay so" in looked.out
    assert "weight 7 on lb2" in looked.out


@pytest.mark.slow
def test_a_balancer_that_dies_in_mid_drain_is_put_right_when_it_is_back(fleet, on):
    fleet.at("0.0.1")
    states = fleet.states()
    with traffic(fleet.urls[:1], rate=40, slow=2, slow_rate=3, sockets=False) as probe:
        time.sleep(2)
        going = deploy(fleet, "0.0.2")
        going.until(event="StepFinished", instance="web1/app_1", step="take-out")
        on("lb2", "docker kill haproxy")
        done = going.end()
        on("lb2", "docker start haproxy")
        repaired = fleet.fab("repair", "--json")
        seen = probe.stop()
    assert done.code == 6, done.text
    assert repaired.code == 0, repaired.text
    assert lost(seen) == {}
    assert fleet.states() == states
    assert "nothing is locked" in fleet.fab("lock.status").out


@pytest.mark.slow
def test_a_balancer_that_dies_for_good_in_mid_rollout_is_dropped(fleet, on):
    fleet.at("0.0.1")
    states = fleet.states()
    with traffic(fleet.urls[:1], rate=40, slow=2, slow_rate=3, sockets=False) as probe:
        time.sleep(2)
        going = deploy(fleet, "0.0.2")
        going.until(event="StepFinished", instance="web1/app_2", step="take-out")
        on("lb2", "docker kill haproxy")
        done = going.end()
        stuck = fleet.fab("resume", "--dry-run")
        ended = fleet.fab("resume", "--drop", "lb2", "--json")
        seen = probe.stop()
    on("lb2", "docker start haproxy")
    assert done.code == 6, done.text
    assert "--drop lb2" in stuck.out
    assert ended.code == 0, ended.text
    assert lost(seen) == {}
    assert versions(fleet.containers()) == {"0.0.2"}
    refused = fleet.deploy("0.0.2")
    assert refused.code == 4, "lb2 is back and has servers to be put back"
    assert "run `fab repair`" in refused.err
    assert fleet.fab("repair").code == 0
    awaited(lambda: fleet.states() == states)
    assert fleet.deploy("0.0.2").code == 0


@pytest.mark.slow
def test_a_balancer_that_restarts_in_mid_drain_is_drained_once_more(fleet, on):
    fleet.at("0.0.1")
    states = fleet.states()
    with traffic(fleet.urls[:1], rate=40, slow=2, slow_rate=3, sockets=False) as probe:
        time.sleep(2)
        going = deploy(fleet, "0.0.2")
        going.until(event="StepFinished", instance="web1/app_1", step="take-out")
        on("lb2", "docker restart -t 0 haproxy")
        done = going.end()
        seen = probe.stop()
    assert done.code == 0, done.text
    assert lost(seen) == {}
    assert fleet.states() == states
    assert versions(fleet.containers()) == {"0.0.2"}


# hosts


@pytest.mark.slow
def test_a_host_that_is_gone_is_dropped_and_found_again_when_it_is_back(fleet, docker):
    fleet.at("0.0.1")
    states = fleet.states()
    box = fleet.lab.container("web1")
    going = deploy(fleet, "0.0.2")
    going.until(event="StepFinished", instance="web1/app_2", step="await-idle")
    going.signal(signal.SIGKILL)
    going.end()
    docker("pause", box)
    try:
        refused = fleet.fab("resume", "--drop", "web2")
        stuck = fleet.fab("resume", "--dry-run")
        unknown = fleet.fab("resume", "--drop", "web9")
        with traffic(fleet.urls, rate=40, slow=2, sockets=False) as probe:
            done = fleet.fab("resume", "--drop", "web1", "--json", "--force")
            seen = probe.stop()
        dropped = weights(fleet)
    finally:
        docker("unpause", box)
    assert refused.code == 2, refused.text
    assert one_line(refused.err).startswith("--drop: web2 can be reached")
    assert "if it is gone for good: --drop web1" in stuck.out
    assert unknown.code == 2, unknown.text
    assert done.code == 0, done.text
    assert lost(seen) == {}
    told = [event["text"] for event in done.of("Notice")]
    for n in (1, 2, 3):
        assert any(text.startswith(f"web1/app_{n}: given up") for text in told)
    for balancer in ("lb1", "lb2"):
        assert dropped[balancer, "web1_app_2"] == (100, "0")
        assert any(t.startswith(f"{balancer}:challenge/web1_app_2: weight 100") for t in told)
    found = fleet.containers()
    assert versions({name: found[name] for name in ("web2", "web3")}) == {"0.0.2"}
    again = fleet.deploy("0.0.2")
    assert again.code == 4, "web1 is back and its rollout is not ended there"
    ended = fleet.fab("resume", "--json")
    assert ended.code == 0, ended.text
    assert versions(fleet.containers()) == {"0.0.2"}
    awaited(lambda: fleet.states() == states)


@pytest.mark.slow
def test_a_host_that_left_the_inventory_is_given_up_by_name(fleet, edge_inventory, tmp_path):
    fleet.at("0.0.1")
    states = fleet.states()
    going = deploy(fleet, "0.0.2", "--serial", "2")
    going.until(event="StepFinished", instance="web2/app_1", step="await-idle")
    going.signal(signal.SIGKILL)
    going.end()
    text = fleet.inventory.read_text()
    smaller = fleet.inventory.with_name("test-hosts-smaller.yaml")
    smaller.write_text(text.replace("[web1, web2, web3]", "[web1, web3]"))
    refused = fab(smaller, "abort", "--force")
    assert refused.code == 2, refused.text
    assert "give it up with `--drop web2`" in one_line(refused.err)
    done = fab(smaller, "abort", "--drop", "web2", "--force", "--json")
    assert done.code == 0, done.text
    assert fleet.states() == states
    found = fleet.containers()
    assert versions({name: found[name] for name in ("web1", "web3")}) == {"0.0.1"}
    assert fleet.fab("abort", "--force").code == 0, "it is in the inventory again"
    assert versions(fleet.containers()) == {"0.0.1"}
    assert fleet.states() == states
