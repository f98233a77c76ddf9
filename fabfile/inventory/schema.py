"""The shape of hosts.yaml: which keys there are, and what each may hold.

Every key is optional here and none has a default: defaults live in ``model`` alone, and what
must not be missing is asked for where the parts are put together. ``checking`` can therefore
leave out what is wrong and go on with the rest, which is how all mistakes are found at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, with_config
from typing_extensions import TypedDict

from fabfile.inventory import fields, model, values

VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"

_MEMORY = r"(?i)[0-9]+(\.[0-9]+)?([kmg]b?|b)?"
_CPUSET = r"[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*"
_LISTEN = r"[^\x00-\x1f\x7f]*[:/][^\x00-\x1f\x7f]*"

Text = Annotated[str, BeforeValidator(values.text)]
OneLine = Annotated[str, BeforeValidator(fields.one_line)]
Command = Annotated[str, BeforeValidator(fields.matching(r"(?s)(?=.*\S)[^\x00]+", "a command"))]
Variable = Annotated[str, BeforeValidator(fields.matching(VARIABLE, "the name of a variable"))]
User = Annotated[
    str, BeforeValidator(fields.matching(r"[A-Za-z0-9_][A-Za-z0-9_.@$-]*", "a user name"))
]
Address = Annotated[str, BeforeValidator(fields.address)]
Url = Annotated[str, BeforeValidator(fields.url)]
UrlPath = Annotated[str, BeforeValidator(fields.matching(r"/[!-~]*", "a path that starts with /"))]
Repository = Annotated[str, BeforeValidator(fields.image)]
Image = Annotated[str, BeforeValidator(fields.matching(r"[!-~]+", "an image"))]
Container = Annotated[
    str, BeforeValidator(fields.matching(r"[A-Za-z0-9][\w.-]*", "the name of a container"))
]
Backend = Annotated[str, BeforeValidator(fields.matching(r"[\w.:-]+", "the name of a backend"))]
Cookie = Annotated[str, BeforeValidator(fields.matching(r"[\w-]+", "the name of a cookie"))]
Listen = Annotated[str, BeforeValidator(fields.matching(_LISTEN, 'an address such as "*:80"'))]
Cpus = Annotated[str, BeforeValidator(fields.cpus)]
Memory = Annotated[str, BeforeValidator(fields.matching(_MEMORY, "a size such as 256m"))]
Cpuset = Annotated[str, BeforeValidator(fields.matching(_CPUSET, 'processors such as "0-3,5"'))]
Duration = Annotated[float, BeforeValidator(values.duration)]
PositiveDuration = Annotated[float, BeforeValidator(fields.positive_duration)]
Percent = Annotated[int, BeforeValidator(values.percent)]
Serial = Annotated[tuple[model.Count, ...], BeforeValidator(values.counts)]
Port = Annotated[int, BeforeValidator(fields.whole(1, 65535))]
Status = Annotated[int, BeforeValidator(fields.whole(100, 599))]
Swappiness = Annotated[int, BeforeValidator(fields.whole(0, 100))]
Natural = Annotated[int, BeforeValidator(fields.whole(0))]
Positive = Annotated[int, BeforeValidator(fields.whole(1))]
Instances = Annotated[int, BeforeValidator(fields.whole(1, 1000))]
HostPath = Annotated[str, BeforeValidator(fields.host_path)]
LocalPath = Annotated[Path, BeforeValidator(fields.file)]
Collector = Annotated[Path, BeforeValidator(fields.collector)]
FileName = Annotated[str, BeforeValidator(fields.file_name)]
Free = Annotated[Any, BeforeValidator(fields.free)]

Blank = BeforeValidator(fields.blank)
Names = Annotated[list[Text], BeforeValidator(fields.listed)]
Texts = Annotated[dict[str, Text], Blank]


@with_config(ConfigDict(extra="forbid"))
class SshEdge(TypedDict, total=False):
    """How to log in. ``null`` takes a default of the file back."""

    user: User | None
    port: Port | None
    connect_timeout: PositiveDuration
    host_keys: model.HostKeys
    known_hosts: LocalPath | None
    identity_file: LocalPath | None
    gateway: OneLine | None
    config_file: LocalPath | None


Ssh = Annotated[SshEdge, Blank]


@with_config(ConfigDict(extra="forbid"))
class HostEdge(TypedDict, total=False):
    """One of ``hosts``."""

    address: Address
    internal: Address
    ssh: Ssh
    connection: Literal["ssh", "local"]
    labels: Texts


@with_config(ConfigDict(extra="forbid"))
class GroupEdge(TypedDict, total=False):
    """One of ``groups``."""

    hosts: Names
    groups: Names


@with_config(ConfigDict(extra="forbid"))
class ResourcesEdge(TypedDict, total=False):
    """``resources`` of a service."""

    cpus: Cpus
    memory: Memory
    memory_swappiness: Swappiness
    cpuset: Cpuset


Resources = Annotated[ResourcesEdge, Blank]


@with_config(ConfigDict(extra="forbid"))
class HealthEdge(TypedDict, total=False):
    """``health`` of a service."""

    path: UrlPath
    status: Status
    contains: OneLine | None
    timeout: PositiveDuration
    interval: PositiveDuration
    min_healthy: Duration


Health = Annotated[HealthEdge, Blank]


@with_config(ConfigDict(extra="forbid"))
class DrainEdge(TypedDict, total=False):
    """``drain`` of a service."""

    mode: model.DrainMode
    sticky_grace: Duration
    timeout: Duration
    on_timeout: model.OnTimeout


Drain = Annotated[DrainEdge, Blank]


@with_config(ConfigDict(extra="forbid"))
class RolloutEdge(TypedDict, total=False):
    """``rollout`` of a service."""

    strategy: model.Strategy
    order: model.Order
    serial: Serial
    instances_at_once: Positive
    max_fail_percentage: Percent
    max_failures: Natural | None
    max_error_rate: Percent
    on_failure: model.OnFailure
    min_capacity: Percent
    pause: Duration
    keep_releases: Positive


Rollout = Annotated[RolloutEdge, Blank]


@with_config(ConfigDict(extra="forbid"))
class HooksEdge(TypedDict, total=False):
    """``hooks`` of a service."""

    before_rollout: Command
    before_drain: Command
    after_healthy: Command
    after_rollout: Command
    timeout: PositiveDuration


@with_config(ConfigDict(extra="forbid"))
class SecretEdge(TypedDict, total=False):
    """Where a secret comes from."""

    env: Variable
    file: LocalPath
    command: Command


Secret = Annotated[SecretEdge, Blank]


@with_config(ConfigDict(extra="forbid"))
class RegistryEdge(TypedDict, total=False):
    """``registry`` of a service."""

    user: OneLine
    password: Secret


@with_config(ConfigDict(extra="forbid"))
class UrlEdge(SecretEdge, total=False):
    """A URL that may be a secret, or where it comes from."""

    url: Text


@with_config(ConfigDict(extra="forbid"))
class WebhookEdge(UrlEdge, total=False):
    """One of ``notify``."""

    kind: model.WebhookKind
    on: Annotated[list[model.Moment], BeforeValidator(fields.listed)]


@with_config(ConfigDict(extra="forbid"))
class MetricsEdge(TypedDict, total=False):
    """``metrics``: where a rollout's figures go. ``null`` takes a default of the file back."""

    textfile: Collector | None
    pushgateway: Annotated[UrlEdge | None, BeforeValidator(fields.url_or_source)]


