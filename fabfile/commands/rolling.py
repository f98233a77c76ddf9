"""What changes what runs: deploy, plan, rollback and restart."""

from __future__ import annotations

from typing import Any, Literal

from invoke.context import Context

from fabfile.commands.flags import end, flagged
from fabfile.fleet import hosts_of

POLICY = ("service", "serial", "drain_timeout", "on_timeout", "on_failure")
LEFT_OUT = ("without_balancer", "allow_loss")


@flagged(
    "version", *POLICY, "reason", "lock_wait", "allow_outage", *LEFT_OUT,
    "inventory", "json", "probe", "dry_run",
)  # fmt: skip
def deploy(context: Context, **flags: Any) -> None:
    """Upgrade a service: fab -H web1,web2 deploy --version 0.0.2."""
    _roll(context, "deploy", **flags)


@flagged("version", *POLICY, "allow_outage", *LEFT_OUT, "inventory", "json")
def plan(context: Context, **flags: Any) -> None:
    """Say what a deploy would do now: batches, steps, capacity left. Changes nothing."""
    _roll(context, "deploy", dry_run=True, **flags)


@flagged(
    "service", "serial", "lock_wait", *LEFT_OUT, "inventory", "json", "dry_run",
    help={"to": "The version to go back to; otherwise what each instance ran before"},
)  # fmt: skip
def rollback(context: Context, to: str = "", **flags: Any) -> None:
    """Go back to what ran before: image, settings and compose block as they were on each host."""
    reason = f"rollback{' to ' + to if to else ''}"
    _roll(context, "rollback", version=to, reason=reason, **flags)


@flagged(
    *POLICY, "reason", "lock_wait", "allow_outage", *LEFT_OUT,
    "inventory", "json", "probe", "dry_run",
    help={"on-failure": "When instances do not come back: hold | continue"},
)  # fmt: skip
def restart(context: Context, reason: str = "", **flags: Any) -> None:
    """Every container anew, of the release it has, as a deploy does it: fab -H web1 restart."""
    from fabfile.jobs import asked

    asked.one_of(flags["on_failure"], "--on-failure", ("hold", "continue"))
    _roll(context, "restart", version="", reason=reason or "restart", **flags)


def _roll(
    context: Context,
    mode: Literal["deploy", "rollback", "restart"],
    *,
    inventory: str,
    json: bool,
    probe: bool = False,
    dry_run: bool = False,
    **flags: Any,
) -> None:
    from fabfile.jobs import asked, rollouts

    found = asked.inventory_of(inventory)
    wish = asked.wish(found, hosts_of(context), back=mode != "deploy", **flags)
    if dry_run:
        code = rollouts.plan(found, wish, json=json, mode=mode)
    else:
        code = rollouts.deploy(found, wish, json=json, probe=probe, mode=mode)
    end(code)
