"""``inv simulate``. Everything heavy is imported when the task runs."""

from __future__ import annotations

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task


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
    _: Context,
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
