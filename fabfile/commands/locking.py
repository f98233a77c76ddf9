"""Locks: who holds them, and freezing a service."""

from __future__ import annotations

from invoke.context import Context

from fabfile.commands.flags import flagged
from fabfile.fleet import hosts_of


@flagged("service", "inventory", "json", name="status", default=True, help={"json": "JSON lines"})
def lock_status(context: Context, *, service: str, inventory: str, json: bool) -> None:
    """Who holds which lock, since when and why."""
    from fabfile.jobs import asked, locks

    locks.status(asked.inventory_of(inventory), service, hosts_of(context), json=json)


@flagged(
    "service", "lock_wait", "inventory",
    name="acquire",
    help={"message": "Why", "lock-wait": "Wait that long for other locks: 10m"},
)  # fmt: skip
def lock_acquire(
    context: Context, message: str = "", *, service: str, lock_wait: str, inventory: str
) -> None:
    """Freeze a service: nothing is deployed until `fab lock.release`."""
    from fabfile.jobs import asked, locks

    found = asked.inventory_of(inventory)
    locks.acquire(found, service, hosts_of(context), message=message, wait=lock_wait)


@flagged(
    "service", "force", "inventory",
    name="release",
    help={"force": "A rollout's locks too; nothing is mended"},
)  # fmt: skip
def lock_release(context: Context, *, service: str, force: bool, inventory: str) -> None:
    """End a freeze."""
    from fabfile.jobs import asked, locks

    locks.release(asked.inventory_of(inventory), service, hosts_of(context), force=force)
