"""`inv status` on 200 hosts beside bare Fabric that runs the very same commands.

    .venv/bin/python tests/benchmarks/status_200.py [--hosts N] [--runs N]

One sshd on 127.0.0.1 stands for all of them (a private ssh_config leads each name there), with a
stub `docker` in its PATH. Where none is installed, that of the lab's host image runs, on this
machine's network. Each run is a process of its own, the two kinds in turns. Prints wall
clock, processor time of the client, its memory, and the ratio; asserts nothing about time.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
POLL = ROOT / "tests/unit/balancers/replies/poll_down.txt"
WORKERS = 32
"""Hosts at a time, for bare Fabric as for us."""

SSHD = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/key.pub
StrictModes no
PasswordAuthentication no
UsePAM {pam}
MaxStartups 200
SetEnv PATH={folder}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
"""
SSH_CONFIG = """\
Host h*
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {folder}/key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
"""
DOCKER = """\
#!/bin/sh
case $1 in
ps) printf 'a\\nb\\n' ;;
inspect) cat {folder}/containers ;;
exec) cat {folder}/poll ;;
esac
"""
SERVICE = """\
services:
  shop:
    group: all
    image: registry.lab/shop
    project_dir: {folder}/shop
    instances: 2
    publish: 3001
    balancers:
      - {{hosts: self, backend: app, server: "web1_app_{{n}}", container: haproxy,
         socket: {folder}/none.sock}}
"""


@dataclass(frozen=True)
class Cost:
    """One run: seconds and KiB."""

    wall: float
    cpu: float
    rss: int


@contextmanager
def fleet(count: int) -> Iterator[Path]:
    """A folder with an inventory of ``count`` hosts and the sshd that plays them."""
    folder = Path(tempfile.mkdtemp(prefix="ek200"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name in ("host_key", "key"):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / name)]
        subprocess.run(argv, check=True)
    public = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    (folder / "sshd_config").write_text(
        SSHD.format(folder=folder, port=port, pam="no" if own_sshd() else "yes")
    )
    config = SSH_CONFIG.format(folder=folder, port=port, user=user())
    (folder / "ssh_config").write_text(config)
    (folder / "bin").mkdir()
    shutil.copy(POLL, folder / "poll")
    (folder / "bin/docker").write_text(DOCKER.format(folder=folder))
    (folder / "bin/docker").chmod(0o755)
    (folder / "shop").mkdir()
    (folder / "shop/docker-compose.yml").write_text("services: {}\n")
    (folder / "containers").write_text("".join(container(n) for n in (1, 2)))
    ssh = f"{{config_file: {folder}/ssh_config, known_hosts: {folder}/known_hosts}}"
    hosts = "".join(f"  h{n:03}: {{address: h{n:03}}}\n" for n in range(count))
    text = f"version: 1\ndefaults: {{ssh: {ssh}}}\nhosts:\n{hosts}{SERVICE.format(folder=folder)}"
    (folder / "hosts.yaml").write_text(text)
    server = subprocess.Popen(sshd(folder), stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield folder
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder)


def own_sshd() -> str | None:
    return next(filter(None, map(shutil.which, ("sshd", "/usr/sbin/sshd"))), None)


def user() -> str:
    return getpass.getuser() if own_sshd() else "deploy"


def sshd(folder: Path) -> list[str]:
    """The command line of the server."""
    program = own_sshd()
    options = ["-D", "-e", "-f", str(folder / "sshd_config")]
    if program:
        Path("/run/sshd").mkdir(exist_ok=True)
        return [program, *options]
    form = ["image", "ls", "evenkeel/host", "--format", "{{.Repository}}:{{.Tag}}"]
    images = subprocess.run(["docker", *form], capture_output=True, text=True).stdout.split()
    if not images:
        sys.exit("no sshd here, and no lab: install openssh-server, or run `inv lab.up` once")
    folder.chmod(0o755)
    script = f"mkdir -p /run/sshd && exec /usr/sbin/sshd {' '.join(options)}"
    return ["docker", "run", "--rm", "--network", "host", "-v", f"{folder}:{folder}:ro", "--init",
            "--entrypoint", "sh", images[0], "-c", script]  # fmt: skip


