"""What a person is promised of a rollout, on real hosts under real traffic."""

import json
import re
import threading
import time
from pathlib import Path

import pytest
from lab_tools import login
from rollouts import (
    FAST_CHECKS,
    NO_RETRIES,
    ask,
    fab,
    lost,
    one_line,
    running,
    servers_state,
    traffic,
    variant,
)

QUICK = {"min_healthy": "100ms", "interval": "100ms"}
BALANCERS = {"edge": ("lb1", "lb2"), "self": ("web1", "web2", "web3")}


@pytest.fixture(scope="module", params=["edge", "self"])
def fleet(request, lab, edge_inventory, self_inventory):
    """Both topologies, provisioned at 0.0.1 or whatever ran before, with nothing to hide behind."""
    base = edge_inventory if request.param == "edge" else self_inventory
    change = {
        "health": QUICK,
        "drain": {"sticky_grace": "1s", "timeout": "6s"},
        "rollout": {"serial": ["35%"]},
        "balancers": {"options": {**FAST_CHECKS, **NO_RETRIES}, "cookie": "SRV"},
    }
    return Fleet(lab, request.param, variant(base, "quick", change))


@pytest.fixture(scope="module")
def edge(lab, edge_inventory):
    """The edge topology alone, for what does not depend on it."""
    change = {
        "health": QUICK,
        "drain": {"sticky_grace": "1s", "timeout": "6s"},
        "rollout": {"serial": ["35%"]},
        "balancers": {"options": {**FAST_CHECKS, **NO_RETRIES}, "cookie": "SRV"},
    }
    return Fleet(lab, "edge", variant(edge_inventory, "quick", change))


class Fleet:
    """A provisioned lab behind one inventory."""

    def __init__(self, lab, topology, inventory):
        self.lab, self.topology, self.inventory = lab, topology, inventory
        self.balancers = BALANCERS[topology]
        nodes = {node.name: node for node in lab.nodes}
        self.urls = tuple(lab.url(nodes[name]) for name in self.balancers)
        done = self.fab("provision", "--version", "0.0.1")
        assert done.code == 0, done.text
        self.at("0.0.1")

    def fab(self, *args, **options):
        return fab(self.inventory, *args, **options)

    def deploy(self, version, *args, before=(), **options):
        return self.fab(*before, "deploy", "--version", version, "--json", *args, **options)

    def at(self, version):
        """Whatever a test left behind: everything at ``version``."""
        done = self.deploy(version, "--serial", "100%", "--reason", "between tests")
        assert done.code == 0, done.text

    def states(self):
        return {name: servers_state(self.lab, name) for name in self.balancers}

    def containers(self):
        return {name: running(self.lab, name) for name in ("web1", "web2", "web3")}

    def node(self, name):
        return next(node for node in self.lab.nodes if node.name == name)


def versions(containers):
    return {v for host in containers.values() for n, (_, v) in host.items() if n != "database"}


def test_nobody_notices_a_rollout(fleet):
    fleet.at("0.0.1")
    before, weights = fleet.containers(), fleet.states()
    with traffic(fleet.urls, rate=60, slow=2, cookies=True) as probe:
        time.sleep(2)
        done = fleet.deploy("0.0.2")
        time.sleep(2)
        seen = probe.stop()
    assert done.code == 0, done.text
    assert lost(seen) == {}
    assert seen.lanes["fast"].requests > 300
    assert seen.lanes["long"].requests >= 5
    after = fleet.containers()
    assert versions(after) == {"0.0.2"}
    assert fleet.states() == weights, "weights and states are exactly what they were"
    for host, containers in before.items():
        assert after[host]["database"] == containers["database"], "the database was touched"
        changed = [n for n in containers if after[host][n] != containers[n] and n != "database"]
        assert sorted(changed) == ["app_1", "app_2", "app_3"]


def test_a_release_that_answers_people_with_5xx_is_stopped_in_its_first_batch(edge):
    fleet = edge
    fleet.at("0.0.1")
    before, weights = fleet.containers(), fleet.states()
    with traffic(fleet.urls, rate=90, slow=2) as probe:
        time.sleep(2)
        done = fleet.deploy("0.0.5")
        time.sleep(2)
        seen = probe.stop()
    assert done.code == 7, done.text
    assert "answers 5xx" in done.of("RolloutFinished")[0]["reason"]
    assert not [event for event in done.of("BatchStarted") if event["number"] > 1]
    after = fleet.containers()
    assert versions(after) == {"0.0.1"}
    assert {name: after[name] for name in ("web2", "web3")} == {
        name: before[name] for name in ("web2", "web3")
    }, "it went on to other hosts"
    assert fleet.states() == weights
    logs = [event["detail"] for event in done.of("StepFinished") if event["step"] == "read-logs"]
    assert any(logs), "nobody is shown why"
    kinds = {kind for lane in seen.lanes.values() if not lane.sockets for kind in lane.kinds}
    assert kinds == {"HTTP 5xx"}, "all that people saw were the release's own errors"


