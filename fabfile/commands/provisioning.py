"""Bring hosts and balancers to what the templates say."""

from __future__ import annotations

from typing import Any

from invoke.context import Context

from fabfile.commands.flags import flagged
from fabfile.fleet import hosts_of

VERSION = {"version": "Which version instances that are not there yet begin with"}
DROP = {"drop": "Even if HAProxy's file there has backends that the new one has not"}


@flagged(
    "version", "service", "inventory", "json", name="all", default=True, help={**VERSION, **DROP}
)
def provision_all(context: Context, drop: bool = False, **flags: Any) -> None:
    """Bring hosts and balancers to what the templates say; restarts nothing that is unchanged."""
    _provision(context, ("app", "balancers"), drop=drop, **flags)


@flagged("version", "service", "inventory", "json", name="app", help=VERSION)
def provision_app(context: Context, **flags: Any) -> None:
    """Only the compose projects."""
    _provision(context, ("app",), **flags)


@flagged("service", "inventory", "json", name="balancers", help=DROP)
def provision_balancers(context: Context, drop: bool = False, **flags: Any) -> None:
    """Only HAProxy's configuration."""
    _provision(context, ("balancers",), drop=drop, **flags)


def _provision(
    context: Context,
    parts: tuple[str, ...],
    *,
    service: str,
    inventory: str,
    json: bool,
    version: str = "",
    drop: bool = False,
) -> None:
    from fabfile.jobs import asked, rollouts

    found = asked.inventory_of(inventory)
    chosen, hosts = asked.chosen(found, service, hosts_of(context))
    rollouts.provision(found, chosen, hosts, parts, version, drop=drop, json=json)
