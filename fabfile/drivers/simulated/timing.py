"""How long things take on a simulated fleet."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Seconds of virtual time. The defaults were measured on a lab of small idle containers."""

    record: float = 0.03
    drain: float = 0.02
    """One change of weight or state on all balancers of an instance, read back."""
    poll: float = 0.03
    """Between two readings while something is awaited."""
    observe: float = 0.03
    """One reading of every balancer."""
    recreate: float = 0.45
    """The old container is gone at its start, the new one is there at its end."""
    healthy: float = 0.1
    """The health check of a container that is healthy already, ``min_healthy`` included."""
    hook: float = 0.2
    admit: float = 0.4
    """``rise`` checks of a balancer."""
    health_timeout: float = 60.0
    """How long a container may take to become healthy."""
    health_interval: float = 0.5
    connect_timeout: float = 5.0
    """Until a host or balancer that does not answer is given up."""
    jitter: float = 0.0
    """Each duration is stretched by a random share of up to this much (0.2: up to 20%)."""
