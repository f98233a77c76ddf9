"""The inventory as the rest of the project sees it: frozen, complete, checked.

Durations are seconds as ``float``, sizes are what Docker accepts (``"256m"``), shares are
``fractions.Fraction`` or whole percents as said. Nothing in here reads a file; see ``loader``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

HostKeys = Literal["strict", "accept-new", "off"]
OnTimeout = Literal["cut", "abort", "wait"]
OnFailure = Literal["rollback", "hold", "continue"]
DrainMode = Literal["weight", "drain"]
BalancerKind = Literal["haproxy", "nginx"]
Strategy = Literal["rolling", "blue-green", "canary", "dark-canary", "whole-host", "swarm"]
Order = Literal["stop-first", "start-first"]
WebhookKind = Literal["slack", "generic"]
Moment = Literal["started", "finished", "failed"]


@dataclass(frozen=True)
class Ssh:
    """How a host is logged in to. ``None`` leaves the choice to ssh_config and its defaults."""

    user: str | None = None
    port: int | None = None
    connect_timeout: float = 5.0
    host_keys: HostKeys = "strict"
    known_hosts: Path | None = None
    """Absolute. ``None``: the user's own ~/.ssh/known_hosts."""
    identity_file: Path | None = None
    """Absolute. ``None``: the agent and the user's default keys."""
    gateway: str | None = None
    """A host of the inventory, or ``user@host:port``; one connection serves all behind it."""
    config_file: Path | None = None
    """Absolute. ``None``: ~/.ssh/config and /etc/ssh/ssh_config, as ssh does."""


@dataclass(frozen=True)
class Host:
    """One machine."""

    name: str
    address: str
    """What this controller connects to; ssh_config may map it further."""
    internal: str
    """What other hosts of the fleet reach it by (balancers, above all). Default: address."""
    ssh: Ssh = field(default_factory=Ssh)
    connection: Literal["ssh", "local"] = "ssh"
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Resources:
    """Limits of one instance, as Compose spells them."""

    cpus: str | None = None
    memory: str | None = None
    memory_swappiness: int | None = None
    cpuset: str | None = None


@dataclass(frozen=True)
class Health:
    """When an instance counts as healthy, asked from its own host. Durations in seconds."""

    path: str = "/"
    status: int = 200
    contains: str | None = None
    timeout: float = 60.0
    """How long a new instance may take to become healthy."""
    interval: float = 0.5
    min_healthy: float = 2.0
    """It has to stay healthy that long without a break."""


@dataclass(frozen=True)
class Drain:
    """How a server leaves rotation. Durations in seconds."""

    mode: DrainMode = "weight"
    sticky_grace: float = 5.0
    timeout: float = 30.0
    on_timeout: OnTimeout = "cut"


@dataclass(frozen=True)
class Count:
    """A number of hosts: absolute, or a whole-number percentage of them."""

    value: int
    percent: bool = False

    def __str__(self) -> str:
        return f"{self.value}%" if self.percent else str(self.value)


@dataclass(frozen=True)
class RolloutPolicy:
    """How a rollout walks over the hosts of a service."""

    strategy: Strategy = "rolling"
    order: Order = "stop-first"
    serial: tuple[Count, ...] = (Count(1),)
    instances_at_once: int = 1
    max_fail_percentage: int = 0
    max_failures: int | None = None
    max_error_rate: int = 5
    on_failure: OnFailure = "rollback"
    min_capacity: int = 50
    """Percent, 0 to 100, of the recorded weight that must stay in rotation on every backend."""
    pause: float = 0.0
    """Seconds between batches."""
    keep_releases: int = 5


@dataclass(frozen=True)
class Secret:
    """Where the value of one secret comes from; the value itself is read as late as possible.

    Exactly one of ``env``, ``file`` and ``command`` is set; ``file`` is absolute and
    ``command`` runs here, on the controller.
    """

    name: str
    env: str | None = None
    file: Path | None = None
    command: str | None = None
    value: str | None = field(default=None, repr=False)
    """Of a URL that hosts.yaml spells out; then there is no source."""


@dataclass(frozen=True)
class Webhook:
    """Who is told of rollouts."""

    url: Secret
    kind: WebhookKind = "generic"
    on: tuple[Moment, ...] = ("started", "finished", "failed")


@dataclass(frozen=True)
class Metrics:
    """Where a rollout's figures go when it is over."""

    textfile: Path | None = None
    """Absolute: the folder of the node exporter's textfile collector."""
    pushgateway: Secret | None = None


