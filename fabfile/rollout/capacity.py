"""How much of a service is in rotation, and whether one more server may leave.

Capacity is the sum of the effective weights of servers that are up, ready and no backups, as a
share of the weights recorded at the start for every server that no operator had in maint.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from fabfile.balancers.model import BackendReading, ServerReading, ServerRecord, ServerRef

Readings = Mapping[tuple[str, str], BackendReading]
"""By balancer id and backend."""


@dataclass(frozen=True)
class Pool:
    """Servers that answer for each other: one backend, or the sum of several."""

    name: str
    baseline: Mapping[ServerRef, int]
    """Recorded weight of each server that counts."""

    @property
    def total(self) -> int:
        """The recorded weights together: 100%."""
        return sum(self.baseline.values())

    def floor(self, min_capacity: int) -> int:
        """The least weight that has to stay, for ``min_capacity`` percent; rounded up."""
        return -(-self.total * min_capacity // 100)


@dataclass(frozen=True)
class Refusal:
    """Why a server may not leave now."""

    pool: str
    now: int
    after: int
    floor: int
    total: int

    def __str__(self) -> str:
        share = 100 * self.after // self.total if self.total else 0
        if self.after <= 0:
            return f"{self.pool}: that would take its last server"
        return (
            f"{self.pool}: {self.after} of {self.total} ({share}%) would stay in rotation,"
            f" {self.floor} are needed"
        )


def pools(records: Iterable[ServerRecord], summed: Collection[str] = ()) -> tuple[Pool, ...]:
    """A pool for each backend, and one over the backends of the balancers in ``summed``.

    ``summed`` names balancers that each stand in front of their own host's instances only
    (``hosts: self``): none of them alone says how much of the service is left.
    """
    by_backend: dict[str, dict[ServerRef, int]] = {}
    everywhere: dict[ServerRef, int] = {}
    for record in records:
        if record.admin == "maint":
            continue
        ref = record.ref
        by_backend.setdefault(f"{ref.balancer}:{ref.backend}", {})[ref] = record.uweight
        if ref.balancer in summed:
            everywhere[ref] = record.uweight
    found = [Pool(name, baseline) for name, baseline in sorted(by_backend.items())]
    if len({ref.balancer for ref in everywhere}) > 1:
        found.append(Pool("all hosts together", everywhere))
    return tuple(found)


def weight_now(ref: ServerRef, readings: Readings) -> int:
    """What ``ref`` takes of new requests now; 0 where nobody could say."""
    backend = readings.get((ref.balancer, ref.backend))
    server: ServerReading | None = backend.servers.get(ref.server) if backend else None
    return server.weight if server is not None and server.in_rotation else 0


def refusal(
    leaving: Collection[ServerRef],
    pools: Iterable[Pool],
    readings: Readings,
    reserved: Collection[ServerRef],
    min_capacity: int,
    *,
    allow_outage: bool = False,
) -> Refusal | None:
    """Why ``leaving`` may not be drained now; ``None``: it may.

    ``reserved`` are servers that were granted a drain which the readings may not show yet.
    A server that takes no requests now contributes nothing, so its upgrade is never refused.
    With ``allow_outage`` nothing is.
    """
    if allow_outage:
        return None
    gone = set(leaving)
    for pool in pools:
        mine = gone & pool.baseline.keys()
        if not any(weight_now(ref, readings) for ref in mine):
            continue
        there = {ref: weight_now(ref, readings) for ref in pool.baseline if ref not in reserved}
        after = sum(weight for ref, weight in there.items() if ref not in gone)
        floor = pool.floor(min_capacity)
        if after <= 0 or after < floor:
            return Refusal(pool.name, sum(there.values()), after, floor, pool.total)
    return None
