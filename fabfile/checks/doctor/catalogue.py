"""Every kind of finding: how bad, what it means, what to do. docs/doctor.md is made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fabfile.checks.doctor import balancer_kinds, kinds
from fabfile.checks.doctor.kinds import AREAS, Kind

CATALOGUE: Mapping[str, Kind] = {**kinds.KINDS, **balancer_kinds.KINDS}


def table() -> Iterator[str]:
    """The table of docs/doctor.md, line by line."""
    yield "| finding | how bad | what it means | what to write or do |"
    yield "| --- | --- | --- | --- |"
    for area in AREAS:
        yield f"| **{area}** | | | |"
        for code, kind in CATALOGUE.items():
            if kind.area == area:
                yield f"| `{code}` | {', '.join(kind.severities)} | {kind.means} | {kind.mend} |"
