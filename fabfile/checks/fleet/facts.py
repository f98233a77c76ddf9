"""What was found on hosts and balancers, before anybody judged it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fabfile.balancers.model import BackendReading
from fabfile.inventory.model import Balancer, Instance, Inventory, Service
from fabfile.remote import state
from fabfile.remote.drained import Drained


@dataclass(frozen=True)
class Container:
    """One container of a host, whoever made it, stopped ones included."""

    name: str
    project: str = ""
    """Its compose project; empty: it belongs to none."""
    service: str = ""
    """The compose service: ``app_1``."""
    release: str = ""
    version: str = ""
    image: str = ""
    """As it was asked for: ``repository:tag`` or ``repository@digest``."""
    status: str = "running"
    """Docker's word: ``running``, ``restarting``, ``exited``, ``created`` …"""
    health: str = ""
    """``healthy``, ``unhealthy``, ``starting``; empty: it has no health check."""
    restarts: int = 0
    """How often Docker started it again since it was made."""
    started: float = 0.0
    """When it was last started, in seconds since 1970."""
    exit_code: int = 0
    oneoff: bool = False
    """Of ``docker compose run``: it serves nobody."""
    ports: tuple[str, ...] = ()
    """Published: ``3001->3000/tcp``; merely exposed: ``9000/tcp``."""

    @property
    def running(self) -> bool:
        """Docker says ``running``."""
        return self.status == "running"

    @property
    def shown_version(self) -> str:
        """The version it was labelled with, else its image's tag."""
        tag = self.image.rpartition("/")[2].partition("@")[0].partition(":")[2]
        return self.version or tag or "?"

    @property
    def digest(self) -> str:
        """Of its image, where it was asked for by digest."""
        return self.image.partition("@")[2]


@dataclass(frozen=True)
class Disk:
    """One file system."""

    mount: str
    used: int
    """Percent, as ``df`` says."""
    free: int
    """KiB."""


@dataclass(frozen=True)
class Certificate:
    """A certificate that HAProxy serves now."""

    name: str
    expires: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class Rollout:
    """What one host knows of one rollout."""

    id: str
    finished: bool
    service: str = ""
    """Empty: its plan can't be read."""
    version: str = ""
    chosen: bool = False
    """Its hosts were picked by ``-H``."""
    hosts: tuple[str, ...] = ()
    """The hosts it upgraded."""
    verdict: str = ""
    """How it ended: ``done``, ``rolled-back``, ``held`` …"""
    undo: tuple[str, ...] = ()
    """Records on this host of what has to be put back: ``server.BACKEND.SERVER``."""
    ahead: tuple[str, ...] = ()
    """Ids of instances of which a server here is recorded and was not touched: its turn had not
    come."""
    touched: tuple[str, ...] = ()
    """Ids of instances of which a server here was."""


@dataclass(frozen=True)
class Lock:
    """A lock somebody holds, and the service it is about."""

    held: state.Held
    service: str = ""
    """Empty: it is of none that the inventory knows."""


@dataclass(frozen=True)
class Project:
    """The compose project of one service on one host."""

    current: Mapping[str, str] = field(default_factory=dict)
    """The release the compose file holds, by instance name."""
    edited: bool = False
    """The compose file is not what was put together of the releases' blocks."""
    present: bool = True
    """There is a compose file."""


@dataclass(frozen=True)
class HostFacts:
    """All that one command found out on one host. What was not asked there is empty."""

    now: float = 0.0
    """The host's own clock, in seconds since 1970."""
    docker: str = ""
    """Why Docker does not answer; empty: it does, or nothing of ours needs it there."""
    state: str = ""
    """What is wrong with Evenkeel's own folder; empty: nothing."""
    containers: tuple[Container, ...] = ()
    projects: Mapping[str, Project] = field(default_factory=dict)
    """By service."""
    disks: tuple[Disk, ...] = ()
    locks: tuple[Lock, ...] = ()
    rollouts: tuple[Rollout, ...] = ()
    """All that are unfinished, and the newest one of each service that ended."""
    certificates: tuple[Certificate, ...] = ()
    drained: tuple[Drained, ...] = ()
    """Servers of its balancers that somebody drained."""


@dataclass(frozen=True)
class Silent:
    """A balancer that gave no reading."""

    why: str
    dead: bool = False
    """HAProxy does not run (rather than: nobody could ask)."""


Reading = BackendReading | Silent


@dataclass(frozen=True)
class Fleet:
    """Everything that was found."""

    inventory: Inventory
    services: tuple[Service, ...]
    hosts: Mapping[str, HostFacts]
    """What answered, by inventory name."""
    unreachable: Mapping[str, str]
    """Why the others did not."""
    readings: Mapping[str, Mapping[str, Reading]]
    """By service, then by balancer id. Those on unreachable hosts are missing."""
    selected: Mapping[str, tuple[str, ...]]
    """By service: the application hosts that were asked for."""
    elapsed: float = 0.0
    """Seconds it took."""
    maintained: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By service: ids of balancers that answer with the maintenance page."""

    def concerns(self, service: str) -> bool:
        """Whether ``service``, where that is known, is one of those that were looked at."""
        return not service or service in self.selected

    def balancers(self, service: Service) -> tuple[Balancer, ...]:
        """Every balancer in front of the selected hosts of ``service``, each once."""
        found = {
            balancer.id: balancer
            for host in self.selected[service.name]
            for balancer in service.balancers_of(host)
        }
        return tuple(found.values())

    def instances(self, service: Service) -> tuple[Instance, ...]:
        """Every instance on the selected hosts, reachable or not."""
        return tuple(
            instance
            for host in self.selected[service.name]
            for instance in service.instances_on(host)
        )
