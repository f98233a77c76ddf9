"""What the tasks of ``fab`` and ``inv`` share: flags in, inventory and wishes out.

Imported lazily by the tasks: it pulls in everything.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from fabfile.drivers.prepare import Wish, with_flags
from fabfile.errors import BadInput
from fabfile.inventory import loader
from fabfile.inventory.model import Inventory, Service
from fabfile.inventory.selection import select_hosts, select_service
from fabfile.inventory.values import parse_duration, parse_serial, parse_version
from fabfile.reports.console import Console, JsonLines, Tee, as_json
from fabfile.rollout.events import Event, Notice

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
) -> Wish:
    """What the flags of ``fab deploy`` ask for. Raises :class:`BadInput` for any mistake."""
    if not version:
        raise BadInput("--version is needed: fab deploy --version 1.2.3")
    found, hosts = chosen(inventory, service, names)
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
    return Wish(changed, parse_version(version), hosts, bool(names), reason, allow_outage)


def one_of(value: str, flag: str, allowed: Sequence[str]) -> str | None:
    """``value``, if it is one of ``allowed``; ``None`` where the flag was not given."""
    if not value:
        return None
    if value not in allowed:
        raise BadInput(f"{flag}: {value!r} is none of {', '.join(allowed)}")
    return value


def receivers(inventory: Inventory, *, json: bool, log: str = "") -> Callable[[Event], None]:
    """Where events go: lines or JSON on stdout, and a log beside the inventory."""
    found: list[Callable[[Event], None]] = [JsonLines() if json else Console()]
    if log:
        path = inventory.root / ".evenkeel" / "rollouts" / f"{log}.jsonl"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            found.append(partial(_append, path))
        except OSError as error:
            found[0](Notice(f"no log is kept of this: {error}"))
    return Tee(*found)


def _append(path: Path, event: Event) -> None:
    with path.open("a", encoding="utf-8") as stream:
        JsonLines(stream)(event)


def say(line: str) -> None:
    """One line on stdout."""
    sys.stdout.write(line + "\n")


def deploy(inventory: Inventory, asked: Wish, *, json: bool) -> int:
    """Run a rollout; returns its exit code."""
    from fabfile.drivers.deploy import deploy as run
    from fabfile.drivers.identity import new_id

    rollout = new_id()
    _, code = run(inventory, asked, rollout, receivers(inventory, json=json, log=rollout))
    return code


def plan(inventory: Inventory, asked: Wish, *, json: bool) -> int:
    """Print what a rollout would do now; returns 0."""
    from fabfile.drivers.paper import on_paper
    from fabfile.reports.plan_view import plan_view

    frozen, run = on_paper(inventory, asked, Notices(receivers(inventory, json=json)))
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
    json: bool,
) -> None:
    """Bring hosts and balancers to what the templates say."""
    from fabfile.drivers.provision import Provision
    from fabfile.remote.pool import Remotes

    remotes = Remotes(inventory)
    try:
        work = Provision(inventory, service, hosts, remotes, receivers(inventory, json=json))
        if "app" in parts:
            work.application(parse_version(version) if version else None)
        if "balancers" in parts:
            work.balancers()
    finally:
        remotes.close()