def test_a_second_deploy_of_the_same_changes_nothing(edge):
    edge.at("0.0.2")
    before, weights = edge.containers(), edge.states()
    done = edge.deploy("0.0.2")
    assert done.code == 0, done.text
    assert done.of("RolloutFinished")[0]["current"] == 9
    assert (edge.containers(), edge.states()) == (before, weights)


@pytest.mark.slow
def test_a_choice_of_hosts_leaves_the_others_alone(edge):
    edge.at("0.0.1")
    before = edge.containers()
    done = edge.deploy("0.0.2", before=("-H", "web1,web2"))
    assert done.code == 0, done.text
    after = edge.containers()
    assert after["web3"] == before["web3"]
    assert versions({h: after[h] for h in ("web1", "web2")}) == {"0.0.2"}


def test_a_changed_setting_is_a_rollout(edge):
    edge.at("0.0.2")
    changed = variant(edge.inventory, "env", {"env": {"GREETING": "good evening"}})
    done = fab(changed, "deploy", "--version", "0.0.2", "--json", "--serial", "100%")
    assert done.code == 0, done.text
    assert done.of("RolloutFinished")[0]["upgraded"] == 9
    again = fab(changed, "deploy", "--version", "0.0.2", "--json")
    assert again.of("RolloutFinished")[0]["current"] == 9, "nothing changed since"
    edge.at("0.0.2")


def test_a_secret_reaches_the_container_and_nothing_else(edge):
    changed = variant(
        edge.inventory, "secret", {"secrets": {"API_KEY": {"command": "echo s3cr3t-$((40+2))"}}}
    )
    done = fab(changed, "-H", "web1", "deploy", "--version", "0.0.2", "--json")
    assert done.code == 0, done.text
    assert "s3cr3t-42" not in done.text
    said = login(
        edge.lab,
        edge.node("web1"),
        "docker exec $(docker ps -qf label=com.docker.compose.service=app_1) printenv API_KEY;"
        " stat -c %a $(readlink -f /srv/challenge/current/app_1/env);"
        " grep -rl s3cr3t-42 /srv/challenge /var/lib/evenkeel | grep -v /env$",
    )
    assert said.stdout.split() == ["s3cr3t-42", "600"]
    edge.at("0.0.2")


@pytest.mark.slow
def test_a_version_that_never_gets_healthy_is_put_back(edge):
    edge.at("0.0.1")
    weights = edge.states()
    impatient = variant(edge.inventory, "impatient", {"health": {**QUICK, "timeout": "4s"}})
    with traffic(edge.urls, rate=40, slow=2, sockets=False) as probe:
        done = fab(impatient, "deploy", "--version", "0.0.3", "--json")
        seen = probe.stop()
    assert done.code == 7, done.text
    assert lost(seen) == {}
    failed = done.of("InstanceFinished")
    assert [event["fate"] for event in failed] == ["restored"], "one instance, then it stopped"
    assert "/ping answers 500" in failed[0]["reason"]
    assert failed[0]["detail"], "its last log lines are shown"
    assert versions(edge.containers()) == {"0.0.1"}
    assert edge.states() == weights


def test_what_outlives_the_drain_is_cut_and_reported(edge):
    edge.at("0.0.1")
    with traffic(edge.urls[:1], rate=20, slow=2) as probe:
        time.sleep(1)
        done = edge.deploy("0.0.2", "--drain-timeout", "3s")
        seen = probe.stop()
    assert done.code == 0, done.text
    assert lost(seen) == {}, "requests of 2 s are within the 3 s"
    cuts = [e for e in done.of("StepFinished") if e["step"] == "cut"]
    assert cuts, "the WebSocket had to go"
    assert re.search(r"closed 1 .*: \S+ for \d+ s on lb1", cuts[0]["note"])
    assert any(lane.sockets for lane in seen.lanes.values())


