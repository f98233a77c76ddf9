"""The lab's Docker network, on addresses nothing else here uses."""

from __future__ import annotations

import ipaddress
import json
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

from fabfile.lab.engine import Docker
from fabfile.lab.model import DEFAULT_NAME, LABEL, Lab
from fabfile.lab.shell import LabError

Network = ipaddress.IPv4Network


def existing_prefix(docker: Docker, name: str) -> str | None:
    """First three numbers of the lab's network, ``None`` where there is no such network."""
    found = docker.inspect("network", name)
    if not found:
        return None
    if (found.get("Labels") or {}).get(LABEL) != name:
        raise LabError(
            f"there is a Docker network called {name} that no lab made: choose another EVENKEEL_LAB"
        )
    return str(found["IPAM"]["Config"][0]["Subnet"]).rpartition(".")[0]


def choose_prefix(name: str, remembered: str | None, taken: Iterable[Network]) -> str:
    """A free /24 out of 10.213.0.0/16: last time's, else the default lab's own or a later one."""
    used = list(taken)
    numbers = range(256) if name == DEFAULT_NAME else range(1, 256)
    for prefix in [*([remembered] if remembered else []), *(f"10.213.{n}" for n in numbers)]:
        if not any(Network(f"{prefix}.0/24").overlaps(other) for other in used):
            return prefix
    raise LabError("no free network left in 10.213.0.0/16")


def taken(docker: Docker, routes: Path = Path("/proc/net/route")) -> list[Network]:
    """Networks of this machine: Docker's and those in its routing table."""
    names = docker("network", "ls", "--quiet").split()
    found = json.loads(docker("network", "inspect", *names)) if names else []
    configs = [config for network in found for config in network["IPAM"].get("Config") or []]
    subnets = [str(config.get("Subnet", "")) for config in configs]
    mine = [Network(subnet) for subnet in subnets if "." in subnet]
    return mine + routed(routes.read_text() if routes.exists() else "")


def routed(table: str) -> list[Network]:
    """Networks in the text of /proc/net/route, without the default route."""
    networks = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        address, mask = (
            socket.inet_ntoa(struct.pack("=L", int(fields[column], 16))) for column in (1, 7)
        )
        if mask != "0.0.0.0":  # noqa: S104 - a netmask
            networks.append(Network(f"{address}/{mask}", strict=False))
    return networks


def create(docker: Docker, lab: Lab) -> None:
    """Make the network."""
    docker(
        *("network", "create", "--subnet", lab.subnet, "--label", f"{LABEL}={lab.name}"),
        lab.network,
        what=f"making the network {lab.network}",
    )
