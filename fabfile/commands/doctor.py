"""What an existing set-up lacks: doctor."""

from __future__ import annotations

from invoke.context import Context
from invoke.exceptions import Exit

from fabfile.commands.rolling import DEPLOY_HELP
from fabfile.fleet import fleet_task, hosts_of


@fleet_task(
    help={
        "service": "Only this service; otherwise all of the inventory",
        "inventory": DEPLOY_HELP["inventory"],
        "json": "One JSON object",
    }
)
def doctor(context: Context, service: str = "", inventory: str = "", json: bool = False) -> None:
    """What this set-up lacks and what a rollout would risk; changes nothing.

    Exit 0: nothing worse than hints; 3: risks; 5: problems, a rollout would be refused or lose
    requests; 2: bad input.
    """
    from fabfile import cli

    code = cli.doctor(cli.inventory_of(inventory), service, hosts_of(context), json=json)
    if code:
        raise Exit(code=code)
