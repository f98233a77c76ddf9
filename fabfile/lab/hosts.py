"""The lab's hosts: containers with their own sshd and their own nested Docker engine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from fabfile.lab.engine import Docker
from fabfile.lab.model import LABEL, Lab, Node
from fabfile.lab.shell import LabError, Say

# --privileged fails where the machine itself lacks one of all capabilities; these are enough.
CAPABILITIES = (
    *("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYS_CHROOT", "MKNOD", "NET_RAW", "SETUID", "SETGID"),
    *("SETPCAP", "SETFCAP", "CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE"),
    *("AUDIT_WRITE", "DAC_READ_SEARCH", "IPC_LOCK", "SYS_NICE"),
)

# Starts what a killed engine left stopped, puts our key last (whoever's key is last owns the
# lab; earlier owners keep theirs), and answers: the last key before, the host key, the version.
ENROL = """
set -e
await() { for _ in $(seq 1 100); do "$@" && return; sleep 0.05; done; }
# A host that is just booting makes its host key; a second start-sshd would make another.
await test -s /etc/ssh/ssh_host_ed25519_key.pub
start-sshd </dev/null 1>&2 || true
listening() { ss -Hltn 'sport = :22' | grep -q .; }
await listening
listening
start-engine </dev/null 1>&2
keys=/home/deploy/.ssh/authorized_keys
touch $keys
tail -n 1 $keys | grep . || echo none
if [ "$(tail -n 1 $keys)" != "$1" ]; then
    { grep -vxF -e "$1" $keys || true; echo "$1"; } >$keys.new
    chown deploy:evenkeel $keys.new
    chmod 0600 $keys.new
    mv $keys.new $keys
fi
cat /etc/ssh/ssh_host_ed25519_key.pub
docker version --format '{{.Server.Version}}'
"""


@dataclass(frozen=True)
class Found:
    """A container of the lab as the engine knows it."""

    name: str
    state: str
    """``running``, ``exited``, ``created`` …"""
    spec: str
    """The hash of what it was made from."""
    role: str


@dataclass(frozen=True)
class Enrolled:
    """A host that is ready to be logged in to."""

    node: Node
    host_key: str
    """``ssh-ed25519 AAAA…``."""
    engine: str
    """Version of its nested engine."""
    owner_before: str
    """The checkout whose key came last; "" for a new host."""


def present(docker: Docker, lab_name: str) -> Mapping[str, Found]:
    """Every container of the lab, by name."""
    labels = [f'{{{{.Label "{LABEL}.{key}"}}}}' for key in ("spec", "role")]
    line = "	".join(["{{.Names}}", "{{.State}}", *labels])
    out = docker("ps", "--all", "--filter", f"label={LABEL}={lab_name}", "--format", line)
    rows = (row.split("\t") for row in out.splitlines())
    return {name: Found(name, state, spec, role) for name, state, spec, role in rows}


def ensure_container(
    docker: Docker,
    lab: Lab,
    name: str,
    role: str,
    arguments: list[str],
    found: Mapping[str, Found],
    say: Say,
) -> None:
    """Make the container ``<lab>-<name>`` run as ``arguments`` say; leave it alone if it does.

    A container made from something else is replaced together with its volume: what the nested
    engine kept would refer to files that went with the container.
    """
    container = lab.container(name)
    spec = hashlib.sha256("\0".join(arguments).encode()).hexdigest()[:16]
    now = found.get(container)
    if now and now.spec == spec:
        if now.state == "running":
            return
        say(f"starting {name} again, it was {now.state}")
        if now.state == "paused":
            docker("unpause", container, what=f"unpausing {container}")
        elif docker.works("start", container):
            return
        # Its network or volume is gone: nothing of it can be used.
    if now:
        reason = "can't be started" if now.spec == spec else "was made from something else"
        say(f"replacing {name}, which {reason}")
        remove(docker, container)
    labels = {LABEL: lab.name, f"{LABEL}.spec": spec, f"{LABEL}.role": role}
    labels[f"{LABEL}.checkout"] = str(lab.checkout)
    tags = [part for pair in labels.items() for part in ("--label", "=".join(pair))]
    docker("volume", "create", "--label", f"{LABEL}={lab.name}", container)
    try:
        docker("run", "--detach", "--name", container, *tags, *arguments, what=f"starting {name}")
    except LabError as error:
        docker.works("rm", "--force", container)
        if "address already in use" in error.detail or "port is already allocated" in error.detail:
            raise LabError(
                f"a port of {name} is taken by something else on this machine:"
                " choose other ports with EVENKEEL_LAB_PORTS=<base>",
                detail=error.detail,
            ) from None
        raise


def remove(docker: Docker, container: str) -> None:
    """Remove a container and its volume."""
    docker("rm", "--force", "--volumes", container, what=f"removing {container}")
    docker.works("volume", "rm", "--force", container)


def run_arguments(lab: Lab, node: Node, image: str) -> list[str]:
    """What ``docker run`` needs for a host whose nested engine is to work."""
    security = ("seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined")
    return [
        *("--hostname", node.name, "--network", lab.network, "--ip", node.ip),
        *("--network-alias", node.name, "--add-host", f"registry.lab:{lab.registry_ip}"),
        *("--publish", f"127.0.0.1:{node.ssh_port}:22"),
        *("--publish", f"127.0.0.1:{node.http_port}:80"),
        *("--publish", f"127.0.0.1:{node.metrics_port}:8404"),
        *("--volume", f"{lab.container(node.name)}:/var/lib/docker"),
        *(part for name in CAPABILITIES for part in ("--cap-add", name)),
        *(part for option in security for part in ("--security-opt", option)),
        *("--cgroupns", "private", "--device-cgroup-rule", "a *:* rwm"),
        image,
    ]


def enrol(docker: Docker, lab: Lab, node: Node, public_key: str) -> Enrolled:
    """Start what is stopped inside the host and let our key in. Raises ``LabError``."""
    container = lab.container(node.name)
    command = ("exec", "--interactive", container, "sh", "-s", public_key)
    out = docker(*command, what=f"preparing {node.name}", stdin=ENROL, timeout=90)
    lines = out.strip().splitlines()
    if len(lines) != 3:
        raise LabError(f"preparing {node.name} gave an answer nobody expected", detail=out)
    before, host_key, version = lines
    owner = before.split(" ", 2)[2] if before.count(" ") >= 2 else ""
    return Enrolled(node, " ".join(host_key.split()[:2]), version, owner)


def known_hosts(enrolled: list[Enrolled]) -> str:
    """The text of a known_hosts file."""
    lines = (f"[127.0.0.1]:{host.node.ssh_port} {host.host_key}\n" for host in enrolled)
    return "".join(lines)
