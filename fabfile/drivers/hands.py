"""What each step does for real: one method per kind of step, each answering with an outcome.

Every effect on a host is one fenced remote command that acts and reads back. Whatever a balancer or
Docker answers is judged here and nowhere else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict

from fabfile.balancers.haproxy import change
from fabfile.balancers.model import BackendReading, ServerReading, ServerRecord, ServerRef
from fabfile.drivers.balancers import Pool, backend_key
from fabfile.drivers.locks import Locks, check_fence
from fabfile.errors import EvenkeelError, RemoteError
from fabfile.inventory.model import Service
from fabfile.remote import state
from fabfile.remote.base import Command, Result
from fabfile.remote.pool import Remotes
from fabfile.rollout.plan import Plan, Release, Target
from fabfile.rollout.steps import (
    Admit,
    AwaitAdmitted,
    AwaitHealthy,
    AwaitIdle,
    Busy,
    Cut,
    Done,
    Failed,
    Idle,
    Outcome,
    Record,
    Recreate,
    Restore,
    Reverted,
    Shut,
    Step,
    TakeOut,
)
from fabfile.runtimes import compose

POLL = 0.03
"""Seconds between two readings while something is awaited."""
DEADLINE_EXIT = 124
"""What ``timeout`` on the host exits with; the engine there goes on without the command."""
SETTLE = 5.0
"""Seconds beyond stop_grace_period after which an engine left alone has come to rest."""

Answers = Mapping[str, BackendReading | EvenkeelError]


class Hands:
    """Carries out steps; thread-safe. ``notice`` gets a line a person should read."""

    def __init__(
        self,
        plan: Plan,
        service: Service,
        remotes: Remotes,
        locks: Locks,
        pool: Pool,
        notice: Callable[[str, str], None],
    ) -> None:
        self._plan = plan
        self._service = service
        self._remotes = remotes
        self._locks = locks
        self._pool = pool
        self._notice = notice
        self._guard = threading.Lock()
        self._projects: dict[str, threading.Lock] = {}
        self._methods: dict[type[Step], Callable[..., Outcome]] = {
            Record: self.record,
            TakeOut: self.take_out,
            AwaitIdle: self.await_idle,
            Shut: self.shut,
            Cut: self.cut,
            Recreate: self.recreate,
            AwaitHealthy: self.await_healthy,
            Admit: self.admit,
            AwaitAdmitted: self.await_admitted,
            Restore: self.restore,
        }

    def do(self, step: Step) -> Outcome:
        """Carry out ``step``; what a host or balancer refused becomes ``Failed``."""
        try:
            return self._methods[type(step)](step)
        except EvenkeelError as error:
            return Failed(str(error), error.detail)

    # records

    def record(self, step: Record) -> Outcome:
        """Write undo records, or move them to done, on every host they concern."""
        with self._project(step.target.instance.host):
            return self._record(step)

    def _project(self, host: str) -> threading.Lock:
        """For the project on ``host``: lanes wait here for each other, however long a container
        takes to stop, and not on the host, where that counts as somebody else's work."""
        with self._guard:
            return self._projects.setdefault(host, threading.Lock())

    def _record(self, step: Record) -> Outcome:
        running = []
        for host, (keys, records) in self._records(step.target).items():
            if step.progress == "undo":
                effect = state.undo_records(self._plan.id, records)
            else:
                effect = state.records_done(self._plan.id, records)
            script = self._locks.fence(host, keys, effect)
            running.append(self._remotes.get(host).start(Command(script, label="record")))
        for waiting in running:
            _check(waiting.wait(), "could not write its record")
        return Done()

    def _records(self, target: Target) -> dict[str, tuple[set[str], dict[str, object]]]:
        """What to write, by host: the locks it needs, and records by name."""
        instance = target.instance
        found: dict[str, tuple[set[str], dict[str, object]]] = {
            instance.host: (
                {compose.project_key(self._service)},
                {
                    f"instance.{self._service.name}.{instance.name}": {
                        "kind": "instance",
                        "service": self._service.name,
                        "project_dir": self._service.project_dir,
                        "instance": instance.name,
                        "earlier": target.earlier and asdict(target.earlier),
                        "wanted": asdict(target.wanted),
                    }
                },
            )
        }
        for record in target.servers:
            balancer = self._pool.hands[record.ref.balancer].balancer
            keys, records = found.setdefault(balancer.host, (set(), {}))
            keys.add(backend_key(balancer))
            records[f"server.{record.ref.backend}.{record.ref.server}"] = {
                "kind": "server",
                "instance": instance.id,
                "socket": balancer.spec.socket,
                **asdict(record),
            }
        return found

    # balancers

    def _order(
        self, target: Target, commands: Callable[[ServerRecord], Iterable[str]]
    ) -> dict[ServerRef, ServerReading]:
        """Change every balancer's server of ``target``; what each shows afterwards."""
        lines: dict[str, list[str]] = {}
        for record in target.servers:
            lines.setdefault(record.ref.balancer, []).extend(commands(record))
        return self._servers(target, self._pool.change(lines))

    def _look(self, target: Target) -> tuple[dict[ServerRef, ServerReading], Answers]:
        answers = self._pool.read(dict.fromkeys(ref.balancer for ref in target.refs))
        return self._servers(target, answers), answers

    @staticmethod
    def _servers(target: Target, answers: Answers) -> dict[ServerRef, ServerReading]:
        found = {}
        for ref in target.refs:
            answer = answers[ref.balancer]
            if isinstance(answer, EvenkeelError):
                raise answer
            if ref.server not in answer.servers:
                raise RemoteError(ref.balancer, f"no server {ref.backend}/{ref.server} any more")
            found[ref] = answer.servers[ref.server]
        return found

    def take_out(self, step: TakeOut) -> Outcome:
        """Weight 0 or state drain, judged by what is read back."""

        def commands(record: ServerRecord) -> Iterable[str]:
            if self._plan.drain.mode == "weight":
                return change.set_weight(record.ref, 0)
            # Drain would let pinned clients into a server that an operator has in maint.
            return () if record.admin == "maint" else change.set_state(record.ref, "drain")

        servers = self._order(step.target, commands)
        wrong = [str(ref) for ref, server in servers.items() if not _is_out(server)]
        return Failed(f"still takes requests: {', '.join(wrong)}") if wrong else Done()

    def shut(self, step: Shut) -> Outcome:
        """Maint, judged by what is read back."""
        servers = self._order(step.target, lambda record: change.set_state(record.ref, "maint"))
        wrong = [str(ref) for ref, server in servers.items() if server.admin != "maint"]
        return Failed(f"not in maint: {', '.join(wrong)}") if wrong else Done()

    def await_idle(self, step: AwaitIdle) -> Outcome:
        """Two readings of every balancer with nothing in flight and no session added between."""
        began = time.monotonic()
        before: dict[ServerRef, tuple[int, int]] | None = None
        while True:
            servers, answers = self._look(step.target)
            waited = time.monotonic() - began
            undone = sorted(
                {
                    ref.balancer
                    for ref, server in servers.items()
                    if not (server.admin == "maint" if step.maint else _is_out(server))
                }
            )
            if undone:
                return Reverted(tuple(undone), waited)
            busy = {ref: s.scur + s.qcur for ref, s in servers.items() if s.scur + s.qcur}
            now = {ref: (_process(answers, ref), s.stot) for ref, s in servers.items()}
            if not busy and now == before:
                return Idle(waited=waited)
            # One quiet reading proves nothing yet: it gets its second one even when time is up.
            if waited >= step.deadline and (busy or before is not None):
                return Busy(busy, waited)
            before = None if busy else now
            time.sleep(POLL)

    def cut(self, step: Cut) -> Outcome:
        """Close what is open; the note says whose it was."""
        servers, _ = self._look(step.target)
        open_now = sum(server.scur for server in servers.values())
        who = self._pool.who(step.target.refs)
        self._order(step.target, lambda record: change.shutdown_sessions(record.ref))
        text = f"closed {open_now} that would not end" + (f": {', '.join(who)}" if who else "")
        return Done(text)

    def admit(self, step: Admit) -> Outcome:
        """Out of maint as a failed server, then recorded weight and state: checks let it in."""
        seen, _ = self._look(step.target)

        def commands(record: ServerRecord) -> Iterable[str]:
            if record.admin == "maint":  # an operator's: it stays where it was
                return change.set_weight(record.ref, record.uweight)
            back = change.admit(record.ref, record.uweight, record.admin)
            if seen[record.ref].admin != "maint":  # checked anew since its old container went
                return back
            return (*change.admit_first(record.ref, checked=seen[record.ref].checked), *back)

        self._order(step.target, commands)
        return Done()

    def _check_anew(self, target: Target) -> None:
        """Let the balancers begin to check: the old container is gone, the new one starts.

        A server takes no new clients before it is admitted, so this only makes the wait shorter.
        """

        def commands(record: ServerRecord) -> Iterable[str]:
            return () if record.admin == "maint" else change.admit_first(record.ref, checked=True)

        try:
            seen, _ = self._look(target)
            if all(server.checked for server in seen.values()):
                self._order(target, commands)
        except EvenkeelError as error:
            self._notice(target.instance.host, f"checks begin later: {error}")

    def _may_check_early(self, target: Target) -> bool:
        """Whether checks may begin before the instance has been healthy for ``min_healthy``.

        Pinned clients come as soon as a balancer's own checks pass, so where there may be some
        and the service asks for a steady while, the checks have to wait for it.
        """
        if self._service.health.min_healthy == 0:
            return True
        return not any(self._pool.hands[ref.balancer].pins for ref in target.refs)

    def await_admitted(self, step: AwaitAdmitted) -> Outcome:
        """Recorded weight and state on every balancer, and up by its own checks."""
        began = time.monotonic()
        while True:
            servers, _ = self._look(step.target)
            undone = [r for r in step.target.servers if not _is_restored(r, servers[r.ref])]
            if undone:
                return Reverted(tuple(sorted({r.ref.balancer for r in undone})))
            down = [
                ref
                for record in step.target.servers
                if record.admin == "ready" and not servers[ref := record.ref].up
            ]
            if not down:
                return Done()
            if time.monotonic() - began >= step.deadline:
                names = ", ".join(map(str, down))
                return Failed(f"its balancer's own checks do not let it in: {names}")
            time.sleep(POLL)

    def restore(self, step: Restore) -> Outcome:
        """Recorded weight and state at once: the container never stopped."""
        servers = self._order(
            step.target,
            lambda record: change.admit(record.ref, record.uweight, record.admin),
        )
        wrong = [str(r.ref) for r in step.target.servers if not _is_restored(r, servers[r.ref])]
        return Failed(f"not restored: {', '.join(wrong)}") if wrong else Done()

    # containers

    def recreate(self, step: Recreate) -> Outcome:
        """Replace the container; a broken connection is followed by a look and the same again."""
        instance, release = step.target.instance, step.release
        script = self._locks.fence(
            instance.host,
            [compose.project_key(self._service)],
            compose.recreate_script(self._service, instance, release.id),
        )
        command = Command(
            script,
            timeout=compose.up_timeout(self._service),
            label=f"docker compose up {instance.name}",
        )
        with self._project(instance.host):
            result = self._run_recreate(step, command)
            if result.exit_code in (None, DEADLINE_EXIT):
                self._notice(
                    instance.host, f"it is not known what became of: {command.label}; asking again"
                )
                # The engine goes on by itself: let it come to rest, then ask for the same again;
                # where it is done already, Compose changes nothing.
                time.sleep(self._service.stop_grace + SETTLE)
                result = self._remotes.get(instance.host).run(command)
        check_fence(result)
        if not result.ok:
            return Failed(f"{instance.host}: could not recreate {instance.name}", result.tail(50))
        return self._judge(result, release)

    def _run_recreate(self, step: Recreate, command: Command) -> Result:
        target = step.target
        host = self._remotes.get(target.instance.host)
        if not self._may_check_early(target):
            return host.run(command)
        script = compose.gone_script(self._service, target.instance, step.release.id)
        gone = host.start(
            Command(script, timeout=command.timeout, label="wait for the old container to stop")
        )
        running = host.start(command)
        turn = threading.Lock()
        over = threading.Event()

        def watch() -> None:
            if gone.wait().ok:
                with turn:
                    if not over.is_set():
                        self._check_anew(target)

        threading.Thread(target=watch, name="gone", daemon=True).start()
        result = running.wait()
        with turn:  # nothing may change the balancers behind the back of the next step
            over.set()
        return result

    def _judge(self, result: Result, release: Release) -> Outcome:
        containers = compose.read_containers(result.stdout)
        if not any(c.release == release.id for c in containers):
            return Failed(
                "Compose ended well, but the wanted release does not run", result.tail(20)
            )
        return Done()

    def await_healthy(self, step: AwaitHealthy) -> Outcome:
        """Ask on the host until it is steadily healthy; a failure comes with its last log lines."""
        instance = step.target.instance
        host = self._remotes.get(instance.host)
        health = self._service.health
        script = compose.health_script(self._service, instance, step.release.id)
        command = Command(
            script, timeout=health.timeout + health.min_healthy + 15, label="health check"
        )
        result = host.run(command)
        if result.exit_code is None:
            result = host.run(command)
        if result.ok:
            return Done(result.stdout.strip())
        logs = host.run(Command(compose.logs_script(self._service, instance), label="logs"))
        why = result.stdout.strip().splitlines()[-1:] or [result.tail(1) or "no answer"]
        return Failed(f"not healthy: {why[0]}", logs.stdout.strip())


def _check(result: Result, what: str) -> None:
    check_fence(result)
    if not result.ok:
        raise RemoteError(result.host, what, detail=result.tail())


def _process(answers: Answers, ref: ServerRef) -> int:
    answer = answers[ref.balancer]
    return answer.process if isinstance(answer, BackendReading) else 0


def _is_out(server: ServerReading) -> bool:
    """It gets no new requests but those of pinned clients."""
    return server.admin in ("drain", "maint") or server.uweight == 0


def _is_restored(record: ServerRecord, server: ServerReading) -> bool:
    return server.uweight == record.uweight and server.admin == record.admin
