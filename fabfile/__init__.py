"""What ``fab`` runs: the tasks that touch hosts.

Each task reads its flags, calls what does the work, and turns the outcome into an exit code.
Everything heavy is imported inside the tasks, so that ``fab --list`` stays quick.
"""

from __future__ import annotations

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from fabfile.fleet import fleet_task, hosts_of, run_remainder

DEPLOY_HELP = {
    "version": "The image's tag",
    "service": "Which service; needed only where the inventory has several",
    "serial": "Hosts at a time: 2, 35%, or a list such as 1,35%",
    "drain-timeout": "How long running requests may take to end: 30s, 5m",
    "on-timeout": "What then: cut | abort | wait",
    "on-failure": "When instances fail: rollback | hold | continue",
    "reason": "Why, for the lock and the history",
    "allow-outage": "Go on where a backend would lose its last server",
    "inventory": "Another hosts.yaml (or EVENKEEL_INVENTORY)",
    "json": "Events as JSON lines",
    "dry-run": "Only say what would happen",
}


@fleet_task(help=DEPLOY_HELP)
def deploy(
    context: Context,
    version: str = "",
    service: str = "",
    serial: str = "",
    drain_timeout: str = "",
    on_timeout: str = "",
    on_failure: str = "",
    reason: str = "",
    allow_outage: bool = False,
    inventory: str = "",
    json: bool = False,
    dry_run: bool = False,
) -> None:
    """Upgrade a service: fab -H web1,web2 deploy --version 0.0.2."""
    from fabfile import cli

    found = cli.inventory_of(inventory)
    wish = cli.wish(
        found,
        hosts_of(context),
        version=version,
        service=service,
        serial=serial,
        drain_timeout=drain_timeout,
        on_timeout=on_timeout,
        on_failure=on_failure,
        reason=reason,
        allow_outage=allow_outage,
    )
    code = cli.plan(found, wish, json=json) if dry_run else cli.deploy(found, wish, json=json)
    if code:  # an Exit of 0 would also keep the tasks that follow on the command line from running
        raise Exit(code=code)


@fleet_task(help={n: text for n, text in DEPLOY_HELP.items() if n not in ("dry-run", "reason")})
def plan(
    context: Context,
    version: str = "",
    service: str = "",
    serial: str = "",
    drain_timeout: str = "",
    on_timeout: str = "",
    on_failure: str = "",
    allow_outage: bool = False,
    inventory: str = "",
    json: bool = False,
) -> None:
    """Say what a deploy would do now: batches, steps, capacity left. Changes nothing."""
    deploy.body(
        context,
        version=version,
        service=service,
        serial=serial,
        drain_timeout=drain_timeout,
        on_timeout=on_timeout,
        on_failure=on_failure,
        allow_outage=allow_outage,
        inventory=inventory,
        json=json,
        dry_run=True,
    )


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


@task
def uptime(context: Context) -> None:
    """How long a host has been up: fab -H web1,web2 uptime."""
    context.run("uptime")


@fleet_task()
def run(context: Context) -> None:
    """Run the command after -- on each host of -H: fab -H web1,web2 run -- uptime."""
    run_remainder(context)


namespace = Collection(deploy, plan, uptime, run)
namespace.add_collection(
    Collection("provision", all=provision_all, app=provision_app, balancers=provision_balancers)
)
