"""Locks: who holds them, and freezing a service."""

from __future__ import annotations

from invoke.context import Context

from fabfile.commands.rolling import DEPLOY_HELP
from fabfile.fleet import fleet_task, hosts_of

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
