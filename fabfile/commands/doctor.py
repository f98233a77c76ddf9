"""What an existing set-up lacks: doctor."""

from __future__ import annotations

from invoke.context import Context

from fabfile.commands.flags import end, flagged
from fabfile.fleet import hosts_of


@flagged(
    "service", "inventory", "json",
    help={
        "service": "Only this service; otherwise all of the inventory",
        "json": "One JSON object",
    },
)  # fmt: skip
def doctor(context: Context, *, service: str, inventory: str, json: bool) -> None:
    """What this set-up lacks and what a rollout would risk; changes nothing.

    Exit 0: nothing worse than hints; 3: risks; 5: problems, a rollout would be refused or lose
    requests; 2: bad input.
    """
    from fabfile.jobs import asked
    from fabfile.jobs import doctor as job

    end(job.doctor(asked.inventory_of(inventory), service, hosts_of(context), json=json))