Metrics = Annotated[MetricsEdge, Blank]
Notify = Annotated[list[WebhookEdge], BeforeValidator(fields.urls_or_sources)]


@with_config(ConfigDict(extra="forbid"))
class BalancerEdge(TypedDict, total=False):
    """One of a service's ``balancers``."""

    kind: model.BalancerKind
    hosts: Names
    backend: Backend
    server: OneLine
    socket: HostPath
    master_socket: HostPath | None
    state_file: HostPath | None
    container: Container | None
    template: FileName | None
    config: HostPath
    image: Image | None
    bind: Listen
    cookie: Cookie | None
    options: Texts


@with_config(ConfigDict(extra="forbid"))
class ServiceEdge(TypedDict, total=False):
    """One of ``services``."""

    group: Text
    image: Repository
    template: FileName | None
    project_dir: HostPath
    instances: Instances
    port: Port
    publish: Port | None
    resources: Resources
    balancers: Annotated[list[Any], BeforeValidator(fields.no_items)]
    health: Health
    drain: Drain
    rollout: Rollout
    hooks: Annotated[HooksEdge, Blank]
    env: Texts
    secrets: Annotated[dict[str, Secret], BeforeValidator(fields.named)]
    registry: RegistryEdge | None
    urls: Annotated[list[Url], BeforeValidator(fields.listed)]
    stop_grace: Duration
    variables: Annotated[dict[str, Free], Blank]
    metrics: Metrics
    notify: Notify


@with_config(ConfigDict(extra="forbid"))
class DefaultsEdge(TypedDict, total=False):
    """``defaults``: what hosts and services start from."""

    ssh: Ssh
    resources: Resources
    health: Health
    drain: Drain
    rollout: Rollout
    metrics: Metrics
    notify: Notify


@with_config(ConfigDict(extra="forbid"))
class FileEdge(TypedDict, total=False):
    """The file as a whole; its parts are checked one by one."""

    version: Any
    defaults: Any
    hosts: dict[str, Any]
    groups: Annotated[dict[str, Any], Blank]
    services: Annotated[dict[str, Any], Blank]
