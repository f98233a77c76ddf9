"""What balancers say of their servers, in words: for people a table, for machines a line each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from fabfile.balancers.haproxy.decode import Decoded
from fabfile.reports.columns import columns

HEAD = (
    "balancer",
    "server",
    "address",
    "state",
    "because of",
    "is",
    "check",
    "weight now/set/configured",
    "sessions",
    "queue",
)


def lines(servers: Sequence[Decoded]) -> Iterator[str]:
    """A table, and a line for each server that somebody drained."""
    several = len({one.backend for one in servers}) > 1
    yield from columns([HEAD, *(_texts(one, several) for one in servers)])
    told = dict.fromkeys(f"{one.server}: {one.drained}" for one in servers if one.drained)
    yield from (f"note: {text}" for text in told)


def _texts(one: Decoded, several: bool) -> tuple[str, ...]:
    seen = one.reading
    return (
        one.balancer,
        f"{one.backend}/{one.server}" if several else one.server,
        one.address,
        one.admin + (" (backup)" if seen.backup else ""),
        ", ".join(one.why) or "-",
        one.operational,
        one.check or "-",
        f"{seen.weight}/{seen.uweight}/{seen.iweight}",
        str(seen.scur),
        str(seen.qcur),
    )


def as_json(one: Decoded) -> str:
    """One server of one balancer on one line."""
    facts = asdict(one)
    seen = facts.pop("reading")
    kept = ("weight", "uweight", "iweight", "scur", "qcur", "stot", "requests", "errors_5xx")
    return json.dumps({**facts, "backup": seen["backup"], **{name: seen[name] for name in kept}})
