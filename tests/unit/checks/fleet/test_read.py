"""What a host is asked, and what is understood of its answer, whatever it says."""

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile.balancers.model import BackendReading
from fabfile.checks.fleet import look, read
from fabfile.checks.fleet.facts import Certificate, Rollout, Silent
from fabfile.remote import state
from tests.unit.checks.fleet.standing import DIGEST, EDGE, IMAGE, SHOP

REPLIES = Path(__file__).parents[2] / "balancers" / "replies"
OWN = replace(SHOP, balancers=(replace(EDGE, backend="app", server="s{n}"),))
INSPECTED = {
    "name": "/shop-app_1-1",
    "image": f"{IMAGE}@{DIGEST}",
    "status": "running",
    "started": "2026-11-20T13:26:51.804647866Z",
    "exit_code": 0,
    "restarts": 2,
    "health": "healthy",
    "project": "shop",
    "service": "app_1",
    "oneoff": "False",
    "release": "r1",
    "version": "1.0",
}
CERTS = """@evenkeel certs
Filename: /etc/haproxy/shop.pem
Status: Used
Serial: 24190C
notBefore: Nov 20 13:28:14 2026 GMT
notAfter: Nov 30 13:28:14 2026 GMT
Subject: /CN=shop.example

Filename: /etc/haproxy/old.pem
Status: Unused
notAfter: Nov 21 13:28:14 2026 GMT

Filename: /etc/haproxy/odd.pem
Status: Used
notAfter: soon
"""


@pytest.fixture
def host(tmp_path, monkeypatch):
    """This machine as a host: a folder each for the project and for our state, a stub docker."""
    monkeypatch.setattr(state, "ROOT", str(tmp_path / "state"))
    for folder in ("state/rollouts", "state/locks", "srv/current", "srv/releases/r1", "bin"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "srv/base.yml").write_text("services:\n")
    (tmp_path / "srv/releases/r1/block.yml").write_text("  app_1: {}\n")
    (tmp_path / "srv/current/app_1").symlink_to("../releases/r1")
    (tmp_path / "srv/docker-compose.yml").write_text("services:\n  app_1: {}\n")
    docker(tmp_path, f"case $1 in ps) echo abc ;; inspect) echo '{json.dumps(INSPECTED)}' ;; esac")
    return tmp_path


def docker(host, body):
    file = host / "bin/docker"
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)


def ask(host, service=SHOP):
    """Run the very script on this machine."""
    service = replace(service, project_dir=str(host / "srv"))
    question = look.questions([service], {service.name: ("web1",)})["web1"]
    env = {**os.environ, "PATH": f"{host / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-c", question.script()], env=env, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    return read.read_host(done.stdout, question, [service])


def rollout(host, identity, *, ended=None, undo=(), ahead=(), **changes):
    folder = host / "state/rollouts" / identity
    (folder / "undo").mkdir(parents=True)
    (folder / "ahead").mkdir()
    for name, instance in dict(ahead).items():
        record = json.dumps({"backend": "shop", "instance": instance, "kind": "server"})
        (folder / "ahead" / f"{name}.json").write_text(record)
    plan = {"baseline": [{"a": [1]}], "batches": [["web1"], ["web2"]], "chosen": True,
            "reason": 'x"], "version": "9', "service": "shop", "targets": [{"service": "shop"}],
            "version": "2.0"}  # fmt: skip
    (folder / "plan-0001.json").write_text(json.dumps({**plan, **changes}, sort_keys=True))
    for name in undo:
        (folder / "undo" / f"{name}.json").write_text("{}")
    if ended:
        (folder / "finished.json").write_text(json.dumps(ended))


def test_a_host_tells_all_about_itself_in_one_command(host):
    facts = ask(host)
    assert facts.now > 1_700_000_000
    assert (facts.docker, facts.state) == ("", "")
    (container,) = facts.containers
    assert container.name == "shop-app_1-1"
    assert (container.version, container.digest, container.restarts) == ("1.0", DIGEST, 2)
    assert int(container.started) == 1795181211
    project = facts.projects["shop"]
    assert (project.present, project.edited, project.current) == (True, False, {"app_1": "r1"})
    assert {disk.mount for disk in facts.disks}


