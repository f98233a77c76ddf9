"""A rollout from its flags to its exit code: planned, carried out, taken up again; provisioning."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Literal

from fabfile.drivers.prepare import Preparation
from fabfile.drivers.wish import Wish
from fabfile.errors import BadInput
from fabfile.inventory.model import Inventory, Service
from fabfile.inventory.selection import select_service
from fabfile.inventory.values import parse_version
from fabfile.jobs.asked import one_of, say
from fabfile.remote.pool import Remotes
from fabfile.reports.console import Tee, as_json
from fabfile.reports.outlets import watching
from fabfile.reports.receivers import receivers, telling
from fabfile.rollout.events import Event, Notice
from fabfile.rollout.recovery import Recovery

Changing = Literal["deploy", "rollback", "restart"]


def deploy(
    inventory: Inventory,
    asked: Wish,
    *,
    json: bool,
    mode: Changing = "deploy",
    probe: bool = False,
) -> int:
    """Run a rollout; returns its exit code.

    ``probe``: requests go to the service's ``urls`` meanwhile, and a report is drawn at the end.
    """
    from fabfile.drivers.deploy import deploy as run
    from fabfile.drivers.identity import new_id

    if probe and not asked.service.urls:
        raise BadInput(f"--probe: {inventory.path}: services.{asked.service.name} has no urls")
    rollout = new_id()
    with (
        telling(inventory, json=json, log=rollout) as out,
        watching(asked.service, rollout, out, mode) as watcher,
        _probed(inventory, asked.service, rollout, out) if probe else nullcontext(),
    ):
        _, code = run(inventory, asked, rollout, Tee(out, watcher), _preparing(mode))
        watcher.ended(code)
    return code


@contextmanager
def _probed(
    inventory: Inventory, service: Service, rollout: str, out: Callable[[Event], None]
) -> Iterator[None]:
    from fabfile.checks.beside import Beside
    from fabfile.reports import page

    log = page.logs(inventory.root) / f"{rollout}.jsonl"
    beside = Beside(service.urls, log.with_suffix(".probe.jsonl"))
    with beside:
        yield
    for line in beside.lines:
        out(Notice(line))
    try:
        out(Notice(f"report: {page.write(log)}"))
    except BadInput as error:  # the rollout is over: what it came to must still be heard
        out(Notice(f"no report is drawn: {error}"))


def _preparing(mode: Changing) -> type[Preparation]:
    from fabfile.drivers.everyday.restart import Restart
    from fabfile.drivers.rollback import Rollback

    return {"deploy": Preparation, "rollback": Rollback, "restart": Restart}[mode]


def plan(inventory: Inventory, asked: Wish, *, json: bool, mode: Changing = "deploy") -> int:
    """Print what a rollout would do now; returns 0."""
    from fabfile.drivers.paper import on_paper
    from fabfile.reports.plan_view import plan_view

    out = Notices(receivers(inventory, json=json))
    frozen, run = on_paper(inventory, asked, out, _preparing(mode))
    if json:
        for at, event in run.events:
            say(as_json(event, at))
    else:
        width = shutil.get_terminal_size((100, 24)).columns
        sys.stdout.write(plan_view(frozen, run.events, width=width))
    return 0


class Notices:
    """Lets through what a person should know, and not what was done to find it out."""

    def __init__(self, receiver: Callable[[Event], None]) -> None:
        self._receiver = receiver

    def __call__(self, event: Event) -> None:
        """Pass ``event`` on, if it is a notice."""
        if isinstance(event, Notice):
            self._receiver(event)


def provision(
    inventory: Inventory,
    service: Service,
    hosts: Sequence[str],
    parts: Sequence[str],
    version: str,
    *,
    drop: bool,
    json: bool,
) -> None:
    """Bring hosts and balancers to what the templates say."""
    from fabfile.drivers.provision import Provision

    with Remotes(inventory) as remotes:
        work = Provision(inventory, service, hosts, remotes, receivers(inventory, json=json))
        if "app" in parts:
            work.application(parse_version(version) if version else None)
        if "balancers" in parts:
            work.balancers(drop=drop)


def recover(
    inventory: Inventory,
    service: str,
    mode: Recovery,
    *,
    rollout: str,
    force: bool,
    dry: bool,
    json: bool,
    before_rollout: str = "",
    drop: Sequence[str] | None = None,
    without_balancer: Sequence[str] | None = None,
    allow_loss: bool = False,
) -> int:
    """Take up an unfinished rollout; returns the exit code."""
    from fabfile.drivers import without
    from fabfile.drivers.deploy import recover as run
    from fabfile.drivers.identity import new_id
    from fabfile.drivers.missing import Gone

    one_of(before_rollout, "--before-rollout", ("again", "done"))
    found = select_service(inventory, service or None)
    identity = new_id()
    gone = Gone(without.split(drop or ()), without.split(without_balancer or ()), allow_loss)
    if allow_loss and not (gone.drop or gone.without):
        raise BadInput("--allow-loss says nothing without --without-balancer or --drop")
    with (
        telling(inventory, json=json, log="" if dry else identity) as out,
        nullcontext() if dry else watching(found, identity, out, mode) as watcher,
    ):
        code = run(
            found,
            mode,
            inventory,
            identity,
            Tee(out, watcher) if watcher else out,
            rollout=rollout,
            force=force,
            dry=dry,
            before_rollout=before_rollout,
            gone=gone,
        )
        if watcher:
            watcher.ended(code)
    return code
