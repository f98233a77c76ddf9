"""The lab is what the inventory says: real hosts, reached as real ones are."""

import os
import shutil
import subprocess
import sys
import time

import pytest
from lab_tools import container_ids, login, quiet

from fabfile.lab.model import CHECKOUT
from fabfile.lab.shell import answer
from fabfile.lab.status import look
from fabfile.lab.up import up


def test_every_host_lets_deploy_in_and_docker_works_there_without_sudo(lab):
    for node in lab.nodes:
        reply = login(
            lab,
            node,
            "id -un; hostname; docker info -f '{{.ServerVersion}}'; docker compose version --short",
        )
        assert reply.returncode == 0, reply.stderr
        user, name, engine, compose = reply.stdout.split()
        assert (user, name) == ("deploy", node.name)
        assert int(engine.split(".")[0]) >= 20
        assert compose.startswith("2.")


def test_what_evenkeel_writes_to_on_a_host_is_writable_for_deploy(lab):
    folders = "/srv /var/lib/evenkeel /etc/haproxy /run/haproxy"
    probe = "touch $d/probe && stat -c '%G' $d/probe && rm $d/probe"
    tools = "command -v socat curl ss timeout flock"
    script = f"for d in {folders}; do {probe} || exit 1; done; {tools}"
    reply = login(lab, lab.nodes[0], script)
    assert reply.returncode == 0, reply.stderr
    assert reply.stdout.split()[:4] == ["evenkeel"] * 4


def test_nobody_gets_in_with_a_password_or_as_root(lab):
    argv = ["ssh", "-F", "none", "-v", "-o", "BatchMode=yes", "-o", "PubkeyAuthentication=no"]
    argv += ["-o", f"UserKnownHostsFile={lab.state}/known_hosts", "-p", str(lab.nodes[0].ssh_port)]
    reply = subprocess.run([*argv, "deploy@127.0.0.1", "true"], capture_output=True, text=True)
    assert reply.returncode == 255
    assert "Authentications that can continue: publickey\n" in reply.stderr.replace("\r", "")


def test_nothing_is_published_to_the_world(lab, docker):
    names = [row.split()[0] for row in container_ids(docker, lab)]
    form = "{{range $p, $b := .HostConfig.PortBindings}}{{range $b}}{{.HostIp}} {{end}}{{end}}"
    addresses = docker("inspect", "--format", form, *names).split()
    assert set(addresses) == {"127.0.0.1"}
    assert len(addresses) == 3 * len(lab.nodes) + 1


def test_a_second_up_changes_nothing_and_takes_seconds(lab, docker):
    before = container_ids(docker, lab)
    start = time.monotonic()
    up(quiet)
    assert time.monotonic() - start < 5
    assert container_ids(docker, lab) == before


def test_the_registry_wants_its_password_and_hosts_pull_with_it(lab):
    assert answer(f"http://{lab.registry_here}/v2/") == "401"
    password = (lab.state / "registry-password").read_text()
    command = "docker login -u lab --password-stdin registry.lab:5000"
    command += " && docker pull -q registry.lab:5000/valkey:8"
    reply = login(
        lab, lab.nodes[0], f"export DOCKER_CONFIG=$(mktemp -d); {command}", input=password
    )
    assert reply.returncode == 0, reply.stderr


class TestRepair:
    """What ``up`` mends, on a lab of its own beside the other one."""

    def test_two_labs_run_side_by_side(self, lab, spare):
        assert login(spare, spare.nodes[0], "hostname").stdout == "web1\n"
        assert {n.ssh_port for n in lab.nodes}.isdisjoint(n.ssh_port for n in spare.nodes)
        assert login(lab, lab.nodes[0], "hostname").stdout == "web1\n"

    def test_a_killed_nested_engine_and_sshd_come_back(self, spare, docker):
        node = spare.nodes[0]
        kill = "pkill -9 -x dockerd; pkill -9 -x containerd; pkill -9 -x sshd"
        kill += "; sleep 0.2; echo 1 >/run/docker.pid"
        docker("exec", spare.container(node.name), "sh", "-c", kill)
        assert login(spare, node, "true").returncode != 0
        assert not next(row for row in look() if row.host == node.name).well
        before = container_ids(docker, spare)
        up(quiet)
        assert container_ids(docker, spare) == before
        assert login(spare, node, "docker info").returncode == 0

    def test_a_killed_host_comes_back_with_the_same_host_key(self, spare, docker):
        before, keys = container_ids(docker, spare), (spare.state / "known_hosts").read_text()
        docker("kill", *(spare.container(name) for name in ("web1", "lb1", "registry")))
        assert container_ids(docker, spare) == set()
        up(quiet)
        assert container_ids(docker, spare) == before
        assert (spare.state / "known_hosts").read_text() == keys
        assert login(spare, spare.nodes[0], "docker info").returncode == 0

    def test_a_removed_host_is_made_again(self, spare, docker):
        docker("rm", "--force", spare.container("lb1"))
        up(quiet)
        assert [row.host for row in look()] == ["web1", "lb1", "registry"]
        assert all(row.well for row in look())

    def test_the_lab_grows_and_shrinks(self, spare):
        assert [node.name for node in up(quiet, web=2).nodes] == ["web1", "web2", "lb1"]
        assert [row.host for row in look()] == ["web1", "web2", "lb1", "registry"]
        assert [node.name for node in up(quiet, web=1).nodes] == ["web1", "lb1"]

    def test_another_checkout_takes_the_lab_over_and_says_so(self, spare, docker, tmp_path):
        other = tmp_path / "other"
        for name in ("fabfile", "docker"):
            shutil.copytree(CHECKOUT / name, other / name)
        shutil.copy(CHECKOUT / "tasks.py", other)
        before = container_ids(docker, spare)

        def lab_up():
            argv = [sys.executable, "-m", "invoke", "lab.up"]
            done = subprocess.run(argv, cwd=other, capture_output=True, text=True, env=os.environ)
            assert done.returncode == 0, done.stderr
            return done.stdout

        assert f"taken over from {CHECKOUT}" in lab_up()
        assert "taken over" not in lab_up()
        assert container_ids(docker, spare) == before
        theirs = other / ".lab" / spare.name
        assert login(spare, spare.nodes[0], "true", state=theirs).returncode == 0
        password = (spare.state / "registry-password").read_text()
        assert (theirs / "registry-password").read_text() == password


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["lab.up", "--web", "abc"], "--web abc"),
        (["lab.up", "--edge", "0"], "--edge 0"),
    ],
)
def test_a_slip_of_the_keyboard_is_one_line_and_exit_code_2(argv, says):
    done = subprocess.run(
        [sys.executable, "-m", "invoke", *argv], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
