"""What each step does for real: records and containers here, balancers in ``rotation``.

Every effect on a host is one fenced remote command that acts and reads back. Whatever a balancer or
Docker answers is judged here and nowhere else.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace

from fabfile.balancers.model import BackendReading, ServerRecord
from fabfile.drivers.balancers import Pool, backend_key
from fabfile.drivers.combiner import Combiner
from fabfile.drivers.locks import Locks, check_fence
from fabfile.drivers.operators import Operators, said
from fabfile.drivers.rotation import Rotation, is_restored
from fabfile.errors import EvenkeelError, RemoteError
from fabfile.inventory.model import Instance, Service
from fabfile.remote import state
from fabfile.remote.base import Command, Result, Running
from fabfile.remote.pool import Remotes, Urgent
from fabfile.remote.quoting import all_of
from fabfile.rollout.events import StepProgress
from fabfile.rollout.plan import Plan, Release, Target
from fabfile.rollout.steps import (
    Admit,
    AwaitAdmitted,
    AwaitHealthy,
    AwaitIdle,
    Cut,
    Done,
    Failed,
    Outcome,
    ReadLogs,
    Record,
    Recreate,
    Restore,
    Shut,
    Step,
    TakeOut,
)
from fabfile.runtimes import compose

POLL = 0.03
"""Seconds between two readings while something is awaited."""
DEADLINE_EXIT = 124
"""What ``timeout`` on the host exits with; the engine there goes on without the command."""
FIRST_PEEK, PEEK = 4.0, 9.0
"""Seconds until somebody is told why an instance is not healthy yet, and between two such looks."""
SETTLE = 5.0
"""Seconds beyond stop_grace_period after which an engine left alone has come to rest."""

Answers = Mapping[str, BackendReading | EvenkeelError]
Effects = Mapping[str, tuple[frozenset[str], str]]
"""By host: the locks an effect needs, and the effect."""


class Hands:
    """Carries out steps; thread-safe. ``notice`` gets a line a person should read, ``progress``
    what a step that takes its time still waits for."""

    def __init__(
        self,
        plan: Plan,
        service: Service,
        remotes: Remotes | Urgent,
        locks: Locks,
        pool: Pool,
        notice: Callable[[str, str], None],
        progress: Callable[[StepProgress], None] = lambda _: None,
    ) -> None:
        self._progress = progress
        self._plan = plan
        self._service = service
        self._remotes = remotes
        self._locks = locks
        self._pool = pool
        self._notice = notice
        self._guard = threading.Lock()
        self._projects: dict[str, threading.Lock] = {}
        self._operators = Operators(self._changed)
        self._fresh = {t.instance.id for t in plan.targets if t.task == "roll"}
        """Instances that nobody of ours has touched before their first record here."""
        self._halted = False
        self.open = {t.instance.id: t for t in plan.changing if t.task != "roll"}
        """By instance: what has an undo record that is not done yet."""
        self.doing: dict[str, Step] = {}
        """By instance: the step that was begun last."""
        self.put: dict[str, Release] = {}
        """By instance: what its container was last made of here."""
        self._shared_records: Combiner[Effects, dict[str, Result]] = Combiner(self._write_records)
        self._rotation = Rotation(pool, plan.drain.mode, self._operators, progress)
        self._methods: dict[type[Step], Callable[..., Outcome]] = {
            Record: self.record,
            TakeOut: self._rotation.take_out,
            AwaitIdle: self._rotation.await_idle,
            Shut: self._rotation.shut,
            Cut: self._rotation.cut,
            Recreate: self.recreate,
            AwaitHealthy: self.await_healthy,
            ReadLogs: self.read_logs,
            Admit: self._rotation.admit,
            AwaitAdmitted: self._rotation.await_admitted,
            Restore: self._rotation.restore,
        }

    def do(self, step: Step) -> Outcome:
        """Carry out ``step``; what a host or balancer refused becomes ``Failed``."""
        step = replace(step, target=self._operators.target(step.target))
        self.doing[step.target.instance.id] = step
        if self._halted:  # looked at after it was said what is begun: whoever halts reads that
            return Failed("it was told to stop at once")
        try:
            return self._methods[type(step)](step)
        except EvenkeelError as error:
            return Failed(str(error), error.detail)

    def halt(self) -> None:
        """Begin no step any more; those of :attr:`doing` may be under way."""
        self._halted = True

    def afresh(self, remotes: Urgent, locks: Locks, pool: Pool) -> Hands:
        """Hands with other locks that know what these know of an operator's will."""
        hands = Hands(self._plan, self._service, remotes, locks, pool, self._notice)
        hands._operators.learn(self._operators)
        return hands

    # records

    def record(self, step: Record) -> Outcome:
        """Write undo records, or move them to done, on every host they concern.

        What an operator has made of its servers since the plan was frozen is what is recorded.
        """
        instance = step.target.instance
        if step.progress == "undo":
            if instance.id in self._fresh:
                answers = self._pool.read(dict.fromkeys(ref.balancer for ref in step.target.refs))
                step = replace(step, target=self._operators.untouched(step.target, answers))
            self.open[instance.id] = step.target
        with self._project(instance.host):
            outcome = self._record(step)
        if step.progress != "undo":
            self.open.pop(instance.id, None)
        return outcome

    def _changed(self, target: Target, was: ServerRecord, now: ServerRecord) -> None:
        """Somebody changed a server: theirs is what comes back, also if we should die."""
        text = f"somebody changed {now.ref} from {said(was)} to {said(now)}: theirs is kept"
        self._notice(target.instance.host, text)
        if target.instance.id not in self.open:
            return
        mine = replace(target, servers=(now,))
        host = self._pool.hands[now.ref.balancer].balancer.host
        keys, records = self._records(mine)[host]
        own = {name: record for name, record in records.items() if name.startswith("server.")}
        script = self._locks.fence(host, keys, state.undo_records(self._plan.journal, own))
        result = self._remotes.get(host).run(Command(script, label="record"))
        if not result.ok:
            self._notice(host, f"its record could not be written anew: {result.tail(1)}")

    def differences(self) -> list[str]:
        """What somebody changed of servers that are through, or that were never our business."""
        answers = self._pool.read()
        found = []
        for record in map(self._operators.record, self._plan.baseline):
            answer = answers.get(record.ref.balancer)
            if not isinstance(answer, BackendReading):
                continue
            seen = answer.servers.get(record.ref.server)
            if seen is not None and not is_restored(record, seen):
                found.append(f"{record.ref}: {said(seen)}, it was {said(record)}: kept")
        return found

    def _project(self, host: str) -> threading.Lock:
        """For the project on ``host``: lanes wait here for each other, however long a container
        takes to stop, and not on the host, where that counts as somebody else's work."""
        with self._guard:
            return self._projects.setdefault(host, threading.Lock())

    def _record(self, step: Record) -> Outcome:
        build = state.undo_records if step.progress == "undo" else state.records_done
        effects = {
            host: (frozenset(keys), build(self._plan.journal, records))
            for host, (keys, records) in self._records(step.target).items()
        }
        host = step.target.instance.host
        mine = self._start_records([{host: effects.pop(host)}])
        # A balancer's host hears of every lane: what they write there at once is one command.
        shared = self._shared_records.ask(effects) if effects else {}
        results = {host: shared[host] for host in effects}
        if not all(result.ok for result in results.values()):
            # They may have travelled with others' records: those may be to blame.
            results = self._write_records([effects])
        for result in (*(running.wait() for running in mine.values()), *results.values()):
            _check(result, "could not write its record")
        return Done()

    def _write_records(self, batch: Sequence[Effects]) -> dict[str, Result]:
        """Records of several lanes, with one command for each host."""
        return {host: running.wait() for host, running in self._start_records(batch).items()}

    def _start_records(self, batch: Sequence[Effects]) -> dict[str, Running]:
        merged: dict[str, tuple[set[str], list[str]]] = {}
        for effects in batch:
            for host, (keys, effect) in effects.items():
                all_keys, parts = merged.setdefault(host, (set(), []))
                all_keys |= keys
                parts.append(effect)
        return {
            host: self._remotes.get(host).start(
                Command(self._locks.fence(host, keys, all_of(*parts)), label="record")
            )
            for host, (keys, parts) in merged.items()
        }

    def _records(self, target: Target) -> dict[str, tuple[set[str], dict[str, object]]]:
        """What to write, by host: the locks it needs, and records by name."""
        return records_of(target, self._service, self._pool)

    # containers

    def recreate(self, step: Recreate) -> Outcome:
        """Replace the container; a broken connection is followed by a look and the same again."""
        instance, release = step.target.instance, step.release
        self.put[instance.id] = release
        script = self._locks.fence(
            instance.host,
            [compose.project_key(self._service)],
            compose.recreate_script(self._service, instance, release.id, step.target.container),
        )
        command = Command(
            script,
            timeout=compose.up_timeout(self._service),
            label=f"docker compose up {instance.name}",
        )
        with self._project(instance.host):
            result = self._up(step, command)
        check_fence(result)
        if not result.ok:
            return Failed(f"{instance.host}: could not recreate {instance.name}", result.tail(50))
        return self._judge(result, release, step.target.container)

    def _up(self, step: Recreate, command: Command) -> Result:
        host = step.target.instance.host
        result = self._run_watched(step, command)
        if result.exit_code in (None, DEADLINE_EXIT):
            self._notice(host, f"it is not known what became of: {command.label}; asking again")
            # The engine goes on by itself: let it come to rest, then ask for the same again;
            # where it is done already, Compose changes nothing.
            time.sleep(self._service.stop_grace + SETTLE)
            result = self._remotes.get(host).run(command)
        return result

    def _run_watched(self, step: Recreate, command: Command) -> Result:
        """Run ``command``; the moment the old container is gone, checks may begin."""
        target = step.target
        host = self._remotes.get(target.instance.host)
        if not self._rotation.may_check_early(target):
            return host.run(command)
        script = compose.gone_script(
            self._service, target.instance, step.release.id, target.container
        )
        gone = host.start(Command(script, timeout=command.timeout, label="await the old's end"))
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

    def _check_anew(self, target: Target) -> None:
        """Let the balancers begin to check: the old container is gone, the new one starts.

        It only makes the wait shorter: that it failed is no reason to stop.
        """
        try:
            self._rotation.check_anew(target)
        except EvenkeelError as error:
            self._notice(target.instance.host, f"checks begin later: {error}")

    def _judge(self, result: Result, release: Release, was: str) -> Outcome:
        containers = compose.read_containers(result.stdout)
        if was and any(c.id == was for c in containers):
            return Failed("Compose ended well, but the container is the old one", result.tail(20))
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
        with self._peeking(step):
            result = host.run(command)
            if result.exit_code is None:
                result = host.run(command)
        if result.ok:
            return Done(result.stdout.strip())
        return Failed(f"not healthy: {_last_word(result)}", self._logs(instance))

    @contextmanager
    def _peeking(self, step: AwaitHealthy) -> Iterator[None]:
        """Meanwhile say every now and then what is wrong with it still: one look, beside."""
        instance = step.target.instance
        over = threading.Event()
        limit = self._service.health.timeout
        script = compose.health_script(self._service, instance, step.release.id, once=True)

        def look() -> None:
            pause = FIRST_PEEK
            while not over.wait(pause):
                pause = PEEK
                with contextlib.suppress(EvenkeelError):
                    result = self._remotes.get(instance.host).run(Command(script, label="peek"))
                    if not over.is_set() and not result.ok and result.exit_code is not None:
                        text = _last_word(result)
                        self._progress(StepProgress(instance.id, step.name, text, limit=limit))

        threading.Thread(target=look, name="peek", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def read_logs(self, step: ReadLogs) -> Outcome:
        """The container's last lines."""
        return Done(detail=self._logs(step.target.instance))

    def _logs(self, instance: Instance) -> str:
        script = compose.logs_script(self._service, instance)
        host = self._remotes.get(instance.host)
        return host.run(Command(script, label="logs")).stdout.strip()


def records_of(
    target: Target, service: Service, pool: Pool
) -> dict[str, tuple[set[str], dict[str, object]]]:
    """What is written down of ``target``, by host: the locks it needs, and records by name."""
    instance = target.instance
    found: dict[str, tuple[set[str], dict[str, object]]] = {
        instance.host: (
            {compose.project_key(service)},
            {
                f"instance.{service.name}.{instance.name}": {
                    "kind": "instance",
                    "service": service.name,
                    "project_dir": service.project_dir,
                    "instance": instance.name,
                    "earlier": target.earlier and asdict(target.earlier),
                    "wanted": asdict(target.wanted),
                }
            },
        )
    }
    for record in target.servers:
        balancer = pool.hands[record.ref.balancer].balancer
        keys, records = found.setdefault(balancer.host, (set(), {}))
        keys.add(backend_key(balancer))
        records[f"server.{record.ref.backend}.{record.ref.server}"] = {
            "kind": "server",
            "instance": instance.id,
            "socket": balancer.spec.socket,
            **asdict(record),
        }
    return found


def _last_word(result: Result) -> str:
    return (result.stdout.strip().splitlines()[-1:] or [result.tail(1) or "no answer"])[0]


def _check(result: Result, what: str) -> None:
    check_fence(result)
    if not result.ok:
        raise RemoteError(result.host, what, detail=result.tail())
