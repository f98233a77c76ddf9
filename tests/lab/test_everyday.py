"""What people do between rollouts, for real: logs, exec, ps, servers."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from lab_tools import login
from rollouts import ROOT, ask, fab, one_line, running, servers_state, variant

PATIENCE = 40.0


@pytest.fixture(scope="module")
def shop(lab, edge_inventory):
    """The lab's service as it should be, its inventory and a way to say things to a host."""
    assert fab(edge_inventory, "provision", "--version", "0.0.1").code == 0
    return variant(edge_inventory, "everyday", {"health": {"min_healthy": "0s"}})


def on(lab, host, script):
    node = next(node for node in lab.nodes if node.name == host)
    return login(lab, node, script).stdout


def awaited(condition, what):
    ends = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < ends, what
        time.sleep(0.05)
    return found


class Follower:
    """A `fab … -f` of which every line is kept as it comes."""

    def __init__(self, inventory, *args):
        env = {**os.environ, "PYTHONWARNINGS": "ignore", "EVENKEEL_INVENTORY": str(inventory)}
        self.process = subprocess.Popen(
            [str(Path(sys.executable).parent / "fab"), *args],
            cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.out, self.err, self.threads = [], [], []
        for pipe, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err)):
            self.threads.append(threading.Thread(target=self._keep, args=(pipe, lines)))
            self.threads[-1].start()

    @staticmethod
    def _keep(pipe, lines):
        with pipe:
            for line in pipe:
                lines.append(line.rstrip("\n"))

    def shows(self, text, where="out"):
        return awaited(
            lambda: [one for one in getattr(self, where) if text in one],
            f"{text!r} never came: {self.out[-5:]} {self.err[-5:]}",
        )

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(PATIENCE)
        for thread in self.threads:
            thread.join(PATIENCE)
        return code


def followers(lab, host):
    return on(lab, host, "pgrep -fa '[d]ocker logs|[l]ogs --timestamps' || true").split("\n")[:-1]


def speak(inventory, hosts, instances, text):
    """Let containers log a line."""
    command = f"echo {text} >/proc/1/fd/1"
    said = fab(inventory, "-H", hosts, "exec", "--instance", instances, "--command", command)
    assert said.code == 0, said.text


def test_followed_logs_survive_a_lost_connection_and_leave_nothing_behind_on_the_hosts(
    lab, shop, docker
):
    speak(shop, "web1,web2", "app_1,app_2", "here begins")
    tail = Follower(
        shop, "-H", "web1,web2", "logs", "-f", "--tail", "1", "--instance", "app_1,app_2"
    )
    try:
        for host in ("web1", "web2"):
            for name in ("app_1", "app_2"):
                tail.shows(f"{host} {name} | here begins")
        awaited(lambda: len(followers(lab, "web2")) >= 2, "nobody follows on web2")
        speak(shop, "web1", "app_2", "one of web1")
        tail.shows("web1 app_2 | one of web1")

        docker("exec", f"{lab.name}-web2", "pkill", "-u", "deploy", "sshd")
        tail.shows("web2: ", "err")
        speak(shop, "web2", "app_1", "two of web2")
        tail.shows("answers again", "err")
        tail.shows("web2 app_1 | two of web2")
        assert len([line for line in tail.out if line == "web2 app_1 | here begins"]) == 1

        # Whatever replaces a container is followed from its first line on.
        on(lab, "web1", "docker restart -t 1 challenge-app_1-1")
        awaited(
            lambda: [line for line in tail.out if line.startswith("web1 app_1 | challenge")],
            "the restarted container is not followed",
        )
    finally:
        code = tail.interrupt()
    assert code == 130
    assert not [line for line in tail.err if "Traceback" in line or "interrupted" in line]
    for host in ("web1", "web2"):
        awaited(lambda host=host: not followers(lab, host), f"left behind on {host}")


def test_logs_of_all_hosts_come_in_the_order_in_which_they_were_written(shop):
    for number, host in enumerate(("web2", "web1", "web3", "web1")):
        speak(shop, host, "app_1", f"turn {number}")
    seen = fab(shop, "logs", "--since", "5m", "--instance", "app_1")
    assert seen.code == 0
    turns = [line for line in seen.out.splitlines() if "turn" in line]
    assert turns[-4:] == [
        "web2 app_1 | turn 0", "web1 app_1 | turn 1", "web3 app_1 | turn 2", "web1 app_1 | turn 3",
    ]  # fmt: skip


