"""`fab history` and `fab show`: what was rolled out before."""

from __future__ import annotations

import sys

from fabfile.errors import BadInput
from fabfile.inventory.model import Inventory
from fabfile.inventory.selection import select_service
from fabfile.jobs.asked import say
from fabfile.remote.pool import Remotes


def history(inventory: Inventory, service: str, *, limit: str, rollout: str, json: bool) -> None:
    """Print what was rolled out before; ``rollout``: only that one, in full.

    Raises :class:`BadInput` for one that no host knows of.
    """
    from fabfile.drivers.history import read
    from fabfile.reports import history_view

    if not limit.isdecimal() or int(limit) < 1:
        raise BadInput(f"--limit: {limit!r} is no number of at least 1")
    chosen = select_service(inventory, service or None)
    with Remotes(inventory) as remotes:
        past, problems = read(chosen, remotes)
    if rollout:
        past = [one for one in past if one.rollout == rollout]
        if not past:
            missing = "".join(f"; {problem}" for problem in problems)
            raise BadInput(f"{rollout}: no host knows of such a rollout of {chosen.name}{missing}")
    past = past[: int(limit)]
    if json:
        for line in problems:
            sys.stderr.write(line + "\n")
        for one in past:
            say(history_view.as_json(one))
    elif rollout:
        sys.stdout.write(history_view.shown(past[0]) + "".join(f"{p}\n" for p in problems))
    else:
        sys.stdout.write(history_view.table(past, problems))
