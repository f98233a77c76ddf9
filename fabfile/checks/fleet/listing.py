"""The containers of a service, one by one: for people a table, for machines a line each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fabfile.checks.fleet.facts import Container
from fabfile.checks.fleet.table import columns

HEAD = ("host", "instance", "version", "digest", "state", "health", "up", "ports", "container")


@dataclass(frozen=True)
class Listed:
    """One container of the service's project; ``container`` ``None``: an instance without any."""

    host: str
    name: str
    """``app_1``, or what else the compose file has beside the instances."""
    container: Container | None
    up: float | None = None
    """Seconds it has been running, by its host's clock."""


def lines(listed: Sequence[Listed]) -> Iterable[str]:
    """A table."""
    return columns([HEAD, *map(_texts, listed)])


def as_json(one: Listed) -> str:
    """One container on one line."""
    found = one.container
    facts: dict[str, object] = {"host": one.host, "instance": one.name}
    if found is None:
        return json.dumps({**facts, "state": "missing"})
    return json.dumps(
        {
            **facts,
            "container": found.name,
            "version": found.version or found.shown_version,
            "release": found.release,
            "image": found.image,
            "digest": found.digest,
            "state": found.status,
            "health": found.health,
            "up": None if one.up is None else round(one.up),
            "restarts": found.restarts,
            "exit_code": None if found.running else found.exit_code,
            "ports": list(found.ports),
        }
    )


def _texts(one: Listed) -> tuple[str, ...]:
    found = one.container
    if found is None:
        return (one.host, one.name, "-", "-", "missing", "-", "-", "-", "-")
    return (
        one.host,
        one.name + (" (run)" if found.oneoff else ""),
        found.shown_version,
        found.digest.removeprefix("sha256:")[:12] or "-",
        found.status if found.running else f"{found.status} ({found.exit_code})",
        found.health or "-",
        "-" if one.up is None else ago(one.up),
        ",".join(found.ports) or "-",
        found.name,
    )


def ago(seconds: float) -> str:
    """How long, in its two largest units: ``3d 4h``, ``5m 7s``."""
    left = max(0, round(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or parts or unit == "s":
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])