def test_an_edited_compose_file_is_noticed(host):
    with (host / "srv/docker-compose.yml").open("a") as file:
        file.write("# by hand\n")
    assert ask(host).projects["shop"].edited


def test_a_project_that_is_not_there_is_not_edited(host):
    shutil.rmtree(host / "srv")
    project = ask(host).projects["shop"]
    assert (project.present, project.edited) == (False, False)


@pytest.mark.parametrize(
    ("hosts", "told"),
    [
        (["web0", "web1", "web2"], ("web1",)),
        (["web1"], ("web1",)),
        (["web10", "xweb1", "web2"], ()),
        ([], ()),
    ],
)
def test_of_the_hosts_of_a_rollout_it_tells_whether_it_was_one(host, hosts, told):
    ended = {"fates": {"web1/app_1": "upgraded"}, "service": "shop", "hosts": hosts,
             "reason": "web1, [or] so", "verdict": "done", "version": "3.0"}  # fmt: skip
    rollout(host, "20260101-1-a", ended=dict(sorted(ended.items())))
    (known,) = ask(host).rollouts
    assert (known.hosts, known.version, known.verdict) == (told, "3.0", "done")


def test_a_docker_that_does_not_answer_says_why(host):
    docker(host, "echo Cannot connect to the Docker daemon >&2; exit 1")
    assert ask(host).docker == "Cannot connect to the Docker daemon"


def test_a_host_without_our_folder_says_so(host):
    shutil.rmtree(host / "state")
    assert ask(host).state == "missing"


def test_the_newest_rollout_that_ended_and_all_that_did_not_are_told(host):
    rollout(host, "20260101-1-a", ended={"verdict": "done"})
    rollout(host, "20260102-1-b", ended={"verdict": "done", "upgraded": 6})
    rollout(host, "20260103-1-c", ended={"verdict": "not begun"})
    rollout(host, "20260104-1-d", ended={"verdict": "done"}, service="other")
    rollout(host, "20260105-1-e", undo=["server.shop.web1_app_1"], chosen=False)
    (host / "state/rollouts/20260106-1-f").mkdir()
    assert set(ask(host).rollouts) == {
        Rollout("20260102-1-b", True, "shop", "2.0", True, ("web1", "web2"), "done"),
        Rollout(
            *("20260105-1-e", False, "shop", "2.0", False, ("web1", "web2"), ""),
            ("server.shop.web1_app_1",),
        ),
    }


def test_what_an_ended_rollout_says_of_itself_counts_more_than_its_plan(host):
    rollout(host, "20260101-1-a", ended={"verdict": "done", "version": "3.0", "chosen": False})
    (known,) = ask(host).rollouts
    assert (known.version, known.chosen) == ("3.0", False)


def test_a_rollout_whose_plan_is_gone_speaks_for_itself(host):
    ended = {"chosen": True, "fates": {"web1/app_1": "upgraded"}, "hosts": ["web1"],
             "service": "shop", "verdict": "done", "version": "2.0"}  # fmt: skip
    rollout(host, "20260101-1-a", ended=ended)
    (host / "state/rollouts/20260101-1-a/plan-0001.json").unlink()
    (known,) = ask(host).rollouts
    assert known == Rollout("20260101-1-a", True, "shop", "2.0", True, ("web1",), "done")


def test_an_end_that_is_damaged_is_none_while_something_is_left_to_put_back(host):
    rollout(host, "20260101-1-a", undo=["server.shop.web1_app_1"])
    (host / "state/rollouts/20260101-1-a/finished.json").write_text('{"verd')
    (known,) = ask(host).rollouts
    assert not known.finished


def test_a_plan_that_cannot_be_read_is_an_unfinished_rollout_all_the_same(host):
    rollout(host, "20260101-1-a", undo=["instance.shop.app_1"])
    (host / "state/rollouts/20260101-1-a/plan-0001.json").write_text('{"cut')
    (known,) = ask(host).rollouts
    assert (known.finished, known.service, known.undo) == (False, "", ("instance.shop.app_1",))


