"""The Docker engine the lab stands on: found, or installed and started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fabfile.errors import BadInput
from fabfile.lab.shell import LabError, Say, attempt, last_lines, run

START_TIMEOUT = 60.0
"""Seconds."""
ENGINE_LOG = Path("/var/log/evenkeel-dockerd.log")
PID_FILES = {
    "dockerd": Path("/var/run/docker.pid"),
    "containerd": Path("/var/run/docker/containerd/containerd.pid"),
}


@dataclass(frozen=True)
class Docker:
    """The engine, by way of the ``docker`` command."""

    prefix: tuple[str, ...] = ("docker",)
    """``sudo -n docker`` for people who may not use the engine's socket themselves."""

    def __call__(
        self,
        *args: str,
        what: str = "",
        log: Path | None = None,
        stdin: str = "",
        timeout: float = 120.0,
    ) -> str:
        """Run one docker command; see :func:`fabfile.lab.shell.run`."""
        what = what or "docker " + " ".join(args[:2])
        argv = (*self.prefix, *args)
        # Another builder, where somebody chose one, would not see the images we build upon.
        env = {**os.environ, "BUILDX_BUILDER": "default"}
        return run(argv, what=what, log=log, stdin=stdin, timeout=timeout, env=env)

    def works(self, *args: str, timeout: float = 60.0, log: Path | None = None) -> bool:
        """Whether the command ends with exit code 0."""
        return attempt((*self.prefix, *args), timeout=timeout, log=log)[0] == 0

    def inspect(self, kind: str, name: str) -> dict[str, Any] | None:
        """``docker <kind> inspect`` of one thing, ``None`` where there is no such thing."""
        code, out, _ = attempt((*self.prefix, kind, "inspect", name))
        found: list[dict[str, Any]] = json.loads(out) if code == 0 else []
        return found[0] if found else None


def find() -> Docker | None:
    """A running engine that we may use, or ``None``. A client without an engine is none."""
    for prefix in (("docker",), ("sudo", "-n", "docker")):
        code, out, _ = attempt((*prefix, "info", "--format", "{{.ServerVersion}}"), timeout=20)
        if code == 0 and out.strip():
            return Docker(prefix)
    return None


def ensure(say: Say) -> Docker:
    """A running engine; installed and started where that is in our power.

    Raises :class:`BadInput` with what to install where it is not, :class:`LabError` where
    installing or starting failed.
    """
    docker = find()
    if docker:
        return docker
    root = root_prefix()
    if root is None or not is_debian():
        raise BadInput(
            "no Docker engine answers (docker info): install Docker 20.10 or newer, start it, and"
            " let this user use it; on Debian and Ubuntu, lab.up does that as root or with sudo"
        )
    if not shutil.which("dockerd", path=search_path()):
        say("no Docker engine here: installing docker.io and iptables")
        apt_install(root, "docker.io", "iptables", *optional_packages("docker-cli"))
    elif not shutil.which("iptables", path=search_path()):
        say("installing iptables")
        apt_install(root, "iptables")
    return start(root, say)


def start(root: tuple[str, ...], say: Say) -> Docker:
    """Start an installed engine and wait until it answers."""
    say("starting the Docker engine")
    if Path("/run/systemd/system").is_dir():
        run((*root, "systemctl", "start", "docker"), what="systemctl start docker")
    else:
        remove_stale_pid_files(root)
        start_detached(root)
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        docker = find()
        if docker:
            return docker
        time.sleep(0.2)
    said = last_lines(ENGINE_LOG.read_text(errors="replace")) if ENGINE_LOG.exists() else ""
    raise LabError(
        f"dockerd does not answer after {START_TIMEOUT:g} s; its log is {ENGINE_LOG}", detail=said
    )


def start_detached(root: tuple[str, ...]) -> None:
    """``dockerd`` in a session of its own: it outlives us, our terminal and Ctrl-C."""
    subprocess.run(
        (*root, "sh", "-c", 'setsid dockerd >>"$0" 2>&1 </dev/null &', str(ENGINE_LOG)),
        check=False,
        start_new_session=True,
        env={**os.environ, "PATH": search_path()},
    )


def remove_stale_pid_files(root: tuple[str, ...], proc: Path = Path("/proc")) -> None:
    """An engine that was killed leaves its number behind, which somebody else may have now."""
    for name, file in PID_FILES.items():
        try:
            pid = file.read_text().strip()
            alive = (proc / pid / "comm").read_text().strip() == name
        except FileNotFoundError:
            alive = False
        except OSError:
            continue
        if not alive and file.exists():
            run((*root, "rm", "-f", str(file)), what=f"removing the stale {file}")


def root_prefix() -> tuple[str, ...] | None:
    """What to put before a command that needs root; ``None`` where we can't be root."""
    if os.geteuid() == 0:
        return ()
    return ("sudo", "-n") if attempt(("sudo", "-n", "true"))[0] == 0 else None


def is_debian(os_release: Path = Path("/etc/os-release")) -> bool:
    """Debian, Ubuntu or a child of theirs."""
    if not os_release.exists():
        return False
    lines = os_release.read_text().splitlines()
    pairs = dict(line.split("=", 1) for line in lines if "=" in line)
    words = f"{pairs.get('ID', '')} {pairs.get('ID_LIKE', '')}".replace('"', "").split()
    return bool({"debian", "ubuntu"} & set(words))


def optional_packages(*names: str) -> list[str]:
    """Those of ``names`` that this release of the distribution has."""
    return [name for name in names if attempt(("apt-cache", "show", name))[1].strip()]


def apt_install(root: tuple[str, ...], *packages: str) -> None:
    """Install Debian packages. Raises :class:`LabError`."""
    what = "apt-get install " + " ".join(packages)
    run((*root, "apt-get", "update", "-qq"), what="apt-get update", timeout=300)
    run(
        [
            *(*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq"),
            *("--no-install-recommends", *packages),
        ],
        what=what,
        timeout=900,
    )


def search_path() -> str:
    """PATH with the folders of system programs, which a plain user's may lack."""
    return os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
