"""What ``fab`` runs: the tasks that touch hosts."""

from __future__ import annotations

from invoke.context import Context
from invoke.tasks import task

from fabfile.fleet import fleet_task, hosts_of, run_remainder


@fleet_task
def hosts(context: Context) -> None:
    """Name the hosts of -H, to see that one call gets all of them."""
    context.run(f"echo {','.join(hosts_of(context))}")


@task
def uptime(context: Context) -> None:
    """How long a host has been up."""
    context.run("uptime")


@fleet_task
def run(context: Context) -> None:
    """Run the command after -- on each host of -H: fab -H web1,web2 run -- uptime."""
    run_remainder(context)