def test_what_was_only_recorded_ahead_of_its_turn_is_told_apart(host):
    ahead = {"server.shop.web1_app_2": "web1/app_2", "server.shop.web2_app_2": "web2/app_2"}
    rollout(host, "20260101-1-a", undo=["server.shop.web1_app_1"], ahead=ahead)
    out = {"backend": "shop", "instance": "web1/app_1", "kind": "server"}
    folder = host / "state/rollouts/20260101-1-a/undo"
    (folder / "server.shop.web1_app_1.json").write_text(json.dumps(out))
    (known,) = ask(host).rollouts
    assert known.undo == ("server.shop.web1_app_1",)
    assert (known.ahead, known.touched) == (("web1/app_2", "web2/app_2"), ("web1/app_1",))


def test_a_lock_is_told_with_its_age_and_its_service(host):
    folder = str(host / "srv")
    key = state.key("project", folder)
    lock = host / f"state/locks/{key}.lock"
    lock.write_text('r-1 4\n{"by": "anna"}\n2026-11-20T10:00:00Z\n')
    os.utime(lock, (lock.stat().st_mtime - 100,) * 2)
    (known,) = ask(host).locks
    assert (known.held.owner, known.held.facts, known.service) == ("r-1", {"by": "anna"}, "shop")
    assert 100 <= known.held.age < 200


def answer(poll, certs=CERTS):
    text = (REPLIES / poll).read_text()
    return f"\n== now\n1800000000\n\n== balancer 0\n{text}{certs}\n== locks\n"


def question():
    return look.questions([OWN], {"shop": ("web1", "web2")})["lb1"]


def test_a_balancers_poll_is_read_with_its_certificates():
    readings = read.read_balancers(answer("poll_down.txt"), question())
    found = readings["shop", "lb1"]
    assert isinstance(found, BackendReading)
    assert found.servers
    facts = read.read_host(answer("poll_down.txt"), question(), [OWN])
    assert facts.certificates == (Certificate("/etc/haproxy/shop.pem", 1796045294.0),)


def test_a_backend_that_is_not_there_has_no_servers():
    service = replace(OWN, balancers=(replace(EDGE, backend="nope"),))
    asked = look.questions([service], {"shop": ("web1",)})["lb1"]
    readings = read.read_balancers(answer("poll_missing_backend.txt"), asked)
    assert readings["shop", "lb1"].servers == {}


@pytest.mark.parametrize(
    ("code", "dead"), [(90, False), (91, True), (92, False), (93, True), (94, True)]
)
def test_why_a_balancer_was_not_to_be_asked(code, dead):
    text = f"\n== balancer 0\nevenkeel: the reason\n\n@evenkeel failed {code}\n== locks\n"
    found = read.read_balancers(text, question())["shop", "lb1"]
    assert found == Silent("lb1: the reason", dead)
    assert read.passing(found)


def test_a_balancer_whose_script_says_why_it_could_not_ask(host):
    service = replace(
        SHOP, balancers=(replace(EDGE, hosts="self", container=None, socket=f"{host}/none.sock"),)
    )
    asked = look.questions([service], {"shop": ("web1",)})["web1"]
    done = subprocess.run(["sh", "-c", asked.script()], capture_output=True, text=True, timeout=30)
    found = read.read_balancers(done.stdout, asked)["shop", "web1"]
    assert isinstance(found, Silent)
    assert "no HAProxy socket" in found.why or "socat" in found.why


def test_two_services_behind_one_haproxy_are_read_with_one_question():
    twin = replace(SHOP, name="twin", balancers=(replace(EDGE, backend="twin"),))
    asked = look.questions([SHOP, twin], {"shop": ("web1",), "twin": ("web2",)})
    (process,) = asked["lb1"].processes
    assert process.backends == ("shop", "twin")
    assert [s.name for s in asked["web2"].services] == ["twin"]


@given(st.text(st.sampled_from('= \nabcdefilnorsu@vk{}[]":,0123456789|/%')), st.integers(0, 9))
def test_no_answer_can_break_the_reader(text, number):
    names = ["now", "disk", "containers", "project shop", "unfinished x", "finished x", "locks",
             "balancer 0", "state", "docker"]  # fmt: skip
    whole = f"== {names[number]}\n{text}\n"
    asked = replace(question(), services=(OWN,))
    read.read_host(whole, asked, [OWN])
    read.read_balancers(whole, asked)
