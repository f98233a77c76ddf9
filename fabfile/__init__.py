"""What ``fab`` runs: the tasks that touch hosts.

Each task reads its flags, calls what does the work, and turns the outcome into an exit code.
Everything heavy is imported inside the tasks, so that ``fab --list`` stays quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

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
    code = (cli.plan if dry_run else cli.deploy)(found, wish, json=json, back=True)
    if code:
        raise Exit(code=code)


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


RECOVER_HELP = {
    "service": DEPLOY_HELP["service"],
    "rollout": "Which one, where several are unfinished",
    "force": "Take its locks over even from a controller that still gives signs of life",
    "drop": "Give up this host or balancer, which is gone for good, and all that is recorded of it",
    "without-balancer": DEPLOY_HELP["without-balancer"],
    "allow-loss": DEPLOY_HELP["allow-loss"],
    "dry-run": "Only say what was found and what would be done",
    "inventory": DEPLOY_HELP["inventory"],
    "json": DEPLOY_HELP["json"],
}


@fleet_task(
    help={
        **RECOVER_HELP,
        "before-rollout": "Where nobody knows whether that hook is done: again | done",
    },
    iterable=["drop", "without_balancer"],
)
def resume(
    _context: Context,
    service: str = "",
    rollout: str = "",
    force: bool = False,
    drop: Sequence[str] | None = None,
    without_balancer: Sequence[str] | None = None,
    allow_loss: bool = False,
    dry_run: bool = False,
    inventory: str = "",
    json: bool = False,
    before_rollout: str = "",
) -> None:
    """Finish a rollout whose controller died: every selected instance on the planned release."""
    gone = {"drop": drop, "without_balancer": without_balancer, "allow_loss": allow_loss}
    how = {"rollout": rollout, "force": force, "dry": dry_run, "json": json}
    _recover("resume", service, inventory, **how, **gone, before_rollout=before_rollout)


@fleet_task(help=RECOVER_HELP, iterable=["drop", "without_balancer"])
def abort(
    _context: Context,
    service: str = "",
    rollout: str = "",
    force: bool = False,
    drop: Sequence[str] | None = None,
    without_balancer: Sequence[str] | None = None,
    allow_loss: bool = False,
    dry_run: bool = False,
    inventory: str = "",
    json: bool = False,
) -> None:
    """Undo a rollout whose controller died: every instance on its own earlier release."""
    gone = {"drop": drop, "without_balancer": without_balancer, "allow_loss": allow_loss}
    how = {"rollout": rollout, "force": force, "dry": dry_run, "json": json}
    _recover("abort", service, inventory, **how, **gone)


@fleet_task(help=RECOVER_HELP, iterable=["drop", "without_balancer"])
def repair(
    _context: Context,
    service: str = "",
    rollout: str = "",
    force: bool = False,
    drop: Sequence[str] | None = None,
    without_balancer: Sequence[str] | None = None,
    allow_loss: bool = False,
    dry_run: bool = False,
    inventory: str = "",
    json: bool = False,
) -> None:
    """Put weights and states back after a rollout whose controller died; changes no version."""
    gone = {"drop": drop, "without_balancer": without_balancer, "allow_loss": allow_loss}
    how = {"rollout": rollout, "force": force, "dry": dry_run, "json": json}
    _recover("repair", service, inventory, **how, **gone)


def _recover(
    mode: Literal["resume", "abort", "repair"], service: str, inventory: str, **flags: Any
) -> None:
    from fabfile import cli

    given = {name: value for name, value in flags.items() if value is not None}
    code = cli.recover(cli.inventory_of(inventory), service, mode, **given)
    if code:
        raise Exit(code=code)


HISTORY_HELP = {
    "limit": "How many, the newest first",
    "service": DEPLOY_HELP["service"],
    "inventory": DEPLOY_HELP["inventory"],
    "json": "One JSON object a line",
}


@fleet_task(help=HISTORY_HELP)
def history(
    _context: Context, limit: str = "20", service: str = "", inventory: str = "", json: bool = False
) -> None:
    """What was rolled out before, by whom, and how it ended; from the hosts' own records."""
    from fabfile import cli

    cli.history(cli.inventory_of(inventory), service, limit=limit, rollout="", json=json)


@fleet_task(
    positional=["rollout"],
    help={
        "rollout": "Its id, as `fab history` shows it",
        **{name: text for name, text in HISTORY_HELP.items() if name != "limit"},
    },
)
def show(
    _context: Context, rollout: str, service: str = "", inventory: str = "", json: bool = False
) -> None:
    """One rollout in full: how each instance ended, and why."""
    from fabfile import cli

    cli.history(cli.inventory_of(inventory), service, limit="1", rollout=rollout, json=json)


LOCK_HELP = {"service": DEPLOY_HELP["service"], "inventory": DEPLOY_HELP["inventory"]}


@fleet_task(name="status", default=True, help={**LOCK_HELP, "json": "JSON lines"})
def lock_status(
    context: Context, service: str = "", inventory: str = "", json: bool = False
) -> None:
    """Who holds which lock, since when and why."""
    from fabfile import cli

    cli.lock_status(cli.inventory_of(inventory), service, hosts_of(context), json=json)


@fleet_task(
    name="acquire",
    help={**LOCK_HELP, "message": "Why", "lock-wait": "Wait that long for other locks: 10m"},
)
def lock_acquire(
    context: Context, message: str = "", service: str = "", lock_wait: str = "", inventory: str = ""
) -> None:
    """Freeze a service: nothing is deployed until `fab lock.release`."""
    from fabfile import cli

    found = cli.inventory_of(inventory)
    cli.lock_acquire(found, service, hosts_of(context), message=message, wait=lock_wait)


@fleet_task(name="release", help={**LOCK_HELP, "force": "A rollout's locks too; nothing is mended"})
def lock_release(
    context: Context, service: str = "", force: bool = False, inventory: str = ""
) -> None:
    """End a freeze."""
    from fabfile import cli

    cli.lock_release(cli.inventory_of(inventory), service, hosts_of(context), force=force)


@task
def uptime(context: Context) -> None:
    """How long a host has been up: fab -H web1,web2 uptime."""
    context.run("uptime")


@fleet_task()
def run(context: Context) -> None:
    """Run the command after -- on each host of -H: fab -H web1,web2 run -- uptime."""
    run_remainder(context)


namespace = Collection(deploy, plan, rollback, resume, abort, repair, history, show, uptime, run)
namespace.add_collection(
    Collection("provision", all=provision_all, app=provision_app, balancers=provision_balancers)
)
namespace.add_collection(
    Collection("lock", status=lock_status, acquire=lock_acquire, release=lock_release)
)
