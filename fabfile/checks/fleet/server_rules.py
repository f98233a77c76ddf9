"""What can be wrong with balancers, and with what they do with the servers of a service."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from fabfile.balancers.model import BackendReading, ServerReading
from fabfile.checks.fleet.facts import Silent
from fabfile.checks.fleet.sight import Server, Sight, on_host
from fabfile.checks.fleet.verdict import Severity, Verdict, several
from fabfile.inventory.model import Balancer
from fabfile.remote.quoting import q


def balancer_silent(sight: Sight) -> Iterator[Verdict]:
    """Balancers that gave no answer, on hosts that did."""
    for balancer in sight.fleet.balancers(sight.service):
        reading = sight.fleet.readings[sight.service.name].get(balancer.id)
        if isinstance(reading, Silent):
            container = balancer.spec.container
            start = f"docker start {container}" if container else "systemctl status haproxy"
            yield Verdict(
                "balancer-silent",
                "CRITICAL" if reading.dead else "UNKNOWN",
                balancer.id,
                reading.why.removeprefix(f"{balancer.id}: ").removeprefix(f"{balancer.host}: "),
                on_host(balancer.host, start),
                sight.service.name,
            )


def no_capacity(sight: Sight) -> Iterator[Verdict]:
    """Backends of which no server takes requests: users of that balancer get errors."""
    for balancer in sight.fleet.balancers(sight.service):
        reading = sight.fleet.readings[sight.service.name].get(balancer.id)
        if not isinstance(reading, BackendReading):
            continue
        if not any(server.in_rotation or _serves(server) for server in reading.servers.values()):
            text = f"no server of backend {balancer.spec.backend} takes requests"
            mend = sight.fab("lock.status")
            yield Verdict("no-capacity", "CRITICAL", balancer.id, text, mend, sight.service.name)


def _serves(server: ServerReading) -> bool:
    return server.backup and server.up and server.admin == "ready"


def server_missing(sight: Sight) -> Iterator[Verdict]:
    """Instances that a balancer knows nothing of."""
    for servers in _by_instance(s for s in sight.servers if s.reading is None):
        first = servers[0]
        spec = first.balancer.spec
        mend = sight.fab("provision.balancers")
        if spec.template is None:
            where = on_host(first.balancer.host, f"grep -n {q(spec.backend)} {spec.config}")
            mend = f"{where}   # add the server there and reload HAProxy"
        text = f"{_on(servers)} has no server {first.name} in backend {spec.backend}"
        yield _of(sight, "server-missing", "CRITICAL", first, text, mend)


def server_down(sight: Sight) -> Iterator[Verdict]:
    """Servers that a balancer would send requests to, but for its checks."""
    down = (s for s in sight.servers if s.word == "down" and not _handled(sight, s))
    for servers in _by_instance(down):
        first = servers[0]
        text = f"down on {_on(servers)}: its checks fail"
        yield _of(sight, "server-down", "CRITICAL", first, text, _ask(sight, first))


def stuck_weight(sight: Sight) -> Iterator[Verdict]:
    """Servers out of rotation, or at a weight of their own, that nobody accounts for."""
    stuck: dict[tuple[str, str], list[Server]] = {}
    for server in sight.servers:
        reading = server.reading
        if reading and _changed(reading) and not sight.explained(server):
            stuck.setdefault((server.instance.id, _shown(reading)), []).append(server)
    for (_, shown), servers in stuck.items():
        reading = servers[0].reading
        assert reading is not None
        out = reading.admin != "ready" or reading.uweight == 0
        text = (
            f"{shown} instead of weight {reading.iweight} on {_on(servers)}, and no rollout, lock"
            " or freeze explains it"
        )
        severity: Severity = "CRITICAL" if out else "WARNING"
        yield _of(sight, "stuck-weight", severity, servers[0], text, _put_back(sight, servers[0]))


def balancers_disagree(sight: Sight) -> Iterator[Verdict]:
    """Servers that one balancer treats unlike another."""
    for servers in _by_instance(s for s in sight.servers if s.reading is not None):
        if any(_handled(sight, server) for server in servers):
            continue
        views = {_view(server): server for server in servers}
        if len(views) < 2:
            continue
        told = "; ".join(f"{s.balancer.id}: {s.word}, weight {_weight(s)}" for s in servers)
        off = [s for s in servers if s.reading and _changed(s.reading)]
        down = next((s for s in servers if s.word == "down"), servers[0])
        mend = _put_back(sight, off[0]) if off else _ask(sight, down, down.balancer.host)
        text = f"its balancers disagree ({told})"
        yield _of(sight, "balancers-disagree", "WARNING", servers[0], text, mend)


def _handled(sight: Sight, server: Server) -> bool:
    return sight.explained(server) or sight.touched(server.instance)


def _changed(reading: ServerReading) -> bool:
    return reading.admin != "ready" or reading.uweight != reading.iweight


def _shown(reading: ServerReading) -> str:
    if reading.admin != "ready":
        return "in maintenance" if reading.admin == "maint" else "in state drain"
    return f"stands at weight {reading.uweight}"


def _view(server: Server) -> tuple[str, bool]:
    """What must be alike everywhere; weights by their own configuration."""
    reading = server.reading
    assert reading is not None
    return server.word, reading.uweight == reading.iweight


def _weight(server: Server) -> int:
    return server.reading.uweight if server.reading else 0


def _by_instance(servers: Iterable[Server]) -> list[list[Server]]:
    found: dict[str, list[Server]] = {}
    for server in servers:
        found.setdefault(server.instance.id, []).append(server)
    return list(found.values())


def _on(servers: Iterable[Server]) -> str:
    return several(server.balancer.id for server in servers)


def _put_back(sight: Sight, server: Server) -> str:
    """Its weight and state ``ready``, by the way on which only a healthy server gets in."""
    return sight.fab(f"enable --instance {server.instance.name}", server.instance.host)


def _ask(sight: Sight, server: Server, host: str = "") -> str:
    """Ask the instance itself: from its own host, or from a balancer's."""
    instance, health = server.instance, sight.service.health
    if not instance.port:
        return on_host(instance.host, f"docker ps -a --filter name={instance.name}")
    at = "127.0.0.1"
    if host and host != instance.host:
        at = sight.fleet.inventory.hosts[instance.host].internal
    command = f"curl -sS -i -m 5 http://{at}:{instance.port}{health.path}"
    return on_host(host or instance.host, command)


def _of(
    sight: Sight, name: str, severity: Severity, server: Server, text: str, mend: str
) -> Verdict:
    return Verdict(name, severity, server.instance.id, text, mend, sight.service.name)


def share(sight: Sight, balancer: Balancer) -> int | None:
    """Percent of the configured weight of ``balancer``'s backend that takes requests now.

    ``None``: it was not to be asked.
    """
    reading = sight.fleet.readings[sight.service.name].get(balancer.id)
    if not isinstance(reading, BackendReading):
        return None
    whole = sum(s.iweight for s in reading.servers.values() if not s.backup)
    now = sum(min(s.weight, s.iweight) for s in reading.servers.values() if s.in_rotation)
    return 100 * now // whole if whole else 0


SERVER_RULES: tuple[Callable[[Sight], Iterator[Verdict]], ...] = (
    balancer_silent,
    no_capacity,
    stuck_weight,
    server_missing,
    server_down,
    balancers_disagree,
)
