"""What a host is asked, and what is understood of its answer, whatever it says."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabfile.checks.doctor import judge, look, view
from fabfile.checks.doctor.facts import Container, Unreached
from fabfile.remote import state
from tests.unit.checks.doctor.patients import CONFIG, DIGEST, EDGE, IMAGE, OURS, SHOP, reply, setup

STUB = """case "$1 $2" in
"version --format") echo 26.1.5 ;;
"compose version") echo v2.26.1 ;;
"ps -q") echo abc ;;
"inspect --type") echo '{container}' ;;
"image ls") printf '%s\\n' '<none>' '{digest}' ;;
"exec "*) exit 1 ;;
esac
"""
CONTAINER = {"instance": "app_1", "image": f"{IMAGE}@{DIGEST}", "checked": True}
BETWEEN = (100.0, 101.0)
HOSTS = setup().inventory.hosts


@pytest.fixture
def host(tmp_path, monkeypatch):
    """This machine as a host: folders for the project and for our state, stubs of what it runs."""
    monkeypatch.setattr(state, "ROOT", str(tmp_path / "state"))
    for folder in ("state", "srv", "bin"):
        (tmp_path / folder).mkdir()
    (tmp_path / "state").chmod(0o2775)
    (tmp_path / "srv/docker-compose.yml").write_text("services: {}\n")
    (tmp_path / "haproxy.cfg").write_text(CONFIG)
    tool(tmp_path, "docker", STUB.format(container=json.dumps(CONTAINER), digest=DIGEST))
    tool(tmp_path, "curl", "printf 401")
    return tmp_path


def tool(host, name, body):
    file = host / "bin" / name
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)


def question(host, **spec):
    balancer = replace(EDGE, config=f"{host}/haproxy.cfg", socket=f"{host}/no.sock", **spec)
    own = replace(SHOP, project_dir=f"{host}/srv", balancers=(balancer,))
    asked = look.questions([own], {"shop": ("web1",)})
    return look.Question(asked["web1"].services, asked["lb1"].proxies)


def ask(host, asked, *missing):
    """Run the script for real; ``missing`` tools are not there."""
    for name in missing:
        (host / "bin" / name).unlink()
    known = [
        "sh",
        "cat",
        "date",
        "id",
        "stat",
        "awk",
        "dirname",
        "df",
        "tail",
        "flock",
        "timeout",
        "tar",
        "sed",
        "head",
        "tr",
    ]
    for name in known:
        if not (host / "bin" / name).exists():
            (host / "bin" / name).symlink_to(shutil.which(name))
    env = {"PATH": str(host / "bin")}
    began = time.time()
    done = subprocess.run(
        ["sh", "-c", asked.script()], capture_output=True, text=True, env=env, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, (began, time.time())


def tree(host):
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_mode)
        for path in host.rglob("*")
        if "bin" not in path.parts
    }


def test_a_host_s_own_words_become_facts_and_nothing_there_changes(host):
    asked = question(host)
    before = tree(host)
    text, between = ask(host, asked)
    assert tree(host) == before
    facts = look.read_host(text, asked, between)
    assert facts.tools == ()
    assert facts.docker == ()
    assert facts.skew == 0.0
    assert facts.state.startswith("ready 2775 ")
    assert facts.versions == ("Docker 26.1.5", "Compose v2.26.1")
    assert facts.registries == {"registry.lab:5000": "401"}
    assert facts.projects["shop"].folder == "ok"
    assert facts.projects["shop"].provisioned
    assert facts.projects["shop"].containers == (Container("app_1", f"{IMAGE}@{DIGEST}", True),)
    assert facts.projects["shop"].digests == {DIGEST}
    assert facts.disks
    (proxy,) = look.read_proxies(text, asked, {"shop": ("web1",)}, HOSTS)
    assert proxy.config == CONFIG.rstrip("\n")
    assert proxy.said == ""
    assert "socat is not installed" in proxy.why or "no HAProxy socket" in proxy.why
    assert proxy.ours == OURS[:2]
    assert proxy.spots["web2_app_1"] == "10.0.0.2:3001"


def test_what_is_missing_is_seen(host):
    (host / "srv/docker-compose.yml").unlink()
    (host / "srv").rmdir()
    (host / "state").rmdir()
    (host / "haproxy.cfg").unlink()
    asked = question(host, container="haproxy")
    text, between = ask(host, asked, "curl")
    facts = look.read_host(text, asked, between)
    assert facts.tools == ("curl",)
    assert facts.state == "missing"
    assert facts.projects["shop"].folder == "absent"
    assert not facts.projects["shop"].provisioned
    (proxy,) = look.read_proxies(text, asked, {"shop": ("web1",)}, HOSTS)
    assert proxy.config is None


def test_a_closed_docker_is_named(host):
    tool(host, "docker", "echo 'permission denied while trying to connect' >&2; exit 1")
    asked = question(host)
    text, between = ask(host, asked)
    facts = look.read_host(text, asked, between)
    assert facts.docker == ("this user may not use Docker: add it to the group docker",)
    assert facts.projects["shop"].containers == ()


def test_a_configuration_is_read_out_of_the_container_where_the_host_has_none(host):
    (host / "haproxy.cfg").unlink()
    tool(host, "docker", "[ \"$1 $2 $3\" != 'exec haproxy cat' ] || echo global")
    asked = question(host, container="haproxy")
    text, _ = ask(host, asked)
    (proxy,) = look.read_proxies(text, asked, {"shop": ("web1",)}, HOSTS)
    assert proxy.config == "global"


@pytest.mark.parametrize(
    ("said", "skew"),
    [("100.5", 0.0), ("90.0", -10.0), ("200.25", 99.25), ("99.%N", 0.0), ("90", -9.0), ("x", 0.0)],
)
def test_a_clock_is_judged_against_the_time_the_question_took(said, skew):
    asked = question("/tmp")
    assert look.read_host(f"\n== now\n{said}\n", asked, BETWEEN).skew == pytest.approx(skew)


@settings(deadline=None)
@given(st.text())
def test_no_answer_can_break_the_reader(text):
    asked = question("/tmp")
    for whole in (text, f"\n== asked 0\n{text}\n\n== containers shop\n{text}\n\n== now\n{text}\n"):
        facts = look.read_host(whole, asked, BETWEEN)
        proxies = look.read_proxies(whole, asked, {"shop": ("web1",)}, HOSTS)
        judge.diagnose(setup(hosts={"web1": facts}, proxies=proxies))


def test_a_recorded_haproxy_is_taken_for_one_that_answers():
    asked = question("/tmp")
    text = f"\n== asked 0\n{reply('app')}\n== config 0\nglobal\n"
    (proxy,) = look.read_proxies(text, asked, {"shop": ("web1",)}, HOSTS)
    assert proxy.why == ""
    assert "@evenkeel end" in proxy.said


def test_each_host_is_asked_for_its_own_alone():
    own = replace(SHOP, balancers=(EDGE, replace(EDGE, hosts="self", backend="own")))
    asked = look.questions([own], {"shop": ("web1",)})
    assert list(asked) == ["web1", "lb1"]
    assert [b.spec.backend for _, b in asked["web1"].proxies] == ["own"]
    assert asked["lb1"].services == ()
    only = look.questions([own], {"shop": ()}, ["lb1"])
    assert list(only) == ["lb1"]
    assert [b.spec.backend for _, b in only["lb1"].proxies] == ["shop"]
    assert look.questions([], {}, ["web9"])["web9"].script()


def test_the_view_ends_with_the_verdict_and_json_says_the_same():
    made = judge.diagnose(setup(hosts={"web1": Unreached("connection refused")}))
    shown = list(view.lines(made))
    assert shown[-1] == "1 problem: a rollout would be refused, or lose requests"
    assert "problem  unreachable  web1: connection refused" in shown
    data = json.loads(view.as_json(made))
    assert data["exit_code"] == 5
    assert [f["code"] for f in data["findings"]] == ["unreachable"]
    assert data["findings"][0]["subjects"] == ["web1"]
    assert "policy" in data["well"]
    assert "hosts" not in data["well"]
    assert list(view.lines(judge.diagnose(setup())))[-1] == "nothing to mend"
    assert os.linesep not in view.as_json(made)


def test_a_reader_who_has_seen_enough_gets_no_traceback():
    program = (
        "from tests.unit.checks.doctor.patients import setup\n"
        "from fabfile.checks.doctor import judge, view\n"
        "made = judge.diagnose(setup(proxies=()))\n"
        "import sys; sys.stdin.readline()\n"
        "view.show(made, as_object=False)\n"
    )
    root = Path(__file__).parents[4]
    done = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, cwd=root, text=True,
    )  # fmt: skip
    done.stdout.close()
    done.stdin.write("go\n")
    done.stdin.close()
    assert done.stderr.read() == ""
    done.stderr.close()
    assert done.wait(timeout=60) == 0
