"""What ``inv`` runs: the tasks that run here."""

import sys

from invoke import Collection, Context, task
from invoke.exceptions import Exit

from fabfile.checks.tasks import healthcheck
from fabfile.drivers.simulated.tasks import simulate
from fabfile.lab.tasks import ns as lab
from fabfile.reports.tasks import report


@task(
    help={
        "service": "Only this service; otherwise all of the inventory",
        "hosts": "Only these hosts (names or groups, with commas) and the balancers before them",
        "inventory": "Another hosts.yaml (or EVENKEEL_INVENTORY)",
        "json": "One JSON object instead of the table",
        "nagios": "One line with performance data instead of the table",
        "quiet": "Say nothing while all is well, one line when not, another when it recovers",
        "prometheus": "Also write the figures to this .prom file, for the textfile collector",
        "notify": "POST a message to this URL whenever what is wrong changes; @FILE: read it there",
        "state": "Where --quiet and --notify remember the last run (.evenkeel/ beside hosts.yaml)",
    },
    auto_shortflags=False,
)
def status(
    _context: Context,
    service: str = "",
    hosts: str = "",
    inventory: str = "",
    json: bool = False,
    nagios: bool = False,
    quiet: bool = False,
    prometheus: str = "",
    notify: str = "",
    state: str = "",
) -> None:
    """What runs where, and what is wrong with it: for people, cron and monitors (exit 0 to 3)."""
    try:
        from fabfile.status import Flags, run_status

        flags = Flags(service, hosts, inventory, json, nagios, quiet, prometheus, notify, state)
        code = run_status(flags)
    except Exception as error:  # a check that ends in a traceback has told nobody anything
        first = str(error).strip().partition("\n")[0]
        sys.stderr.write(f"UNKNOWN: unexpected: {type(error).__name__}: {first}\n")
        code = 3
    if code:
        raise Exit(code=code)


ns = Collection(healthcheck, report, simulate, status)
ns.add_collection(lab)
