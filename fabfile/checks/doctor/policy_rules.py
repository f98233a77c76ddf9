"""What hosts.yaml itself asks for: capacity to spare, batches, secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from fabfile.balancers.model import BackendReading, ServerReading, ServerRecord, ServerRef
from fabfile.checks.doctor.facts import Setup
from fabfile.checks.doctor.findings import Finding, found
from fabfile.checks.doctor.runtime_rules import servers
from fabfile.inventory.model import Instance, Service
from fabfile.rollout.batches import batches
from fabfile.rollout.capacity import Ledger, Refusal, pools


def balancers(setup: Setup) -> Iterator[Finding]:
    """Services that nobody drains."""
    for service in setup.services:
        if not service.balancers:
            text = "no balancers: each instance is stopped under its users' requests"
            mend = "balancers: [{hosts: …, backend: …}]"
            yield _found(setup, service, "no-balancer", text, mend)


def loopback(setup: Setup) -> Iterator[Finding]:
    """Hosts that a balancer elsewhere would look for on itself."""
    for service in setup.services:
        rendered = [b for b in service.balancers if b.template and b.hosts != "self"]
        for host in service.hosts:
            address = setup.inventory.hosts[host].internal
            others = [b for b in rendered if set(b.hosts) - {host}]
            if others and (address.startswith("127.") or address in ("localhost", "::1")):
                text = (
                    f"balancers on other hosts are told to reach {host} at {address}, which is they"
                    " themselves"
                )
                file = setup.inventory.path.name
                mend = f"{host}: {{…, internal: 10.0.0.11}}"
                yield found("internal-address", host, text, mend, file=file)


def capacity(setup: Setup) -> Iterator[Finding]:
    """Whether one server may leave when all are up, and how many at once."""
    for service in setup.services:
        policy = service.rollout
        if policy.order != "stop-first" or policy.strategy in ("blue-green", "swarm"):
            continue  # there the new instance is up before the old one leaves
        weights = _weights(setup, service)
        full, ledger = _ledger(service, weights), _ledger(service, weights)
        refusals: list[tuple[str, Refusal]] = []
        together = 0
        for host in service.hosts:
            for instance in service.instances_on(host):
                mine = _refs(service, instance)
                alone = full.refusal(mine)
                if alone is not None:
                    refusals.append((instance.id, alone))
                elif mine and ledger.refusal(mine) is None:
                    ledger.take(mine)
                    together += 1
        if refusals:
            yield _stuck(setup, service, refusals)
        elif together:
            yield from _serial(setup, service, together)


def _stuck(setup: Setup, service: Service, refusals: list[tuple[str, Refusal]]) -> Finding:
    """Instances that can never be upgraded."""
    last = [(who, why) for who, why in refusals if why.after <= 0]
    if last:
        who, why = last[0]
        text = (
            f"{who} is all that {why.pool} has: nothing would answer while it is replaced, and a"
            " deploy refuses that"
        )
        mend = "instances: 2 (or another host in the group, or deploy --allow-outage)"
        return _found(setup, service, "no-spare", text, mend)
    who, why = refusals[0]
    text = f"{who} can never leave: {why} (min_capacity {service.rollout.min_capacity}%)"
    mend = f"rollout: {{min_capacity: {100 * why.after // why.total}%}}, or more instances"
    return _found(setup, service, "min-capacity", text, mend)


def _serial(setup: Setup, service: Service, together: int) -> Iterator[Finding]:
    """Batches that begin more than capacity lets go; each host takes out one instance at a time."""
    largest = max(map(len, batches(service.hosts, service.rollout.serial)), default=0)
    wanted = largest * min(service.rollout.instances_at_once, service.instances)
    if wanted > together:
        text = (
            f"a batch of {largest} hosts wants {wanted} instances out at once, min_capacity"
            f" {service.rollout.min_capacity}% lets {together} go: the others wait in turn"
        )
        mend = f"rollout: {{serial: {max(1, together // service.rollout.instances_at_once)}}}"
        yield _found(setup, service, "serial-waits", text, mend)


def secrets(setup: Setup) -> Iterator[Finding]:
    """Secrets that this machine does not have."""
    for service in setup.services:
        for problem in setup.secrets.get(service.name, ()):
            yield _found(setup, service, "secret", problem, "the file or the variable it names")


def _found(setup: Setup, service: Service, code: str, text: str, mend: str) -> Finding:
    return found(code, service.name, text, mend, file=setup.inventory.path.name)


def _refs(service: Service, instance: Instance) -> list[ServerRef]:
    return [
        ServerRef(b.id, b.spec.backend, service.server_name(b.spec, instance))
        for b in service.balancers_of(instance.host)
    ]


def _weights(setup: Setup, service: Service) -> Mapping[ServerRef, int]:
    """What the balancers were configured with, as far as they could be asked."""
    return {
        ServerRef(proxy.balancer.id, proxy.balancer.spec.backend, name): server.iweight
        for proxy in setup.proxies
        if proxy.service.name == service.name
        for name, server in servers(proxy).items()
    }


def _ledger(service: Service, weights: Mapping[ServerRef, int]) -> Ledger:
    """All servers up, at their configured weights."""
    backends: dict[tuple[str, str], dict[str, ServerReading]] = {}
    records = []
    for host in service.hosts:
        for instance in service.instances_on(host):
            for ref in _refs(service, instance):
                weight = weights.get(ref, 100)
                records.append(ServerRecord(ref, weight, "ready", 1))
                up = _server(ref.server, weight)
                backends.setdefault((ref.balancer, ref.backend), {})[ref.server] = up
    own = {b.id for h in service.hosts for b in service.balancers_of(h) if b.spec.hosts == "self"}
    ledger = Ledger(pools(records, own), service.rollout.min_capacity)
    ledger.see({place: BackendReading(place[0], 1, up) for place, up in backends.items()})
    return ledger


def _server(name: str, weight: int) -> ServerReading:
    still = (0, 0, 0, 0, 0)
    return ServerReading(name, "", True, True, "ready", weight, weight, weight, *still)


POLICY_RULES: tuple[Callable[[Setup], Iterator[Finding]], ...] = (
    balancers,
    loopback,
    capacity,
    secrets,
)
