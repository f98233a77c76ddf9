"""Out of rotation and back by a person's hand, on every balancer, as a rollout does both.

The procedure is the rollout's own (``strategies.rolling``): the same orders, read back in the same
way, with the same deadline and policy. Only nothing is replaced in between, and a record on the
balancers' hosts says who wanted it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from fabfile.balancers.haproxy import change
from fabfile.balancers.model import BackendReading, ServerRecord, ServerRef
from fabfile.drivers.balancers import Change, Pool, backend_key, record_of
from fabfile.drivers.everyday.carrying import Carrier
from fabfile.drivers.everyday.footing import Footing
from fabfile.drivers.operators import Operators, said
from fabfile.drivers.preflight import refuse
from fabfile.drivers.rotation import Rotation
from fabfile.errors import BadInput, EvenkeelError
from fabfile.inventory.model import Balancer, Instance, Service
from fabfile.remote.drained import Drained
from fabfile.remote.pool import Remotes
from fabfile.rollout import capacity
from fabfile.rollout.events import Event, Notice
from fabfile.rollout.plan import Release, Target
from fabfile.rollout.steps import Failed, Restore
from fabfile.rollout.strategies.rolling import come_back, leave

LANES = 32
"""Instances at a time."""
DONE, GIVEN_UP, BROKEN = 0, 7, 6
"""Exit codes: as asked · everything is as it was before · something is not, and recorded."""

_NOTHING = Release("", "", "")
"""No release has to do with it."""


class Shifting:
    """Drains or enables some instances of one service. Close it when done."""

    def __init__(
        self,
        service: Service,
        instances: Sequence[Instance],
        remotes: Remotes,
        emit: Callable[[Event], None],
        *,
        reason: str = "",
        wait: float = 0.0,
    ) -> None:
        """``wait``: seconds to wait for somebody else's lock."""
        self._instances = tuple(instances)
        self._remotes = remotes
        self._emit = emit
        self._reason = reason
        self._wait = wait
        self._stopped = threading.Event()
        self._footing: Footing | None = None
        self._service = service
        self._unasked: tuple[str, ...] = ()
        self._pool: Pool | None = None

    def stop(self, why: str) -> None:
        """End it in good order: what was not through is put back."""
        del why
        self._stopped.set()

    def close(self) -> None:
        """End conversations."""
        if self._pool is not None:
            self._pool.close()

    # drain

    def drain(self, *, allow_outage: bool = False) -> int:
        """Out of rotation until :meth:`enable`; returns the exit code.

        Raises :class:`PreflightFailed` or :class:`Locked`, when nothing was changed.
        """
        self._reach(all_of_them=True)
        with self._stand("drain") as footing:
            readings = self._read(all_of_them=True)
            targets = [self._to_leave(instance, readings) for instance in self._instances]
            if not allow_outage:
                self._check_capacity(targets, readings)
            records = {t.instance: self._notes(t) for t in targets}
            footing.note(_joined(records.values()))
            return self._each(targets, lambda target: self._leave(target, records[target.instance]))

    def _to_leave(self, instance: Instance, readings: Mapping[str, BackendReading]) -> Target:
        return Target(
            instance,
            _NOTHING,
            None,
            tuple(record_of(ref, readings[ref.balancer]) for ref in self._refs(instance)),
        )

    def _check_capacity(
        self, targets: Iterable[Target], readings: Mapping[str, BackendReading]
    ) -> None:
        """What people drained before counts as missing, and not as never there."""
        assert self._pool is not None
        service = self._service
        baseline = [
            self._whole(ref, readings[ref.balancer])
            for host in service.hosts
            for instance in service.instances_on(host)
            for ref in self._refs(instance)
            if ref.server in readings[ref.balancer].servers
        ]
        summed = [b.id for b in self._pool.balancers if b.spec.hosts == "self"]
        ledger = capacity.Ledger(capacity.pools(baseline, summed), service.rollout.min_capacity)
        asked = [b for b in self._pool.balancers if b.id in readings]
        ledger.see({(b.id, b.spec.backend): readings[b.id] for b in asked})
        refused = ledger.refusal([ref for target in targets for ref in target.refs])
        if refused is not None:
            refuse([f"{refused} (--allow-outage goes on all the same)"])

    def _whole(self, ref: ServerRef, reading: BackendReading) -> ServerRecord:
        record, note = record_of(ref, reading), self._noted(ref)
        if note is None or record.admin == "ready":
            return record
        return replace(record, uweight=note.uweight, admin="ready")

    def _notes(self, target: Target) -> dict[str, list[Drained]]:
        """By host. One that is drained already keeps the weight that was found the first time."""
        assert self._footing is not None
        found: dict[str, list[Drained]] = {}
        for record in target.servers:
            balancer = self._balancer(record.ref)
            note = self._noted(record.ref)
            still = note is not None and record.admin != "ready"
            kept = note.uweight if note is not None and still else record.uweight
            found.setdefault(balancer.host, []).append(
                Drained(
                    backend_key(balancer),
                    record.ref.backend,
                    record.ref.server,
                    target.instance.id,
                    self._service.name,
                    kept,
                    self._footing.by,
                    self._reason,
                )
            )
        return found

    def _leave(self, target: Target, records: Mapping[str, Sequence[Drained]]) -> int:
        assert self._footing is not None
        problem = self._carrier.carry(leave(target, self._service.drain))
        if problem is None:
            problem = self._keep_weight(target, records)
        if problem is None:
            self._say(target, "is out of rotation")
            return DONE
        self._emit(Notice(f"{target.instance.id}: not drained: {problem.reason}"))
        back = self._carrier.do(Restore(target))
        if isinstance(back, Failed):
            self._emit(Notice(f"{target.instance.id}: {back.reason}; {self._mend(target)}"))
            return BROKEN
        try:
            self._footing.forget(records)
        except EvenkeelError as error:
            self._emit(Notice(str(error)))
        self._say(target, "is back as it was")
        return GIVEN_UP

    def _keep_weight(
        self, target: Target, records: Mapping[str, Sequence[Drained]]
    ) -> Failed | None:
        """In maint a weight counts for nothing: back to what it was, so that it is not lost even
        if somebody returns the server by hand."""
        assert self._pool is not None
        before = {(h, note.server): note.uweight for h, notes in records.items() for note in notes}
        wanted = {}
        for ref in target.refs:
            weight = before[self._balancer(ref).host, ref.server]
            wanted[ref.balancer] = Change(change.set_weight(ref, weight))
        wrong = [a for a in self._pool.change(wanted).values() if isinstance(a, EvenkeelError)]
        return Failed(str(wrong[0])) if wrong else None

    # enable

    def enable(self, *, chosen: bool) -> int:
        """Back at the recorded weight, or the configured one, and up; returns the exit code.

        Not ``chosen``: only what a record says was drained. A balancer that can't be asked does
        not keep the others from taking a server in. Raises :class:`Locked`.
        """
        self._reach(all_of_them=False)
        with self._stand("enable"):
            readings = self._read(all_of_them=False)
            targets = [
                self._to_return(instance, readings)
                for instance in self._instances
                if chosen or any(self._noted(ref) for ref in self._refs(instance))
            ]
            if not targets:
                self._emit(Notice("nothing was drained: nothing to do"))
            code = self._each(targets, partial(self._return, readings=readings))
        if self._unasked:
            names = ", ".join(self._unasked)
            self._emit(Notice(f"{names}: not asked, so not all is back: run it again later"))
        return max(code, BROKEN if self._unasked else DONE)

    def _to_return(self, instance: Instance, readings: Mapping[str, BackendReading]) -> Target:
        records = []
        for ref in self._refs(instance):
            record, note = record_of(ref, readings[ref.balancer]), self._noted(ref)
            configured = readings[ref.balancer].servers[ref.server].iweight
            weight = configured if note is None else note.uweight
            records.append(replace(record, uweight=weight, admin="ready"))
        return Target(instance, _NOTHING, None, tuple(records))

    def _return(self, target: Target, readings: Mapping[str, BackendReading]) -> int:
        assert self._footing is not None
        servers = {r.ref: readings[r.ref.balancer].servers[r.ref.server] for r in target.servers}
        there = all(servers[r.ref].up and said(servers[r.ref]) == said(r) for r in target.servers)
        problem = None if there else self._carrier.carry(come_back(target))
        if problem is not None:
            text = f"{target.instance.id}: not back: {problem.reason}; its record stays"
            self._emit(Notice(text))
            return BROKEN
        notes: dict[str, list[Drained]] = {}
        for ref in target.refs:
            if (note := self._noted(ref)) is not None:
                notes.setdefault(self._balancer(ref).host, []).append(note)
        self._footing.forget(notes)
        weights = ", ".join(dict.fromkeys(said(record) for record in target.servers))
        self._say(target, f"{'was' if there else 'is'} up at {weights}")
        return DONE

    # what both need

    def _reach(self, *, all_of_them: bool) -> None:
        """Connect. A balancer in front of what is chosen has to answer, for a drain; others that
        do not are left out of what is counted."""
        service = self._service
        mine = {b.id: b for i in self._instances for b in service.balancers_of(i.host)}
        whole = {b.id: b for host in service.hosts for b in service.balancers_of(host)}
        if not mine:
            raise BadInput(f"{service.name} has no balancers: there is nothing to take it out of")
        failures = self._remotes.connect(dict.fromkeys(b.host for b in whole.values()))
        gone = [b for b in whole.values() if b.host in failures]
        needed = [str(failures[b.host]) for b in gone if b.id in mine]
        if all_of_them or len(needed) == len(mine):
            refuse(needed)
        for balancer in gone:
            self._emit(Notice(str(failures[balancer.host])))
        self._unasked = tuple(b.id for b in gone if b.id in mine)
        self._service = replace(service, without=(*service.without, *(b.id for b in gone)))
        self._pool = Pool(self._service, self._service.hosts, self._remotes, self._fence)
        rotation = Rotation(self._pool, service.drain.mode, Operators(self._changed))
        self._carrier = Carrier(rotation, self._emit, self._stopped)

    def _stand(self, task: str) -> Footing:
        mine = {b.id: b for i in self._instances for b in self._service.balancers_of(i.host)}
        self._footing = Footing(
            self._service, mine.values(), self._remotes, self._emit, task, self._reason, self._wait
        )
        return self._footing

    def _fence(self, host: str, keys: Iterable[str], effect: str) -> str:
        assert self._footing is not None
        return self._footing.fence(host, keys, effect)

    def _changed(self, target: Target, was: ServerRecord, now: ServerRecord) -> None:
        text = f"somebody changed {now.ref} from {said(was)} to {said(now)} meanwhile"
        self._emit(Notice(text, target.instance.host))

    def _read(self, *, all_of_them: bool) -> dict[str, BackendReading]:
        """What every balancer shows; one without an answer is as one on a host out of reach."""
        assert self._pool is not None
        answers = self._pool.read()
        found = {n: a for n, a in answers.items() if isinstance(a, BackendReading)}
        silent = {n: str(a) for n, a in answers.items() if n not in found}
        mine = {b.id for i in self._instances for b in self._service.balancers_of(i.host)}
        needed = [text for name, text in silent.items() if name in mine]
        if all_of_them or mine <= set(silent):
            refuse(needed)
        for text in silent.values():
            self._emit(Notice(text))
        self._unasked += tuple(name for name in silent if name in mine)
        self._service = replace(self._service, without=(*self._service.without, *silent))
        missing = [
            f"{ref.balancer}: no server {ref.backend}/{ref.server}: run `fab provision`"
            for instance in self._instances
            for ref in self._refs(instance)
            if ref.server not in found[ref.balancer].servers
        ]
        refuse(missing)
        return found

    def _refs(self, instance: Instance) -> list[ServerRef]:
        return [
            ServerRef(b.id, b.spec.backend, self._service.server_name(b.spec, instance))
            for b in self._service.balancers_of(instance.host)
        ]

    def _balancer(self, ref: ServerRef) -> Balancer:
        assert self._pool is not None
        return self._pool.hands[ref.balancer].balancer

    def _noted(self, ref: ServerRef) -> Drained | None:
        assert self._footing is not None
        balancer = self._balancer(ref)
        return self._footing.records.get((balancer.host, f"{backend_key(balancer)}.{ref.server}"))

    def _each(self, targets: Sequence[Target], do: Callable[[Target], int]) -> int:
        """All side by side; the worst exit code."""

        def one(target: Target) -> int:
            try:
                return do(target)
            except EvenkeelError as error:
                self._emit(Notice(f"{target.instance.id}: {error}; {self._mend(target)}"))
                return BROKEN

        if not targets:
            return DONE
        with ThreadPoolExecutor(min(LANES, len(targets))) as lanes:
            codes = set(lanes.map(one, targets))
        return next(code for code in (BROKEN, GIVEN_UP, DONE) if code in codes)

    def _say(self, target: Target, text: str) -> None:
        self._emit(Notice(f"{target.instance.id}: {text}"))

    def _mend(self, target: Target) -> str:
        host, name = target.instance.host, target.instance.name
        return f"`fab -H {host} enable --instance {name}` puts it back"


def _joined(notes: Iterable[Mapping[str, Sequence[Drained]]]) -> dict[str, list[Drained]]:
    found: dict[str, list[Drained]] = {}
    for one in notes:
        for host, mine in one.items():
            found.setdefault(host, []).extend(mine)
    return found
