"""What each step does for real: records here, balancers in ``rotation``, Docker in ``containers``.

Every effect on a host is one fenced remote command that acts and reads back. Whatever a balancer or
Docker answers is judged here and nowhere else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

from fabfile.balancers.model import BackendReading, ServerRecord
from fabfile.drivers import standing
from fabfile.drivers.balancers import Pool, backend_key
from fabfile.drivers.combiner import Combiner
from fabfile.drivers.containers import Containers
from fabfile.drivers.locks import Locks, check_fence
from fabfile.drivers.operators import Operators, said
from fabfile.drivers.rotation import Rotation
from fabfile.drivers.standing import is_restored
from fabfile.errors import EvenkeelError, RemoteError
from fabfile.inventory.model import Service
from fabfile.remote import records
from fabfile.remote.base import Command, Result, Running
from fabfile.remote.pool import Remotes, Urgent
from fabfile.remote.quoting import all_of
from fabfile.rollout.events import StepProgress
from fabfile.rollout.plan import Plan, Target
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

MOST_BESIDE = 64
"""Looks that go on beside records at a time."""

Answers = Mapping[str, BackendReading | EvenkeelError]
Written = dict[str, object]
"""One record, as it is written."""
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
        self._plan = plan
        self._service = service
        self._remotes = remotes
        self._locks = locks
        self._pool = pool
        self._notice = notice
        self._guard = threading.Lock()
        self._projects: dict[str, threading.Lock] = {}
        fresh = {target.instance.id for target in plan.targets if target.task == "roll"}
        self._operators = Operators(self._changed, fresh)
        self._halted = False
        self.open = {t.instance.id: t for t in plan.changing if t.task != "roll"}
        """By instance: what has an undo record that is not done yet."""
        self._frozen = {record.ref: record for t in plan.targets for record in t.servers}
        self.touched: set[str] = set()
        """Instances for which more was begun than to record them, since that was closed last."""
        self.doing: dict[str, Step] = {}
        """By instance: the step that was begun last."""
        self._shared_records: Combiner[Effects, dict[str, Result]] = Combiner(self._write_records)
        rotation = Rotation(pool, plan.drain.mode, self._operators, progress, plan.journal)
        containers = Containers(service, remotes, locks, rotation, self._project, notice, progress)
        self._containers = containers
        self._beside = ThreadPoolExecutor(MOST_BESIDE, thread_name_prefix="beside")
        self.put = containers.put
        """By instance: what its container was last made of here."""
        self._methods: dict[type[Step], Callable[..., Outcome]] = {
            Record: self.record,
            TakeOut: rotation.take_out,
            AwaitIdle: rotation.await_idle,
            Shut: rotation.shut,
            Cut: rotation.cut,
            Recreate: containers.recreate,
            AwaitHealthy: containers.await_healthy,
            ReadLogs: containers.read_logs,
            Admit: rotation.admit,
            AwaitAdmitted: rotation.await_admitted,
            Restore: rotation.restore,
        }

    def do(self, step: Step) -> Outcome:
        """Carry out ``step``; what a host or balancer refused becomes ``Failed``."""
        step = replace(step, target=self._operators.target(step.target))
        self.doing[step.target.instance.id] = step
        if self._halted:  # looked at after it was said what is begun: whoever halts reads that
            return Failed("it was told to stop at once")
        if not isinstance(step, Record):
            self.touched.add(step.target.instance.id)
        try:
            return self._methods[type(step)](step)
        except EvenkeelError as error:
            return Failed(str(error), error.detail)

    def settle(self, seconds: float) -> None:
        """Wait until nothing that goes on beside a step changes a balancer any more."""
        self._containers.settle(seconds)

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

        What an operator has made of its servers since the plan was frozen is looked at meanwhile,
        and written anew.
        """
        instance = step.target.instance
        look = None
        begins = step.progress in ("ahead", "undo")
        if begins:
            self.open[instance.id] = step.target
            if self._operators.is_untouched(step.target):
                look = self._beside.submit(self._pool.read, *standing.asked(step.target))
        with self._project(instance.host):
            outcome = self._record(step)
        if look is not None:
            self.open[instance.id] = self._operators.untouched(step.target, look.result())
        if not begins:
            self.open.pop(instance.id, None)
            self.touched.discard(instance.id)
        return outcome

    def _changed(self, target: Target, was: ServerRecord, now: ServerRecord) -> None:
        """Somebody changed a server: theirs is what comes back, also if we should die."""
        text = f"somebody changed {now.ref} from {said(was)} to {said(now)}: theirs is kept"
        self._notice(target.instance.host, text)
        if target.instance.id not in self.open:
            return
        mine = replace(target, servers=(now,))
        host = self._pool.hands[now.ref.balancer].balancer.host
        keys, named = self._records(mine)[host]
        own = {name: record for name, record in named.items() if name.startswith("server.")}
        doing = self.doing.get(target.instance.id)
        waits = isinstance(doing, Record) and doing.progress == "ahead"  # and no TakeOut since
        effect = records.write(self._plan.journal, own, ahead=waits)
        script = self._locks.fence(host, keys, effect)
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
        def effect(named: Mapping[str, object]) -> str:
            if step.progress in ("undo", "ahead"):
                return records.write(self._plan.journal, named, ahead=step.progress == "ahead")
            return records.close(self._plan.journal, named)

        effects = {
            host: (frozenset(keys), effect(named))
            for host, (keys, named) in self._records(step.target).items()
        }
        host = step.target.instance.host
        mine = self._start_records([{host: effects.pop(host)}])[host]
        results = self._shared(effects) | {host: mine.wait()}
        written = [name for name, result in results.items() if result.ok]
        if len(written) < len(results) and step.progress == "undo" and step.target.task == "roll":
            # Nothing begins, and nobody would come back to what was written of it.
            self._close(step.target, written)
        for result in results.values():
            _check(result, "could not write its record")
        return Done()

    def _shared(self, effects: Effects) -> dict[str, Result]:
        """A balancer's host hears of every lane: what they write there at once is one command."""
        if not effects:
            return {}
        shared = self._shared_records.ask(effects)
        if any(shared[host].exit_code is None for host in effects):
            shared = self._shared_records.ask(effects)  # once more, together: it was cut off
        if any(not shared[host].ok and shared[host].exit_code is not None for host in effects):
            # They may have travelled with others' records: those may be to blame.
            shared = self._write_records([effects])
        return {host: shared[host] for host in effects}

    def _close(self, target: Target, hosts: Iterable[str]) -> None:
        written = self._records(target)
        effects = {
            host: (frozenset(written[host][0]), records.close(self._plan.journal, written[host][1]))
            for host in hosts
        }
        self._write_records([effects])

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
            host: self._remotes.start(
                host, Command(self._locks.fence(host, keys, all_of(*parts)), label="record")
            )
            for host, (keys, parts) in merged.items()
        }

    def _records(self, target: Target) -> dict[str, tuple[set[str], dict[str, Written]]]:
        """What to write, by host: the locks it needs, and records by name. One that differs from
        the plan, because an operator wanted it so, says that: else it would pass for damaged."""
        found = records_of(target, self._service, self._pool)
        for record in target.servers:
            frozen = self._frozen.get(record.ref, record)
            if (record.uweight, record.admin) != (frozen.uweight, frozen.admin):
                host = self._pool.hands[record.ref.balancer].balancer.host
                named = found[host][1]
                named[records.of_server(record.ref.backend, record.ref.server)]["changed"] = True
        return found


def records_of(
    target: Target, service: Service, pool: Pool
) -> dict[str, tuple[set[str], dict[str, Written]]]:
    """What is written down of ``target``, by host: the locks it needs, and records by name."""
    instance = target.instance
    found: dict[str, tuple[set[str], dict[str, Written]]] = {
        instance.host: (
            {compose.project_key(service)},
            {
                records.of_instance(service.name, instance.name): {
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
        keys, named = found.setdefault(balancer.host, (set(), {}))
        keys.add(backend_key(balancer))
        named[records.of_server(record.ref.backend, record.ref.server)] = {
            "kind": "server",
            "instance": instance.id,
            "socket": balancer.spec.socket,
            **asdict(record),
        }
    return found


def _check(result: Result, what: str) -> None:
    check_fence(result)
    if not result.ok:
        why = f": {result.why}" if result.exit_code is None and result.why else ""
        raise RemoteError(result.host, f"{what}{why}", detail=result.tail())
