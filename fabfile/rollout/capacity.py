"""How much of a service is in rotation, and whether one more server may leave.

Capacity is the sum of the effective weights of servers that are up, ready and no backups, as a
share of the weights recorded at the start for every server that no operator had in maint.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from fabfile.balancers.model import BackendReading, ServerReading, ServerRecord, ServerRef

Readings = Mapping[tuple[str, str], BackendReading]
"""By balancer id and backend."""
EVERYWHERE = "all hosts together"
"""The name of the pool over the backends of all hosts (``hosts: self``)."""


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
    silent: bool = False
    """Its balancer could not be asked."""

    def __str__(self) -> str:
        if self.silent:
            return f"{self.pool}: cannot be asked, so it is assumed to serve"
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
        found.append(Pool(EVERYWHERE, everywhere))
    return tuple(found)


def _takes(server: ServerReading | None) -> int:
    """What it takes of new requests now; 0 where nobody could say."""
    return server.weight if server is not None and server.in_rotation else 0


@dataclass(slots=True, eq=False)
class _Entry:
    """One server in the ledger."""

    places: list[int] = field(default_factory=list)
    """Its pools, by number."""
    weight: int = 0
    """What it took of new requests when it was last read."""
    taken: bool = False


class Ledger:
    """What every pool has in rotation, kept up to date server by server.

    Counting a pool afresh for every drain would make a rollout over N servers cost N * N.
    """

    def __init__(self, pools: Iterable[Pool], min_capacity: int) -> None:
        """``min_capacity``: percent of each pool that has to stay."""
        self._pools = tuple(pools)
        self._floors = [pool.floor(min_capacity) for pool in self._pools]
        self._totals = [pool.total for pool in self._pools]
        self._left = [0] * len(self._pools)
        self._heard: set[tuple[str, str]] = set()
        self._changed: set[int] = set()
        self._told = [-1] * len(self._pools)
        self._entries: dict[ServerRef, _Entry] = {}
        self._backends: dict[tuple[str, str], dict[str, _Entry]] = {}
        for number, pool in enumerate(self._pools):
            for ref in pool.baseline:
                self._enter(ref).places.append(number)

    def _enter(self, ref: ServerRef) -> _Entry:
        entry = self._entries.get(ref)
        if entry is None:
            entry = self._entries[ref] = _Entry()
            self._backends.setdefault((ref.balancer, ref.backend), {})[ref.server] = entry
        return entry

    def see(self, readings: Readings, *, partial: bool = False) -> None:
        """Take in what the balancers say; ``partial`` as in ``steps.Seen``."""
        if partial:
            for key, reading in readings.items():
                entries = self._backends.get(key, {})
                for name, server in reading.servers.items():
                    if (entry := entries.get(name)) is not None:
                        self._set(entry, _takes(server))
            return
        self._heard = set(readings)
        for key, entries in self._backends.items():
            servers = readings[key].servers if key in readings else {}
            for name, entry in entries.items():
                self._set(entry, _takes(servers.get(name)))

    def _set(self, entry: _Entry, weight: int) -> None:
        change = weight - entry.weight
        entry.weight = weight
        if change and not entry.taken:
            self._count(entry, change)

    def _count(self, entry: _Entry, change: int) -> None:
        for number in entry.places:
            self._left[number] += change
            self._changed.add(number)

    def take(self, refs: Iterable[ServerRef]) -> None:
        """These count as gone from now on, whatever the readings say."""
        for entry in self._found(refs):
            if not entry.taken:
                entry.taken = True
                self._count(entry, -entry.weight)

    def give(self, refs: Iterable[ServerRef]) -> None:
        """These count as the readings say again."""
        for entry in self._found(refs):
            if entry.taken:
                entry.taken = False
                self._count(entry, entry.weight)

    def _found(self, refs: Iterable[ServerRef]) -> list[_Entry]:
        return [entry for ref in refs if (entry := self._entries.get(ref)) is not None]

    def serves(self, refs: Iterable[ServerRef]) -> bool:
        """Whether any of them takes requests."""
        return any(entry.weight for entry in self._found(refs))

    def left(self, refs: Iterable[ServerRef]) -> tuple[tuple[str, int, int], ...]:
        """``(name, left, total)`` of each pool that holds one of ``refs``."""
        return self._said({number for entry in self._found(refs) for number in entry.places})

    def changes(self) -> tuple[tuple[str, int, int], ...]:
        """``(name, left, total)`` of each pool that is not what it was when this was last asked."""
        changed = {n for n in self._changed if self._left[n] != self._told[n]}
        self._changed.clear()
        for number in changed:
            self._told[number] = self._left[number]
        return self._said(changed)

    def _said(self, numbers: Collection[int]) -> tuple[tuple[str, int, int], ...]:
        return tuple((self._pools[n].name, self._left[n], self._totals[n]) for n in sorted(numbers))

    def refusal(self, leaving: Collection[ServerRef]) -> Refusal | None:
        """Why ``leaving`` may not be drained now; ``None``: it may.

        A balancer that cannot be asked is assumed to serve, so nothing behind it may leave. A
        server that takes no requests now contributes nothing, so its upgrade is never refused.
        """
        mine: dict[int, int] = {}
        for ref in leaving:
            if (ref.balancer, ref.backend) not in self._heard:
                return Refusal(f"{ref.balancer}:{ref.backend}", 0, 0, 0, 0, silent=True)
            entry = self._entries.get(ref)
            if entry is not None and entry.weight and not entry.taken:
                for number in entry.places:
                    mine[number] = mine.get(number, 0) + entry.weight
        for number, weight in mine.items():
            now, floor = self._left[number], self._floors[number]
            if now - weight <= 0 or now - weight < floor:
                return Refusal(
                    self._pools[number].name, now, now - weight, floor, self._totals[number]
                )
        return None


def refusal(
    leaving: Collection[ServerRef],
    pools: Iterable[Pool],
    readings: Readings,
    reserved: Collection[ServerRef],
    min_capacity: int,
    *,
    allow_outage: bool = False,
) -> Refusal | None:
    """Why ``leaving`` may not be drained now; ``None``: it may. For a single question.

    ``reserved`` are servers that were granted a drain which the readings may not show yet.
    With ``allow_outage`` nothing is refused.
    """
    if allow_outage:
        return None
    ledger = Ledger(pools, min_capacity)
    ledger.see(readings)
    ledger.take(reserved)
    return ledger.refusal(leaving)
