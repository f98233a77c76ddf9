"""Between rollouts: look into containers and balancers."""

from __future__ import annotations

from collections.abc import Sequence

from invoke.context import Context
from invoke.exceptions import Exit

from fabfile.commands.rolling import DEPLOY_HELP
from fabfile.fleet import RemainderTask, fleet_task, hosts_of, remainder_of

HELP = {
    "service": DEPLOY_HELP["service"],
    "inventory": DEPLOY_HELP["inventory"],
}
INSTANCE_HELP = {"instance": "Only these: app_2, or web1/app_2; with commas or several times"}


def _end(code: int) -> None:
    if code:  # an Exit of 0 would also keep the tasks that follow on the command line from running
        raise Exit(code=code)


@fleet_task(
    help={
        **HELP,
        **INSTANCE_HELP,
        "follow": "Go on with what comes, until Ctrl-C",
        "since": "Only what is younger: 10m, or 2026-01-31T14:00:00Z",
        "tail": "So many last lines of each instance, or all (100; with --since all)",
    },
    iterable=["instance"],
)
def logs(
    context: Context,
    follow: bool = False,
    since: str = "",
    tail: str = "",
    instance: Sequence[str] | None = None,
    service: str = "",
    inventory: str = "",
) -> None:
    """The logs of all instances, in order of time: fab -H web1,web2 logs --since 10m."""
    from fabfile import cli, everyday

    found = cli.inventory_of(inventory)
    names = hosts_of(context)
    _end(
        everyday.show_logs(
            found, names, service, instance or (), follow=follow, since=since, tail=tail
        )
    )


@fleet_task(
    name="exec",
    klass=RemainderTask,
    help={**HELP, **INSTANCE_HELP, "command": "For the container's shell; or after --"},
    iterable=["instance"],
)
def exec_(
    context: Context,
    command: str = "",
    instance: Sequence[str] | None = None,
    service: str = "",
    inventory: str = "",
) -> None:
    """Run a command in each instance's container: fab -H web1 exec -- cat /etc/hostname."""
    from fabfile import cli, everyday

    command = command or remainder_of(context)
    found = cli.inventory_of(inventory)
    _end(everyday.run_inside(found, hosts_of(context), service, instance or (), command))


@fleet_task(help={**HELP, "json": "One JSON object a line"})
def ps(context: Context, service: str = "", inventory: str = "", json: bool = False) -> None:
    """Every container of the service: version, digest, state, health, uptime, ports."""
    from fabfile import cli, everyday

    _end(everyday.ps(cli.inventory_of(inventory), hosts_of(context), service, json=json))


@fleet_task(help={**HELP, "json": "One JSON object a line"})
def servers(context: Context, service: str = "", inventory: str = "", json: bool = False) -> None:
    """What every balancer says of the service's servers, in words."""
    from fabfile import cli, everyday

    _end(everyday.servers(cli.inventory_of(inventory), hosts_of(context), service, json=json))


CHOICE_HELP = {
    **INSTANCE_HELP,
    "server": "Only these, by what balancers call them: web1_app_2",
}


@fleet_task(
    help={
        **HELP,
        **CHOICE_HELP,
        **{
            name: DEPLOY_HELP[name]
            for name in (
                "drain-timeout", "on-timeout", "reason", "lock-wait", "allow-outage", "json",
            )
        },
    },
    iterable=["instance", "server"],
)  # fmt: skip
def drain(
    context: Context,
    instance: Sequence[str] | None = None,
    server: Sequence[str] | None = None,
    reason: str = "",
    drain_timeout: str = "",
    on_timeout: str = "",
    lock_wait: str = "",
    allow_outage: bool = False,
    service: str = "",
    inventory: str = "",
    json: bool = False,
) -> None:
    """Take instances out of rotation everywhere until `fab enable`: fab -H web1 drain."""
    from fabfile import cli, everyday

    _end(
        everyday.drain(
            cli.inventory_of(inventory),
            hosts_of(context),
            service,
            instance or (),
            server or (),
            drain_timeout=drain_timeout,
            on_timeout=on_timeout,
            reason=reason,
            lock_wait=lock_wait,
            allow_outage=allow_outage,
            json=json,
        )
    )


@fleet_task(
    help={
        **HELP,
        **CHOICE_HELP,
        "lock-wait": DEPLOY_HELP["lock-wait"],
        "json": DEPLOY_HELP["json"],
    },
    iterable=["instance", "server"],
)
def enable(
    context: Context,
    instance: Sequence[str] | None = None,
    server: Sequence[str] | None = None,
    lock_wait: str = "",
    service: str = "",
    inventory: str = "",
    json: bool = False,
) -> None:
    """Back into rotation at the weight from before; without a choice, all that was drained."""
    from fabfile import cli, everyday

    found = cli.inventory_of(inventory)
    _end(
        everyday.enable(
            found,
            hosts_of(context),
            service,
            instance or (),
            server or (),
            lock_wait=lock_wait,
            json=json,
        )
    )


@fleet_task(
    help={
        **{name: text for name, text in DEPLOY_HELP.items() if name != "version"},
        "on-failure": "When instances do not come back: hold | continue",
    },
    iterable=["without_balancer"],
)
def restart(
    context: Context,
    service: str = "",
    serial: str = "",
    drain_timeout: str = "",
    on_timeout: str = "",
    on_failure: str = "",
    reason: str = "",
    lock_wait: str = "",
    allow_outage: bool = False,
    without_balancer: Sequence[str] | None = None,
    allow_loss: bool = False,
    inventory: str = "",
    json: bool = False,
    probe: bool = False,
    dry_run: bool = False,
) -> None:
    """Every container anew, of the release it has, as a deploy does it: fab -H web1 restart."""
    from fabfile import cli

    found = cli.inventory_of(inventory)
    cli.one_of(on_failure, "--on-failure", ("hold", "continue"))
    wish = cli.wish(
        found,
        hosts_of(context),
        version="",
        back=True,
        service=service,
        serial=serial,
        drain_timeout=drain_timeout,
        on_timeout=on_timeout,
        on_failure=on_failure,
        reason=reason or "restart",
        lock_wait=lock_wait,
        allow_outage=allow_outage,
        without_balancer=without_balancer or (),
        allow_loss=allow_loss,
    )
    if dry_run:
        code = cli.plan(found, wish, json=json, mode="restart")
    else:
        code = cli.deploy(found, wish, json=json, probe=probe, mode="restart")
    _end(code)


@fleet_task(
    help={
        **HELP,
        "what": "on, or off",
        "message": "Why, for whoever looks at `inv status`",
        "lock-wait": DEPLOY_HELP["lock-wait"],
        "json": DEPLOY_HELP["json"],
    },
    positional=["what"],
)
def maintenance(
    context: Context,
    what: str,
    message: str = "",
    lock_wait: str = "",
    service: str = "",
    inventory: str = "",
    json: bool = False,
) -> None:
    """A 503 page for everybody, from every balancer: fab maintenance on, fab maintenance off."""
    from fabfile import cli, everyday

    found = cli.inventory_of(inventory)
    _end(
        everyday.maintenance(
            found,
            hosts_of(context),
            service,
            what,
            message=message,
            lock_wait=lock_wait,
            json=json,
        )
    )
