"""What was rolled out before."""

from __future__ import annotations

from invoke.context import Context

from fabfile.commands.flags import flagged

EACH = {"json": "One JSON object a line"}


@flagged("service", "inventory", "json", help={**EACH, "limit": "How many, the newest first"})
def history(
    _context: Context, limit: str = "20", *, service: str, inventory: str, json: bool
) -> None:
    """What was rolled out before, by whom, and how it ended; from the hosts' own records."""
    from fabfile.jobs import asked, past

    past.history(asked.inventory_of(inventory), service, limit=limit, rollout="", json=json)


@flagged(
    "service", "inventory", "json",
    positional=["rollout"],
    help={**EACH, "rollout": "Its id, as `fab history` shows it"},
)  # fmt: skip
def show(_context: Context, rollout: str, *, service: str, inventory: str, json: bool) -> None:
    """One rollout in full: how each instance ended, and why."""
    from fabfile.jobs import asked, past

    past.history(asked.inventory_of(inventory), service, limit="1", rollout=rollout, json=json)
