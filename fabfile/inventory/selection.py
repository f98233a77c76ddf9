"""Which service and which hosts a person means."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fabfile.errors import BadInput
from fabfile.inventory.mistakes import did_you_mean, shown
from fabfile.inventory.model import Host, Inventory, Service, Ssh
from fabfile.inventory.values import direct


def select_service(inventory: Inventory, name: str | None) -> Service:
    """The service called ``name``, or the only one there is."""
    services = inventory.services
    if name:
        if name not in services:
            near = did_you_mean(name, services)
            raise BadInput(f"--service: no service {shown(name)}{near}: {_known(services)}")
        return services[name]
    if len(services) == 1:
        return next(iter(services.values()))
    if not services:
        raise BadInput(f"{inventory.path} describes no service: docs/hosts-yaml.md shows how")
    raise BadInput(f"--service is needed, there are {len(services)}: {', '.join(services)}")


def select_hosts(
    inventory: Inventory, service: Service | None, names: Sequence[str]
) -> tuple[str, ...]:
    """The hosts that ``names`` (of ``-H``) stand for, in their order, each once.

    Without names: the hosts of ``service``, or all where there is none. A group of the inventory
    stands for its hosts, as far as they belong to ``service``. ``user@host:port`` comes back as
    it is, see :func:`direct_host`; a service has no such hosts. Raises :class:`BadInput` with
    every name that is wrong.
    """
    if not names:
        return service.hosts if service else inventory.groups["all"]
    wrong: list[str] = []
    chosen: dict[str, None] = {}
    for name in filter(None, (name.strip() for name in names)):
        found, trouble = _hosts_of(inventory, service, name)
        chosen.update(dict.fromkeys(found))
        if trouble:
            wrong.append(f"-H: {trouble}")
    if not chosen and not wrong:
        wrong.append("-H: names no host")
    if wrong:
        raise BadInput("\n".join(dict.fromkeys(wrong)))
    return tuple(chosen)


def _hosts_of(
    inventory: Inventory, service: Service | None, name: str
) -> tuple[tuple[str, ...], str | None]:
    """The hosts that one name stands for, and what is wrong with it."""
    if name in inventory.hosts:
        if service is None or name in service.hosts:
            return (name,), None
        return (), f"{name} is not one of the hosts of {service.name} ({_known(service.hosts)})"
    if name in inventory.groups:
        group = inventory.groups[name]
        if service is None:
            return group, None
        inside = tuple(host for host in group if host in service.hosts)
        return inside, None if inside else f"no host of group {name} runs {service.name}"
    if direct(name):
        if service is None:
            return (name,), None
        return (), f"{name} is not one of the hosts of {service.name}: use a name of the inventory"
    near = did_you_mean(name, [*inventory.hosts, *inventory.groups])
    near = near or f": {_known(inventory.hosts)}; or user@host:port"
    return (), f"no host {shown(name)} in {inventory.path.name}{near}"


def direct_host(text: str) -> Host | None:
    """A host for ``user@host:port`` that no inventory knows; ``None`` for anything else."""
    parts = direct(text)
    if parts is None:
        return None
    user, address, port = parts
    return Host(name=text, address=address, internal=address, ssh=Ssh(user=user, port=port))


def _known(names: Collection[str]) -> str:
    """The names, as many as fit on a line."""
    listed = list(names)
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return f"there are {', '.join(listed[:8])}{more}" if listed else "there is none"
