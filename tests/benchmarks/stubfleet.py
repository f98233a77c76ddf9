"""A fleet of up to 500 hosts on loopback addresses: real sshd, real HAProxy, stub Docker.

Each host has an address of its own (127.1.x.y) with an sshd of its own, which sees a file system of
its own where it matters: /var/lib/evenkeel and /srv. All of them live in one container of the lab's
host image, on this machine's network; one HAProxy in another stands in front of all instances.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fabfile.lab.hosts import CAPABILITIES

STUB = Path(__file__).with_name("stub")
ADMISSION = 0.4
"""rise x downinter of the stub's HAProxy, in seconds."""
INVENTORY = """\
version: 1
defaults:
  ssh:
    {{user: deploy, port: {port}, identity_file: {folder}/key, known_hosts: {folder}/known_hosts}}
hosts:
  lb1: {{address: {balancer}}}
{hosts}
groups:
  web: {{hosts: [{names}]}}
  edge: {{hosts: [lb1]}}
services:
  shop:
    group: web
    image: registry.bench/shop
    template: {folder}/docker-compose.yml.j2
    project_dir: /srv/shop
    instances: 2
    port: 3000
    publish: {first}
    balancers:
      - {{kind: haproxy, hosts: edge, backend: shop, server: "{{host}}_{{instance}}",
         socket: /run/haproxy/admin.sock, config: /bench/haproxy.cfg}}
    health: {{path: /ping, status: 200, contains: pong, timeout: 60s, interval: 500ms, min_healthy: 0s}}
    rollout: {{serial: ["10%"], min_capacity: "50%"}}
"""


@dataclass(frozen=True)
class Fleet:
    """One that runs."""

    folder: Path
    hosts: dict[str, str]
    """Address by name."""
    port: int
    container: str
    users: int
    """The port on 127.0.0.1 where HAProxy takes requests for all instances."""
    balancer: str = "127.1.200.1"
    """The address of lb1."""

    @property
    def inventory(self) -> Path:
        """hosts.yaml."""
        return self.folder / "hosts.yaml"

    def keep(self, name: str) -> None:
        """Keep the hosts' state under ``name``."""
        self._inside(f"rm -rf /kept-{name} && cp -a /fleet /kept-{name}")

    def restore(self, name: str) -> None:
        """Put the hosts' state back; their folders stay the same, for they are mounted."""
        # The first to write to a salt or lock must find what the others found.
        self._inside(
            "find /fleet -mindepth 3 -maxdepth 3 -exec rm -rf {} + ;"
            f'cp -a "/kept-{name}/." /fleet/'
        )

    def _inside(self, script: str) -> None:
        subprocess.run(["docker", "exec", self.container, "sh", "-c", script], check=True)


def addresses(count: int) -> list[str]:
    """127.1.0.1 …, 250 in a row."""
    return [f"127.1.{n // 250}.{n % 250 + 1}" for n in range(count)]


