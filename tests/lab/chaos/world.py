"""The fleet as it really is, seen from outside: by ``docker exec``, never through the product."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollouts import FAST_CHECKS, NO_RETRIES, ROOT, fab, variant

from .load import SERVER_TIMEOUT

WEB = ("web1", "web2", "web3")
EDGE = ("lb1", "lb2")
INSTANCES = tuple(f"{host}/app_{n}" for host in WEB for n in (1, 2, 3))
GOOD = ("0.0.1", "0.0.2")
QUICK: dict[str, Any] = {
    "health": {"min_healthy": "0s", "interval": "100ms", "timeout": "20s"},
    "drain": {"sticky_grace": "1s", "timeout": "30s"},
    "rollout": {"serial": ["100%"], "instances_at_once": 2, "min_capacity": "30%"},
    "stop_grace": "5s",
    "balancers": {
        "options": {**FAST_CHECKS, **NO_RETRIES, "timeout_server": f"{SERVER_TIMEOUT:g}s"},
    },
}
"""All hosts side by side, two instances of each at once, so that a rollout takes about 45 s beside
requests of 20 s. HAProxy tries nothing again: one lost connection is one failed request."""
NAMES_SERVERS = (
    "    http-after-response set-header X-Instance %[srv_name]"
    " if !{ res.hdr(X-Instance) -m found } { srv_name -m found }\n"
)
"""What HAProxy answers itself then says which server it is about."""

LOOK_WEB = """
docker ps -a --filter label=com.docker.compose.project=challenge --format \
 '{{.Label "com.docker.compose.service"}} {{.State}} {{.Label "evenkeel.release"}} {{.Label "evenkeel.version"}}' \
 | sed 's/^/container /'
for n in 1 2 3; do
    echo "current app_$n $(basename "$(readlink /srv/challenge/current/app_$n)")"
done
"""
LOOK_STATE = """
cd /var/lib/evenkeel || exit 1
for lock in locks/*.lock; do [ -e "$lock" ] && echo "lock $(basename $lock) $(head -n 1 $lock)"; done
for folder in rollouts/*/; do
    [ -e "$folder/plan-0001.json" ] && [ ! -e "$folder/finished.json" ] \
        && echo "unfinished $(basename $folder)"
