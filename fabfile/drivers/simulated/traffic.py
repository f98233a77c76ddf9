"""People who use the simulated fleet while it is upgraded."""

from __future__ import annotations

from dataclasses import dataclass

from fabfile.drivers.simulated.fleet import Fleet, Process, Server


@dataclass(frozen=True)
class Traffic:
    """Per backend. Durations in virtual seconds."""

    rate: float = 0.0
    """Requests a second of clients that go anywhere."""
    shortest: float = 0.01
    longest: float = 1.0
    pinned: int = 0
    """Clients that a cookie holds to one server each."""
    every: float = 0.5
    """How often each of them asks again."""

    def begin(self, fleet: Fleet) -> None:
        """Start all clients."""
        for key in fleet.of_backend:
            if self.rate > 0:
                fleet.spawn(self._anybody(fleet, key))
            for _ in range(self.pinned):
                fleet.spawn(self._pinned(fleet, key))

    def _anybody(self, fleet: Fleet, key: tuple[str, str]) -> Process:
        while True:
            yield fleet.rng.expovariate(self.rate)
            self._ask(fleet, _choose(fleet, key), key)

    def _pinned(self, fleet: Fleet, key: tuple[str, str]) -> Process:
        server: Server | None = None
        while True:
            yield fleet.rng.uniform(0.5, 1.5) * self.every
            if server is None or server.admin == "maint" or not server.up:
                server = _choose(fleet, key)
            self._ask(fleet, server, key)

    def _ask(self, fleet: Fleet, server: Server | None, key: tuple[str, str]) -> None:
        if server is None:
            fleet.lost.append(f"{fleet.now:.3f} {key[0]}:{key[1]} has no server")
            return
        server.stot += 1
        fleet.changed[server] = None
        container = fleet.containers.get(server.instance)
        if container is not None and not (container.running and container.healthy):
            fleet.lost.append(f"{fleet.now:.3f} {server.ref} does not answer")
            return
        if container is not None and container.release is not None:
            errors = fleet.behaviour(container.release).errors
            server.errors += errors > 0 and fleet.rng.random() < errors
        server.ends.append(fleet.now + fleet.rng.uniform(self.shortest, self.longest))


def _choose(fleet: Fleet, key: tuple[str, str]) -> Server | None:
    able = [server for server in fleet.of_backend[key].values() if server.takes_new]
    if not able:
        return None
    return fleet.rng.choices(able, [server.weight for server in able])[0]


def cut_off(server: Server, now: float) -> int:
    """Close every request on ``server``; how many there were."""
    closed = server.sessions(now)
    server.ends, server.old = [], []
    return closed
