"""What a run of the prober says while it goes on. Times are seconds since the run began."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Began:
    """The first event of a run."""

    t: float
    at: float
    """Unix time of the run's second 0."""
    lanes: tuple[str, ...]


@dataclass(frozen=True)
class Seen:
    """A server's first answer, or its first one with another version."""

    t: float
    lane: str
    url: str
    server: str | None
    version: str | None


@dataclass(frozen=True)
class Failed:
    """One of the first few failures of a kind."""

    t: float
    lane: str
    url: str
    kind: str
    detail: str


@dataclass(frozen=True)
class SocketEnded:
    """A WebSocket is over."""

    t: float
    lane: str
    url: str
    server: str | None
    lived: float
    """Seconds."""
    how: str
    code: int | None = None
    """Of the peer's close frame: 1001 says it is going away."""
    by_us: bool = False


@dataclass(frozen=True)
class Second:
    """All that completed on one lane from ``t`` to ``t`` + 1."""

    t: int
    lane: str
    requests: int
    failures: int
    slow: int
    p50: float
    """Seconds, over good answers; 0 when there are none."""
    p99: float
    max: float
    versions: Mapping[str, int]
    servers: Mapping[str, int]
    kinds: Mapping[str, int]
    """Failures by kind."""
    running: int = 0
    """Requests of the lane under way when the second closed."""


Event = Began | Seen | Failed | SocketEnded | Second
