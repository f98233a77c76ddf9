"""What lies on the hosts: old releases go, what a rollback needs stays, damage is told and mended."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lab_tools import login
from rollouts import FAST_CHECKS, fab, one_line, variant
from test_rollout import Fleet, versions

ROOT = "/var/lib/evenkeel"


@pytest.fixture(scope="module")
def fleet(lab, edge_inventory):
    change = {
        "health": {"min_healthy": "100ms", "interval": "100ms"},
        "drain": {"sticky_grace": "1s", "timeout": "6s"},
        "rollout": {"serial": ["35%"], "keep_releases": 2},
        "balancers": {"options": FAST_CHECKS},
    }
    return Fleet(lab, "edge", variant(edge_inventory, "kept", change))


def on(fleet, host, script):
    done = login(fleet.lab, fleet.node(host), script)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# old releases


def releases(fleet, host):
    """Id and instance of every release on ``host``; and the ids that bear an image tag."""
    records = on(fleet, host, "cat /srv/challenge/releases/*/release.json")
    kept = {r["release"]: r["instance"] for r in map(json.loads, records.splitlines())}
    tags = on(fleet, host, "docker images --format '{{.Tag}}' evenkeel/challenge").split()
    return kept, set(tags)


@pytest.mark.slow
def test_old_releases_go_and_a_rollback_still_finds_its_way(fleet):
    fleet.at("0.0.1")
    before = set(on(fleet, "web1", "docker images -q --no-trunc").split())
    for number in range(7):
        changed = variant(fleet.inventory, "again", {"env": {"GREETING": f"number {number}"}})
        done = fab(changed, "-H", "web1", "deploy", "--version", "0.0.2", "--json")
        assert done.code == 0, done.text
        assert not [e["text"] for e in done.of("Notice") if "for now" in e["text"]]
    kept, tags = releases(fleet, "web1")
    current = set(on(fleet, "web1", "ls /srv/challenge/current").split())
    for instance in current:
        own = [one for one, name in kept.items() if name == instance]
        assert len(own) == 3, "the one that runs, and keep_releases before it"
    assert tags == set(kept), "an image that is kept is spared by a prune, and no other"
    assert before <= set(on(fleet, "web1", "docker images -q --no-trunc").split())
    greeting = (
        "docker exec $(docker ps -qf label=com.docker.compose.service=app_1) printenv GREETING"
    )
    assert on(fleet, "web1", greeting) == "number 6"
    for wanted in ("number 5", "number 6"):
        back = fleet.fab("-H", "web1", "rollback", "--json")
        assert back.code == 0, back.text
        assert on(fleet, "web1", greeting) == wanted
    fleet.at("0.0.1")


def test_every_machine_sees_the_same_history(fleet):
    fleet.at("0.0.1")
    done = fleet.deploy("0.0.2", "--serial", "100%", "--reason", "it's new")
    assert done.code == 0, done.text
    newest = json.loads(fleet.fab("history", "--json", "--limit", "1").out)
    assert (newest["verdict"], newest["version"], newest["before"]) == ("done", "0.0.2", ["0.0.1"])
    assert (newest["upgraded"], newest["why"], newest["hosts"]) == (
        9, "it's new", ["web1", "web2", "web3"],
    )  # fmt: skip
    table = fleet.fab("history", "--limit", "2").out.splitlines()
    assert len(table) == 3
    assert newest["rollout"] in table[1]
    shown = fleet.fab("show", newest["rollout"])
    assert "web3/app_3  upgraded" in shown.out
    assert "it's new" in shown.out
    refused = fleet.fab("show", "20200101-000000-0000")
    assert refused.code == 2
    one_line(refused.err)
    copy = fleet.inventory.parent / ".evenkeel/rollouts" / f"{newest['rollout']}.plan.json"
    assert json.loads(copy.read_text())["version"] == "0.0.2"


# damage


@pytest.fixture
def dead(fleet):
    """The id of a rollout whose controller was killed after its first drain."""
    fleet.at("0.0.1")
    env = {**os.environ, "EVENKEEL_INVENTORY": str(fleet.inventory)}
    argv = [str(Path(sys.executable).parent / "fab"), "deploy", "--version", "0.0.2", "--json"]
    process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    rollout = ""
    for line in process.stdout:
        if found := re.search(r'"rollout": "([^"]+)"', line):
            rollout = found[1]
        if '"await-idle"' in line:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert rollout
    yield rollout
    fleet.fab("lock.release", "--force")
    fleet.fab("abort", "--force")


def taken_up(fleet, mode="abort"):
    done = fleet.fab(mode, "--json")
    assert done.code == 0, done.text
    assert "nothing is locked" in fleet.fab("lock.status").out
    assert "nothing to do" in fleet.fab("abort").out
    return [f"{e['host']}: {e['text']}" for e in done.of("Notice")]


@pytest.mark.slow
def test_a_plan_that_is_cut_short_on_one_host_is_kept_aside_and_the_others_count(fleet, dead):
    folder = f"{ROOT}/rollouts/{dead}"
    on(fleet, "web1", f"cd {folder} && head -c 100 plan-0001.json >x && mv x plan-0001.json")
    looked = fleet.fab("abort", "--dry-run")
    assert looked.code == 0, looked.text
    assert f"web1: {folder}/plan-0001.json is cut short: kept aside; plan 1 of" in looked.out
    assert on(fleet, "web1", f"ls {folder}").split() == ["done", "plan-0001.json", "undo"]
    said = taken_up(fleet, "resume")
    assert any("plan-0001.json is cut short" in line for line in said)
    assert on(fleet, "web1", f"head -c 9999 {folder}/kept-aside/plan-0001.json.*").startswith("{")
    assert versions(fleet.containers()) == {"0.0.2"}


@pytest.mark.slow
def test_an_undo_record_that_is_damaged_is_written_anew_from_the_plan(fleet, dead):
    folder = f"{ROOT}/rollouts/{dead}"
    name = on(fleet, "lb1", f"ls {folder}/undo").split()[0]
    on(fleet, "lb1", f"echo '{{\"uweight\": 1' >{folder}/undo/{name}")
    said = taken_up(fleet, "repair")
    assert any(
        f"lb1: {folder}/undo/{name} is cut short: kept aside; the plan says weight" in line
        for line in said
    ), said
    assert json.loads(on(fleet, "lb1", f"cat {folder}/done/{name}"))["admin"] == "ready"
    assert on(fleet, "lb1", f"cat {folder}/kept-aside/undo.{name}.*") == '{"uweight": 1'


@pytest.mark.slow
def test_a_plan_of_a_newer_evenkeel_is_touched_by_nobody(fleet, dead):
    plan = f"{ROOT}/rollouts/{dead}/plan-0001.json"
    on(fleet, "web1", f'cp {plan} /tmp/plan && sed -i \'s/"format": 2/"format": 3/\' {plan}')
    try:
        refused = fleet.fab("abort")
        assert refused.code == 5, refused.text
        assert "plan-0001.json was made by a newer Evenkeel (format 3); use that one" in one_line(
            refused.err
        )
        assert on(fleet, "web1", f"ls {ROOT}/rollouts/{dead}").split() == [
            "done", "plan-0001.json", "undo",
        ]  # fmt: skip
    finally:
        on(fleet, "web1", f"cp /tmp/plan {plan}")
    taken_up(fleet)


@pytest.mark.slow
def test_without_any_plan_it_is_refused_and_what_is_open_is_named(fleet, dead):
    hosts = ("web1", "web2", "web3", "lb1", "lb2")
    plan = f"{ROOT}/rollouts/{dead}/plan-0001.json"
    for host in hosts:
        on(fleet, host, f"cp {plan} /tmp/plan && echo '{{' >{plan}")
    try:
        refused = fleet.fab("repair")
        assert refused.code == 6, refused.text
        assert f"lb1: {plan} is cut short" in refused.err
        assert "server.challenge.web1_app_1.json: weight" in refused.err
    finally:
        for host in hosts:
            on(fleet, host, f"cp /tmp/plan {plan}")
    taken_up(fleet)


@pytest.mark.slow
def test_a_lock_that_is_cut_short_says_how_to_end_it(fleet, dead):
    on(fleet, "web1", f"cd {ROOT}/locks && echo 2026 >x && mv x project.srv.challenge.lock")
    refused = fleet.fab("abort")
    assert refused.code == 4, refused.text
    assert "by whom is unknown" in one_line(refused.err)
    assert "fab lock.release --force" in refused.err
    assert fleet.fab("lock.release", "--force").code == 0
    assert on(fleet, "web1", f"cat {ROOT}/kept-aside/project.srv.challenge.lock.*").endswith("2026")
    taken_up(fleet)


@pytest.mark.slow
def test_a_count_that_is_damaged_goes_on_from_the_clock_and_is_said(fleet):
    fleet.at("0.0.1")
    on(fleet, "web1", f"echo x >{ROOT}/locks/project.srv.challenge.epoch")
    done = fleet.deploy("0.0.2", "--serial", "100%")
    assert done.code == 0, done.text
    assert any("project.srv.challenge.epoch was damaged" in e["text"] for e in done.of("Notice"))
    assert on(fleet, "web1", f"cat {ROOT}/kept-aside/project.srv.challenge.epoch.*").endswith("x")


@pytest.mark.slow
def test_a_project_folder_that_was_emptied_is_laid_down_again_and_nothing_restarts(fleet):
    fleet.at("0.0.1")
    before = on(fleet, "web1", "docker ps -q --no-trunc | sort")
    on(fleet, "web1", "rm -rf /srv/challenge/*")
    refused = fab(fleet.inventory, "deploy", "--version", "0.0.2")
    assert refused.code == 5
    assert "web1: /srv/challenge holds no compose project yet: run `fab provision`" in refused.text
    done = fab(fleet.inventory, "provision.app", "--version", "0.0.1")
    assert done.code == 0, done.text
    assert on(fleet, "web1", "docker ps -q --no-trunc | sort") == before
    done = fab(fleet.inventory, "deploy", "--version", "0.0.2")
    assert done.code == 0, done.text
    assert versions(fleet.containers()) == {"0.0.2"}
