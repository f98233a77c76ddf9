"""What is left of an unfinished rollout: its journal on all hosts, its containers, its servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fabfile.balancers.model import BackendReading, ServerRecord, ServerRef
from fabfile.drivers import journals
from fabfile.drivers.balancers import Pool
from fabfile.remote import records, state
from fabfile.rollout.plan import Plan
from fabfile.rollout.recovery import FoundInstance, FoundServer, Journal
from fabfile.runtimes.facts import HostFacts


@dataclass(frozen=True)
class Unfinished:
    """A rollout that never ended, as all hosts together know it."""

    plan: Plan
    number: int
    hosts: Mapping[str, state.Unfinished]
    """What each host that could be asked knows of it."""
    damage: tuple[journals.Damage, ...] = ()
    """Files of it that are not as they were written."""
    over: frozenset[str] = frozenset()
    """Hosts on which it ended: others were away when it did."""


def instances(unfinished: Unfinished, facts: Mapping[str, HostFacts]) -> dict[str, FoundInstance]:
    """Its instances on the hosts that ``facts`` speak of."""
    found = {}
    for target in unfinished.plan.targets:
        instance = target.instance
        if instance.host not in facts:
            continue
        fact = facts[instance.host]
        name = records.of_instance(instance.service, instance.name)
        container = fact.container(instance)
        release = container.release if container else ""
        found[instance.id] = FoundInstance(
            release or None,
            container is not None and container.running,
            _record(unfinished, instance.host, name),
            settled=fact.current.get(instance.name, "") == release,
            container=container.id if container else "",
        )
    return found


def servers(
    unfinished: Unfinished, readings: Mapping[str, BackendReading], pool: Pool
) -> dict[ServerRef, FoundServer]:
    """Its servers on the balancers of ``pool``."""
    plan = unfinished.plan
    refs = [record.ref for record in plan.baseline]
    refs += [ref for target in plan.targets for ref in target.refs]
    found = {}
    for ref in dict.fromkeys(refs):
        if ref.balancer not in pool.hands:
            continue
        host = pool.hands[ref.balancer].balancer.host
        reading = readings.get(ref.balancer)
        name = records.of_server(ref.backend, ref.server)
        found[ref] = FoundServer(
            _record(unfinished, host, name),
            reading.servers.get(ref.server) if reading else None,
            _undo(unfinished, host, name, ref),
        )
    return found


def ended_elsewhere(
    plan: Plan, unfinished: Unfinished, instances: Mapping[str, FoundInstance]
) -> Plan:
    """The rollout ended without some hosts: elsewhere no version changes any more, and only what
    those hosts still have recorded is put back."""
    if not unfinished.over:
        return plan
    targets = []
    for target in plan.targets:
        found = instances.get(target.instance.id)
        if target.instance.host not in unfinished.over or found is None:
            targets.append(target)
            continue
        known = (target.wanted, target.earlier, target.runs)
        runs = next((r for r in known if r is not None and r.id == found.release), None)
        names = {records.of_server(ref.backend, ref.server) for ref in target.refs}
        is_open = any(names & one.undo.keys() for one in unfinished.hosts.values())
        kept = replace(target, wanted=runs or target.wanted, earlier=runs or target.earlier)
        targets.append(replace(kept, change=target.change and is_open and runs is not None))
    return replace(plan, targets=tuple(targets))


def _record(unfinished: Unfinished, host: str, name: str) -> Journal:
    if host not in unfinished.hosts:
        return "unknown"
    known = unfinished.hosts[host]
    if name in known.undo:
        return "open"
    if name in known.ahead:
        return "ahead"
    return "done" if name in known.done else "absent"


def _undo(unfinished: Unfinished, host: str, name: str, ref: ServerRef) -> ServerRecord | None:
    """The open record of ``ref`` as its host has it; ``None`` where that can't be read."""
    known = unfinished.hosts.get(host)
    return journals.server_record(known.undo.get(name, ""), ref) if known else None
