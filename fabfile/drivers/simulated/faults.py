"""What can go wrong on a simulated fleet, and when. Times are virtual seconds from the start."""

from __future__ import annotations

from dataclasses import dataclass

from fabfile.balancers.model import Admin, ServerRef
from fabfile.drivers.simulated.fleet import Fleet, Process


@dataclass(frozen=True)
class Fault:
    """Something that happens at ``at``."""

    at: float

    def happen(self, fleet: Fleet) -> Process:
        """What it does to ``fleet``; started at ``at``."""
        raise NotImplementedError


@dataclass(frozen=True)
class HostLost(Fault):
    """No command gets to ``host`` for ``seconds``; what runs there goes on."""

    host: str
    seconds: float = float("inf")

    def happen(self, fleet: Fleet) -> Process:
        """It comes back by itself."""
        fleet.unreachable.add(self.host)
        if self.seconds < float("inf"):
            yield self.seconds
            fleet.unreachable.discard(self.host)


@dataclass(frozen=True)
class Silence(Fault):
    """``balancer`` serves, but answers nobody for ``seconds``."""

    balancer: str
    seconds: float = float("inf")

    def happen(self, fleet: Fleet) -> Process:
        """It comes back by itself."""
        fleet.silent.add(self.balancer)
        if self.seconds < float("inf"):
            yield self.seconds
            fleet.silent.discard(self.balancer)


@dataclass(frozen=True)
class Reload(Fault):
    """``balancer`` gets a new process; ``keeps``: with a fresh state file."""

    balancer: str
    keeps: bool = True

    def happen(self, fleet: Fleet) -> Process:
        """At once."""
        fleet.reload(self.balancer, keeps=self.keeps)
        yield from ()


@dataclass(frozen=True)
class OperatorSets(Fault):
    """Somebody changes a server by hand."""

    ref: ServerRef
    uweight: int | None = None
    admin: Admin | None = None

    def happen(self, fleet: Fleet) -> Process:
        """At once; a server that leaves maint is taken for up until it is checked."""
        server = fleet.servers[self.ref]
        was = server.admin
        fleet.set(self.ref, self.uweight, self.admin)
        if was == "maint" != server.admin:
            fleet.mark(server, up=True)
            fleet.spawn(fleet.check(server))
        yield from ()


@dataclass(frozen=True)
class Flip(Fault):
    """A container becomes unhealthy, or healthy again."""

    instance: str
    healthy: bool = False

    def happen(self, fleet: Fleet) -> Process:
        """At once."""
        fleet.become(fleet.containers[self.instance], healthy=self.healthy)
        yield from ()
