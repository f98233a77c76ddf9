"""What each step does on the simulated fleet: a process that waits, acts, and ends in an outcome.

The promises are those of ``rollout.steps``; an effect comes after its wait, so that whatever stops
the clock in between finds it not done.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping

from fabfile.balancers.model import ServerRecord, ServerRef
from fabfile.drivers.simulated.fleet import Container, Fleet, Server
from fabfile.drivers.simulated.traffic import cut_off
from fabfile.inventory.model import DrainMode
from fabfile.rollout.capacity import Readings
from fabfile.rollout.lanes import FRESH
from fabfile.rollout.plan import Release, Target
from fabfile.rollout.steps import (
    Admit,
    Admitted,
    AwaitAdmitted,
    AwaitHealthy,
    AwaitIdle,
    Busy,
    Cut,
    Done,
    Failed,
    Hook,
    Idle,
    Observe,
    Outcome,
    Pause,
    ReadLogs,
    Record,
    Recreate,
    Restore,
    Reverted,
    Seen,
    Shut,
    Step,
    TakeOut,
    Work,
)

Act = Generator[float, None, Outcome]
Watch = Callable[[Step, Fleet], None]
"""Called in the moment before a step changes something."""


class Hands:
    """Carries out work on ``fleet``."""

    def __init__(
        self, fleet: Fleet, mode: DrainMode, watch: Watch | None = None, *, stagger: bool = False
    ) -> None:
        """``stagger``: balancers are changed one after the other, not in the same moment."""
        self._fleet = fleet
        self._stagger = stagger
        self._timing = fleet.timing
        self._mode = mode
        self._watch: Watch = watch or (lambda *_: None)
        self._unheard: frozenset[str] | None = None
        self._known: dict[str, tuple[Target, list[Server]]] = {}
        """By instance: the servers of the target that was asked for last."""

    def begin(self, work: Work) -> Act:
        """The process that does ``work``; nothing happens before its first step."""
        return ACTS[type(work)](self, work)

    # the engine's own

    def _observe(self, work: Observe) -> Act:
        yield work.after
        # What was read is told later: whatever changes on the way is not in it.
        seen = self._look_around()
        yield self._timing.observe
        return seen

    def _look_around(self) -> Seen:
        fleet = self._fleet
        silent = frozenset(fleet.silent)
        changed, fleet.changed = fleet.changed, {}
        if silent != self._unheard:
            self._unheard = silent
            keys = [key for key in fleet.of_backend if key[0] not in silent]
            return Seen({key: fleet.read(key) for key in keys})
        by_backend: dict[tuple[str, str], list[Server]] = {}
        for server in changed:
            if server.ref.balancer not in silent:
                by_backend.setdefault(server.key, []).append(server)
        return Seen({key: fleet.read(key, servers) for key, servers in by_backend.items()}, True)

    def _pause(self, work: Pause) -> Act:
        yield work.seconds
        return Done()

    def _read_logs(self, _: ReadLogs) -> Act:
        yield self._timing.poll
        return Done(detail="its last words")

    def _record(self, step: Record) -> Act:
        yield self._timing.record
        silent = self._fleet.silent or self._fleet.unreachable
        if silent and (lost := (yield from self._unanswered(step.target, host=True))):
            return lost
        places = [step.target.instance.id, *(s.name for s in self._servers(step.target))]
        if self._stagger:
            self._fleet.rng.shuffle(places)
        for number, name in enumerate(places):
            if number and self._stagger:
                yield self._timing.record * 0.1
            self._write_down(name, step)
        self._fleet.records[step.target.instance.id] = step.progress
        return Done()

    def _write_down(self, name: str, step: Record) -> None:
        fleet = self._fleet
        if step.progress == "ahead" and name != step.target.instance.id:
            fleet.ahead.add(name)
            return
        fleet.ahead.discard(name)
        if step.progress in ("undo", "ahead"):
            fleet.undo.add(name)
        elif name in fleet.undo:
            fleet.undo.discard(name)
            fleet.done.add(name)

    def _hook(self, step: Hook) -> Act:
        host = step.target.instance.host
        if host in self._fleet.unreachable:
            yield self._timing.connect_timeout
            return Failed(f"{host}: no answer")
        yield self._timing.hook
        if host in self._fleet.unreachable:
            return Failed(f"{host}: it is not known what became of {step.hook}")
        fails = step.hook in self._fleet.behaviour(step.target.wanted).failing
        return Failed(f"{step.hook} ended with exit code 1") if fails else Done()

    # balancers

    def _unanswered(
        self, target: Target, *, host: bool = False
    ) -> Generator[float, None, Failed | None]:
        """Why not all of them can be told or asked, after the patience that takes."""
        fleet = self._fleet
        names = {ref.balancer for ref in target.refs} & fleet.silent
        if host and target.instance.host in fleet.unreachable:
            names.add(target.instance.host)
        if not names:
            return None
        yield self._timing.connect_timeout
        return Failed(f"{', '.join(sorted(names))}: no answer")

    def _change(self, step: Step, effect: Callable[[Server, ServerRecord], None]) -> Act:
        """One change on every balancer; those that answer are changed whatever the others do."""
        yield self._timing.drain
        self._watch(step, self._fleet)
        lost = False
        pairs = zip(self._servers(step.target), step.target.servers, strict=True)
        for number, (server, record) in enumerate(pairs):
            if number and self._stagger:
                yield self._timing.drain * 0.1
            if record.ref.balancer in self._fleet.silent:
                lost = True
            else:
                effect(server, record)
        if lost:
            failed = yield from self._unanswered(step.target)
            return failed or Failed("a balancer did not answer in time")
        return Done()

    def _take_out(self, step: TakeOut) -> Act:
        change = self._put_out if step.maint else self._lower

        def effect(server: Server, record: ServerRecord) -> None:
            if step.opens and server.name in self._fleet.ahead:
                self._fleet.ahead.discard(server.name)
                self._fleet.undo.add(server.name)
            change(server, record)

        return self._change(step, effect)

    def _put_out(self, server: Server, record: ServerRecord) -> None:
        self._lower(server, record)
        if record.check_port is not None and server.checked and server.admin != "maint":
            self._fleet.park(server)
        else:
            self._fleet.change(server, admin="maint")

    def _lower(self, server: Server, _: ServerRecord) -> None:
        if server.admin == "ready" and self._mode == "weight":
            self._fleet.change(server, uweight=0)
        elif server.admin == "ready":
            self._fleet.change(server, admin="drain")

    def _shut(self, step: Shut) -> Act:
        return self._change(step, lambda server, _: self._fleet.change(server, admin="maint"))

    def _admit(self, step: Admit) -> Act:
        return self._change(step, self._fleet.admit)

    def _restore(self, step: Restore) -> Act:
        parked = [server for server in self._servers(step.target) if not server.up]
        outcome = yield from self._change(step, self._fleet.restore)
        if parked:
            yield self._timing.admit  # their checks have to pass again
        return outcome

    def _cut(self, step: Cut) -> Act:
        closed = 0

        def effect(server: Server, _: ServerRecord) -> None:
            nonlocal closed
            closed += cut_off(server, self._fleet.now)

        outcome = yield from self._change(step, effect)
        name = step.target.instance.id
        self._fleet.cut[name] = self._fleet.cut.get(name, 0) + closed
        return outcome if isinstance(outcome, Failed) else Done(f"closed {closed}")

    def _servers(self, target: Target) -> list[Server]:
        known = self._known.get(target.instance.id)
        if known is None or known[0] is not target:
            known = target, [self._fleet.servers[ref] for ref in target.refs]
            self._known[target.instance.id] = known
        return known[1]

    def _await_idle(self, step: AwaitIdle) -> Act:
        fleet, servers, began = self._fleet, self._servers(step.target), self._fleet.now
        before: list[int] | None = None
        while True:
            if fleet.silent and (lost := (yield from self._unanswered(step.target))):
                return lost
            waited = fleet.now - began
            undone = [s.ref for s in servers if not (s.shut if step.maint else s.out)]
            if undone:
                return Reverted(_balancers(undone), waited)
            busy = {s.ref: n for s in servers if s.ends or s.old if (n := s.sessions(fleet.now))}
            now = [s.stot for s in servers]
            if not busy and now == before:
                return Idle(waited=waited)
            if waited >= step.deadline and (busy or before is not None):
                return Busy(busy, waited)
            before = None if busy else now
            yield self._timing.poll

    def _await_admitted(self, step: AwaitAdmitted) -> Act:
        fleet, servers, began = self._fleet, self._servers(step.target), self._fleet.now
        records = step.target.servers
        while True:
            if fleet.silent and (lost := (yield from self._unanswered(step.target))):
                return lost
            undone, down = [], []
            for record, server in zip(records, servers, strict=True):
                port = record.check_port not in (None, server.check_port)
                if port or server.admin != record.admin or server.uweight != record.uweight:
                    undone.append(record.ref)
                elif not server.up and record.admin == "ready":
                    down.append(record.ref)
            if undone:
                return Reverted(_balancers(undone), fleet.now - began)
            if not down:
                waited = fleet.now - began
                # Nobody reads the rest, and a large fleet has a lot of it.
                return Admitted("", "", waited, self._shown(servers) if waited < FRESH else {})
            if fleet.now - began >= step.deadline:
                return Failed(f"not let in by {', '.join(map(str, down))}")
            # The checks take that long at least: a large fleet has no time for idle polls.
            yield self._timing.poll if fleet.now > began else self._timing.admit

    def _shown(self, servers: Iterable[Server]) -> Readings:
        by_backend: dict[tuple[str, str], list[Server]] = {}
        for server in servers:
            by_backend.setdefault(server.key, []).append(server)
        return {key: self._fleet.read(key, mine) for key, mine in by_backend.items()}

    # containers

    def _recreate(self, step: Recreate) -> Act:
        fleet, host = self._fleet, step.target.instance.host
        if host in fleet.unreachable:
            yield self._timing.connect_timeout
            return Failed(f"{host}: no answer")
        container = fleet.containers[step.target.instance.id]
        container.meant = step.release
        if container.running:
            self._watch(step, fleet)
            fleet.stop(container)
            for server in self._servers(step.target):
                fleet.unpark(server)
        yield self._timing.recreate
        if host in fleet.unreachable and fleet.rng.random() < 0.5:
            yield self._timing.connect_timeout
            return Failed(f"{host}: the connection broke")
        fleet.start(container, step.release)
        if host in fleet.unreachable:
            yield self._timing.connect_timeout
            return Failed(f"{host}: the connection broke")
        return Done()

    def _await_healthy(self, step: AwaitHealthy) -> Act:
        fleet, timing, began = self._fleet, self._timing, self._fleet.now
        container = fleet.containers[step.target.instance.id]
        first = container.healthy_at - began
        yield timing.healthy + (first if 0 < first <= timing.health_timeout else 0.0)
        while True:
            if container.host in fleet.unreachable:
                yield timing.connect_timeout
                return Failed(f"{container.host}: no answer")
            if _runs(container, step.release):
                return Done()
            if fleet.now - began >= timing.health_timeout:
                return Failed(f"not healthy after {timing.health_timeout:g} s", "no answer")
            yield timing.health_interval


ACTS: Mapping[type[Work], Callable[..., Act]] = {
    Observe: Hands._observe,
    Pause: Hands._pause,
    Record: Hands._record,
    TakeOut: Hands._take_out,
    AwaitIdle: Hands._await_idle,
    Shut: Hands._shut,
    Cut: Hands._cut,
    Recreate: Hands._recreate,
    AwaitHealthy: Hands._await_healthy,
    ReadLogs: Hands._read_logs,
    Admit: Hands._admit,
    AwaitAdmitted: Hands._await_admitted,
    Restore: Hands._restore,
    Hook: Hands._hook,
}


def _runs(container: Container, release: Release) -> bool:
    return container.healthy and container.release == release


def _balancers(refs: Iterable[ServerRef]) -> tuple[str, ...]:
    return tuple(sorted({ref.balancer for ref in refs}))
