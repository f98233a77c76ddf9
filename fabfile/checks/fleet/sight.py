"""One service as the rules look at it: its instances, its servers, and what explains a change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from fabfile.balancers.model import BackendReading, ServerReading
from fabfile.checks.fleet.facts import Container, Fleet, HostFacts, Lock, Project
from fabfile.inventory.model import Balancer, Instance, Service
from fabfile.remote import records, state
from fabfile.remote.drained import Drained
from fabfile.remote.quoting import q
from fabfile.runtimes import compose

FREEZE = "freeze-"
"""How the owner of a lock begins that a person took by hand."""


@dataclass(frozen=True)
class Server:
    """An instance on one balancer."""

    instance: Instance
    balancer: Balancer
    name: str
    reading: ServerReading | None
    """``None``: the balancer's backend has no such server."""

    @property
    def word(self) -> str:
        """``up``, ``down``, ``drain``, ``maint`` or ``missing``."""
        if self.reading is None:
            return "missing"
        if self.reading.admin != "ready":
            return self.reading.admin
        return "up" if self.reading.up else "down"


def alive(lock: Lock) -> bool:
    """Whether its holder gave a sign of life lately; a freeze needs none."""
    return is_freeze(lock) or lock.held.age < state.STALE_AFTER


def is_freeze(lock: Lock) -> bool:
    """Whether a person took it by hand."""
    return lock.held.owner.startswith(FREEZE)


def holds(owner: str, rollout: str) -> bool:
    """Whether ``owner`` is the rollout, or a recovery of it."""
    return owner == rollout or owner.startswith(f"{rollout}.")


def live_rollouts(fleet: Fleet) -> set[str]:
    """Ids of unfinished rollouts whose controller is at work."""
    owners = {
        lock.held.owner
        for facts in fleet.hosts.values()
        for lock in facts.locks
        if alive(lock) and not is_freeze(lock)
    }
    return {
        rollout.id
        for facts in fleet.hosts.values()
        for rollout in facts.rollouts
        if not rollout.finished and any(holds(owner, rollout.id) for owner in owners)
    }


class Sight:
    """One service."""

    def __init__(self, fleet: Fleet, service: Service) -> None:
        self.fleet = fleet
        self.service = service
        self.instances = fleet.instances(service)

    # hosts and containers

    def facts(self, host: str) -> HostFacts | None:
        """What ``host`` said; ``None``: nothing."""
        return self.fleet.hosts.get(host)

    def project(self, host: str) -> Project:
        """The compose project on ``host``."""
        facts = self.facts(host)
        return (facts.projects.get(self.service.name) if facts else None) or Project()

    @property
    def asked(self) -> tuple[str, ...]:
        """The selected hosts whose Docker answered."""
        answered = (h for h in self.fleet.selected[self.service.name] if h in self.fleet.hosts)
        return tuple(host for host in answered if not self.fleet.hosts[host].docker)

    def known(self, instance: Instance) -> bool:
        """Whether its host said which containers there are."""
        return instance.host in self.asked

    def containers(self, instance: Instance) -> list[Container]:
        """Its container, and any twins a killed Compose left behind after it."""
        facts = self.facts(instance.host)
        current = self.project(instance.host).current.get(instance.name)
        mine = [
            container
            for container in (facts.containers if facts else ())
            if container.project == self.service.project
            and container.service == instance.name
            and not container.oneoff
        ]
        return sorted(mine, key=lambda c: (not c.running, c.release != current))

    def container(self, instance: Instance) -> Container | None:
        """Its container."""
        return next(iter(self.containers(instance)), None)

    @cached_property
    def versions(self) -> dict[Instance, str]:
        """What each instance runs, where that is known."""
        found = {i: self.container(i) for i in self.instances if self.known(i)}
        return {i: c.shown_version for i, c in found.items() if c is not None}

    # balancers

    @cached_property
    def servers(self) -> tuple[Server, ...]:
        """Every instance on every balancer that answered."""
        return tuple(self._servers())

    def _servers(self) -> Iterator[Server]:
        readings = self.fleet.readings[self.service.name]
        for instance in self.instances:
            for balancer in self.service.balancers_of(instance.host):
                reading = readings.get(balancer.id)
                if isinstance(reading, BackendReading):
                    name = self.service.server_name(balancer.spec, instance)
                    yield Server(instance, balancer, name, reading.servers.get(name))

    # what explains a change

    @cached_property
    def live(self) -> set[str]:
        """Rollouts that are at work now."""
        return live_rollouts(self.fleet)

    @property
    def rolling(self) -> bool:
        """A rollout of this service is at work now."""
        return any(
            rollout.id in self.live and rollout.service in ("", self.service.name)
            for facts in self.fleet.hosts.values()
            for rollout in facts.rollouts
        )

    def touched(self, instance: Instance) -> bool:
        """A living rollout has ``instance`` in its hands, or a provision its host's project."""
        facts = self.facts(instance.host)
        if facts is None:
            return False
        name = records.of_instance(self.service.name, instance.name)
        key = compose.project_key(self.service)
        return any(r.id in self.live and name in r.undo for r in facts.rollouts) or any(
            lock.held.key == key and not is_freeze(lock) for lock in self._other_locks(facts)
        )

    def explained(self, server: Server) -> bool:
        """Somebody knows of this server's weight and state: a rollout that is not finished (dead
        ones have a verdict of their own), a person's freeze, a provision at work."""
        facts = self.facts(server.balancer.host)
        if facts is None:
            return False
        name = records.of_server(server.balancer.spec.backend, server.name)
        if any(name in rollout.undo for rollout in facts.rollouts):
            return True
        return self.drained(server) is not None or bool(self._other_locks(facts))

    def drained(self, server: Server) -> Drained | None:
        """Who drained ``server`` with `fab drain`, as long as it is out of rotation."""
        facts, spec, seen = self.facts(server.balancer.host), server.balancer.spec, server.reading
        if facts is None or seen is None or (seen.admin == "ready" and seen.uweight > 0):
            return None
        name = f"{state.key('backend', spec.socket, spec.backend)}.{server.name}"
        return next((record for record in facts.drained if record.name == name), None)

    def _other_locks(self, facts: HostFacts) -> list[Lock]:
        """Living locks of this service that no rollout holds: what those touch is recorded."""
        rollouts = [r.id for r in facts.rollouts if not r.finished]
        return [
            lock
            for lock in facts.locks
            if lock.service == self.service.name
            and alive(lock)
            and not any(holds(lock.held.owner, rollout) for rollout in rollouts)
        ]

    # commands that mend

    @property
    def flag(self) -> str:
        """``--service NAME``, where there are several."""
        several = len(self.fleet.inventory.services) > 1
        return f" --service {self.service.name}" if several else ""

    def fab(self, task: str, host: str = "") -> str:
        """A task of ours for this service, on one host or all."""
        where = f"-H {host} " if host else ""
        return f"fab {where}{task}{self.flag}"


def on_host(host: str, command: str) -> str:
    """A command on a host, as one can paste it here."""
    return f"fab -H {host} run -- {q(command)}"