def container(number: int) -> str:
    raw = {"name": f"/shop-app_{number}-1", "image": "registry.lab/shop:1.0", "status": "running",
           "started": "2026-01-01T00:00:00Z", "project": "shop", "service": f"app_{number}",
           "version": "1.0"}  # fmt: skip
    return json.dumps(raw) + "\n"


def wait_for(port: int) -> None:
    ends = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.02)


def run(argv: list[str]) -> tuple[Cost, str]:
    """Run a program; what it cost, and what it said."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("EVENKEEL")}
    with tempfile.TemporaryFile() as out:
        began = time.monotonic()
        process = subprocess.Popen(argv, stdout=out, cwd=ROOT, env=clean)
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0
        wall = time.monotonic() - began
        out.seek(0)
        return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss), out.read().decode()


def bare(folder: Path) -> None:
    """The other side: Fabric's own Connection, the same scripts, as many hosts at a time."""
    from fabric import Config, Connection
    from paramiko import RejectPolicy, SSHConfig

    scripts = json.loads((folder / "scripts").read_text())
    config = Config(ssh_config=SSHConfig.from_path(str(folder / "ssh_config")))

    def one(item: tuple[str, str]) -> bool:
        name, script = item
        # A busy machine must not end it: it tries no second time, as we do.
        patience = {"banner_timeout": 120, "auth_timeout": 120}
        with Connection(
            name, config=config, connect_timeout=120, connect_kwargs=patience
        ) as connection:
            connection.client.load_host_keys(str(folder / "known_hosts"))
            connection.client.set_missing_host_key_policy(RejectPolicy())
            done = connection.run(script, hide=True, warn=True, in_stream=False, pty=False)
            return bool(done.ok)

    with ThreadPoolExecutor(WORKERS) as pool:
        sys.stdout.write(str(sum(pool.map(one, scripts.items()))))


def write_scripts(folder: Path) -> None:
    """The commands of `inv status`, as it sends them."""
    sys.path.insert(0, str(ROOT))
    from fabfile.checks.fleet.look import questions
    from fabfile.inventory import loader
    from fabfile.remote.quoting import deadline

    service = loader.load(folder / "hosts.yaml").services["shop"]
    asked = questions([service], {"shop": service.hosts})
    scripts = {host: deadline(question.script(), 20) for host, question in asked.items()}
    (folder / "scripts").write_text(json.dumps(scripts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.bare:
        bare(args.bare)
        return
    ours: list[Cost] = []
    theirs: list[Cost] = []
    with fleet(args.hosts) as folder:
        write_scripts(folder)
        inv = str(Path(sys.executable).parent / "inv")
        inventory = ["--inventory", str(folder / "hosts.yaml")]
        for _ in range(args.runs):
            cost, said = run([inv, "-r", str(ROOT), "status", "--json", *inventory])
            seen = json.loads(said)
            running = sum(row["container"] == "running" for row in seen["instances"])
            assert (seen["unreachable"], running) == ({}, 2 * args.hosts), seen["text"]
            ours.append(cost)
            cost, said = run([sys.executable, __file__, "--bare", str(folder)])
            assert int(said) == args.hosts, said
            theirs.append(cost)
    for name, costs in (("inv status", ours), ("bare Fabric", theirs)):
        wall = statistics.median(cost.wall for cost in costs)
        cpu = statistics.median(cost.cpu for cost in costs)
        rss = max(cost.rss for cost in costs) / 1024
        print(f"{name:12} {wall:6.2f} s wall, {cpu:6.2f} s of client CPU, {rss:4.0f} MB")
    ratio = statistics.median(a.wall / b.wall for a, b in zip(ours, theirs, strict=True))
    print(f"{args.hosts} hosts, {args.runs} runs each in turns: ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
