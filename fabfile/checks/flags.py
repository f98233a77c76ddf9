"""The flags of ``inv healthcheck``, as typed, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fabfile.checks.healthcheck import Options
from fabfile.checks.lanes import Connections
from fabfile.errors import BadInput
from fabfile.inventory import loader
from fabfile.inventory.values import parse_duration

_MAX_RATE = 5000.0


@dataclass(frozen=True)
class Flags:
    """One field per flag; strings are as typed, and empty where the flag was not given."""

    url: tuple[str, ...] = ()
    service: str = ""
    inventory: str = ""
    rate: str = "50"
    duration: str = "30s"
    until_interrupted: bool = False
    keep_alive: bool = False
    fresh: bool = False
    expect_version: str = ""
    until_version: str = ""
    timeout: str = "5s"
    slow_after: str = "1s"
    json: bool = False
    record: str = ""
    cookies: bool = False
    max_failures: str = ""
    nagios: bool = False


def options(flags: Flags) -> Options:
    """The checked options. Raises :class:`BadInput`, one line."""
    if flags.keep_alive and flags.fresh:
        raise BadInput("--keep-alive and --fresh exclude each other")
    if flags.json and flags.nagios:
        raise BadInput("--json and --nagios exclude each other")
    if flags.expect_version and flags.until_version not in ("", flags.expect_version):
        raise BadInput("--expect-version and --until-version name different versions")
    return Options(
        urls=flags.url or inventory_urls(flags.inventory, flags.service),
        rate=_rate(flags.rate),
        duration=None if flags.until_interrupted else _seconds(flags.duration, "--duration"),
        connections=_connections(flags),
        expect_version=flags.expect_version or None,
        until_version=flags.until_version or None,
        timeout=_seconds(flags.timeout, "--timeout"),
        slow_after=_seconds(flags.slow_after, "--slow-after"),
        as_json=flags.json,
        record=Path(flags.record) if flags.record else None,
        cookies=flags.cookies,
        max_failures=_count(flags.max_failures) if flags.max_failures else None,
        nagios=flags.nagios,
    )


def inventory_urls(path: str, service: str) -> tuple[str, ...]:
    """The ``urls`` of one service of the inventory, or of all. Raises :class:`BadInput`."""
    inventory = loader.load(loader.here(path))
    services = inventory.services
    if service and service not in services:
        known = ", ".join(services)
        raise BadInput(f"--service: {service} is not in {inventory.path} (there is {known})")
    chosen = [services[service]] if service else list(services.values())
    urls = tuple(dict.fromkeys(url for each in chosen for url in each.urls))
    if not urls:
        raise BadInput(f"no URL to probe: {inventory.path} has no `urls`, so name one with --url")
    return urls


def _seconds(text: str, flag: str) -> float:
    value = parse_duration(text, flag)
    if value <= 0:
        raise BadInput(f"{flag}: {text!r} is not above 0")
    return value


def _connections(flags: Flags) -> Connections:
    if flags.keep_alive:
        return "kept"
    return "fresh" if flags.fresh else "both"


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= _MAX_RATE:
        raise BadInput(f"--rate: {text!r} is no number of requests per second up to 5000")
    return rate


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise BadInput(f"--max-failures: {text!r} is no whole number")
    return int(text)
