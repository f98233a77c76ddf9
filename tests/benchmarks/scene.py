"""The lab as the rollout benchmarks use it: each contender finds it as the others did."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollouts import fab, variant

from fabfile.lab.model import Lab, Node

from .capacity import Sample
from .sampler import Sampler

ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(__file__).with_name("peers")
IMAGE = "registry.lab:5000/challenge"
OLD, NEW = "0.0.1", "0.0.2"
INSTANCES = 3
"""On each host."""
RELAYED = 1000
"""What is added to a port of an sshd where a relay listens for it."""
FRONT = {"self": "a HAProxy on each host", "edge": "two edge HAProxies"}


@dataclass(frozen=True)
class Checks:
    """Health and check settings: our own waiting and HAProxy's."""

    name: str
    min_healthy: float
    """Seconds."""
    options: Mapping[str, str]

    @property
    def admission(self) -> float:
        """rise x downinter, in seconds: what HAProxy's own checks need."""
        return int(self.options["rise"]) * seconds(self.options["downinter"])


def seconds(text: str) -> float:
    """``500ms`` or ``2s``."""
    return float(text[:-2]) / 1000 if text.endswith("ms") else float(text.rstrip("s"))


class Scene:
    """The lab in one topology: ``self`` or ``edge``.

    ``far``: whoever upgrades goes to the hosts through :attr:`far_ports`.
    """

    def __init__(self, lab: Lab, topology: str, *, far: bool = False) -> None:
        self.lab = lab
        self.topology = topology
        self.far = far
        self.known_hosts = self._known_hosts()
        self.folder = Path(tempfile.mkdtemp(prefix="ekb"))
        role = "web" if topology == "self" else "edge"
        self.balancers = [node for node in lab.nodes if node.role == role]
        self.web = [node for node in lab.nodes if node.role == "web"]

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def far_ports(self) -> dict[int, int]:
        """The port of each host's relay, and that of its sshd."""
        return {node.ssh_port + RELAYED: node.ssh_port for node in self.lab.nodes}

    def port(self, node: Node) -> int:
        """Where whoever upgrades finds its sshd."""
        return node.ssh_port + (RELAYED if self.far else 0)

    def _known_hosts(self) -> Path:
        """Host keys under the ports they are found at."""
        plain = self.lab.state / "known_hosts"
        if not self.far:
            return plain
        text = plain.read_text()
        for here, there in self.far_ports.items():
            text = text.replace(f"]:{there} ", f"]:{here} ")
        far = self.lab.state / "known_hosts-far"
        far.write_text(text)
        return far

    @property
    def edge(self) -> bool:
        """Whether balancers of their own are in front."""
        return self.topology == "edge"

    @property
    def urls(self) -> tuple[str, ...]:
        """Where users come in."""
        return tuple(self.lab.url(node) for node in self.balancers)

    # hosts

    def on(self, node: Node, script: str, *args: str, stdin: str = "", user: str = "deploy") -> str:
        """Run a shell script on a host of the lab, not through SSH; returns what it says."""
        argv = ["docker", "exec", "-i", "-u", user, self.lab.container(node.name)]
        done = subprocess.run(
            [*argv, "sh", "-c", script, "sh", *args], input=stdin, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{node.name}: {script[:60]!r}: {done.stdout}{done.stderr}")
        return done.stdout

    def everywhere(self, nodes: Iterable[Node], work: Callable[[Node], Any]) -> list[Any]:
        """``work`` for all of ``nodes``, side by side."""
        with ThreadPoolExecutor(16) as pool:
            return list(pool.map(work, nodes))

    def equip(self) -> None:
        """What the peers need on hosts: Python for Ansible, both images, their compose file."""
        self.everywhere(self.lab.nodes, self._python)
        self.everywhere(self.web, self._images)
        self.everywhere(self.web, self._project)

    def _python(self, node: Node) -> None:
        script = "command -v python3 && python3 -c 'import tempfile' || install-packages python3"
        self.on(node, script, user="root")

    def _images(self, node: Node) -> None:
        password = (self.lab.state / "registry-password").read_text()
        script = (
            'for tag; do docker image inspect "$tag" >/dev/null 2>&1 || missing=1; done\n'
            '[ -z "$missing" ] && exit 0\n'
            "export DOCKER_CONFIG=$(mktemp -d)\n"
            "docker login -u lab --password-stdin registry.lab:5000 >/dev/null\n"
            'for tag; do docker pull -q "$tag" || code=1; done\n'
            'rm -r "$DOCKER_CONFIG"; exit ${code:-0}'
        )
        tags = [f"{IMAGE}:{OLD}", f"{IMAGE}:{NEW}", "registry.lab:5000/haproxy:3.0"]
        self.on(node, script, *tags, stdin=password)

    def _project(self, node: Node) -> None:
        self.put(node, PEERS / "docker-compose.yml", "/srv/bench/docker-compose.yml")

    def put(self, node: Node, path: Path, where: str) -> None:
        """Copy a file of ours to a host."""
        script = 'mkdir -p "${1%/*}" && cat >"$1"'
        self.on(node, script, where, stdin=path.read_text())

    # starting positions

    def inventory(self, checks: Checks) -> Path:
        """Our inventory with these settings; the balancers are provisioned with them."""
        base = self.lab.state / ("hosts.yaml" if self.edge else "hosts-self.yaml")
        change: dict[str, Any] = {
            "health": {"min_healthy": f"{checks.min_healthy:g}s"},
            "rollout": {"serial": ["35%"]},
            "balancers": {"options": dict(checks.options)},
            "urls": list(self.urls),
        }
        path = variant(base, f"bench-{checks.name}{'-far' if self.far else ''}", change)
        if self.far:
            self._send_far(path)
        self._fab(path, "provision", "--version", OLD)
        return path

    def _send_far(self, path: Path) -> None:
        text = path.read_text().replace(
            "known_hosts: known_hosts", f"known_hosts: {self.known_hosts}"
        )
        for here, there in self.far_ports.items():
            text = text.replace(f"port: {there}}}", f"port: {here}}}")
        path.write_text(text)

    def begin_ours(self, inventory: Path) -> None:
        """Every instance at the old version, put there by us."""
        self._fab(inventory, "deploy", "--version", OLD, "--serial", "100%")
        self.settled()

    def begin_theirs(self) -> None:
        """Every instance at the old version, from the peers' own compose file."""
        versions = "".join(f"APP_{n}_VERSION={OLD}\\n" for n in range(1, INSTANCES + 1))
        script = (
            "cd /srv/bench\n"
            f"printf 'COMPOSE_PROJECT_NAME=challenge\\n{versions}' >.env\n"
            "docker compose up -d --no-deps app_1 app_2 app_3 2>&1"
        )
        self.everywhere(self.web, lambda node: self.on(node, script))
        self.settled()

    def settled(self) -> None:
        """Wait until every server has been up at its full weight for a moment."""
        self._settled(self.balancers, len(self.web) * INSTANCES if self.edge else INSTANCES)

    def settled_on(self, node: Node) -> None:
        """The same for the balancer of one host, which may know servers that are not there."""
        self._settled([node], INSTANCES)

    def _settled(self, nodes: Iterable[Node], expected: int, timeout: float = 60.0) -> None:
        ends = time.monotonic() + timeout
        with self.sampler(nodes) as sampler:
            while not all(
                len(seen) > 5 and all(_full(sample, expected) for sample in seen[-5:])
                for seen in sampler.samples.values()
            ):
                if time.monotonic() > ends:
                    raise RuntimeError(f"not every server is up: {sampler.samples}")
                time.sleep(0.05)

    def sampler(self, nodes: Iterable[Node] | None = None) -> Sampler:
        """Looks at all balancers, or at those of ``nodes``."""
        chosen = self.balancers if nodes is None else nodes
        return Sampler({n.name: self.lab.container(n.name) for n in chosen}, "challenge")

    @staticmethod
    def _fab(inventory: Path, *args: str) -> None:
        done = fab(inventory, *args)
        if done.code:
            raise RuntimeError(f"fab {' '.join(args)}: exit code {done.code}\n{done.text[-2000:]}")

    # what the peers are told

    def ansible(self, name: str) -> Path:
        """A folder with the playbook of that name and an inventory of this lab."""
        folder = self.folder / name
        shutil.copytree(PEERS / name, folder, dirs_exist_ok=True)
        groups = {"web": self.web} | ({"edge": self.balancers} if self.edge else {})
        common = f"-o UserKnownHostsFile={self.known_hosts} -o IdentitiesOnly=yes -F none"
        inventory = {
            name: {
                "hosts": {
                    node.name: {"ansible_host": "127.0.0.1", "ansible_port": self.port(node)}
                    for node in nodes
                },
            }
            for name, nodes in groups.items()
        }
        variables = {
            "ansible_user": "deploy",
            "ansible_ssh_private_key_file": str(self.lab.state / "id_ed25519"),
            "ansible_ssh_common_args": common,
        }
        whole = {"all": {"vars": variables, "children": inventory}}
        (folder / "inventory.yml").write_text(json.dumps(whole, indent=1))
        return folder

    def pyinfra(self) -> Path:
        """A folder with the deploy and an inventory of this lab."""
        folder = self.folder / "pyinfra"
        shutil.copytree(PEERS / "pyinfra", folder, dirs_exist_ok=True)
        edge = self.balancers if self.edge else []
        hosts = {
            group: [(n.name, self._pyinfra_data(n, [b.name for b in edge])) for n in nodes]
            for group, nodes in (("web", self.web), ("edge", edge))
        }
        lines = [f"{name} = {value!r}\n" for name, value in hosts.items() if value]
        (folder / "inventory.py").write_text("".join(lines))
        return folder

    def _pyinfra_data(self, node: Node, balancers: list[str]) -> dict[str, Any]:
        return {
            "ssh_hostname": "127.0.0.1",
            "ssh_port": self.port(node),
            "ssh_user": "deploy",
            "ssh_key": str(self.lab.state / "id_ed25519"),
            "ssh_known_hosts_file": str(self.known_hosts),
            "balancers": balancers,
        }


def _full(sample: Sample, expected: int) -> bool:
    up = [weight for weight in sample.weights.values() if weight > 0]
    return len(up) == expected and len(set(up)) == 1


def program(name: str) -> str:
    """One of our own programs."""
    return str(Path(sys.executable).parent / name)
