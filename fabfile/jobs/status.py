"""``inv status``: flags in, a report out, Nagios' exit code back. Imported when the task runs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from fabfile.checks.fleet import machine, memory, table
from fabfile.checks.fleet.judge import Report, judge
from fabfile.checks.fleet.memory import Seen
from fabfile.checks.summary import UNKNOWN
from fabfile.drivers.status import look
from fabfile.errors import BadInput, EvenkeelError
from fabfile.files import replace_file
from fabfile.inventory.model import Inventory, Service
from fabfile.inventory.selection import select_hosts, select_service
from fabfile.jobs.asked import inventory_of
from fabfile.remote.pool import Remotes
from fabfile.reports import webhook


@dataclass(frozen=True)
class Flags:
    """One field per flag, as typed; empty where it was not given."""

    service: str = ""
    hosts: str = ""
    inventory: str = ""
    json: bool = False
    nagios: bool = False
    quiet: bool = False
    prometheus: str = ""
    notify: str = ""
    state: str = ""


@dataclass(frozen=True)
class Wanted:
    """What the flags mean."""

    inventory: Inventory
    services: tuple[Service, ...]
    selected: Mapping[str, tuple[str, ...]]
    """Hosts by service."""
    flags: Flags
    url: str
    """Where to notify; empty: nowhere."""
    memory: Path


def run_status(flags: Flags, out: TextIO | None = None) -> int:
    """Look, judge, tell; returns 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.

    Whatever is wrong with a flag, a file or a webhook is one line on stderr. It is UNKNOWN where
    nothing could be learned of the fleet; otherwise the exit code is about the fleet alone.
    """
    stream = out or sys.stdout
    try:
        wanted = _wanted(flags)
        with Remotes(wanted.inventory) as remotes:
            report = judge(look(wanted.inventory, wanted.services, wanted.selected, remotes))
    except EvenkeelError as error:
        complain(f"UNKNOWN: {error}")
        return UNKNOWN
    except KeyboardInterrupt:
        complain("UNKNOWN: interrupted")
        return UNKNOWN
    if flags.prometheus:
        _write_metrics(Path(flags.prometheus), report)
    recalled = _remember(wanted, report) if flags.quiet or wanted.url else ""
    _show(flags, report, recalled, stream)
    return report.exit_code


def complain(text: str) -> None:
    """What is wrong with the check itself, beside its result."""
    sys.stderr.write(f"{text}\n")


def _wanted(flags: Flags) -> Wanted:
    """Raises :class:`BadInput`."""
    given = [f"--{name}" for name in ("json", "nagios", "quiet") if getattr(flags, name)]
    if len(given) > 1:
        raise BadInput(f"{' and '.join(given)} exclude each other")
    url = webhook.url_of(flags.notify, "--notify") if flags.notify else ""
    inventory = inventory_of(flags.inventory)
    services = _services(inventory, flags)
    selected = {
        s.name: _hosts(inventory, s, flags.hosts, alone=len(services) == 1) for s in services
    }
    services = tuple(service for service in services if selected[service.name])
    if not services:
        raise BadInput(f"--hosts: no service runs on {flags.hosts}")
    return Wanted(inventory, services, selected, flags, url, _memory(inventory, flags))


def _services(inventory: Inventory, flags: Flags) -> tuple[Service, ...]:
    """Those that are meant: all, unless one is named."""
    if flags.service or not inventory.services:
        return (select_service(inventory, flags.service or None),)
    return tuple(inventory.services.values())


def _hosts(inventory: Inventory, service: Service, typed: str, *, alone: bool) -> tuple[str, ...]:
    """The hosts of ``service`` that are meant; a host that runs another one is no mistake."""
    names = typed.split(",") if typed else []
    try:
        if not names or alone:
            return select_hosts(inventory, service, names)
        return tuple(h for h in select_hosts(inventory, None, names) if h in service.hosts)
    except BadInput as error:
        raise BadInput(str(error).replace("-H: ", "--hosts: ")) from None


def _memory(inventory: Inventory, flags: Flags) -> Path:
    """Each selection has a memory of its own, unless --state says where it is."""
    if flags.state:
        return Path(flags.state)
    parts = [inventory.path.stem, flags.service, flags.hosts.replace(",", "+")]
    name = "-".join(part.replace("/", "_") for part in parts if part)
    return inventory.root / ".evenkeel" / "status" / f"{name[:200]}.json"


def _write_metrics(path: Path, report: Report) -> None:
    try:
        replace_file(path, machine.prometheus(report, time.time()), 0o644)
    except OSError as error:
        complain(f"--prometheus: {path}: {error.strerror or error}")


def _remember(wanted: Wanted, report: Report) -> str:
    """Compare with the run before and notify; returns what ``--quiet`` says."""
    now = Seen(report.exit_code, tuple(sorted({verdict.key for verdict in report.verdicts})))
    with memory.remembered(wanted.memory, complain) as seen:
        before = seen[0]
        now = replace(now, told=before.told)
        if wanted.url and memory.to_tell(now):
            why = webhook.post(wanted.url, _message(report, before, now))
            if why:
                complain(f"--notify: the webhook was not told: {why}; the next run tries again")
            else:
                now = memory.told(now)
        seen.append(now)
    return memory.quiet_line(before, now, table.plain(report.headline))


def _message(report: Report, before: Seen, now: Seen) -> dict[str, object]:
    text = memory.quiet_line(before, now, report.headline) or report.headline
    return {
        "text": text,
        "verdict": report.word,
        "exit_code": report.exit_code,
        "verdicts": [
            {"name": v.name, "severity": v.severity, "subject": v.subject, "text": v.text,
             "mend": v.mend, "service": v.service}
            for v in report.verdicts
        ],
    }  # fmt: skip


def _show(flags: Flags, report: Report, recalled: str, stream: TextIO) -> None:
    if flags.quiet:
        lines = [recalled] if recalled else []
    elif flags.json:
        lines = [machine.as_json(report)]
    elif flags.nagios:
        lines = [table.nagios(report)]
    else:
        lines = table.lines(report)
    try:
        for line in lines:
            stream.write(f"{line}\n")
        stream.flush()
    except BrokenPipeError:  # whoever read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
