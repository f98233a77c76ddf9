"""Take up a rollout whose controller died: resume, abort, repair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from invoke.context import Context
from invoke.exceptions import Exit

from fabfile.commands.rolling import DEPLOY_HELP
from fabfile.fleet import fleet_task

RECOVER_HELP = {
    "service": DEPLOY_HELP["service"],
    "rollout": "Which one, where several are unfinished",
    "force": "Take its locks over even from a controller that still gives signs of life",
    "drop": "Give up this host or balancer, which is gone for good, and all that is recorded of it",
    "without-balancer": DEPLOY_HELP["without-balancer"],
    "allow-loss": DEPLOY_HELP["allow-loss"],
    "dry-run": "Only say what was found and what would be done",
    "inventory": DEPLOY_HELP["inventory"],
    "json": DEPLOY_HELP["json"],
}


@fleet_task(
    help={
        **RECOVER_HELP,
        "before-rollout": "Where nobody knows whether that hook is done: again | done",
    },
    iterable=["drop", "without_balancer"],
)
def resume(
    _context: Context,
    service: str = "",
    rollout: str = "",
    force: bool = False,
    drop: Sequence[str] | None = None,
    without_balancer: Sequence[str] | None = None,
    allow_loss: bool = False,
    dry_run: bool = False,
    inventory: str = "",
    json: bool = False,
    before_rollout: str = "",
) -> None:
    """Finish a rollout whose controller died: every selected instance on the planned release."""
    gone = {"drop": drop, "without_balancer": without_balancer, "allow_loss": allow_loss}
    how = {"rollout": rollout, "force": force, "dry": dry_run, "json": json}
    _recover("resume", service, inventory, **how, **gone, before_rollout=before_rollout)


@fleet_task(help=RECOVER_HELP, iterable=["drop", "without_balancer"])
def abort(
    _context: Context,
    service: str = "",
    rollout: str = "",
    force: bool = False,
    drop: Sequence[str] | None = None,
    without_balancer: Sequence[str] | None = None,
    allow_loss: bool = False,
    dry_run: bool = False,
    inventory: str = "",
    json: bool = False,
) -> None:
    """Undo a rollout whose controller died: every instance on its own earlier release."""
    gone = {"drop": drop, "without_balancer": without_balancer, "allow_loss": allow_loss}
    how = {"rollout": rollout, "force": force, "dry": dry_run, "json": json}
    _recover("abort", service, inventory, **how, **gone)


@fleet_task(help=RECOVER_HELP, iterable=["drop", "without_balancer"])
def repair(
    _context: Context,
    service: str = "",
    rollout: str = "",
    force: bool = False,
    drop: Sequence[str] | None = None,
    without_balancer: Sequence[str] | None = None,
    allow_loss: bool = False,
    dry_run: bool = False,
    inventory: str = "",
    json: bool = False,
) -> None:
    """Put weights and states back after a rollout whose controller died; changes no version."""
    gone = {"drop": drop, "without_balancer": without_balancer, "allow_loss": allow_loss}
    how = {"rollout": rollout, "force": force, "dry": dry_run, "json": json}
    _recover("repair", service, inventory, **how, **gone)


def _recover(
    mode: Literal["resume", "abort", "repair"], service: str, inventory: str, **flags: Any
) -> None:
    from fabfile import cli

    given = {name: value for name, value in flags.items() if value is not None}
    code = cli.recover(cli.inventory_of(inventory), service, mode, **given)
    if code:
        raise Exit(code=code)
