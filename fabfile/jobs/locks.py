"""`fab lock.status`, `lock.acquire`, `lock.release`."""

from __future__ import annotations

from collections.abc import Sequence
from json import dumps

from fabfile.errors import BadInput
from fabfile.inventory.model import Inventory, Service
from fabfile.inventory.values import parse_duration
from fabfile.jobs.asked import say, with_hosts
from fabfile.remote.pool import Remotes


def status(inventory: Inventory, service: str, names: Sequence[str], *, json: bool) -> None:
    """Print who holds what."""
    from fabfile.drivers import freeze
    from fabfile.drivers.locks import describe

    def show(chosen: Service, hosts: tuple[str, ...], remotes: Remotes) -> None:
        locks = freeze.look(chosen, hosts, remotes)
        for lock in locks:
            facts = {"host": lock.host, "key": lock.held.key, "owner": lock.held.owner}
            facts |= {"since": lock.held.since, "age": str(lock.held.age)}
            facts |= {"damaged": lock.held.damaged} if lock.held.damaged else {}
            text = f"{lock.host}  {lock.held.key}: {describe(lock.held)}"
            say(dumps(facts | dict(lock.held.facts)) if json else text)
        if not locks and not json:
            say("nothing is locked")

    with_hosts(inventory, service, names, show)


def acquire(
    inventory: Inventory, service: str, names: Sequence[str], *, message: str, wait: str
) -> None:
    """Freeze a service."""
    from fabfile.drivers import freeze

    if not message:
        raise BadInput('--message is needed: fab lock.acquire -m "freeze for the sale"')
    seconds = parse_duration(wait, "--lock-wait") if wait else 0.0

    def take(chosen: Service, hosts: tuple[str, ...], remotes: Remotes) -> None:
        freeze.freeze(chosen, hosts, remotes, message, seconds)
        say(f"{chosen.name} is frozen on {', '.join(hosts)}: fab lock.release ends it")

    with_hosts(inventory, service, names, take)


def release(inventory: Inventory, service: str, names: Sequence[str], *, force: bool) -> None:
    """End a freeze."""
    from fabfile.drivers import freeze

    def give_back(chosen: Service, hosts: tuple[str, ...], remotes: Remotes) -> None:
        released = freeze.thaw(chosen, hosts, remotes, force=force)
        say(f"released {len(released)} locks" if released else "nothing was locked")

    with_hosts(inventory, service, names, give_back)
