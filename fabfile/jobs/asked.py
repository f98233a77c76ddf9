"""What a person asked for: inventory, service, hosts and wishes, out of flags."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from fabfile.drivers.wish import Wish, with_flags
from fabfile.errors import BadInput
from fabfile.inventory import loader
from fabfile.inventory.model import Inventory, Service
from fabfile.inventory.selection import select_hosts, select_service
from fabfile.inventory.values import parse_duration, parse_serial, parse_version
from fabfile.remote.pool import Remotes


def inventory_of(flag: str) -> Inventory:
    """The inventory that ``--inventory``, the environment or the folder says."""
    return loader.load(loader.here(flag))


def chosen(
    inventory: Inventory, service: str, names: Sequence[str]
) -> tuple[Service, tuple[str, ...]]:
    """The service and the hosts a person means."""
    found = select_service(inventory, service or None)
    return found, select_hosts(inventory, found, names)


def with_hosts(
    inventory: Inventory,
    service: str,
    names: Sequence[str],
    do: Callable[[Service, tuple[str, ...], Remotes], None],
) -> None:
    """Let ``do`` work on the hosts a person means, with connections that are closed again."""
    found, hosts = chosen(inventory, service, names)
    with Remotes(inventory) as remotes:
        do(found, hosts, remotes)


def wish(
    inventory: Inventory,
    names: Sequence[str],
    *,
    version: str,
    service: str = "",
    serial: str = "",
    drain_timeout: str = "",
    on_timeout: str = "",
    on_failure: str = "",
    reason: str = "",
    allow_outage: bool = False,
    lock_wait: str = "",
    back: bool = False,
    without_balancer: Sequence[str] | None = None,
    allow_loss: bool = False,
) -> Wish:
    """What the flags of ``fab deploy`` (``back``: rollback) ask for.

    Raises :class:`BadInput` for any mistake.
    """
    if not version and not back:
        raise BadInput("--version is needed: fab deploy --version 1.2.3")
    found, hosts = chosen(inventory, service, names)
    refuse_unbuilt(inventory, found)
    changed = with_flags(
        found,
        drain={
            "timeout": parse_duration(drain_timeout, "--drain-timeout") if drain_timeout else None,
            "on_timeout": one_of(on_timeout, "--on-timeout", ("cut", "abort", "wait")),
        },
        policy={
            "serial": parse_serial(serial) if serial else None,
            "on_failure": one_of(on_failure, "--on-failure", ("rollback", "hold", "continue")),
        },
    )
    wait = parse_duration(lock_wait, "--lock-wait") if lock_wait else 0.0
    wanted = parse_version(version, "--to" if back else "--version") if version else ""
    changed = left_out(changed, without_balancer or (), allow_loss=allow_loss)
    return Wish(changed, wanted, hosts, bool(names), reason, allow_outage, wait, allow_loss)


def left_out(service: Service, flags: Sequence[str], *, allow_loss: bool) -> Service:
    """``service`` without the balancers that ``--without-balancer`` names.

    Raises :class:`BadInput` for a name that is none of its balancers.
    """
    from fabfile.drivers import without

    names = without.split(flags)
    if allow_loss and not names:
        raise BadInput("--allow-loss says nothing without --without-balancer NAME")
    return replace(service, without=without.named(service, names))


def refuse_unbuilt(inventory: Inventory, service: Service) -> None:
    """Raise :class:`BadInput` for what hosts.yaml may say already, but no rollout does yet.

    Passing it over in silence would be worse.
    """
    policy = service.rollout
    asked = {
        f"rollout.strategy: {policy.strategy}": policy.strategy != "rolling",
        f"rollout.order: {policy.order}": policy.order != "stop-first",
        "balancers: nginx": any(spec.kind == "nginx" for spec in service.balancers),
    }
    wanted = ", ".join(name for name, is_asked in asked.items() if is_asked)
    if wanted:
        raise BadInput(f"{inventory.path}: services.{service.name}: not built yet: {wanted}")


def one_of(value: str, flag: str, allowed: Sequence[str]) -> str | None:
    """``value``, if it is one of ``allowed``; ``None`` where the flag was not given."""
    if not value:
        return None
    if value not in allowed:
        raise BadInput(f"{flag}: {value!r} is none of {', '.join(allowed)}")
    return value


def say(line: str) -> None:
    """One line on stdout."""
    sys.stdout.write(line + "\n")