def test_the_worst_exit_code_of_a_command_in_all_containers_is_told(shop):
    said = fab(
        shop,
        "-H",
        "web1,web3",
        "exec",
        "--",
        'test "$INSTANCE$HOST" != app_2web3 || exit 9; printf "%s at %s" $INSTANCE $HOST',
    )
    assert said.code == 9
    assert "web3/app_2: exit code 9" in said.err
    lines = sorted(said.out.splitlines())
    assert lines == [
        f"{host} app_{n} | app_{n} at {host}"
        for host in ("web1", "web3") for n in (1, 2, 3) if (host, n) != ("web3", 2)
    ]  # fmt: skip


def test_ps_and_servers_tell_machines_all_that_there_is(lab, shop):
    told = [json.loads(line) for line in fab(shop, "ps", "--json").out.splitlines()]
    assert len([one for one in told if re.fullmatch(r"app_\d", one["instance"])]) == 9
    web1 = next(one for one in told if (one["host"], one["instance"]) == ("web1", "app_2"))
    assert (web1["state"], web1["ports"]) == ("running", ["3002->3000/tcp"])
    assert web1["digest"].startswith("sha256:")
    assert web1["up"] >= 0

    node = next(node for node in lab.nodes if node.name == "lb1")
    say = "echo '{}' | socat - UNIX-CONNECT:/run/haproxy/admin.sock"
    login(lab, node, say.format("set server challenge/web2_app_3 state drain"))
    try:
        told = [json.loads(line) for line in fab(shop, "servers", "--json").out.splitlines()]
    finally:
        login(lab, node, say.format("set server challenge/web2_app_3 state ready"))
    assert len(told) == 18
    odd = [one for one in told if one["admin"] != "ready"]
    assert [(one["balancer"], one["server"], one["admin"], one["why"]) for one in odd] == [
        ("lb1", "web2_app_3", "drain", ["operator"])
    ]
    assert (odd[0]["weight"], odd[0]["uweight"], odd[0]["iweight"]) == (0, 100, 100)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("logs", "--instance", "app_9"), "no instance 'app_9'"),
        (("-H", "web9", "ps"), "no host"),
        (("logs", "--since", "soon"), "--since"),
        (("logs", "--tail", "x"), "--tail"),
        (("exec",), "say what to run"),
        (("servers", "--service", "shop"), "no service"),
        (("drain",), "say which"),
        (("drain", "--server", "web1_app_7"), "no server 'web1_app_7'"),
        (("-H", "web1", "drain", "--on-timeout", "never"), "--on-timeout"),
        (("enable", "--instance", "web1/app_7"), "no instance"),
        (("restart", "--on-failure", "rollback"), "--on-failure"),
    ],
)
def test_a_mistyped_name_is_one_line_and_exit_2(shop, args, said):
    wrong = fab(shop, *args)
    assert wrong.code == 2
    assert said in one_line(wrong.err)


def servers_of(lab, name):
    """One server on both balancers: admin bits, operational state, set weight."""
    return [
        (row["srv_admin_state"], row["srv_op_state"], row["srv_uweight"])
        for host in ("lb1", "lb2")
        for row in servers_state(lab, host)
        if row["srv_name"] == name
    ]


def test_what_was_drained_stays_out_through_reload_and_deploy_and_comes_back_as_it_was(
    lab, shop, docker
):
    ask(lab, "lb1", "set server challenge/web1_app_2 weight 37")
    try:
        out = fab(shop, "-H", "web1", "drain", "--instance", "app_2", "--reason", "new disk")
        assert out.code == 0, out.text
        assert servers_of(lab, "web1_app_2") == [("1", "0", "37"), ("1", "0", "100")]

        on(lab, "lb1", "docker kill -s USR2 haproxy")
        awaited(
            lambda: servers_of(lab, "web1_app_2")[0] == ("1", "0", "37"), "the reload forgot it"
        )

        seen = fab(shop, "status", program="inv")
        assert seen.code == 0, seen.text
        assert "web1/app_2: drained by " in seen.out
        assert ": new disk, on lb1, lb2 (`fab -H web1 enable --instance app_2` ends it)" in seen.out

        told = [json.loads(line) for line in fab(shop, "servers", "--json").out.splitlines()]
        why = {one["server"] for one in told if one["drained"].endswith(": new disk")}
        assert why == {"web1_app_2"}

        before = running(lab, "web1")["app_2"]
        assert fab(shop, "-H", "web1", "deploy", "--version", "0.0.2").code == 0
        assert running(lab, "web1")["app_2"] != before
        assert servers_of(lab, "web1_app_2") == [("1", "0", "37"), ("1", "0", "100")]
    finally:
        back = fab(shop, "enable")
    assert back.code == 0, back.text
    assert servers_of(lab, "web1_app_2") == [("0", "2", "37"), ("0", "2", "100")]
    assert on(lab, "lb1", "ls /var/lib/evenkeel/drained") == ""

    # The mending command of `inv status` for a weight that nobody accounts for.
    seen = fab(shop, "status", program="inv")
    assert "-> fab -H web1 enable --instance app_2" in seen.out
    assert fab(shop, "-H", "web1", "enable", "--instance", "app_2").code == 0
    assert servers_of(lab, "web1_app_2") == [("0", "2", "100"), ("0", "2", "100")]
    assert fab(shop, "-H", "web1", "deploy", "--version", "0.0.1").code == 0


