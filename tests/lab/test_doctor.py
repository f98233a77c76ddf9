"""`fab doctor`: the lab as shipped is well, and a HAProxy full of faults is told all of them."""

import json
import subprocess
from contextlib import contextmanager

import pytest
from rollouts import fab, servers_state, variant

CONFIG = "/etc/haproxy/haproxy.cfg"
FAULTS = {
    "expose-fd": "s/ expose-fd listeners//",
    "hard-stop-after": "s/hard-stop-after 10m/hard-stop-after 5s/",
    "state-file-not-loaded": "/load-server-state-from-file/d",
    "static-algorithm": "s/balance roundrobin/balance source/",
    "no-redispatch": "s/option redispatch/no option redispatch/",
    "retry-on": "s/retries 3/retries 3\\n    retry-on all-retryable-errors/",
    "persist": "s/option httpchk/option persist\\n    option httpchk/",
    "on-marked-down": "s/default-server check/default-server on-marked-down shutdown-sessions check/",
    "slow-return": "s/inter 2s fastinter 200ms/inter 20s/",
    "slowstart": "s/default-server on-marked/default-server slowstart 30s on-marked/",
    "backup": "s/\\(server web3_app_1 .*\\)/\\1 backup/",
    "unchecked": "s/\\(server web3_app_2 .*\\)/\\1 no-check/",
    "tracker": "$a\\\\nbackend other\\n    mode http\\n    timeout connect 5s\\n"
    "    timeout server 5s\\n    server o1 127.0.0.1:9 track challenge/web1_app_1",
}
PROBLEMS = {"persist", "on-marked-down"}


@pytest.fixture(scope="module")
def inventory(edge_inventory):
    done = fab(edge_inventory, "provision", "--version", "0.0.1")
    assert done.code == 0, done.text
    return edge_inventory


def doctor(inventory, *flags):
    done = fab(inventory, *flags, "doctor", "--json")
    assert "Traceback" not in done.text
    assert done.err == ""
    return done.code, json.loads(done.out)


@contextmanager
def as_root(lab, host, do, undo):
    argv = ["docker", "exec", lab.container(host), "sh", "-c"]
    subprocess.run([*argv, do], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run([*argv, undo], check=True, capture_output=True)


def test_the_lab_as_shipped_has_nothing_worse_than_hints(inventory, self_inventory):
    code, said = doctor(inventory)
    assert code == 0, said
    assert {finding["severity"] for finding in said["findings"]} <= {"hint"}
    assert set(said["well"]) == {
        "hosts", "docker", "registry", "compose file", "balancers", "policy",
    }  # fmt: skip
    assert "lb1, lb2: 18 servers" in said["well"]["balancers"]


def test_a_hand_written_haproxy_full_of_faults_is_told_each_with_its_line(lab, inventory):
    edits = " ".join(f"-e '{edit}'" for edit in FAULTS.values())
    reload = "docker kill -s USR2 haproxy && sleep 1"
    do = f"cp {CONFIG} /root/cfg && sed -i {edits} {CONFIG} && {reload}"
    undo = f"cp /root/cfg {CONFIG} && {reload}"
    hand_written = variant(
        inventory, "hand-written", {"balancers": {"template": None, "master_socket": None}}
    )
    with as_root(lab, "lb1", do, undo):
        before = servers_state(lab, "lb2")
        code, said = doctor(hand_written, "-H", "lb1")
        assert servers_state(lab, "lb2") == before
        text = subprocess.run(
            ["docker", "exec", lab.container("lb1"), "cat", CONFIG],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
    assert code == 5
    mine = {f["code"]: f for f in said["findings"] if f["subjects"] == ["lb1"]}
    assert set(FAULTS) | {"no-master-socket"} <= set(mine), set(FAULTS) - set(mine)
    assert {c for c, f in mine.items() if f["severity"] == "problem"} == PROBLEMS
    for name, word in (
        ("static-algorithm", "balance source"),
        ("persist", "option persist"),
        ("retry-on", "retry-on all"),
        ("tracker", "track challenge/web1_app_1"),
        ("backup", "server web3_app_1"),
    ):
        assert mine[name]["file"] == CONFIG
        assert word in text[mine[name]["line"] - 1]
    assert "other" in mine["tracker"]["text"]


def test_hosts_in_trouble_are_named_and_the_rest_is_examined(lab, inventory):
    do = "mv /usr/bin/curl /root && chmod 755 /var/lib/evenkeel"
    undo = "mv /root/curl /usr/bin; chmod 2775 /var/lib/evenkeel"
    web3 = next(node for node in lab.nodes if node.name == "web3")
    away = variant(inventory, "away", {})
    away.write_text(away.read_text().replace(str(web3.ssh_port), "1"))
    with as_root(lab, "web1", do, undo):
        code, said = doctor(away)
    assert code == 5
    told = {(f["code"], *f["subjects"]) for f in said["findings"]}
    assert {("tools-missing", "web1"), ("state-folder", "web1"), ("unreachable", "web3")} <= told
    assert ("unreachable", "web2") not in told
    assert "balancers" in said["well"]