@dataclass(frozen=True)
class BalancerSpec:
    """A balancer entry of a service, before its hosts are resolved."""

    kind: BalancerKind
    hosts: tuple[str, ...] | Literal["self"]
    """Inventory names; ``"self"``: each application host has its own, for its own instances."""
    backend: str
    server: str = "{host}_{instance}"
    """Pattern of a server's name; ``{host}``, ``{instance}`` (app_1) and ``{n}`` (1) are known."""
    socket: str = "/run/haproxy/admin.sock"
    """Runtime API socket, a path on the host or inside ``container``."""
    master_socket: str | None = None
    """Master CLI socket: lets old processes after a reload be asked. A path as ``socket``."""
    state_file: str | None = None
    """The file ``server-state-file`` names, as seen where ``socket`` is; rewritten with every
    change, so that a reload keeps it. ``None``: none is written."""
    container: str | None = None
    """Name of the container HAProxy runs in; ``None``: it runs on the host itself."""
    template: Path | None = None
    """Absolute. Our own configuration is rendered from it by ``fab provision``; ``None``: the
    configuration is hand-written and never touched."""
    config: str = "/etc/haproxy/haproxy.cfg"
    """Where the rendered configuration goes on the host."""
    image: str | None = None
    """Image of the balancer's container, when ``fab provision`` is to run it."""
    bind: str = "*:80"
    """What the frontend of the rendered configuration listens on."""
    cookie: str | None = None
    """Name of a sticky cookie for the rendered configuration."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Free values for the balancer's template (``inter``, ``rise``, ``retries`` …)."""


@dataclass(frozen=True)
class Balancer:
    """One balancer process as one service sees it: a backend on one host."""

    id: str
    """Unique in the service: the host's name, with ``/backend`` where that is not enough."""
    host: str
    spec: BalancerSpec


@dataclass(frozen=True)
class Instance:
    """One container of a service on one host."""

    service: str
    host: str
    number: int
    """1 … instances."""
    port: int
    """Port on the host (0: not published)."""

    @cached_property
    def name(self) -> str:
        """The compose service: ``app_1``."""
        return f"app_{self.number}"

    @cached_property
    def id(self) -> str:
        """``web1/app_1``: how logs, events and journals call it."""
        return f"{self.host}/{self.name}"


@dataclass(frozen=True)
class Hooks:
    """Commands around a rollout, with the deadline of each in seconds."""

    before_rollout: str | None = None
    before_drain: str | None = None
    after_healthy: str | None = None
    after_rollout: str | None = None
    timeout: float = 300.0


@dataclass(frozen=True)
class Service:
    """One application."""

    name: str
    group: str
    hosts: tuple[str, ...]
    """The group's hosts, in inventory order."""
    image: str
    """Repository without a tag: ``registry.lab:5000/challenge``."""
    template: Path | None
    """Absolute. ``None``: the compose template that comes with Evenkeel."""
    project_dir: str
    instances: int = 1
    port: int = 80
    publish: int | None = None
    """First port on the host; instance n gets ``publish + n - 1``."""
    resources: Resources = field(default_factory=Resources)
    balancers: tuple[BalancerSpec, ...] = ()
    health: Health = field(default_factory=Health)
    drain: Drain = field(default_factory=Drain)
    rollout: RolloutPolicy = field(default_factory=RolloutPolicy)
    hooks: Hooks = field(default_factory=Hooks)
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()
    registry_login: tuple[str, Secret] | None = None
    """User name and password of the image's registry, where it asks for one."""
    urls: tuple[str, ...] = ()
    """Where users reach the service: what ``inv healthcheck`` asks when told nothing else."""
    stop_grace: float = 10.0
    """Seconds between SIGTERM and SIGKILL (Compose's ``stop_grace_period``)."""
    variables: Mapping[str, object] = field(default_factory=dict)
    """Free values for the service's templates."""
    metrics: Metrics = field(default_factory=Metrics)
    notify: tuple[Webhook, ...] = ()
    without: tuple[str, ...] = ()
    """Ids of balancers that are left out of this run; hosts.yaml never says that."""

    @property
    def project(self) -> str:
        """Name of the compose project."""
        return self.project_dir.rstrip("/").rsplit("/", 1)[-1]

    def instances_on(self, host: str) -> tuple[Instance, ...]:
        """The instances of this service on ``host``, in order."""
        return tuple(
            Instance(self.name, host, n, 0 if self.publish is None else self.publish + n - 1)
            for n in range(1, self.instances + 1)
        )

    def balancers_of(self, host: str) -> tuple[Balancer, ...]:
        """Every balancer that sends requests to the instances on ``host``."""
        found = [
            (name, spec)
            for spec in self.balancers
            for name in ((host,) if spec.hosts == "self" else spec.hosts)
        ]
        names = [name for name, _ in found]
        named = (
            Balancer(name if names.count(name) == 1 else f"{name}/{spec.backend}", name, spec)
            for name, spec in found
        )
        return tuple(balancer for balancer in named if balancer.id not in self.without)

    def server_name(self, spec: BalancerSpec, instance: Instance) -> str:
        """What ``spec``'s backend calls ``instance``."""
        return spec.server.format(host=instance.host, instance=instance.name, n=instance.number)


@dataclass(frozen=True)
class Inventory:
    """All of hosts.yaml."""

    path: Path
    """Absolute path of the file; relative paths inside it start at its folder."""
    hosts: Mapping[str, Host]
    groups: Mapping[str, tuple[str, ...]]
    """Resolved to host names, in inventory order, without repeats."""
    services: Mapping[str, Service]

    @property
    def root(self) -> Path:
        """The folder of hosts.yaml."""
        return self.path.parent
