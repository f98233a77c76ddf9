"""Locks by hand: see them, take them for a while, give them back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fabfile.drivers.balancers import backend_key
from fabfile.drivers.identity import new_id, whoami
from fabfile.drivers.locks import FREEZE, Claim, Locks
from fabfile.drivers.preflight import connect, everywhere, failed, refuse
from fabfile.errors import Locked
from fabfile.inventory.model import Service
from fabfile.remote import state
from fabfile.remote.pool import Remotes
from fabfile.runtimes import compose

LOOK_TIMEOUT = 30.0
"""Deadline in seconds."""


@dataclass(frozen=True)
class Lock:
    """One lock of a service, on one host."""

    host: str
    held: state.Held


def claims(service: Service, hosts: Sequence[str]) -> list[Claim]:
    """Everything a rollout of ``service`` on ``hosts`` would lock."""
    found = [Claim(host, compose.project_key(service)) for host in hosts]
    found += [Claim(b.host, backend_key(b)) for host in hosts for b in service.balancers_of(host)]
    return list(dict.fromkeys(found))


def look(service: Service, hosts: Sequence[str], remotes: Remotes) -> list[Lock]:
    """The locks that are held now. Raises :class:`PreflightFailed` for a host out of reach."""
    mine = claims(service, hosts)
    keys: dict[str, set[str]] = {}
    for claim in mine:
        keys.setdefault(claim.host, set()).add(claim.key)
    connect(remotes, keys)
    results = everywhere(remotes, dict.fromkeys(keys, state.locks()), "look at locks", LOOK_TIMEOUT)
    refuse([failed(result) for result in results.values() if not result.ok])
    return [
        Lock(host, held)
        for host, result in results.items()
        for held in state.parse_locks(result.stdout)
        if held.key in keys[host]
    ]


def freeze(
    service: Service, hosts: Sequence[str], remotes: Remotes, message: str, wait: float
) -> None:
    """Take every lock until :func:`thaw`. Raises :class:`Locked` when somebody else holds one."""
    mine = claims(service, hosts)
    connect(remotes, [claim.host for claim in mine])
    facts = {"by": whoami(), "reason": message}
    Locks(remotes, f"{FREEZE}{new_id()}", mine, facts, wait=wait).acquire()


def thaw(service: Service, hosts: Sequence[str], remotes: Remotes, *, force: bool) -> list[Lock]:
    """Give back what was taken by hand; with ``force`` everything, a dead rollout's locks too.

    Raises :class:`Locked` for a lock of a rollout without ``force``.
    """
    found = look(service, hosts, remotes)
    others = [lock for lock in found if not lock.held.owner.startswith(FREEZE)]
    if others and not force:
        names = ", ".join(sorted({lock.held.owner for lock in others}))
        raise Locked(
            f"{names} is not a freeze: `fab resume`, `abort` or `repair` ends it in good order;"
            " --force takes the lock away and leaves the rest as it is"
        )
    by_host: dict[str, list[str]] = {}
    for lock in found:
        by_host.setdefault(lock.host, []).append(lock.held.key)
    scripts = {host: state.unlock(keys) for host, keys in by_host.items()}
    results = everywhere(remotes, scripts, "release locks", LOOK_TIMEOUT)
    refuse([failed(result) for result in results.values() if not result.ok], "not released")
    return found
