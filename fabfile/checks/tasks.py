"""The invoke task of the prober. Everything heavy is imported when the task runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

if TYPE_CHECKING:
    from fabfile.checks.healthcheck import Options

UNKNOWN = 3


@task(
    iterable=["url"],
    help={
        "url": "What to probe, several times for several; otherwise the inventory's `urls`",
        "service": "Probe only this service of the inventory",
        "inventory": "Another hosts.yaml",
        "rate": "Requests per second, all URLs together (50)",
        "duration": "How long to send: 30s, 5m, 1h (30s)",
        "until-interrupted": "Go on until Ctrl-C or SIGTERM",
        "keep-alive": "Only kept connections; otherwise every other request opens its own",
        "fresh": "Only fresh connections",
        "expect-version": "CRITICAL unless every server answers with this version at the end",
        "until-version": "The same, and stop once only this version answers for 3 s",
        "timeout": "For one request, connecting included (5s)",
        "slow-after": "Good answers that take longer count as slow (1s)",
        "json": "JSON lines instead of text",
        "record": "Write the run to this file, as JSON lines",
        "cookies": "Ten clients that keep their cookies",
        "max-failures": "CRITICAL only above so many failures, instead of from 1 % on",
        "nagios": "One line with performance data, at the end",
    },
)
def healthcheck(
    _context: Context,
    url: list[str],
    service: str = "",
    inventory: str = "",
    rate: str = "50",
    duration: str = "30s",
    until_interrupted: bool = False,
    keep_alive: bool = False,
    fresh: bool = False,
    expect_version: str = "",
    until_version: str = "",
    timeout: str = "5s",
    slow_after: str = "1s",
    json: bool = False,
    record: str = "",
    cookies: bool = False,
    max_failures: str = "",
    nagios: bool = False,
) -> None:
    """Send requests on a fixed schedule and say what people would notice (exit 0, 1, 2 or 3)."""
    from fabfile.checks.flags import Flags, options
    from fabfile.checks.healthcheck import run_healthcheck
    from fabfile.errors import EvenkeelError

    flags = Flags(
        tuple(url), service, inventory, rate, duration, until_interrupted, keep_alive, fresh,
        expect_version, until_version, timeout, slow_after, json, record, cookies, max_failures,
        nagios,
    )  # fmt: skip
    try:
        chosen: Options = options(flags)
    except EvenkeelError as error:
        sys.stderr.write(f"UNKNOWN: {error}\n")
        raise Exit(code=UNKNOWN) from None
    raise Exit(code=run_healthcheck(chosen))
