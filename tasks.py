"""What ``inv`` runs: the tasks that run here."""

import sys

from invoke import Collection, Context, task
from invoke.exceptions import Exit

from fabfile.checks.tasks import healthcheck
from fabfile.inventory.tasks import init
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
        from fabfile.jobs.status import Flags, run_status

        flags = Flags(service, hosts, inventory, json, nagios, quiet, prometheus, notify, state)
        code = run_status(flags)
    except Exception as error:  # a check that ends in a traceback has told nobody anything
        first = str(error).strip().partition("\n")[0]
        sys.stderr.write(f"UNKNOWN: unexpected: {type(error).__name__}: {first}\n")
        code = 3
    if code:
        raise Exit(code=code)


@task(
    help={
        "service": "Which service; needed only where the inventory has several",
        "inventory": "Another hosts.yaml (or EVENKEEL_INVENTORY)",
        "version": "What it is called",
        "hosts": "As if there were that many hosts: 10000",
        "instances": "As if each had that many instances",
        "serial": "Hosts at a time: 2, 35%, or a list such as 1,35%",
        "min-capacity": "What has to stay in rotation: 50%",
        "fail": "Share of instances whose new release does not get healthy: 2%",
        "runs": "How often (1; with --fail 100)",
        "seed": "Of the dice",
        "html": "Draw the first run into this file",
    }
)
def simulate(
    _context: Context,
    service: str = "",
    inventory: str = "",
    version: str = "next",
    hosts: str = "",
    instances: str = "",
    serial: str = "",
    min_capacity: str = "",
    fail: str = "",
    runs: str = "",
    seed: str = "0",
    html: str = "",
) -> None:
    """Run a rollout on paper: how long, how low capacity gets, the odds; contacts nothing."""
    from fabfile.drivers.simulated.wish import Wish, run
    from fabfile.errors import EvenkeelError

    wish = Wish(
        service, inventory, version, hosts, instances, serial, min_capacity, fail, runs, seed, html
    )
    try:
        print(run(wish), end="")  # noqa: T201
    except EvenkeelError as error:
        raise Exit(str(error), error.exit_code) from None


@task(
    help={
        "service": "Which service; needed only where the inventory has several",
        "inventory": "Another hosts.yaml (or EVENKEEL_INVENTORY)",
        "once": "One picture of how things stand, and no more",
        "wait": "Where nothing runs, wait until something does",
        "json": "Events as JSON lines; with --once one JSON object",
    },
    auto_shortflags=False,
)
def watch(
    _context: Context,
    service: str = "",
    inventory: str = "",
    once: bool = False,
    wait: bool = False,
    json: bool = False,
) -> None:
    """See a rollout that runs in another terminal or on another machine; changes nothing."""
    from fabfile.errors import EvenkeelError
    from fabfile.jobs.watch import Flags, run_watch

    try:
        run_watch(Flags(service, inventory, once, wait, json))
    except EvenkeelError as error:
        raise Exit(str(error), error.exit_code) from None


ns = Collection(healthcheck, report, simulate, status, watch)
ns.add_task(init)
ns.add_collection(lab)
