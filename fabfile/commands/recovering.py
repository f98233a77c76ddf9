"""Take up a rollout whose controller died: resume, abort, repair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from invoke.context import Context

from fabfile.commands.flags import end, flagged

if TYPE_CHECKING:
    from fabfile.rollout.recovery import Recovery

RECOVER = (
    "service", "rollout", "force", "drop", "without_balancer", "allow_loss", "dry_run",
    "inventory", "json",
)  # fmt: skip
DRY_RUN = {"dry-run": "Only say what was found and what would be done"}


@flagged(
    *RECOVER,
    help={
        **DRY_RUN,
        "before-rollout": "Where nobody knows whether that hook is done: again | done",
    },
)
def resume(_context: Context, before_rollout: str = "", **flags: Any) -> None:
    """Finish a rollout whose controller died: every selected instance on the planned release."""
    _recover("resume", before_rollout=before_rollout, **flags)


@flagged(*RECOVER, help=DRY_RUN)
def abort(_context: Context, **flags: Any) -> None:
    """Undo a rollout whose controller died: every instance on its own earlier release."""
    _recover("abort", **flags)


@flagged(*RECOVER, help=DRY_RUN)
def repair(_context: Context, **flags: Any) -> None:
    """Put weights and states back after a rollout whose controller died; changes no version."""
    _recover("repair", **flags)


def _recover(mode: Recovery, *, service: str, inventory: str, dry_run: bool, **flags: Any) -> None:
    from fabfile.jobs import asked, rollouts

    end(rollouts.recover(asked.inventory_of(inventory), service, mode, dry=dry_run, **flags))
