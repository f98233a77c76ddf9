"""What was rolled out before."""

from __future__ import annotations

from invoke.context import Context

from fabfile.commands.rolling import DEPLOY_HELP
from fabfile.fleet import fleet_task

HISTORY_HELP = {
    "limit": "How many, the newest first",
    "service": DEPLOY_HELP["service"],
    "inventory": DEPLOY_HELP["inventory"],
    "json": "One JSON object a line",
}


@fleet_task(help=HISTORY_HELP)
def history(
    _context: Context, limit: str = "20", service: str = "", inventory: str = "", json: bool = False
) -> None:
    """What was rolled out before, by whom, and how it ended; from the hosts' own records."""
    from fabfile import cli

    cli.history(cli.inventory_of(inventory), service, limit=limit, rollout="", json=json)


@fleet_task(
    positional=["rollout"],
    help={
        "rollout": "Its id, as `fab history` shows it",
        **{name: text for name, text in HISTORY_HELP.items() if name != "limit"},
    },
)
def show(
    _context: Context, rollout: str, service: str = "", inventory: str = "", json: bool = False
) -> None:
    """One rollout in full: how each instance ended, and why."""
    from fabfile import cli

    cli.history(cli.inventory_of(inventory), service, limit="1", rollout=rollout, json=json)
