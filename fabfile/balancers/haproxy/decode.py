"""``show servers state`` and ``show stat`` in words: what each server is told, and by whom.

The bits are those of HAProxy's ``enum srv_admin`` and ``enum srv_state`` (its management guide,
"show servers state").
"""

from __future__ import annotations

from dataclasses import dataclass

from fabfile.balancers.haproxy.observe import Poll, reading
from fabfile.balancers.haproxy.parse import Row
from fabfile.balancers.model import ServerReading

_REASONS = (
    (0x01, "maint", "operator"),
    (0x04, "maint", "config"),
    (0x02, "maint", "tracked"),
    (0x20, "maint", "name does not resolve"),
    (0x08, "drain", "operator"),
    (0x10, "drain", "tracked"),
)
"""Of ``srv_admin_state``: operator is the runtime API, config the keyword ``disabled``, tracked the
server that this one follows."""
_OPERATIONAL = {"0": "down", "1": "starting", "2": "up", "3": "stopping"}


@dataclass(frozen=True)
class Decoded:
    """One server on one balancer."""

    balancer: str
    backend: str
    server: str
    address: str
    admin: str
    """``ready``, ``drain`` or ``maint``, inherited ones too."""
    why: tuple[str, ...]
    """Who wants it so; empty: it is ready."""
    operational: str
    """``up``, ``down``, ``starting`` (slowstart) or ``stopping``."""
    check: str
    """The last check, as HAProxy calls it: ``L7OK/200``; empty: it is not checked."""
    changed: int
    """Seconds since HAProxy last saw it go up or down."""
    reading: ServerReading
    drained: str = ""
    """Who drained it with ``fab drain``, and why."""


def decoded(balancer: str, backend: str, poll: Poll) -> list[Decoded]:
    """Every server of ``backend``, in its order. Raises what :func:`observe.reading` raises."""
    seen = reading(balancer, backend, poll)
    states = {row["srv_name"]: row for row in poll.states[backend]}
    stats = {row["svname"]: row for row in poll.stats[backend]}
    return [
        _one(balancer, backend, server, states[name], stats[name])
        for name, server in seen.servers.items()
    ]


def _one(balancer: str, backend: str, server: ServerReading, state: Row, stat: Row) -> Decoded:
    bits = int(state["srv_admin_state"])
    said = [(admin, why) for bit, admin, why in _REASONS if bits & bit]
    admins = [admin for admin, _ in said]
    return Decoded(
        balancer,
        backend,
        server.name,
        server.address,
        "maint" if "maint" in admins else "drain" if admins else "ready",
        tuple(dict.fromkeys(why for _, why in said)),
        _OPERATIONAL.get(state["srv_op_state"], state["srv_op_state"]),
        _check(server, stat),
        int(stat.get("lastchg") or 0),
        server,
    )


def _check(server: ServerReading, stat: Row) -> str:
    if not server.checked:
        return ""
    code = stat.get("check_code", "")
    return (stat.get("check_status", "") or "?") + (f"/{code}" if code else "")
