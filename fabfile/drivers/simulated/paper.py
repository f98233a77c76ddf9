"""A plan that nobody was asked for: what a rollout would be if the inventory were all there is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fabfile.balancers.model import ServerRecord, ServerRef
from fabfile.inventory.model import Balancer, Instance, Service
from fabfile.rollout.batches import batches
from fabfile.rollout.plan import Plan, Release, Target

ASSUMED_WEIGHT = 100


def plan_on_paper(
    service: Service,
    version: str,
    earlier: str | None,
    *,
    hosts: Sequence[str] | None = None,
) -> Plan:
    """Every instance on ``hosts`` (all when ``None``) goes from ``earlier`` to ``version``.

    Nothing is contacted: every server is taken for ready at weight 100. ``earlier`` ``None``: there
    are no containers yet.
    """
    chosen = tuple(service.hosts if hosts is None else hosts)
    new = Release(f"{version}-planned", version, "")
    old = None if earlier is None else Release(f"{earlier}-assumed", earlier, "")
    before = {host: service.balancers_of(host) for host in service.hosts}
    instances = {host: tuple(service.instances_on(host)) for host in service.hosts}
    baseline = {
        instance: _records(service, instance, before[host])
        for host in service.hosts
        for instance in instances[host]
    }
    return Plan(
        id="on-paper",
        service=service.name,
        version=version,
        digest="",
        owner="",
        reason="",
        batches=batches(chosen, service.rollout.serial),
        targets=tuple(
            Target(instance, new, old, baseline[instance])
            for host in chosen
            for instance in instances[host]
        ),
        baseline=tuple(record for records in baseline.values() for record in records),
        summed=tuple(
            balancer.id
            for host in service.hosts
            for balancer in before[host]
            if balancer.spec.hosts == "self"
        ),
        policy=service.rollout,
        drain=service.drain,
        chosen=hosts is not None,
        hooks=service.hooks,
    )


def _records(
    service: Service, instance: Instance, balancers: Iterable[Balancer]
) -> tuple[ServerRecord, ...]:
    return tuple(
        ServerRecord(
            ServerRef(
                balancer.id, balancer.spec.backend, service.server_name(balancer.spec, instance)
            ),
            ASSUMED_WEIGHT,
            "ready",
            1,
        )
        for balancer in balancers
    )
