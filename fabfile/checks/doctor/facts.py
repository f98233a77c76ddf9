"""What was found out about a set-up, before anybody judged it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fabfile.balancers.haproxy.language import (
    Line,
    Section,
    ServerLine,
    defaults_of,
    headers,
    sections_of,
    server_lines,
)
from fabfile.checks.fleet.facts import Disk
from fabfile.inventory.model import Balancer, Inventory, Service


@dataclass(frozen=True)
class Container:
    """One container of an instance."""

    instance: str
    """The compose service: ``app_1``."""
    image: str
    """As it was asked for."""
    checked: bool
    """It has a health check of its own."""

    @property
    def digest(self) -> str:
        """Of its image, where it was asked for by digest."""
        return self.image.partition("@")[2]


@dataclass(frozen=True)
class Project:
    """One service on one application host."""

    folder: str = "ok"
    """``ok``, ``absent``, or what is wrong with ``project_dir``."""
    provisioned: bool = True
    containers: tuple[Container, ...] = ()
    digests: frozenset[str] = frozenset()
    """Of the service's images that the host holds."""


@dataclass(frozen=True)
class HostFacts:
    """What one command found out on one host."""

    user: str = "deploy"
    skew: float = 0.0
    """Seconds its clock is ahead of ours, as far as the way there does not explain it."""
    tools: tuple[str, ...] = ()
    """What is not installed."""
    state: str = "ready 2775 evenkeel"
    """``ready MODE GROUP``, or what is wrong with Evenkeel's own folder."""
    max_sessions: int | None = None
    """As sshd's configuration says; ``None``: it does not, or can't be read."""
    disks: tuple[Disk, ...] = ()
    docker: tuple[str, ...] = ()
    """What speaks against Docker and Compose here."""
    versions: tuple[str, ...] = ()
    """Of Docker and Compose, for people."""
    registries: Mapping[str, str] = field(default_factory=dict)
    """What each answered over HTTP, by name; ``000``: nothing."""
    projects: Mapping[str, Project] = field(default_factory=dict)
    """By service."""


@dataclass(frozen=True)
class Unreached:
    """A host that could not be looked at."""

    why: str
    code: str = "unreachable"
    """``unreachable``, ``host-key`` or ``no-answer``."""


@dataclass(frozen=True)
class Proxy:
    """One HAProxy as one service sees it."""

    service: Service
    balancer: Balancer
    ours: tuple[str, ...]
    """The servers that stand for the selected instances."""
    said: str = ""
    """What ``preflight_script`` printed; empty: HAProxy could not be asked."""
    why: str = ""
    """Why not."""
    config: str | None = None
    """Text of its configuration file; ``None``: it can't be read."""
    meant: str | None = None
    """What ``fab provision`` would write there; ``None``: it is hand-written."""
    spots: Mapping[str, str] = field(default_factory=dict)
    """``address:port`` of each of the service's servers, as hosts.yaml has them."""

    @cached_property
    def sections(self) -> list[Section]:
        """Of the configuration."""
        return sections_of(self.config or "")

    @cached_property
    def whole(self) -> list[Line]:
        """The lines of ``global``."""
        return [line for s in self.sections if s[0][0] == "global" for line in s[1:]]

    @cached_property
    def _own(self) -> Section | None:
        known = headers(self.balancer.spec.backend)
        own = [section for section in self.sections if section[0][:2] in known]
        return own[-1] if own else None

    @property
    def defined(self) -> bool:
        """The configuration could be read and defines the backend."""
        return self._own is not None

    @cached_property
    def lines(self) -> list[Line]:
        """The lines that hold for the backend: its ``defaults``, then its own."""
        own = self._own
        return [*defaults_of(own, self.sections), *own[1:]] if own else []

    @property
    def edited(self) -> bool:
        """It is not what ``fab provision`` would write."""
        both = self.meant is not None and self.config is not None
        return both and (self.meant or "").rstrip("\n") != (self.config or "").rstrip("\n")

    @property
    def head(self) -> int:
        """The line on which the backend begins."""
        return self._own[0].number if self._own else 0

    @cached_property
    def servers(self) -> tuple[ServerLine, ...]:
        """Our servers, as the file has them."""
        return tuple(s for s in server_lines(self.lines) if s.name in self.ours)


@dataclass(frozen=True)
class Rendered:
    """A service's compose template, rendered for one host."""

    service: Service
    host: str
    path: str
    """Of the template."""
    source: str = ""
    """Text of the template."""
    project: Mapping[str, Any] = field(default_factory=dict)
    """What it renders to, as plain data."""
    why: str = ""
    """Why it could not be rendered."""


@dataclass(frozen=True)
class Setup:
    """Everything that was found."""

    inventory: Inventory
    services: tuple[Service, ...]
    selected: Mapping[str, tuple[str, ...]]
    """By service: the application hosts that were looked at."""
    hosts: Mapping[str, HostFacts | Unreached]
    proxies: tuple[Proxy, ...] = ()
    rendered: tuple[Rendered, ...] = ()
    secrets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By service: what is wrong with them."""

    @property
    def reached(self) -> dict[str, HostFacts]:
        """The hosts that answered."""
        return {name: f for name, f in self.hosts.items() if isinstance(f, HostFacts)}
