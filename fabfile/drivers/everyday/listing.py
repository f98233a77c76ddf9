"""What there is now: every container of a service, every server of its balancers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fabfile.balancers.haproxy import observe, shell
from fabfile.balancers.haproxy.decode import Decoded, decoded
from fabfile.checks.fleet import look, read
from fabfile.checks.fleet.listing import Listed
from fabfile.drivers.balancers import backend_key
from fabfile.drivers.preflight import everywhere, failed, reachable
from fabfile.errors import EvenkeelError
from fabfile.inventory.model import Balancer, Service
from fabfile.remote import drained
from fabfile.remote.base import Command, Result
from fabfile.remote.pool import Remotes

TIMEOUT = 20.0
"""Deadline in seconds of one host's answer."""


def containers(
    service: Service, hosts: Sequence[str], remotes: Remotes
) -> tuple[list[Listed], list[str]]:
    """Instances first, in their order, then what runs beside them; and what could not be asked."""
    there, problems = reachable(remotes, hosts)
    scripts = dict.fromkeys(there, look.containers_script())
    found: list[Listed] = []
    for host, result in everywhere(remotes, scripts, "docker ps", TIMEOUT).items():
        if not result.ok:
            problems.append(failed(result))
            continue
        now, trouble, every = read.containers(result.stdout)
        if trouble:
            problems.append(f"{host}: Docker does not answer: {trouble}")
            continue
        mine = [c for c in every if c.project == service.project]
        ours = [instance.name for instance in service.instances_on(host)]
        others = sorted({c.service for c in mine} - set(ours))
        for name in [*ours, *others]:
            of_it = sorted((c for c in mine if c.service == name), key=lambda c: not c.running)
            for container in (*of_it,) or (None,):
                up = now - container.started if container and container.running else None
                found.append(Listed(host, name, container, up))
    return found, problems


def servers(
    service: Service, hosts: Sequence[str], remotes: Remotes, *, whole: bool
) -> tuple[list[Decoded], list[str]]:
    """Every server of each of the service's balancers; not ``whole``: those of ``hosts`` alone.

    What could not be asked is told beside it.
    """
    balancers = {b.id: b for host in hosts for b in service.balancers_of(host)}
    there, problems = reachable(remotes, (b.host for b in balancers.values()))
    asked = {
        name: (b, drained.show() + observe.poll_script(b.spec, [b.spec.backend]))
        for name, b in balancers.items()
        if b.host in there
    }
    found: list[Decoded] = []
    running = {}
    for name, (balancer, script) in asked.items():
        command = Command(script, timeout=TIMEOUT, label="ask HAProxy")
        running[name] = remotes.start(balancer.host, command)
    for name, waiting in running.items():
        balancer = balancers[name]
        mine = {
            service.server_name(balancer.spec, i) for h in hosts for i in service.instances_on(h)
        }
        try:
            all_of_it = _servers(balancer, waiting.wait())
        except EvenkeelError as error:
            problems.append(str(error))
            continue
        found += [one for one in all_of_it if whole or one.server in mine]
    return found, problems


def _servers(balancer: Balancer, result: Result) -> list[Decoded]:
    problem = shell.problem(balancer.id, result)
    if problem is not None:
        raise problem
    if not result.ok:
        raise EvenkeelError(failed(result))
    records, _, _ = result.stdout.partition("@evenkeel ")
    told = {record.name: f"drained {record.told}" for record in drained.parse(records)}
    poll = observe.parse_poll(result.stdout, where=balancer.id)
    found = decoded(balancer.id, balancer.spec.backend, poll)
    key = backend_key(balancer)
    return [
        replace(one, drained=told.get(f"{key}.{one.server}", "") if one.admin != "ready" else "")
        for one in found
    ]
