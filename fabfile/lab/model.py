"""What a lab consists of: names, addresses and ports, worked out and never looked up."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fabfile.errors import BadInput

DEFAULT_NAME = "evenkeel-lab"
DEFAULT_WEB, DEFAULT_EDGE = 3, 2
MOST_WEB, MOST_EDGE = 19, 9
"""More would run into the ports and addresses of the other kind."""
DEFAULT_PREFIX = "10.213.0"
APP_VERSIONS = ("0.0.1", "0.0.2", "0.0.3", "0.0.4", "0.0.5", "0.0.6")
LABEL = "evenkeel.lab"
CHECKOUT = Path(__file__).resolve().parents[2]

Role = Literal["web", "edge"]


@dataclass(frozen=True)
class Ports:
    """Where the three kinds of published ports start; all of them on 127.0.0.1."""

    ssh: int = 22000
    http: int = 18000
    registry: int = 15000


@dataclass(frozen=True)
class Node:
    """One host of the lab."""

    name: str
    """Its inventory name: ``web1``, ``lb1``."""
    role: Role
    ip: str
    """Inside the lab's network, for the life of the lab."""
    ssh_port: int
    http_port: int
    """Published from the host's port 80, where its HAProxy listens, if it has one."""
    metrics_port: int
    """Published from the host's port 8404, where its HAProxy's exporter listens."""


@dataclass(frozen=True)
class Lab:
    """One lab; two with different names live side by side."""

    name: str
    state: Path
    """Absolute: keys, known hosts, the password, inventories, logs."""
    ports: Ports
    prefix: str
    """First three numbers of the network's addresses."""
    web: int = DEFAULT_WEB
    edge: int = DEFAULT_EDGE
    checkout: Path = CHECKOUT

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The hosts: web1 …, lb1 …"""
        web = (self._node(f"web{n}", "web", 10 + n, 90 + n) for n in range(1, self.web + 1))
        edge = (self._node(f"lb{n}", "edge", 30 + n, 80 + n) for n in range(1, self.edge + 1))
        return (*web, *edge)

    def _node(self, name: str, role: Role, slot: int, http: int) -> Node:
        ports = self.ports
        published = (ports.ssh + slot, ports.http + http, ports.http + http + 40)
        return Node(name, role, f"{self.prefix}.{slot}", *published)

    @property
    def network(self) -> str:
        """Name of the Docker network."""
        return self.name

    @property
    def subnet(self) -> str:
        """The network's addresses: ``10.213.0.0/24``."""
        return f"{self.prefix}.0/24"

    @property
    def registry_ip(self) -> str:
        """Inside the network."""
        return f"{self.prefix}.5"

    @property
    def registry_here(self) -> str:
        """The registry as this machine reaches it; hosts of the lab say registry.lab:5000."""
        return f"127.0.0.1:{self.ports.registry}"

    @property
    def logs(self) -> Path:
        """Folder of long output."""
        return self.state / "log"

    @property
    def is_default(self) -> bool:
        """The hosts.yaml at the top of the checkout describes exactly this lab."""
        return self == Lab(
            DEFAULT_NAME, self.state, Ports(), DEFAULT_PREFIX, checkout=self.checkout
        )

    def container(self, node: str) -> str:
        """Name of the container that is ``node``; its volume is called the same."""
        return f"{self.name}-{node}"

    def url(self, node: Node) -> str:
        """Where ``node``'s port 80 is published."""
        return f"http://127.0.0.1:{node.http_port}"


def lab_name(environ: Mapping[str, str] = os.environ) -> str:
    """The lab's name, from EVENKEEL_LAB. Raises :class:`BadInput`."""
    name = environ.get("EVENKEEL_LAB") or DEFAULT_NAME
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,40}", name):
        raise BadInput(f"EVENKEEL_LAB={name!r}: use small letters, digits and dashes")
    return name


def lab_ports(name: str, environ: Mapping[str, str] = os.environ) -> Ports:
    """Ports of the lab ``name``: EVENKEEL_LAB_PORTS, or worked out from its name.

    Every lab but the default one keeps within 200 ports from its base, below the range that
    the kernel gives to outgoing connections. Raises :class:`BadInput`.
    """
    text = environ.get("EVENKEEL_LAB_PORTS", "")
    if not text:
        if name == DEFAULT_NAME:
            return Ports()
        base = 23000 + 200 * (zlib.crc32(name.encode()) % 45)
    elif not re.fullmatch(r"\d{1,5}", text) or not 1024 <= int(text) <= 65000:
        raise BadInput(
            f"EVENKEEL_LAB_PORTS={text!r}: a port from 1024 to 65000, where 200 are free"
        )
    else:
        base = int(text)
    return Ports(ssh=base, http=base, registry=base)


def state_folder(name: str, checkout: Path = CHECKOUT) -> Path:
    """Where this checkout keeps what it knows of the lab ``name``."""
    return checkout / ".lab" if name == DEFAULT_NAME else checkout / ".lab" / name


def parse_count(flag: str, text: str, most: int) -> int | None:
    """A number of hosts from the command line, ``None`` for "". Raises :class:`BadInput`."""
    if not text:
        return None
    if not re.fullmatch(r"\d{1,3}", text) or not 1 <= int(text) <= most:
        raise BadInput(f"{flag} {text}: a number of hosts from 1 to {most}")
    return int(text)
