"""The simulated fleet: servers on balancers, containers on hosts, and how they hang together.

Everything in here happens at once; what takes time is a process in ``hands`` or ``faults``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from fabfile.balancers.model import (
    Admin,
    BackendReading,
    ServerReading,
    ServerRecord,
    ServerRef,
)
from fabfile.drivers.simulated.timing import Timing
from fabfile.rollout.plan import Plan, Release
from fabfile.rollout.recovery import Found, FoundInstance, FoundServer, Journal

PARKED = 1
"""As HAProxy's: a port where nobody answers."""
Process = Iterator[float]
"""Something that takes time: yields how many seconds to wait before it goes on."""


@dataclass(frozen=True)
class Behaviour:
    """What a release is like."""

    healthy: bool = True
    """False: its own health check never passes."""
    start: float = 0.0
    """Seconds from its container's start until it is healthy."""
    admitted: bool = True
    """False: healthy from its own host, but never from a balancer."""
    errors: float = 0.0
    """The share of requests that it answers with 5xx."""
    failing: tuple[str, ...] = ()
    """The hooks that fail on the way to it."""


@dataclass(slots=True, eq=False)
class Server:
    """A server of one balancer. ``up`` is what the balancer believes."""

    ref: ServerRef
    instance: str
    """Of the plan; empty: somebody else's."""
    uweight: int
    admin: Admin
    iweight: int
    up: bool = True
    checked: bool = True
    backup: bool = False
    ends: list[float] = field(default_factory=list)
    """When each running request ends."""
    old: list[float] = field(default_factory=list)
    """The same, of processes from before a reload."""
    stot: int = 0
    errors: int = 0
    key: tuple[str, str] = ("", "")
    """Balancer and backend."""
    name: str = ""
    """In full."""
    check_port: int = 0

    def __post_init__(self) -> None:
        self.key = (self.ref.balancer, self.ref.backend)
        self.name = str(self.ref)

    @property
    def weight(self) -> int:
        """Effective."""
        return self.uweight if self.admin == "ready" else 0

    @property
    def takes_new(self) -> bool:
        """It takes requests of anybody."""
        return self.up and self.weight > 0 and not self.backup

    @property
    def out(self) -> bool:
        """It takes requests of pinned clients at most."""
        return self.admin != "ready" or self.uweight == 0

    @property
    def shut(self) -> bool:
        """Nobody's requests reach it: in maint, or parked where nobody is pinned."""
        return self.admin == "maint" or (self.admin == "drain" and self.check_port == PARKED)

    def sessions(self, now: float) -> int:
        """Requests in flight, old processes included."""
        self.ends = [end for end in self.ends if end > now] if self.ends else self.ends
        self.old = [end for end in self.old if end > now] if self.old else self.old
        return len(self.ends) + len(self.old)

    def reading(self, now: float) -> ServerReading:
        """As its balancer would tell."""
        # By position, since a large fleet is read a million times: name, address, up, checked,
        # admin, weight, uweight, iweight, scur, qcur, stot, requests, errors_5xx, backup,
        # check_port.
        return ServerReading(
            self.ref.server,
            "",
            self.up,
            self.checked,
            self.admin,
            self.uweight if self.admin == "ready" else 0,
            self.uweight,
            self.iweight,
            self.sessions(now) if self.ends or self.old else 0,
            0,
            self.stot,
            self.stot,
            self.errors,
            self.backup,
            self.check_port,
        )


@dataclass(slots=True)
class Container:
    """An instance of the plan. ``release`` ``None``: there is no container."""

    instance: str
    host: str
    release: Release | None
    running: bool
    healthy: bool
    healthy_at: float = 0.0
    """When the release that was started last becomes healthy; infinite: never."""
    started: int = 0
    """How often it was started: tells an old start from the latest."""
    meant: Release | None = None
    """What its host was told last to run; ``None``: it was told nothing since the beginning."""
    id: str = ""
    """Of the container that was made last; empty: the plan does not know it."""


