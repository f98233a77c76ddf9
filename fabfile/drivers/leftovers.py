"""Locks that outlived their rollout: its controller died before the plan was written, or after the
rollout had ended. No journal speaks of them, so nobody else would ever take them over.
"""

from __future__ import annotations

from collections.abc import Callable

from fabfile.drivers.freeze import LOOK_TIMEOUT, claims
from fabfile.drivers.identity import whoami
from fabfile.drivers.locks import FREEZE, Claim, Locks
from fabfile.drivers.preflight import everywhere
from fabfile.inventory.model import Service
from fabfile.remote import state
from fabfile.remote.pool import Remotes
from fabfile.rollout.events import Event, Notice

PATIENCE = state.STALE_AFTER + 5.0
"""Seconds to wait until a dead controller's locks count as dead."""


def give_back(
    service: Service,
    remotes: Remotes,
    identity: str,
    emit: Callable[[Event], None],
    *,
    force: bool = False,
) -> None:
    """Take over and give back every lock of a rollout of ``service``, of which none is unfinished.

    What a person froze stays. ``force`` as for a recovery. Raises :class:`Locked` when its holder
    lives, :class:`RemoteError` when a host breaks off. A host out of reach is passed over.
    """
    found = {
        claim: held.owner
        for claim, held in _held(service, remotes)
        if not held.owner.startswith(FREEZE)
    }
    if not found:
        return
    with Locks(
        remotes,
        identity,
        found,
        {"by": whoami(), "reason": "left-over locks"},
        wait=0.0 if force else PATIENCE,
        over=sorted(set(found.values())),
        stale=0 if force else state.STALE_AFTER,
    ):
        for claim, owner in found.items():
            emit(
                Notice(f"the lock {claim.key} of {owner}, which is over, is given back", claim.host)
            )


def _held(service: Service, remotes: Remotes) -> list[tuple[Claim, state.Held]]:
    mine = set(claims(service, service.hosts))
    hosts = dict.fromkeys(claim.host for claim in claims(service, service.hosts))
    silent = remotes.connect(hosts)
    scripts = {host: state.locks() for host in hosts if host not in silent}
    return [
        (Claim(host, held.key), held)
        for host, result in everywhere(remotes, scripts, "look at locks", LOOK_TIMEOUT).items()
        for held in state.parse_locks(result.stdout)
        if Claim(host, held.key) in mine
    ]
