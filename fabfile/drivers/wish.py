"""What a person asked for: the service with the flags of this run, its hosts, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fabfile.inventory.model import Service


@dataclass(frozen=True)
class Wish:
    """What a person asked for."""

    service: Service
    """With the flags of this run already in its policy and drain."""
    version: str
    hosts: tuple[str, ...]
    chosen: bool
    """The hosts were named by ``-H``."""
    reason: str = ""
    allow_outage: bool = False
    lock_wait: float = 0.0
    """Seconds to wait for somebody else's lock."""
    allow_loss: bool = False
    """A balancer that is left out (``service.without``) may serve all the same."""


def with_flags(
    service: Service, *, drain: Mapping[str, object], policy: Mapping[str, object]
) -> Service:
    """``service`` with one run's flags in its drain and policy; a ``None`` leaves it as it is."""
    given = {name: value for name, value in drain.items() if value is not None}
    wanted = {name: value for name, value in policy.items() if value is not None}
    return replace(
        service,
        drain=replace(service.drain, **given),  # type: ignore[arg-type]
        rollout=replace(service.rollout, **wanted),  # type: ignore[arg-type]
    )
