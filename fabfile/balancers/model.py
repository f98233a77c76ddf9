"""What a balancer says about its servers, in words that no balancer product owns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Admin = Literal["ready", "drain", "maint"]

COUNTED = (
    "requests",
    "errors_5xx",
    "retries",
    "redispatches",
    "not_connected",
    "no_answer",
    "longest_queue",
)
"""What a balancer counts of a server since its process started; the last one is a maximum.

not_connected: attempts to connect that failed · no_answer: connections that broke, or answers that
were none · retries: further attempts at the same server · redispatches: requests that were sent to
another server after it."""
WHOLE = "BACKEND"
"""The name under which a backend as a whole is counted: what it answered itself included."""


@dataclass(frozen=True, slots=True)
class ServerReading:
    """One server as one balancer sees it at one moment, old processes after a reload included."""

    name: str
    address: str
    up: bool
    """The balancer's own checks pass (or there are none)."""
    checked: bool
    """The balancer checks this server by itself."""
    admin: Admin
    """What was ordered: ``ready``, ``drain`` or ``maint``."""
    weight: int
    """Effective: its share of new requests now (0 in drain and maint, low under slowstart)."""
    uweight: int
    """What was set; what a rollout records and restores."""
    iweight: int
    """What the configuration says."""
    scur: int
    qcur: int
    """Requests running on it, and waiting for it alone."""
    stot: int
    """Sessions it got since its process started; it standing still means nothing new came."""
    requests: int
    errors_5xx: int
    backup: bool = False
    check_port: int = 0
    """Where its balancer's checks go, if not to where requests go (then it is 0)."""

    @property
    def in_rotation(self) -> bool:
        """It takes new requests."""
        return self.up and self.admin == "ready" and not self.backup and self.weight > 0


@dataclass(frozen=True, slots=True)
class BackendReading:
    """One backend of one balancer process at one moment."""

    balancer: str
    """The balancer's id."""
    process: int
    """Process id of the worker that answered: another one means a reload or a restart."""
    servers: Mapping[str, ServerReading]
    old_workers: int = 0
    """Processes of before a reload that still serve; their sessions are in the readings."""
    queued: int = 0
    """Requests that wait for any server of the backend."""
    counts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By server, and for :data:`WHOLE`: the figures of :data:`COUNTED`, of this process alone."""


@dataclass(frozen=True, slots=True)
class ServerRef:
    """A server's full name: balancer id, backend, server."""

    balancer: str
    backend: str
    server: str

    def __str__(self) -> str:
        return f"{self.balancer}:{self.backend}/{self.server}"


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """What has to be put back: a server's weight and state before anybody touched it."""

    ref: ServerRef
    uweight: int
    admin: Admin
    process: int
    check_port: int | None = None
    """As :attr:`ServerReading.check_port`; ``None``: there is none, or it is never touched."""
