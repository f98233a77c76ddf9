"""Which instances a person means by ``--instance`` and ``--server``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fabfile.errors import BadInput
from fabfile.inventory.mistakes import did_you_mean, shown
from fabfile.inventory.model import Instance, Service


def instances(
    service: Service,
    hosts: Iterable[str],
    names: Sequence[str] = (),
    servers: Sequence[str] = (),
) -> tuple[Instance, ...]:
    """Those on ``hosts`` that are called ``app_2`` or ``web1/app_2``, or by a server's name.

    Neither: all of them. Names may stand together with commas. Raises :class:`BadInput` with every
    name that means nothing.
    """
    there = [i for host in hosts for i in service.instances_on(host)]
    wanted: set[Instance] = set()
    wrong: list[str] = []
    for flag, given, called in (
        ("--instance", names, lambda i: {i.name, i.id}),
        ("--server", servers, lambda i: server_names(service, i)),
    ):
        for name in split(given):
            found = {i for i in there if name in called(i)}
            wanted |= found
            if not found:
                wrong.append(_unknown(flag, name, [n for i in there for n in called(i)]))
    if wrong:
        raise BadInput("\n".join(wrong))
    return tuple(i for i in there if i in wanted) if split([*names, *servers]) else tuple(there)


def server_names(service: Service, instance: Instance) -> set[str]:
    """What balancers call ``instance``, each with and without its backend."""
    found = set()
    for balancer in service.balancers_of(instance.host):
        name = service.server_name(balancer.spec, instance)
        found |= {name, f"{balancer.spec.backend}/{name}"}
    return found


def split(given: Iterable[str]) -> list[str]:
    """The names that stand in flags, with commas or in several."""
    return [name.strip() for one in given for name in one.split(",") if name.strip()]


def by_host(instances: Iterable[Instance]) -> dict[str, list[Instance]]:
    """``instances`` by their hosts, in their order."""
    found: dict[str, list[Instance]] = {}
    for instance in instances:
        found.setdefault(instance.host, []).append(instance)
    return found


def _unknown(flag: str, name: str, known: Sequence[str]) -> str:
    plain = sorted({one for one in known if "/" not in one})
    listed = ", ".join(plain[:8]) + (f" and {len(plain) - 8} more" if len(plain) > 8 else "")
    near = did_you_mean(name, sorted(set(known)))
    return f"{flag}: no {flag.strip('-')} {shown(name)} here{near or f': there are {listed}'}"
