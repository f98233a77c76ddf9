"""Between rollouts: look into containers and balancers, take servers out and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from invoke.context import Context

from fabfile.commands.flags import end, flagged
from fabfile.fleet import RemainderTask, hosts_of, remainder_of

EACH = {"json": "One JSON object a line"}


@flagged(
    "instance", "service", "inventory",
    help={
        "follow": "Go on with what comes, until Ctrl-C",
        "since": "Only what is younger: 10m, or 2026-01-31T14:00:00Z",
        "tail": "So many last lines of each instance, or all (100; with --since all)",
    },
)  # fmt: skip
def logs(
    context: Context,
    follow: bool = False,
    since: str = "",
    tail: str = "",
    *,
    instance: Sequence[str] | None,
    service: str,
    inventory: str,
) -> None:
    """The logs of all instances, in order of time: fab -H web1,web2 logs --since 10m."""
    from fabfile.jobs import asked, everyday

    found, hosts, names = asked.inventory_of(inventory), hosts_of(context), instance or ()
    end(everyday.show_logs(found, hosts, service, names, follow=follow, since=since, tail=tail))


@flagged(
    "instance", "service", "inventory",
    name="exec",
    klass=RemainderTask,
    help={"command": "For the container's shell; or after --"},
)  # fmt: skip
def exec_(
    context: Context,
    command: str = "",
    *,
    instance: Sequence[str] | None,
    service: str,
    inventory: str,
) -> None:
    """Run a command in each instance's container: fab -H web1 exec -- cat /etc/hostname."""
    from fabfile.jobs import asked, everyday

    command = command or remainder_of(context)
    found = asked.inventory_of(inventory)
    end(everyday.run_inside(found, hosts_of(context), service, instance or (), command))


@flagged("service", "inventory", "json", help=EACH)
def ps(context: Context, *, service: str, inventory: str, json: bool) -> None:
    """Every container of the service: version, digest, state, health, uptime, ports."""
    from fabfile.jobs import asked, everyday

    end(everyday.ps(asked.inventory_of(inventory), hosts_of(context), service, json=json))


@flagged("service", "inventory", "json", help=EACH)
def servers(context: Context, *, service: str, inventory: str, json: bool) -> None:
    """What every balancer says of the service's servers, in words."""
    from fabfile.jobs import asked, everyday

    end(everyday.servers(asked.inventory_of(inventory), hosts_of(context), service, json=json))


@flagged(
    "instance", "server", "reason", "drain_timeout", "on_timeout", "lock_wait", "allow_outage",
    "service", "inventory", "json",
)  # fmt: skip
def drain(
    context: Context,
    *,
    instance: Sequence[str] | None,
    server: Sequence[str] | None,
    service: str,
    inventory: str,
    **flags: Any,
) -> None:
    """Take instances out of rotation everywhere until `fab enable`: fab -H web1 drain."""
    from fabfile.jobs import asked, everyday

    found, hosts = asked.inventory_of(inventory), hosts_of(context)
    end(everyday.drain(found, hosts, service, instance or (), server or (), **flags))


@flagged("instance", "server", "lock_wait", "service", "inventory", "json")
def enable(
    context: Context,
    *,
    instance: Sequence[str] | None,
    server: Sequence[str] | None,
    service: str,
    inventory: str,
    **flags: Any,
) -> None:
    """Back into rotation at the weight from before; without a choice, all that was drained."""
    from fabfile.jobs import asked, everyday

    found, hosts = asked.inventory_of(inventory), hosts_of(context)
    end(everyday.enable(found, hosts, service, instance or (), server or (), **flags))


@flagged(
    "lock_wait", "service", "inventory", "json",
    positional=["what"],
    help={"what": "on, or off", "message": "Why, for whoever looks at `inv status`"},
)  # fmt: skip
def maintenance(
    context: Context, what: str, message: str = "", *, service: str, inventory: str, **flags: Any
) -> None:
    """A 503 page for everybody, from every balancer: fab maintenance on, fab maintenance off."""
    from fabfile.jobs import asked, everyday

    found, hosts = asked.inventory_of(inventory), hosts_of(context)
    end(everyday.maintenance(found, hosts, service, what, message=message, **flags))
