"""``inv report``. Everything heavy is imported when the task runs."""

from __future__ import annotations

from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task


@task(
    help={
        "rollout": "Its id, or the path of an event log; otherwise the newest one",
        "record": "What a prober recorded meanwhile (inv healthcheck --record FILE)",
        "out": "Where the page goes; otherwise beside the log",
        "prometheus": "Instead of a page, write the figures into this .prom file",
        "inventory": "Another hosts.yaml (or EVENKEEL_INVENTORY)",
    },
)
def report(
    _: Context,
    rollout: str = "",
    record: str = "",
    out: str = "",
    prometheus: str = "",
    inventory: str = "",
) -> None:
    """Draw a rollout: one HTML file from its event log, which opens without a network."""
    from fabfile.errors import EvenkeelError
    from fabfile.inventory import loader
    from fabfile.reports import metrics, page

    try:
        log = page.log_of(loader.here(inventory).parent, rollout)
        if prometheus:
            metrics.write(log, place := Path(prometheus))
        else:
            place = page.write(log, Path(record) if record else None, Path(out) if out else None)
        print(place)  # noqa: T201
    except EvenkeelError as error:
        raise Exit(str(error), error.exit_code) from None