done
true
"""
LOOK_EDGE = "echo 'show servers state challenge' | socat - UNIX-CONNECT:/run/haproxy/admin.sock\n"

Server = tuple[str, str, str]
"""Operational state (2: up), state an administrator ordered (0: none), weight that was set."""


@dataclass(frozen=True)
class Stand:
    """How the fleet stands at one moment."""

    versions: Mapping[str, str]
    """What runs, by instance; empty: nothing does."""
    servers: Mapping[str, Server]
    """``lb1:web1_app_1`` and so on."""
    locks: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    oddities: tuple[str, ...] = ()
    """Twins, containers that the host's own files know nothing of, hosts that can't be asked."""

    def out(self, recorded: Mapping[str, Server]) -> tuple[str, ...]:
        """The servers that are not as recorded."""
        return tuple(name for name, was in recorded.items() if self.servers.get(name) != was)


class World:
    """The lab, provisioned for the harness."""

    def __init__(self, lab: Any, docker: Any, say: Callable[[str], None]) -> None:
        self.lab, self.docker, self.say = lab, docker, say
        self.base = lab.state / "hosts.yaml"
        _own_template(lab.state)
        self.inventory = self.variant("all", {})
        nodes = {node.name: node for node in lab.nodes}
        self.urls = tuple(lab.url(nodes[name]) + "/" for name in EDGE)
        self.recorded: Mapping[str, Server] = {}

    def variant(self, name: str, change: dict[str, Any]) -> Path:
        """The harness' inventory with ``change`` on top."""
        base = variant(self.base, "chaos", QUICK)
        return variant(base, name, change)

    def container(self, host: str) -> str:
        """Name of the container that is ``host``."""
        return str(self.lab.container(host))

    def inside(self, host: str, script: str, *, timeout: float = 60.0) -> str:
        """Run ``script`` as root on ``host``, past its sshd; what it printed, whatever its exit."""
        argv = [*self.docker.prefix, "exec", "-i", self.container(host), "sh"]
        done = subprocess.run(
            argv, input=script, capture_output=True, text=True, timeout=timeout, check=False
        )
        return done.stdout

    def begin(self) -> None:
        """Everything provisioned and at one good version; what is recorded from now on is right."""
        for mode in ("abort", "repair"):
            fab(self.inventory, mode, "--force")
        for host in (*WEB, *EDGE):
            self.inside(host, "rm -f /var/lib/evenkeel/locks/*.lock")
        for args in (("provision", "--version", GOOD[0]), ("deploy", "--version", GOOD[0])):
            done = fab(self.inventory, *args)
            assert done.code == 0, done.text
        self.recorded = self.look().servers
        assert set(self.recorded.values()) == {("2", "0", "100")}, self.recorded

    def products(self) -> str:
        """What the lab is made of."""
        haproxy = self.inside("lb1", "docker exec haproxy haproxy -v | head -n 1").split()
        engine = self.inside("web1", "docker version --format '{{.Server.Version}}'").strip()
        compose = self.inside("web1", "docker compose version --short").strip()
        version = haproxy[2] if len(haproxy) > 2 else "?"
        return f"HAProxy {version}, Docker {engine}, Compose {compose}."

    def look(self) -> Stand:
        """How everything stands now."""
        oddities: list[str] = []
        versions, locks, unfinished = {}, set(), set()
        servers: dict[str, Server] = {}
        for host in WEB:
            said = self.inside(host, LOOK_WEB + LOOK_STATE).splitlines()
            versions |= _instances(host, said, oddities)
            _state(host, said, locks, unfinished)
        for host in EDGE:
            text = self.inside(host, LOOK_EDGE + LOOK_STATE)
            servers |= read_servers(host, text)
            _state(host, text.splitlines(), locks, unfinished)
        return Stand(
            versions, servers, tuple(sorted(locks)), tuple(sorted(unfinished)), tuple(oddities)
        )

    def await_whole(self, patience: float) -> Stand:
        """Look until every server is as recorded and nothing is locked; the last look."""
        ends = time.monotonic() + patience
        while True:
            stand = self.look()
            whole = not (stand.out(self.recorded) or stand.locks or stand.unfinished)
            if whole or time.monotonic() > ends:
                return stand
            time.sleep(0.5)

    def settle(self, version: str = "") -> tuple[str, str]:
        """Whatever a row left behind: whole, at ``version`` or any one good version.

        Returns what runs everywhere and the good version that does not.
        """
        stand = self.look()
        if stand.unfinished or stand.out(self.recorded) or stand.locks:
            self._mend()
            stand = self.look()
        now = set(stand.versions.values())
        if len(now) != 1 or not now <= set(GOOD) | {version} or (version and now != {version}):
            wanted = version or GOOD[0]
            done = fab(self.inventory, "deploy", "--version", wanted, "--reason", "between faults")
            assert done.code == 0, done.text
            stand = self.await_whole(20)
        assert not stand.out(self.recorded), stand
        now = set(stand.versions.values())
        assert len(now) == 1, stand
        runs = now.pop()
        return runs, next(one for one in GOOD if one != runs)

    def _mend(self) -> None:
        """Back to a known state by any means: a row before has already said what is wrong."""
        for mode in ("resume", "abort", "repair"):
            done = fab(self.inventory, mode, "--force")
            if done.code == 0:
                break
            self.say(f"  {mode} between two rows: {done.code} {done.text.strip()[-300:]}")
        for host in (*WEB, *EDGE):
            self.inside(host, "rm -f /var/lib/evenkeel/locks/*.lock; start-sshd >/dev/null 2>&1")
        for host in EDGE:
            lines = "; ".join(
                f"set server challenge/{name} state ready; set server challenge/{name} weight 100"
                for name in (i.replace("/", "_") for i in INSTANCES)
            )
            self.inside(host, f"echo '{lines}' | socat - UNIX-CONNECT:/run/haproxy/admin.sock")
        self.await_whole(20)


def read_servers(host: str, text: str) -> dict[str, Server]:
    """Of `show servers state`: what says how each server takes part."""
    lines = text.splitlines()
    header = next((line for line in lines if line.startswith("# ")), "").removeprefix("# ").split()
    found = {}
    for line in lines:
        row = dict(zip(header, line.split(), strict=False))
        if row.get("be_name") == "challenge" and not line.startswith("#"):
            found[f"{host}:{row['srv_name']}"] = (
                row["srv_op_state"],
                row["srv_admin_state"],
                row["srv_uweight"],
            )
    return found


def _instances(host: str, said: list[str], oddities: list[str]) -> dict[str, str]:
    rows = [line.split() for line in said if line.startswith("container ")]
    current = {w[1]: w[2] for line in said if (w := line.split())[0] == "current" and len(w) > 2}
    found = {}
    for name in ("app_1", "app_2", "app_3"):
        mine = [row for row in rows if row[1] == name]
        runs = [row for row in mine if row[2] == "running"]
        found[f"{host}/{name}"] = runs[0][4] if runs and len(runs[0]) > 4 else ""
        if len(mine) > 1:
            oddities.append(f"{host}/{name} has {len(mine)} containers")
        if runs and runs[0][3] != current.get(name):
            oddities.append(f"{host}/{name} is not what its host's files say")
    if not any(row[1:3] == ["database", "running"] for row in rows):
        oddities.append(f"{host}: no database runs")
    return found


def _state(host: str, said: list[str], locks: set[str], unfinished: set[str]) -> None:
    for line in said:
        word, _, rest = line.partition(" ")
        if word == "lock":
            locks.add(f"{host}: {rest}")
        elif word == "unfinished":
            unfinished.add(rest)


def _own_template(state: Path) -> None:
    """HAProxy's template with a line that names the server in HAProxy's own answers."""
    text = (ROOT / "templates" / "haproxy.cfg.j2").read_text()
    anchor = "    default_backend {{ service.backend }}\n"
    assert anchor in text
    (state / "haproxy-chaos.cfg.j2").write_text(text.replace(anchor, anchor + NAMES_SERVERS))


QUICK["balancers"]["template"] = "haproxy-chaos.cfg.j2"
