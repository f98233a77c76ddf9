"""A controller that dies leaves nothing that another one can't put right."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rollouts import FAST_CHECKS, fab, lost, traffic, variant
from test_rollout import Fleet, versions

SEED = int(os.environ.get("EVENKEEL_SEED", time.time()))


@pytest.fixture(scope="module")
def fleet(lab, edge_inventory):
    change = {
        "health": {"min_healthy": "300ms", "interval": "100ms"},
        "drain": {"sticky_grace": "1s", "timeout": "6s"},
        "rollout": {"serial": ["35%"]},
        "balancers": {"options": {**FAST_CHECKS, "retries": "0", "redispatch": "no"}},
    }
    return Fleet(lab, "edge", variant(edge_inventory, "recovery", change))


def killed(fleet, version, after):
    """A deploy whose controller is killed ``after`` seconds past its first drain."""
    env = {**os.environ, "EVENKEEL_INVENTORY": str(fleet.inventory)}
    argv = [str(Path(sys.executable).parent / "fab"), "deploy", "--version", version, "--json"]
    process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for line in process.stdout:
        if '"take-out"' in line:
            break
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize(
    ("mode", "ends_with"),
    [
        ("resume", {"0.0.2"}),
        pytest.param("abort", {"0.0.1"}, marks=pytest.mark.slow),
        pytest.param("repair", None, marks=pytest.mark.slow),
    ],
)
def test_a_controller_killed_at_any_moment_costs_nobody_a_request(fleet, mode, ends_with):
    moments = random.Random(f"{SEED} {mode}")
    after = moments.uniform(0.0, 6.0)
    where = f"seed {SEED}, killed {after:.2f} s after the first drain"
    fleet.at("0.0.1")
    weights = fleet.states()
    with traffic(fleet.urls, rate=60, slow=2, sockets=False) as probe:
        time.sleep(1)
        killed(fleet, "0.0.2", after)
        done = fleet.fab(mode, "--json")
        time.sleep(1)
        seen = probe.stop()
    assert done.code == 0, f"{where}\n{done.text}"
    assert lost(seen) == {}, where
    assert fleet.states() == weights, where
    assert "nothing is locked" in fleet.fab("lock.status").out
    if ends_with is not None:
        assert versions(fleet.containers()) == ends_with, where
    assert "nothing to do" in fleet.fab("abort").out, "it is finished for good"


def test_an_unfinished_rollout_is_named_and_blocks_the_next(fleet):
    fleet.at("0.0.1")
    killed(fleet, "0.0.2", 1.0)
    refused = fleet.fab("deploy", "--version", "0.0.2")
    assert refused.code == 4, refused.text
    looked = fleet.fab("resume", "--dry-run")
    assert looked.code == 0, looked.text
    assert "web1/app_1: " in looked.out
    assert fleet.fab("deploy", "--version", "0.0.2").code == 4, "a dry run ends nothing"
    assert fleet.fab("abort").code == 0
    assert fleet.fab("abort").out.strip().endswith("nothing to do")


def test_a_freeze_says_who_and_why_and_ends_when_it_is_told_to(fleet):
    fleet.at("0.0.1")
    assert fleet.fab("lock.acquire", "--message", "freeze for the sale").code == 0
    try:
        refused = fleet.fab("deploy", "--version", "0.0.2")
        assert refused.code == 4, refused.text
        assert "freeze for the sale" in refused.err
        assert "frozen by" in fleet.fab("lock.status").out
    finally:
        assert fleet.fab("lock.release").code == 0
    assert fab(fleet.inventory, "lock").out.strip() == "nothing is locked"


def test_a_controller_that_was_stopped_and_replaced_can_change_nothing_more(fleet):
    fleet.at("0.0.1")
    env = {**os.environ, "EVENKEEL_INVENTORY": str(fleet.inventory)}
    argv = [str(Path(sys.executable).parent / "fab"), "deploy", "--version", "0.0.2", "--json"]
    process = subprocess.Popen(
        argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout
    for line in process.stdout:
        if '"take-out"' in line:
            break
    process.send_signal(signal.SIGSTOP)
    try:
        done = fleet.fab("abort", "--force")
        assert done.code == 0, done.text
        before, weights = fleet.containers(), fleet.states()
        assert versions(before) == {"0.0.1"}
    finally:
        process.send_signal(signal.SIGCONT)
    rest = process.communicate(timeout=120)[0]
    assert process.returncode != 0, rest
    assert "another controller has taken over" in rest
    assert (fleet.containers(), fleet.states()) == (before, weights)


def test_a_rollback_puts_back_what_ran_before_settings_and_all(fleet):
    fleet.at("0.0.1")
    before, weights = fleet.containers(), fleet.states()
    changed = variant(fleet.inventory, "rollback", {"env": {"GREETING": "for a while only"}})
    done = fab(changed, "deploy", "--version", "0.0.2", "--serial", "100%")
    assert done.code == 0, done.text
    with traffic(fleet.urls, rate=40, slow=2, sockets=False) as probe:
        back = fleet.fab("rollback", "--json", "--serial", "100%")
        seen = probe.stop()
    assert back.code == 0, back.text
    assert back.of("RolloutFinished")[0]["upgraded"] == 9
    assert lost(seen) == {}
    assert versions(fleet.containers()) == {"0.0.1"}
    assert fleet.containers()["web1"]["database"] == before["web1"]["database"]
    assert fleet.states() == weights
    again = fleet.deploy("0.0.1")
    assert again.of("RolloutFinished")[0]["current"] == 9, "it is what 0.0.1 was, to the letter"
    refused = fleet.fab("rollback", "--to", "9.9.9")
    assert refused.code == 5, refused.text
    assert "no release of 9.9.9 is kept here" in refused.err
