"""Commands on hosts, as Fabric has them."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from fabfile.fleet import fleet_task, run_remainder


@task
def uptime(context: Context) -> None:
    """How long a host has been up: fab -H web1,web2 uptime."""
    context.run("uptime")


@fleet_task()
def run(context: Context) -> None:
    """Run the command after -- on each host of -H: fab -H web1,web2 run -- uptime."""
    run_remainder(context)