@dataclass
class Fleet:
    """All of it. ``spawn`` is set by whoever runs the clock."""

    servers: dict[ServerRef, Server]
    containers: dict[str, Container]
    behaviours: Mapping[str, Behaviour] = field(default_factory=dict)
    """By release id; a release that is not in it is well."""
    timing: Timing = field(default_factory=Timing)
    now: float = 0.0
    unreachable: set[str] = field(default_factory=set)
    """Hosts."""
    silent: set[str] = field(default_factory=set)
    """Balancers."""
    processes: dict[str, int] = field(default_factory=dict)
    """Process id of each balancer."""
    records: dict[str, str] = field(default_factory=dict)
    """The last progress recorded of each instance."""
    undo: set[str] = field(default_factory=set)
    """Open undo records: instance ids and full names of servers."""
    ahead: set[str] = field(default_factory=set)
    """Records of servers that were written ahead, and do not count yet."""
    done: set[str] = field(default_factory=set)
    """The same, of those that were closed at least once."""
    plans: list[Plan] = field(default_factory=list)
    """Every plan that was carried out here, as its hosts keep it; the last one counts."""
    ended: dict[str, str] = field(default_factory=dict)
    """The verdict of each rollout that is finished."""
    cut: dict[str, int] = field(default_factory=dict)
    """Requests of each instance that were closed by policy."""
    lost: list[str] = field(default_factory=list)
    """Requests that found nobody to answer them, each in a line."""
    changed: dict[Server, None] = field(default_factory=dict)
    """Since it was last emptied."""
    pending: list[tuple[float, Process]] = field(default_factory=list)
    """What was still under way when a simulation ended, and when it goes on in the next."""
    rng: random.Random = field(default_factory=random.Random)
    spawn: Callable[[Process], None] = lambda _: None

    def __post_init__(self) -> None:
        self.of_instance: dict[str, list[Server]] = {}
        self.of_backend: dict[tuple[str, str], dict[str, Server]] = {}
        for server in self.servers.values():
            ref = server.ref
            self.of_backend.setdefault(server.key, {})[ref.server] = server
            self.processes.setdefault(ref.balancer, 1)
            if server.instance:
                self.of_instance.setdefault(server.instance, []).append(server)

    @classmethod
    def of_plan(
        cls,
        plan: Plan,
        behaviours: Mapping[str, Behaviour] | None = None,
        timing: Timing | None = None,
    ) -> Fleet:
        """The fleet as ``plan`` found it, idle; an instance without an earlier release is down."""
        containers: dict[str, Container] = {}
        servers: dict[ServerRef, Server] = {}
        for target in plan.targets:
            release = target.earlier if target.change else target.wanted
            name, there = target.instance.id, release is not None
            containers[name] = Container(
                name, target.instance.host, release, there, there, id=target.container
            )
            for record in target.servers:
                servers[record.ref] = _server(record, name, up=there)
        for record in plan.baseline:
            if record.ref not in servers:
                servers[record.ref] = _server(record, "", up=True)
        return cls(servers, containers, behaviours or {}, timing or Timing())

    def behaviour(self, release: Release | None) -> Behaviour:
        """What ``release`` is like."""
        return self.behaviours.get(release.id, Behaviour()) if release else Behaviour(healthy=False)

    # what a controller that takes over can learn

    def found(self, plan: Plan | None = None) -> Found:
        """How ``plan``'s rollout stands; ``None``: that of the plan that was begun last."""
        plan = plan or self.plans[-1]
        refs = [record.ref for record in plan.baseline]
        refs += [ref for target in plan.targets for ref in target.refs]
        return Found(
            plan,
            {
                target.instance.id: self._found(self.containers[target.instance.id])
                for target in plan.targets
                if target.instance.host not in self.unreachable
            },
            {ref: self._found_server(self.servers[ref]) for ref in refs},
            tuple(sorted(self.unreachable)),
            tuple(sorted(self.silent)),
        )

    def _found(self, container: Container) -> FoundInstance:
        release = container.release
        settled = container.meant in (None, release)
        record = self._record(container.instance)
        identity = release.id if release else None
        return FoundInstance(identity, container.running, record, settled, container.id)

    def _found_server(self, server: Server) -> FoundServer:
        if server.ref.balancer in self.silent:
            return FoundServer("unknown", None)
        return FoundServer(self._record(server.name), server.reading(self.now))

    def _record(self, name: str) -> Journal:
        if name in self.undo:
            return "open"
        if name in self.ahead:
            return "ahead"
        return "done" if name in self.done else "absent"

    # balancers

    def set(self, ref: ServerRef, uweight: int | None = None, admin: Admin | None = None) -> None:
        """Change a server's weight or state; nothing else follows from it."""
        self.change(self.servers[ref], uweight, admin)

    def change(
        self, server: Server, uweight: int | None = None, admin: Admin | None = None
    ) -> None:
        """As :meth:`set`."""
        if uweight is not None:
            server.uweight = uweight
        if admin is not None:
            server.admin = admin
        self.changed[server] = None

    def mark(self, server: Server, *, up: bool) -> None:
        """Its balancer has come to believe that it is ``up``."""
        server.up = up
        self.changed[server] = None

    def park(self, server: Server) -> None:
        """In drain, and down, since its checks go where nobody answers."""
        server.check_port = PARKED
        self.change(server, admin="drain")
        self.mark(server, up=False)

    def unpark(self, server: Server) -> None:
        """Its checks go where they went in the beginning."""
        if server.check_port == PARKED:
            server.check_port = 0
            self.spawn(self.check(server))

    def passes(self, server: Server) -> bool:
        """Whether a check by its balancer would pass now."""
        if server.check_port == PARKED:
            return False
        container = self.containers.get(server.instance)
        if container is None:
            return True
        seen = self.behaviour(container.release).admitted
        return container.running and container.healthy and seen

    def check(self, server: Server) -> Process:
        """The balancer's own checks, ``rise`` of them in a row."""
        yield self.timing.admit
        if server.admin != "maint" and server.checked:
            self.mark(server, up=self.passes(server))

    def admit(self, server: Server, record: ServerRecord) -> None:
        """Recorded weight and state; what was in maint has to pass its checks first."""
        was = server.admin
        self.unpark(server)
        self.change(server, record.uweight, record.admin)
        if record.admin == "maint":
            return
        if was == "maint":
            self.mark(server, up=not server.checked)
        self.spawn(self.check(server))

    def restore(self, server: Server, record: ServerRecord) -> None:
        """Recorded weight and state at once."""
        was = server.admin
        self.unpark(server)
        self.change(server, record.uweight, record.admin)
        if was == "maint" != record.admin:
            self.mark(server, up=not server.checked or self.passes(server))

    def reload(self, balancer: str, *, keeps: bool) -> None:
        """A new process; without a state file it knows its configuration only."""
        self.processes[balancer] += 1
        for (name, _), servers in self.of_backend.items():
            for server in servers.values() if name == balancer else ():
                server.old, server.ends = server.old + server.ends, []
                if not keeps:
                    server.check_port = 0
                    self.change(server, server.iweight, "ready")
                    # A balancer that has just started takes every server for up.
                    self.mark(server, up=True)
                    self.spawn(self.check(server))

    def read(self, key: tuple[str, str], only: Iterable[Server] | None = None) -> BackendReading:
        """One backend; ``only``: these servers of it."""
        servers = self.of_backend[key].values() if only is None else only
        readings = {server.ref.server: server.reading(self.now) for server in servers}
        return BackendReading(key[0], self.processes[key[0]], readings)

    # containers

    def stop(self, container: Container) -> None:
        """It is gone; balancers that check it notice."""
        container.running = container.healthy = False
        container.started += 1
        self._noticed(container)

    def start(self, container: Container, release: Release) -> None:
        """A new container of ``release``; it becomes healthy in its own time."""
        behaviour = self.behaviour(release)
        container.release, container.running, container.healthy = release, True, False
        container.started += 1
        container.id = f"{container.instance}-{container.started}"
        container.healthy_at = self.now + behaviour.start if behaviour.healthy else float("inf")
        if behaviour.healthy and behaviour.start <= 0:
            self.become(container, healthy=True)
        elif behaviour.healthy:
            self.spawn(self._warm_up(container, container.started))

    def _warm_up(self, container: Container, started: int) -> Process:
        yield container.healthy_at - self.now
        if container.started == started:
            self.become(container, healthy=True)

    def become(self, container: Container, *, healthy: bool) -> None:
        """Its health changes."""
        container.healthy = healthy and container.running
        self._noticed(container)

    def _noticed(self, container: Container) -> None:
        for server in self.of_instance.get(container.instance, ()):
            if server.admin == "maint" or not server.checked:
                continue
            if container.healthy:
                self.spawn(self.check(server))
            else:
                self.mark(server, up=False)


def _server(record: ServerRecord, instance: str, *, up: bool) -> Server:
    return Server(record.ref, instance, record.uweight, record.admin, record.uweight, up)
