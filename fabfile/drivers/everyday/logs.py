"""The logs of instances on many hosts: as they are, in order of time, or as they come."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from fabfile.drivers.everyday.picking import by_host
from fabfile.drivers.everyday.streams import Streams
from fabfile.drivers.preflight import everywhere, failed, reachable
from fabfile.errors import BadInput
from fabfile.inventory.mistakes import shown
from fabfile.inventory.model import Instance, Service
from fabfile.inventory.values import parse_duration
from fabfile.remote.base import Command
from fabfile.remote.pool import Remotes
from fabfile.runtimes import containers

TIMEOUT = 120.0
"""Deadline in seconds of reading what is there."""
FEW = "100"
"""Lines of each instance, where nobody says how many or since when."""

_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?")


@dataclass(frozen=True)
class Line:
    """One line of a container's log."""

    host: str
    instance: str
    """``app_1``."""
    text: str
    stamp: str = ""
    """When Docker got it, in UTC, as a text that sorts; empty: Docker did not say."""


@dataclass(frozen=True)
class Wanted:
    """How much of the logs."""

    since: str = ""
    """As Docker takes it; empty: from the beginning."""
    tail: str = FEW
    """A number of lines, or ``all``."""


def wanted(since: str, tail: str) -> Wanted:
    """What ``--since`` and ``--tail`` ask for. Raises :class:`BadInput`."""
    if tail and tail != "all" and not tail.isdecimal():
        raise BadInput(f"--tail: {shown(tail)} is neither a number of lines nor all")
    if since and not _MOMENT.fullmatch(since):
        since = f"{parse_duration(since, '--since'):.3f}s"
    return Wanted(since, tail or ("all" if since else FEW))


def read(
    service: Service, instances: Sequence[Instance], remotes: Remotes, asked: Wanted
) -> tuple[list[Line], list[str]]:
    """All hosts' lines in order of time, and what could not be read.

    A line without a moment of its own stays behind the one it came after.
    """
    chosen = by_host(instances)
    hosts, problems = reachable(remotes, chosen)
    scripts = {
        host: containers.logs_script(
            service, [i.name for i in chosen[host]], asked.since, asked.tail
        )
        for host in hosts
    }
    lines: list[tuple[str, Line]] = []
    for host, result in everywhere(remotes, scripts, "docker logs", TIMEOUT).items():
        before = ""
        for line in (_line(host, raw) for raw in result.stdout.splitlines()):
            before = line.stamp or before
            lines.append((before, line))
        problems += [f"{host}: {text}" for text in result.stderr.splitlines() if result.ok]
        problems += [] if result.ok else [failed(result)]
    return [line for _, line in sorted(lines, key=lambda pair: pair[0])], problems


def follow(
    service: Service, instances: Sequence[Instance], remotes: Remotes, asked: Wanted
) -> Generator[Line | str, None, None]:
    """Lines as they come, and what a person should know (a host went away, or is back), until
    whoever iterates stops: closing the iterator ends every script on the hosts."""
    chosen = by_host(instances)
    last: dict[str, dict[str, str]] = {host: {} for host in chosen}

    def command(host: str) -> Command:
        seen = max(last[host].values(), default="")
        names = [instance.name for instance in chosen[host]]
        since, tail = (seen, "all") if seen else (asked.since, asked.tail)
        script = containers.follow_script(service, names, since, tail)
        return Command(script, label="docker logs")

    with Streams(remotes, dict.fromkeys(chosen, command), again=True) as streams:
        for piece in streams.pieces():
            if piece.kind == "out":
                line = _line(piece.host, piece.text)
                if _is_new(line, last[piece.host]):
                    yield line
            elif piece.kind == "lost":
                yield f"{piece.text}: it is asked again until it answers"
            elif piece.kind == "back":
                yield f"{piece.host}: answers again"
            elif piece.text:
                yield f"{piece.host}: {piece.text.removeprefix(f'{piece.host}: ')}"


def _is_new(line: Line, last: dict[str, str]) -> bool:
    """Whether it was not there before its host went away; Docker's ``since`` is inclusive."""
    if line.stamp and line.stamp <= last.get(line.instance, ""):
        return False
    last[line.instance] = line.stamp or last.get(line.instance, "")
    return True


def _line(host: str, raw: str) -> Line:
    instance, _, rest = raw.partition(" ")
    stamp, _, text = rest.partition(" ")
    if _STAMP.fullmatch(stamp):
        return Line(host, instance, text, stamp)
    return Line(host, instance, rest)
