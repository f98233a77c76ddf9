"""Each trouble is made for real, seen by `inv status`, mended as it says, and then gone."""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import pytest
from haproxy_rig import free_port, rig, sh
from lab_tools import login, quiet
from rollouts import FAST_CHECKS, ROOT, ask, fab, one_line, variant
from test_recovery import killed
from test_rollout import Fleet

from fabfile.checks.fleet.look import questions
from fabfile.checks.fleet.read import read_host
from fabfile.jobs.status import Flags, run_status
from fabfile.lab.images import Images
from fabfile.remote import state

BIN = Path(sys.executable).parent
PATIENCE = 30.0
"""Seconds until HAProxy's checks and Docker must have caught up with what was mended."""


class Watched(Fleet):
    """A fleet, and what `inv status` says of it."""

    def status(self, *args):
        return fab(self.inventory, "status", *args, program="inv")

    def look(self, inventory=None, **flags):
        """`inv status --json` without the start of a program, since it is asked so often."""
        out, err = StringIO(), StringIO()
        path = str(inventory or self.inventory)
        with redirect_stderr(err):
            code = run_status(Flags(inventory=path, json=True, **flags), out)
        assert err.getvalue() == ""
        seen = json.loads(out.getvalue())
        assert seen["exit_code"] == code
        return seen

    def found(self, name, subject, text="", **options):
        """The verdict of that name on ``subject`` that says ``text``, as soon as there is one."""
        seen = {}
        for _ in self._tries():
            seen = self.look(**options)
            for verdict in seen["verdicts"]:
                is_it = (verdict["name"], verdict["subject"]) == (name, subject)
                if is_it and text in verdict["text"]:
                    return verdict
        raise AssertionError(f"no {name} of {subject}: {seen['text']}")

    def until_well(self):
        """The absence of every verdict."""
        seen = {}
        for _ in self._tries():
            seen = self.look()
            if seen["exit_code"] == 0:
                assert seen["verdicts"] == []
                return
        raise AssertionError(json.dumps(seen["verdicts"], indent=1))

    @staticmethod
    def _tries():
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends:
            yield

    def mend(self, verdict):
        """Do what the verdict says, as a person would paste it."""
        env = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "EVENKEEL_INVENTORY": str(self.inventory),
        }
        done = subprocess.run(
            verdict["mend"], shell=True, cwd=ROOT, env=env, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{verdict['mend']}\n{done.stdout}{done.stderr}"

    def on(self, host, script):
        done = login(self.lab, self.node(host), script)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def as_root(self, docker, host, script):
        docker("exec", self.lab.container(host), "sh", "-c", script)


@pytest.fixture(scope="module")
def fleet(lab, edge_inventory):
    change = {
        "health": {"min_healthy": "100ms", "interval": "100ms"},
        "drain": {"sticky_grace": "1s", "timeout": "6s"},
        "rollout": {"serial": ["100%"]},
        "balancers": {"options": FAST_CHECKS},
    }
    made = Watched(lab, "edge", variant(edge_inventory, "status", change))
    for verdict in made.look()["verdicts"]:  # of whoever used the lab before
        if verdict["name"] == "stuck-weight":
            made.mend(verdict)
    made.until_well()
    return made


@pytest.fixture(autouse=True)
def _well_before_and_after(fleet):
    yield
    fleet.until_well()


def set_server(fleet, host, *orders):
    ask(fleet.lab, host, ";".join(f"set server challenge/{order}" for order in orders))


def test_cron_needs_no_environment_and_no_folder(fleet, tmp_path):
    line = (
        f"cd / && flock -n {tmp_path}/lock {BIN}/inv -r {ROOT} status --inventory {fleet.inventory}"
    )
    done = subprocess.run(
        ["env", "-i", "/bin/sh", "-c", line], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "OK: 9 instances on 3 hosts run 0.0.1, behind 2 balancers" in done.stdout
    assert done.stdout.count("running") == 9


def test_a_stuck_weight_is_seen_and_put_back_and_cron_hears_of_both(fleet, tmp_path):
    quiet = ("--quiet", "--state", str(tmp_path / "state.json"))
    silent = fleet.status(*quiet)
    assert (silent.code, silent.out, silent.err) == (0, "", "")
    set_server(fleet, "lb1", "web1_app_1 weight 10")
    stuck = fleet.found("stuck-weight", "web1/app_1")
    assert stuck["severity"] == "WARNING"
    assert fleet.found("balancers-disagree", "web1/app_1")
    set_server(fleet, "lb1", "web1_app_1 weight 0")
    stuck = fleet.found("stuck-weight", "web1/app_1")
    assert (stuck["severity"], "weight 0 instead" in stuck["text"]) == ("CRITICAL", True)
    told = fleet.status(*quiet)
    assert (told.code, one_line(told.out)[:9]) == (2, "CRITICAL:")
    fleet.mend(stuck)
    back = fleet.status(*quiet)
    assert (back.code, one_line(back.out)[:10]) == (0, "RECOVERED:")
    assert fleet.status(*quiet).out == ""


@pytest.mark.slow
def test_maintenance_is_no_trouble_while_a_freeze_accounts_for_it(fleet):
    for host in ("lb1", "lb2"):
        set_server(fleet, host, "web2_app_2 state maint")
    stuck = fleet.found("stuck-weight", "web2/app_2")
    assert "in maintenance instead of weight 100 on lb1, lb2" in stuck["text"]
    assert fleet.fab("lock.acquire", "--message", "new disks").code == 0
    try:
        seen = fleet.look()
    finally:
        assert fleet.fab("lock.release").code == 0
    assert (seen["exit_code"], seen["verdicts"]) == (0, [])
    assert "new disks" in seen["notes"][0]
    fleet.mend(fleet.found("stuck-weight", "web2/app_2"))


def test_a_stopped_container_is_seen_on_its_host_and_on_its_balancers(fleet):
    fleet.on("web2", "docker stop -t 1 challenge-app_2-1")
    fleet.found("server-down", "web2/app_2", "down on lb1, lb2")
    fleet.mend(fleet.found("instance-down", "web2/app_2", "its container is exited"))


@pytest.mark.slow
def test_a_container_that_ended_by_itself_is_told_of_although_it_is_back(fleet, docker):
    name = "challenge-app_3-1"
    fleet.as_root(docker, "web3", f"kill -9 $(docker inspect -f {{{{.State.Pid}}}} {name})")
    again = fleet.found("restarting", "web3/app_3")
    assert again["severity"] in ("WARNING", "CRITICAL")
    fleet.mend(again)  # it shows the log; what makes the count new is a container that is new
    fleet.on("web3", "cd /srv/challenge && docker compose up -d --force-recreate --no-deps app_3")


@pytest.mark.slow
def test_a_stray_container_is_seen_and_removed(fleet):
    image = fleet.on("web3", "docker inspect -f '{{.Config.Image}}' challenge-app_1-1").strip()
    fleet.on("web3", f"docker run -d --name by-hand {image}")
    stray = fleet.found("stray-container", "web3/by-hand")
    assert stray["severity"] == "WARNING"
    fleet.mend(stray)


@pytest.mark.slow
def test_an_edited_compose_file_is_seen_and_written_anew(fleet):
    file = "/srv/challenge/docker-compose.yml"
    fleet.on("web1", f"echo '# a small change' >>{file}")
    edited = fleet.found("compose-edited", f"web1:{file}")
    fleet.mend(edited)


@pytest.mark.slow
def test_a_container_made_of_something_else_is_seen_and_made_anew(fleet):
    release = fleet.on("web1", "basename $(readlink /srv/challenge/current/app_1)").strip()
    check = 'healthcheck: {test: [\\"CMD\\", \\"false\\"], interval: 1s, retries: 1}'
    edits = f"-e 's/release: .*{release}.*/release: byhand/' -e 's/^  app_1:/&\\n    {check}/'"
    file = "/srv/challenge/docker-compose.yml"
    script = f"cd /srv/challenge && sed -i {edits.replace(chr(92) + chr(34), chr(34))} {file}"
    fleet.on("web1", f"{script} && docker compose up -d --no-deps app_1")
    assert fleet.found("unhealthy", "web1/app_1")["severity"] == "CRITICAL"
    differs = fleet.found("compose-differs", "web1/app_1")
    assert "runs release byhand" in differs["text"]
    fleet.mend(differs)


@pytest.mark.slow
def test_two_images_under_one_tag_and_two_versions_are_drift(fleet):
    other = fleet.fab("-H", "web1", "deploy", "--version", "0.0.2", "--json")
    assert other.code == 0, other.text
    partial = fleet.found("partial-by-choice", "challenge")
    assert partial["severity"] == "WARNING"
    assert other.of("RolloutFinished")[0]["rollout"] in partial["text"]
    file = "/srv/challenge/docker-compose.yml"
    fleet.on(
        "web1",
        f'cd /srv/challenge && sed -i \'s/version: "0.0.2"/version: "0.0.1"/\' {file}'
        " && docker compose up -d --no-deps app_1",
    )
    drift = fleet.found("digest-drift", "challenge")
    assert drift["severity"] == "CRITICAL"
    mixed = fleet.found("version-drift", "challenge")
    assert mixed["severity"] == "CRITICAL", "one host with two versions was nobody's choice"
    fleet.mend(drift)


@pytest.mark.slow
def test_a_dead_rollout_is_seen_with_what_it_left_and_resumed(fleet):
    killed(fleet, "0.0.2", 0.5)
    seen = fleet.look()
    assert any("is at work" in note for note in seen["notes"]), seen["text"]
    assert not [v for v in seen["verdicts"] if v["name"] == "unfinished-rollout"]
    old_locks = "cd /var/lib/evenkeel/locks && touch -d '1 minute ago' *.lock"
    for host in ("web1", "web2", "web3", "lb1", "lb2"):
        fleet.on(host, old_locks)
    rollout = fleet.fab("resume", "--dry-run")
    assert rollout.code == 0, rollout.text
    (dead,) = [v for v in fleet.look()["verdicts"] if v["name"] == "unfinished-rollout"]
    assert dead["severity"] == "CRITICAL"
    assert "not put back: " in dead["text"]
    assert not [v for v in fleet.look()["verdicts"] if v["name"] == "stuck-weight"]
    fleet.mend(dead)


@pytest.mark.slow
def test_a_lock_that_nobody_holds_any_more_is_seen_and_released(fleet):
    key = state.key("project", "/srv/challenge")
    taken = state.acquire([key], "provision-x", {"by": "anna@laptop", "reason": "provision"})
    fleet.on("web1", taken)
    assert fleet.look()["exit_code"] == 0, "its holder may be at work"
    fleet.on("web1", f"touch -d '1 minute ago' /var/lib/evenkeel/locks/{key}.lock")
    stale = fleet.found("stale-lock", "provision-x")
    assert "anna@laptop" in stale["text"]
    fleet.mend(stale)


@pytest.mark.slow
def test_a_host_without_sshd_spoils_nothing_else(fleet, docker):
    fleet.as_root(docker, "web3", "pkill -x sshd")
    try:
        gone = fleet.found("unreachable", "web3")
        seen = fleet.look()
    finally:
        fleet.as_root(docker, "web3", "start-sshd")
    assert gone["severity"] == "UNKNOWN"
    assert seen["exit_code"] == 3
    assert [v["name"] for v in seen["verdicts"]] == ["unreachable"]
    rows = {row["host"]: row["container"] for row in seen["instances"]}
    assert rows == {"web1": "running", "web2": "running", "web3": "?"}
    assert all(cell["state"] == "up" for row in seen["instances"] for cell in row["servers"])


@pytest.mark.slow
def test_a_balancer_that_is_gone_is_critical(fleet):
    fleet.on("lb2", "docker stop -t 1 haproxy")
    silent = fleet.found("balancer-silent", "lb2")
    assert silent["severity"] == "CRITICAL"
    fleet.mend(silent)


@pytest.mark.slow
def test_a_docker_that_does_not_answer_is_critical(fleet, docker):
    fleet.as_root(docker, "web2", "mv /run/docker.sock /run/docker.away")
    try:
        silent = fleet.found("docker", "web2")
        assert silent["severity"] == "CRITICAL"
        rows = {row["host"]: row["container"] for row in fleet.look()["instances"]}
        assert (rows["web1"], rows["web2"]) == ("running", "?")
    finally:
        fleet.as_root(docker, "web2", "mv /run/docker.away /run/docker.sock")


@pytest.mark.slow
def test_a_closed_state_folder_is_told_since_nothing_in_it_can_be_seen(fleet, docker):
    fleet.as_root(docker, "web2", "chmod 700 /var/lib/evenkeel && chown root /var/lib/evenkeel")
    try:
        assert fleet.found("state-folder", "web2")["severity"] == "WARNING"
    finally:
        fleet.as_root(docker, "web2", "chmod 2770 /var/lib/evenkeel")


@pytest.mark.slow
def test_a_disk_that_is_nearly_full_is_told_before_a_rollout_dies_of_it(fleet, docker):
    small, project = "/mnt/small", "/srv/challenge"
    fill = f"mkdir -p {small} && mount -t tmpfs -o size=64m none {small} && chmod 2775 {small}"
    fill += f" && cp -a {project}/. {small} && head -c 61M /dev/zero >{small}/ballast"
    fleet.as_root(docker, "web3", f"{fill} && mount --bind {small} {project}")
    try:
        full = fleet.found("disk", f"web3:{project}")
        assert full["severity"] == "CRITICAL"
    finally:
        fleet.as_root(docker, "web3", f"umount {project} && umount {small} && rmdir {small}")


@pytest.mark.slow
def test_a_backend_without_a_server_is_critical_on_the_balancer_that_has_none(fleet):
    names = [f"web{host}_app_{number}" for host in (1, 2, 3) for number in (1, 2, 3)]
    set_server(fleet, "lb2", *(f"{name} state maint" for name in names))
    try:
        nobody = fleet.found("no-capacity", "lb2")
        assert nobody["severity"] == "CRITICAL"
        assert not [v for v in fleet.look()["verdicts"] if v["subject"] == "lb1"]
    finally:
        set_server(fleet, "lb2", *(f"{name} state ready" for name in names))


@pytest.mark.slow
def test_servers_that_the_balancers_configuration_lacks_are_missing(fleet):
    fewer = variant(fleet.inventory, "fewer", {"instances": 2})
    assert fab(fewer, "provision.balancers").code == 0
    missing = fleet.found("server-missing", "web3/app_3", "lb1, lb2 has no server web3_app_3")
    extra = fleet.found("stray-container", "web3/challenge-app_3-1", inventory=fewer)
    assert "belongs to no server" in extra["text"]
    fleet.mend(missing)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
def test_a_certificate_is_told_by_what_haproxy_serves(lab, docker, tmp_path):
    with rig(Images(docker, tmp_path, quiet).ensure("haproxy")) as haproxy:
        asked = questions([haproxy.service], {"app": ("web1",)})["lb1"]

        def served():
            said = sh(asked.script())
            assert said.returncode == 0, said.stderr
            (found,) = read_host(said.stdout, asked, [haproxy.service]).certificates or (None,)
            return found

        def make(days):
            pem = haproxy.folder / "etc/shop.pem"
            made = sh(
                f"openssl req -x509 -newkey rsa:2048 -nodes -days {days} -subj /CN=shop.example"
                f" -keyout {tmp_path}/key -out {tmp_path}/cert && cat {tmp_path}/cert"
                f" {tmp_path}/key >{pem} && chmod 644 {pem}"
            )
            assert made.returncode == 0, made.stderr
            return pem

        assert served() is None
        pem = make(10)
        listen = f"\nfrontend tls\n    bind 127.0.0.1:{free_port()} ssl crt {pem}\n"
        front = f"{listen}    timeout client 5s\n    default_backend app\n"
        assert haproxy.provision(haproxy.config() + front)[0] == 0
        soon = served()
        assert soon.name == str(pem)
        assert 9 < (soon.expires - time.time()) / 86400 < 11
        make(400)
        assert served() == soon, "renewed on disk alone"
        haproxy.reload()
        ends = time.monotonic() + PATIENCE
        while served() == soon and time.monotonic() < ends:
            pass
        assert (served().expires - time.time()) / 86400 > 390


def test_figures_are_written_for_prometheus_and_nagios(fleet, tmp_path):
    file = tmp_path / "evenkeel.prom"
    done = fleet.status("--nagios", "--prometheus", str(file))
    assert (done.code, done.err) == (0, "")
    text, _, figures = one_line(done.out).partition(" | ")
    assert text.startswith("OK: 9 instances")
    assert "healthy=9;9:;1:" in figures.split()
    samples = dict(line.rsplit(" ", 1) for line in file.read_text().splitlines() if line[0] != "#")
    assert samples["evenkeel_status"] == "0"
    server = 'service="challenge",host="web1",instance="app_1",balancer="lb1",server="web1_app_1"'
    assert samples[f"evenkeel_server_weight{{{server}}}"] == "100"


@pytest.mark.slow
def test_one_host_alone_and_one_with_balancers_of_its_own(fleet, self_inventory):
    seen = fleet.look(hosts="web2")
    assert {row["host"] for row in seen["instances"]} == {"web2"}
    own = fleet.look(inventory=self_inventory)
    assert len(own["instances"]) == 9
    for row in own["instances"]:
        assert [cell["balancer"] for cell in row["servers"]] == [row["host"]]
