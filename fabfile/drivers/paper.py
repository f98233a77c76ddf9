"""A rollout on paper: the real fleet is looked at, and the engine runs on a simulated one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fabfile.drivers.identity import new_id
from fabfile.drivers.prepare import Preparation
from fabfile.drivers.simulated import Simulation, Timing, simulate
from fabfile.drivers.wish import Wish
from fabfile.inventory.model import Inventory
from fabfile.remote.pool import Remotes
from fabfile.rollout.events import Event
from fabfile.rollout.plan import Plan


def on_paper(
    inventory: Inventory,
    wish: Wish,
    emit: Callable[[Event], None],
    preparing: type[Preparation] | None = None,
) -> tuple[Plan, Simulation]:
    """The plan a deploy would follow now, and how it would go if nothing failed.

    Hosts and balancers are only looked at: nothing is pulled, staged, locked or written. Raises
    :class:`PreflightFailed` as a deploy would.
    """
    remotes = Remotes(inventory)
    try:
        prepared = (preparing or Preparation)(inventory, wish, remotes, emit, new_id()).run(
            dry=True
        )
        prepared.close()
    finally:
        remotes.close()
    usual = Timing()
    timing = replace(usual, healthy=usual.healthy + wish.service.health.min_healthy)
    # Nobody asks anything of a simulated fleet: there is nothing to judge releases by.
    policy = replace(prepared.plan.policy, max_error_rate=100)
    return prepared.plan, simulate(replace(prepared.plan, policy=policy), timing=timing)
