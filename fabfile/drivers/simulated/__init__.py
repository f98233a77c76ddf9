"""A fleet that exists on paper: the real engine on a virtual clock.

``simulate`` tells what a plan would do, in what order and how long, and is what the rollout's
promises are tested with: see ``faults`` for what can go wrong in it, ``Crash`` for stopping it.
"""

from fabfile.drivers.simulated.faults import (
    Fault,
    Flip,
    HostLost,
    OperatorSets,
    Reload,
    Silence,
)
from fabfile.drivers.simulated.fleet import Behaviour, Container, Fleet, Server
from fabfile.drivers.simulated.paper import plan_on_paper
from fabfile.drivers.simulated.run import Crash, Simulation, simulate
from fabfile.drivers.simulated.timing import Timing
from fabfile.drivers.simulated.traffic import Traffic

__all__ = [
    "Behaviour",
    "Container",
    "Crash",
    "Fault",
    "Fleet",
    "Flip",
    "HostLost",
    "OperatorSets",
    "Reload",
    "Server",
    "Silence",
    "Simulation",
    "Timing",
    "Traffic",
    "plan_on_paper",
    "simulate",
]
