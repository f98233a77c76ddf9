"""What changes what runs: deploy, plan and rollback."""

from __future__ import annotations

from collections.abc import Sequence

from invoke.context import Context
from invoke.exceptions import Exit

from fabfile.fleet import fleet_task, hosts_of

DEPLOY_HELP = {
    "version": "The image's tag",
    "service": "Which service; needed only where the inventory has several",
    "serial": "Hosts at a time: 2, 35%, or a list such as 1,35%",
    "drain-timeout": "How long running requests may take to end: 30s, 5m",
    "on-timeout": "What then: cut | abort | wait",
    "on-failure": "When instances fail: rollback | hold | continue",
    "reason": "Why, for the lock and the history",
    "lock-wait": "Wait that long for somebody else's lock: 10m",
    "allow-outage": "Go on where a backend would lose its last server",
    "without-balancer": "Go on without this balancer, which can't be asked and serves nobody",
    "allow-loss": "It may serve all the same: requests through it may be lost",
    "inventory": "Another hosts.yaml (or EVENKEEL_INVENTORY)",
    "json": "Events as JSON lines",
    "probe": "Send requests to the service's urls meanwhile, and draw a report",
    "dry-run": "Only say what would happen",
}


@fleet_task(help=DEPLOY_HELP, iterable=["without_balancer"])
def deploy(
    context: Context,
    version: str = "",
    service: str = "",
    serial: str = "",
    drain_timeout: str = "",
    on_timeout: str = "",
    on_failure: str = "",
    reason: str = "",
    lock_wait: str = "",
    allow_outage: bool = False,
    without_balancer: Sequence[str] | None = None,
    allow_loss: bool = False,
    inventory: str = "",
    json: bool = False,
    probe: bool = False,
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
        lock_wait=lock_wait,
        allow_outage=allow_outage,
        without_balancer=without_balancer or (),
        allow_loss=allow_loss,
    )
    if dry_run:
        code = cli.plan(found, wish, json=json)
    else:
        code = cli.deploy(found, wish, json=json, probe=probe)
    if code:  # an Exit of 0 would also keep the tasks that follow on the command line from running
        raise Exit(code=code)


@fleet_task(
    help={
        n: text
        for n, text in DEPLOY_HELP.items()
        if n not in ("dry-run", "probe", "reason", "lock-wait")
    },
    iterable=["without_balancer"],
)
def plan(
    context: Context,
    version: str = "",
    service: str = "",
    serial: str = "",
    drain_timeout: str = "",
    on_timeout: str = "",
    on_failure: str = "",
    allow_outage: bool = False,
    without_balancer: Sequence[str] | None = None,
    allow_loss: bool = False,
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
        without_balancer=without_balancer or (),
        allow_loss=allow_loss,
        inventory=inventory,
        json=json,
        dry_run=True,
    )


ROLLBACK_HELP = {
    "to": "The version to go back to; otherwise what each instance ran before",
    "service": DEPLOY_HELP["service"],
    "serial": DEPLOY_HELP["serial"],
    "lock-wait": DEPLOY_HELP["lock-wait"],
    "without-balancer": DEPLOY_HELP["without-balancer"],
    "allow-loss": DEPLOY_HELP["allow-loss"],
    "inventory": DEPLOY_HELP["inventory"],
    "json": DEPLOY_HELP["json"],
    "dry-run": DEPLOY_HELP["dry-run"],
}


@fleet_task(help=ROLLBACK_HELP, iterable=["without_balancer"])
def rollback(
    context: Context,
    to: str = "",
    service: str = "",
    serial: str = "",
    lock_wait: str = "",
    without_balancer: Sequence[str] | None = None,
    allow_loss: bool = False,
    inventory: str = "",
    json: bool = False,
    dry_run: bool = False,
) -> None:
    """Go back to what ran before: image, settings and compose block as they were on each host."""
    from fabfile import cli

    found = cli.inventory_of(inventory)
    wish = cli.wish(
        found,
        hosts_of(context),
        version=to,
        service=service,
        serial=serial,
        reason=f"rollback{' to ' + to if to else ''}",
        lock_wait=lock_wait,
        back=True,
        without_balancer=without_balancer or (),
        allow_loss=allow_loss,
    )
    code = (cli.plan if dry_run else cli.deploy)(found, wish, json=json, mode="rollback")
    if code:
        raise Exit(code=code)