def test_on_timeout_abort_restores_the_instance_and_stops(edge):
    edge.at("0.0.1")
    weights, before = edge.states(), edge.containers()
    with traffic(edge.urls[:1], rate=5, slow=9, slow_rate=10, sockets=False) as probe:
        time.sleep(4)  # long enough for every server to have got one
        done = edge.deploy("0.0.2", "--drain-timeout", "2s", "--on-timeout", "abort")
        seen = probe.stop()
    assert done.code == 7, done.text
    assert lost(seen) == {}
    assert edge.containers() == before
    assert edge.states() == weights


@pytest.mark.slow
def test_a_reload_in_mid_drain_lets_nothing_slip_through(edge):
    edge.at("0.0.1")
    weights = edge.states()

    def reload_often():
        for _ in range(6):
            time.sleep(1.5)
            login(
                edge.lab,
                edge.node("lb1"),
                "echo reload | socat -t 10 - UNIX-CONNECT:/run/haproxy/master.sock",
            )

    with traffic(edge.urls, rate=40, slow=2, sockets=False, cookies=True) as probe:
        time.sleep(1)
        thread = threading.Thread(target=reload_often)
        thread.start()
        done = edge.deploy("0.0.2")
        thread.join()
        time.sleep(1)
        seen = probe.stop()
    assert done.code == 0, done.text
    assert lost(seen) == {}
    assert edge.states() == weights


def test_weights_an_operator_set_are_what_comes_back(edge):
    edge.at("0.0.1")
    ask(edge.lab, "lb1", "set server challenge/web1_app_1 weight 7")
    ask(edge.lab, "lb2", "set server challenge/web1_app_2 state drain")
    try:
        weights = edge.states()
        done = edge.deploy("0.0.2", "--serial", "100%", before=("-H", "web1"))
        assert done.code == 0, done.text
        assert edge.states() == weights
    finally:
        ask(edge.lab, "lb1", "set server challenge/web1_app_1 weight 100")
        ask(edge.lab, "lb2", "set server challenge/web1_app_2 state ready")


@pytest.mark.slow
def test_an_application_that_ignores_sigterm_loses_nothing(edge):
    edge.at("0.0.1")
    assert edge.deploy("0.0.6", before=("-H", "web1")).code == 0
    with traffic(edge.urls, rate=40, slow=2, sockets=False) as probe:
        done = edge.deploy("0.0.2", before=("-H", "web1"))
        seen = probe.stop()
    assert done.code == 0, done.text
    assert lost(seen) == {}


def test_a_plan_changes_nothing_at_all(edge):
    edge.at("0.0.1")
    before, weights = edge.containers(), edge.states()
    state = "ls -R /var/lib/evenkeel/rollouts /srv/challenge/releases | md5sum"
    on_disk = login(edge.lab, edge.node("web1"), state).stdout
    done = edge.fab("-H", "web1,web2", "deploy", "--version", "0.0.2", "--dry-run")
    assert done.code == 0, done.text
    assert "web1/app_1" in done.out
    assert "web3" not in done.out
    assert (edge.containers(), edge.states()) == (before, weights)
    assert login(edge.lab, edge.node("web1"), state).stdout == on_disk


def test_provision_again_restarts_nothing(edge):
    before = edge.containers()
    process = ask(edge.lab, "lb1", "show info")
    done = edge.fab("provision", "--json")
    assert done.code == 0, done.text
    assert edge.containers() == before
    pid = re.search(r"^Pid: (\d+)$", process, re.MULTILINE)
    assert pid
    assert f"Pid: {pid[1]}\n" in ask(edge.lab, "lb1", "show info")


def test_a_broken_haproxy_template_leaves_the_old_one_in_force(edge, tmp_path):
    (tmp_path / "broken.cfg.j2").write_text("global\n    nonsense here\n")
    broken = variant(
        edge.inventory, "broken", {"balancers": {"template": str(tmp_path / "broken.cfg.j2")}}
    )
    done = fab(broken, "provision.balancers")
    assert done.code != 0
    assert "nonsense" in done.text
    assert edge.fab("provision.balancers", "--json").code == 0
    notices = [json.loads(x) for x in edge.fab("provision.balancers", "--json").out.splitlines()]
    assert all(n["text"] == "HAProxy unchanged" for n in notices if n["event"] == "Notice")


