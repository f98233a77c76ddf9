"""Bring hosts and balancers to what the templates say."""

from __future__ import annotations

from invoke.context import Context

from fabfile.commands.rolling import DEPLOY_HELP
from fabfile.fleet import fleet_task, hosts_of

PROVISION_HELP = {
    "version": "Which version instances that are not there yet begin with",
    "service": DEPLOY_HELP["service"],
    "inventory": DEPLOY_HELP["inventory"],
    "json": DEPLOY_HELP["json"],
    "drop": "Even if HAProxy's file there has backends that the new one has not",
}
APP_HELP = {name: text for name, text in PROVISION_HELP.items() if name != "drop"}
BALANCERS_HELP = {name: text for name, text in PROVISION_HELP.items() if name != "version"}


@fleet_task(name="all", default=True, help=PROVISION_HELP)
def provision_all(
    context: Context,
    version: str = "",
    service: str = "",
    inventory: str = "",
    json: bool = False,
    drop: bool = False,
) -> None:
    """Bring hosts and balancers to what the templates say; restarts nothing that is unchanged."""
    _provision(context, ("app", "balancers"), version, service, inventory, json=json, drop=drop)


@fleet_task(name="app", help=APP_HELP)
def provision_app(
    context: Context, version: str = "", service: str = "", inventory: str = "", json: bool = False
) -> None:
    """Only the compose projects."""
    _provision(context, ("app",), version, service, inventory, json=json)


@fleet_task(name="balancers", help=BALANCERS_HELP)
def provision_balancers(
    context: Context, service: str = "", inventory: str = "", json: bool = False, drop: bool = False
) -> None:
    """Only HAProxy's configuration."""
    _provision(context, ("balancers",), "", service, inventory, json=json, drop=drop)


def _provision(
    context: Context,
    parts: tuple[str, ...],
    version: str,
    service: str,
    inventory: str,
    *,
    json: bool,
    drop: bool = False,
) -> None:
    from fabfile import cli

    found = cli.inventory_of(inventory)
    chosen, hosts = cli.chosen(found, service, hosts_of(context))
    cli.provision(found, chosen, hosts, parts, version, drop=drop, json=json)
