"""What the tasks of ``fab`` and ``inv`` share: flags in, inventory and wishes out.

Imported lazily by the tasks: it pulls in everything.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from json import dumps
from pathlib import Path
from typing import Literal

from fabfile.drivers.prepare import Preparation
from fabfile.drivers.wish import Wish, with_flags
from fabfile.errors import BadInput
from fabfile.inventory import loader
from fabfile.inventory.model import Inventory, Service
from fabfile.inventory.selection import select_hosts, select_service
from fabfile.inventory.values import parse_duration, parse_serial, parse_version
from fabfile.remote.pool import Remotes
from fabfile.reports.console import Tee, as_json
from fabfile.reports.outlets import watching
from fabfile.reports.receivers import receivers, telling
from fabfile.rollout.events import Event, Notice
from fabfile.rollout.recovery import Recovery

Changing = Literal["deploy", "rollback", "restart"]
ROOT = Path(__file__).resolve().parent.parent
"""Where Evenkeel lies; its hosts.yaml is used when there is no other."""


def inventory_of(flag: str) -> Inventory:
    """The inventory that ``--inventory``, the environment or the folder says."""
    path = loader.find(flag or None, os.environ, Path.cwd(), ROOT / "hosts.yaml")
    return loader.load(path)


def chosen(
    inventory: Inventory, service: str, names: Sequence[str]
) -> tuple[Service, tuple[str, ...]]:
    """The service and the hosts a person means."""
    found = select_service(inventory, service or None)
    return found, select_hosts(inventory, found, names)


def wish(
    inventory: Inventory,
    names: Sequence[str],
    *,
    version: str,
    service: str = "",
    serial: str = "",
    drain_timeout: str = "",
    on_timeout: str = "",
    on_failure: str = "",
    reason: str = "",
    allow_outage: bool = False,
    lock_wait: str = "",
    back: bool = False,
    without_balancer: Sequence[str] | None = None,
    allow_loss: bool = False,
) -> Wish:
    """What the flags of ``fab deploy`` (``back``: rollback) ask for.

    Raises :class:`BadInput` for any mistake.
    """
    if not version and not back:
        raise BadInput("--version is needed: fab deploy --version 1.2.3")
    found, hosts = chosen(inventory, service, names)
    refuse_unbuilt(inventory, found)
    changed = with_flags(
        found,
        drain={
            "timeout": parse_duration(drain_timeout, "--drain-timeout") if drain_timeout else None,
            "on_timeout": one_of(on_timeout, "--on-timeout", ("cut", "abort", "wait")),
        },
        policy={
            "serial": parse_serial(serial) if serial else None,
            "on_failure": one_of(on_failure, "--on-failure", ("rollback", "hold", "continue")),
        },
    )
    wait = parse_duration(lock_wait, "--lock-wait") if lock_wait else 0.0
    wanted = parse_version(version, "--to" if back else "--version") if version else ""
    changed = left_out(changed, without_balancer or (), allow_loss=allow_loss)
    return Wish(changed, wanted, hosts, bool(names), reason, allow_outage, wait, allow_loss)


def left_out(service: Service, flags: Sequence[str], *, allow_loss: bool) -> Service:
    """``service`` without the balancers that ``--without-balancer`` names.

    Raises :class:`BadInput` for a name that is none of its balancers.
    """
    from fabfile.drivers import without

    names = without.split(flags)
    if allow_loss and not names:
        raise BadInput("--allow-loss says nothing without --without-balancer NAME")
    return replace(service, without=without.named(service, names))


def refuse_unbuilt(inventory: Inventory, service: Service) -> None:
    """Raise :class:`BadInput` for what hosts.yaml may say already, but no rollout does yet.

    Passing it over in silence would be worse.
    """
    policy = service.rollout
    asked = {
        f"rollout.strategy: {policy.strategy}": policy.strategy != "rolling",
        f"rollout.order: {policy.order}": policy.order != "stop-first",
        "balancers: nginx": any(spec.kind == "nginx" for spec in service.balancers),
    }
    wanted = ", ".join(name for name, is_asked in asked.items() if is_asked)
    if wanted:
        raise BadInput(f"{inventory.path}: services.{service.name}: not built yet: {wanted}")


def one_of(value: str, flag: str, allowed: Sequence[str]) -> str | None:
    """``value``, if it is one of ``allowed``; ``None`` where the flag was not given."""
    if not value:
        return None
    if value not in allowed:
        raise BadInput(f"{flag}: {value!r} is none of {', '.join(allowed)}")
    return value


def say(line: str) -> None:
    """One line on stdout."""
    sys.stdout.write(line + "\n")


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

    remotes = Remotes(inventory)
    try:
        work = Provision(inventory, service, hosts, remotes, receivers(inventory, json=json))
        if "app" in parts:
            work.application(parse_version(version) if version else None)
        if "balancers" in parts:
            work.balancers(drop=drop)
    finally:
        remotes.close()


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


def history(inventory: Inventory, service: str, *, limit: str, rollout: str, json: bool) -> None:
    """Print what was rolled out before; ``rollout``: only that one, in full.

    Raises :class:`BadInput` for one that no host knows of.
    """
    from fabfile.drivers.history import read
    from fabfile.reports import history_view

    if not limit.isdecimal() or int(limit) < 1:
        raise BadInput(f"--limit: {limit!r} is no number of at least 1")
    chosen = select_service(inventory, service or None)
    remotes = Remotes(inventory)
    try:
        past, problems = read(chosen, remotes)
    finally:
        remotes.close()
    if rollout:
        past = [one for one in past if one.rollout == rollout]
        if not past:
            missing = "".join(f"; {problem}" for problem in problems)
            raise BadInput(f"{rollout}: no host knows of such a rollout of {chosen.name}{missing}")
    past = past[: int(limit)]
    if json:
        for line in problems:
            sys.stderr.write(line + "\n")
        for one in past:
            say(history_view.as_json(one))
    elif rollout:
        sys.stdout.write(history_view.shown(past[0]) + "".join(f"{p}\n" for p in problems))
    else:
        sys.stdout.write(history_view.table(past, problems))


def lock_status(inventory: Inventory, service: str, names: Sequence[str], *, json: bool) -> None:
    """Print who holds what."""
    from fabfile.drivers import freeze
    from fabfile.drivers.locks import describe

    def show(chosen: Service, hosts: tuple[str, ...], remotes: Remotes) -> None:
        locks = freeze.look(chosen, hosts, remotes)
        for lock in locks:
            facts = {"host": lock.host, "key": lock.held.key, "owner": lock.held.owner}
            facts |= {"since": lock.held.since, "age": str(lock.held.age)}
            facts |= {"damaged": lock.held.damaged} if lock.held.damaged else {}
            text = f"{lock.host}  {lock.held.key}: {describe(lock.held)}"
            say(dumps(facts | dict(lock.held.facts)) if json else text)
        if not locks and not json:
            say("nothing is locked")

    _with_hosts(inventory, service, names, show)


def lock_acquire(
    inventory: Inventory, service: str, names: Sequence[str], *, message: str, wait: str
) -> None:
    """Freeze a service."""
    from fabfile.drivers import freeze

    if not message:
        raise BadInput('--message is needed: fab lock.acquire -m "freeze for the sale"')
    seconds = parse_duration(wait, "--lock-wait") if wait else 0.0

    def take(chosen: Service, hosts: tuple[str, ...], remotes: Remotes) -> None:
        freeze.freeze(chosen, hosts, remotes, message, seconds)
        say(f"{chosen.name} is frozen on {', '.join(hosts)}: fab lock.release ends it")

    _with_hosts(inventory, service, names, take)


def lock_release(inventory: Inventory, service: str, names: Sequence[str], *, force: bool) -> None:
    """End a freeze."""
    from fabfile.drivers import freeze

    def give_back(chosen: Service, hosts: tuple[str, ...], remotes: Remotes) -> None:
        released = freeze.thaw(chosen, hosts, remotes, force=force)
        say(f"released {len(released)} locks" if released else "nothing was locked")

    _with_hosts(inventory, service, names, give_back)


def _with_hosts(
    inventory: Inventory,
    service: str,
    names: Sequence[str],
    do: Callable[[Service, tuple[str, ...], Remotes], None],
) -> None:
    found, hosts = chosen(inventory, service, names)
    remotes = Remotes(inventory)
    try:
        do(found, hosts, remotes)
    finally:
        remotes.close()


def doctor(inventory: Inventory, service: str, names: Sequence[str], *, json: bool) -> int:
    """Print what the set-up lacks; returns 0, 3 (risks) or 5 (problems)."""
    from fabfile.checks.doctor import judge, view
    from fabfile.drivers.doctor import examine, wanted

    what = wanted(inventory, service, names)
    with Remotes(inventory) as remotes:
        diagnosis = judge.diagnose(examine(inventory, what, remotes))
    view.show(diagnosis, as_object=json)
    return diagnosis.exit_code