@contextmanager
def fleet(count: int) -> Iterator[Fleet]:
    """``count`` hosts and one balancer; gone afterwards, whatever happened."""
    folder = Path(tempfile.mkdtemp(prefix="ekfleet"))
    names = {f"h{n + 1:03}": address for n, address in enumerate(addresses(count))}
    port, first, users = _free_ports(3)
    container = f"evenkeel-bench-{folder.name}"
    try:
        _files(folder, names, port, first, users)
        _start(folder, container, names)
        yield Fleet(folder, names, port, container, users)
    finally:
        for name in (container, f"{container}-haproxy"):
            subprocess.run(["docker", "rm", "-f", "-v", name], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


BALANCER = "127.1.200.1"


def _files(folder: Path, names: dict[str, str], port: int, first: int, users: int) -> None:
    folder.chmod(0o755)
    for name in ("bin", "ready", "haproxy"):
        (folder / name).mkdir()
    (folder / "haproxy").chmod(0o777)
    for name in ("host_key", "key"):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / name)]
        subprocess.run(argv, check=True)
    public = (folder / "host_key.pub").read_text()
    everybody = [*names.values(), BALANCER]
    known = "".join(f"[{address}]:{port} {public}" for address in everybody)
    (folder / "known_hosts").write_text(known)
    shutil.copy(STUB / "docker", folder / "bin")
    shutil.copy(STUB / "start", folder)
    shutil.copy(STUB / "docker-compose.yml.j2", folder)
    (folder / "hosts").write_text("".join(f"{a} {n}\n" for n, a in names.items()))
    (folder / "sshd_config").write_text((STUB / "sshd_config").read_text().format(port=port))
    servers = "".join(
        f"    server {name}_app_{n} 127.0.0.1:{first + n - 1}\n" for name in names for n in (1, 2)
    )
    text = (STUB / "haproxy.cfg").read_text()
    config = text.format(first=first, second=first + 1, users=users, servers=servers)
    (folder / "haproxy.cfg").write_text(config)
    text = INVENTORY.format(
        folder=folder,
        port=port,
        first=first,
        balancer=BALANCER,
        names=", ".join(names),
        hosts="".join(f"  {name}: {{address: {address}}}\n" for name, address in names.items()),
    )
    (folder / "hosts.yaml").write_text(text)


def _start(folder: Path, container: str, names: dict[str, str]) -> None:
    label = ["--label", "evenkeel.benchmark=1", "--network", "host", "--init"]
    haproxy = ["docker", "run", "-d", "--name", f"{container}-haproxy", *label, "--user", "root"]
    haproxy += ["-v", f"{folder}/haproxy:/run/haproxy", "-v", f"{folder}/haproxy.cfg:/cfg:ro"]
    _quietly([*haproxy, image("haproxy"), "haproxy", "-W", "-db", "-f", "/cfg"])
    caps = [part for name in CAPABILITIES for part in ("--cap-add", name)]
    loose = [
        part
        for what in ("seccomp", "apparmor")
        for part in ("--security-opt", f"{what}=unconfined")
    ]
    hosts = ["docker", "run", "-d", "--name", container, *label, *caps, *loose]
    hosts += ["-v", f"{folder}:/bench", "--entrypoint", "sh"]
    _quietly([*hosts, with_python(), "/bench/start", BALANCER])
    ends = time.monotonic() + 60
    while not (folder / "ready" / "yes").exists():
        if time.monotonic() > ends:
            logs = subprocess.run(["docker", "logs", container], capture_output=True, text=True)
            raise RuntimeError(f"the stub fleet does not start: {logs.stdout}{logs.stderr}")
        time.sleep(0.05)
    for address in (*names.values(), BALANCER):
        _answers(address, int((folder / "sshd_config").read_text().split()[1]), ends)


def _answers(address: str, port: int, ends: float) -> None:
    while True:
        try:
            socket.create_connection((address, port), 1).close()
            return
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.02)


def _quietly(argv: Sequence[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{argv[:4]}: {done.stderr}")


def image(name: str) -> str:
    """The newest image of the lab of that name."""
    form = ["image", "ls", f"evenkeel/{name}", "--format", "{{.Repository}}:{{.Tag}}"]
    found = subprocess.run(["docker", *form], capture_output=True, text=True).stdout.split()
    if not found:
        sys.exit("no images of the lab: run `inv lab.up` once")
    return found[0]


def with_python() -> str:
    """The lab's host image with a Python, which Ansible's modules need; built once."""
    base = image("host")
    name = base.replace("/host:", "/bench-host:")
    text = f"FROM {base}\nRUN install-packages python3\n"
    argv = ["docker", "build", "--quiet", "--tag", name, "-"]
    done = subprocess.run(argv, input=text, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} could not be built: {done.stderr}")
    return name


def _free_ports(count: int) -> list[int]:
    """Ports that nobody uses now, below those the kernel hands out."""
    found: list[int] = []
    for port in range(20100, 22000, 2):
        if all(_free(address, number) for address, number in (
            ("127.0.0.1", port), ("127.0.0.1", port + 1), (BALANCER, port)
        )):  # fmt: skip
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports from 20100 to 22000")


def _free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
