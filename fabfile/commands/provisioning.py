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
}


@fleet_task(name="all", default=True, help=PROVISION_HELP)
def provision_all(
    context: Context, version: str = "", service: str = "", inventory: str = "", json: bool = False
) -> None:
    """Bring hosts and balancers to what the templates say; restarts nothing that is unchanged."""
    _provision(context, ("app", "balancers"), version, service, inventory, json)


@fleet_task(name="app", help=PROVISION_HELP)
def provision_app(
    context: Context, version: str = "", service: str = "", inventory: str = "", json: bool = False
) -> None:
    """Only the compose projects."""
    _provision(context, ("app",), version, service, inventory, json)


@fleet_task(
    name="balancers", help={name: PROVISION_HELP[name] for name in ("service", "inventory", "json")}
)
def provision_balancers(
    context: Context, service: str = "", inventory: str = "", json: bool = False
) -> None:
    """Only HAProxy's configuration."""
    _provision(context, ("balancers",), "", service, inventory, json)


def _provision(
    context: Context,
    parts: tuple[str, ...],
    version: str,
    service: str,
    inventory: str,
    json: bool,
) -> None:
    from fabfile import cli

    found = cli.inventory_of(inventory)
    chosen, hosts = cli.chosen(found, service, hosts_of(context))
    cli.provision(found, chosen, hosts, parts, version, json=json)