def test_a_drain_that_leaves_too_little_changes_nothing(lab, shop):
    before = servers_state(lab, "lb1")
    refused = fab(shop, "-H", "web1,web2", "drain")
    assert refused.code == 5
    assert "450 are needed" in one_line(refused.err)
    assert servers_state(lab, "lb1") == before


def test_an_instance_that_is_ill_is_not_taken_back(lab, shop):
    """It is up for nobody: neither exit code 0, nor a request sent to it."""
    assert fab(shop, "drain", "--server", "web2_app_1").code == 0
    on(lab, "web2", "docker pause challenge-app_1-1")
    enabling = Follower(shop, "enable")
    try:
        awaited(lambda: servers_of(lab, "web2_app_1") == [("0", "0", "100")] * 2, "it was let in")
    finally:
        on(lab, "web2", "docker unpause challenge-app_1-1")
        code = enabling.process.wait(PATIENCE)
        enabling.interrupt()
    assert code == 0
    assert servers_of(lab, "web2_app_1") == [("0", "2", "100")] * 2


def test_a_restart_that_was_killed_is_resumed_and_restarts_each_container_once(lab, shop):
    before = running(lab, "web3")
    first = Follower(shop, "-H", "web3", "restart")
    awaited(
        lambda: running(lab, "web3").get("app_2", before["app_2"]) != before["app_2"], "no start"
    )
    first.process.kill()
    first.process.wait()
    half = running(lab, "web3")
    assert half["app_1"] != before["app_1"]

    resumed = fab(shop, "resume", "--force")
    assert resumed.code == 0, resumed.text
    after = running(lab, "web3")
    assert after["app_1"] == half["app_1"]
    assert after["app_2"] != before["app_2"]
    assert after["app_3"] != before["app_3"]
    assert after["database"] == before["database"]
    assert {version for _, version in after.values()} == {version for _, version in before.values()}
    assert servers_of(lab, "web3_app_2") == [("0", "2", "100")] * 2
    assert (
        "restart" in fab(shop, "history", "--limit", "1").out
        or "resume" in fab(shop, "history").out
    )


def page(lab, host):
    """Status and text that people get through a balancer."""
    node = next(node for node in lab.nodes if node.name == host)
    script = "curl -s -o - -w ' %{http_code}' http://127.0.0.1/ping"
    return login(lab, node, script).stdout


def test_everybody_gets_the_maintenance_page_until_it_is_turned_off(lab, shop):
    try:
        assert fab(shop, "maintenance", "on", "--message", "moving house").code == 0
        on(lab, "lb1", "docker kill -s USR2 haproxy")
        awaited(lambda: page(lab, "lb1") == "Down for maintenance, back soon. 503", "no page")
        assert page(lab, "lb2").endswith(" 503")
        seen = fab(shop, "status", program="inv")
        assert "everybody gets the maintenance page from lb1, lb2, by " in seen.out
        assert ": moving house (`fab maintenance off` ends it)" in seen.out
    finally:
        assert fab(shop, "maintenance", "off").code == 0
    assert page(lab, "lb1") == page(lab, "lb2") == "pong\n 200"
    assert "maintenance" not in fab(shop, "status", program="inv").out


def test_a_configuration_without_the_page_is_named_and_left_alone(lab, shop):
    before = on(lab, "lb1", "cat /etc/haproxy/haproxy.cfg")
    plain = variant(shop, "own-page", {"balancers": {"backend": "challenge_in"}})
    refused = fab(plain, "maintenance", "on")
    assert refused.code == 5
    assert "no backend challenge_in_maintenance" in one_line(refused.err)
    assert on(lab, "lb1", "cat /etc/haproxy/haproxy.cfg") == before