def test_ctrl_c_finishes_what_is_out_and_stops(edge):
    import os
    import signal
    import subprocess
    import sys
    from pathlib import Path

    edge.at("0.0.1")
    weights = edge.states()
    env = {**os.environ, "EVENKEEL_INVENTORY": str(edge.inventory)}
    command = [str(Path(sys.executable).parent / "fab"), "deploy", "--version", "0.0.2", "--json"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for line in process.stdout:
        if '"recreate"' in line:
            process.send_signal(signal.SIGINT)
            break
    rest = process.communicate(timeout=60)[0]
    assert process.returncode == 130, rest
    assert "comes back first" in rest
    ended = json.loads(rest.splitlines()[-1])
    assert (ended["verdict"], ended["upgraded"], ended["untouched"]) == ("interrupted", 1, 8)
    assert edge.states() == weights


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["-H", "web9", "deploy", "--version", "0.0.2"], "web9"),
        (["deploy", "--version", "0.0.2", "--service", "chalenge"], "did you mean challenge"),
        (["deploy", "--version", "0.0.2; reboot"], "--version"),
        (["deploy", "--version", "$(id)"], "--version"),
        (["deploy", "--version", 'a"b'], "--version"),
        (["deploy", "--version", "0.0.2", "--serial", "abc"], "--serial"),
        (["deploy", "--version", "0.0.2", "--serial", "[]"], "--serial"),
        (["deploy", "--version", "0.0.2", "--on-timeout", "never"], "--on-timeout"),
        (["deploy", "--version", "0.0.2", "--drain-timeout", "soon"], "--drain-timeout"),
        (["deploy"], "--version"),
    ],
)
def test_what_was_typed_wrong_is_one_line_and_exit_2(edge, args, says):
    done = edge.fab(*args)
    assert done.code == 2, done.text
    assert says in one_line(done.text)


def test_a_version_the_registry_lacks_changes_nothing(edge):
    before = edge.containers()
    done = edge.fab("deploy", "--version", "9.9.9")
    assert done.code == 5, done.text
    assert "the registry has no" in done.text
    assert edge.containers() == before


def test_an_unreachable_host_changes_nothing(edge):
    import ruamel.yaml

    yaml = ruamel.yaml.YAML()
    data = yaml.load(edge.inventory.read_text())
    data["hosts"]["web2"]["ssh"]["port"] = 1
    path = edge.inventory.with_name("test-unreachable.yaml")
    with path.open("w") as stream:
        yaml.dump(data, stream)
    done = fab(path, "deploy", "--version", "0.0.2")
    assert done.code == 5, done.text
    assert "web2" in one_line(done.text)


def test_a_missing_server_or_backend_changes_nothing(edge):
    for change in ({"backend": "chalenge"}, {"server": "{host}-{instance}"}):
        path = variant(edge.inventory, "missing", {"balancers": change})
        done = fab(path, "deploy", "--version", "0.0.2")
        assert done.code == 5, done.text
        assert "lb1" in done.text
        assert "lb2" in done.text


def test_the_last_server_is_not_taken_unless_told(edge):
    edge.at("0.0.1")
    others = [f"web{h}_app_{n}" for h in (1, 2, 3) for n in (1, 2, 3) if (h, n) != (1, 1)]
    for name in others:
        ask(edge.lab, "lb1", f"set server challenge/{name} state maint")
    try:
        done = edge.deploy("0.0.2", before=("-H", "web1"))
        assert done.code == 5, done.text
        assert "last server" in done.text
    finally:
        for name in others:
            ask(edge.lab, "lb1", f"set server challenge/{name} state ready")


def test_two_deploys_at_once_do_not_mix(edge):
    edge.at("0.0.1")
    results = []
    threads = [
        threading.Thread(target=lambda v=v: results.append(edge.deploy(v)))
        for v in ("0.0.2", "0.0.5")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(r.code for r in results) == [0, 4], [r.text for r in results]
    assert len(versions(edge.containers())) == 1


@pytest.mark.slow
def test_a_probed_deploy_leaves_a_page_that_shows_what_people_got(edge):
    edge.at("0.0.1")
    done = fab(edge.inventory, "deploy", "--version", "0.0.2", "--serial", "100%", "--probe")
    assert done.code == 0, done.text
    assert "0 failed" in done.out
    place = re.search(r"report: (\S+\.html)", done.out)
    assert place, done.out
    text = Path(place[1]).read_text()
    assert text.count('class="recreate"') >= 9
    assert "Versions answering" in text
    again = fab(edge.inventory, "report", "--out", "/nowhere/x.html", program="inv")
    assert (again.code, one_line(again.err)) == (
        2,
        "/nowhere/x.html: can't be written: No such file or directory",
    )
