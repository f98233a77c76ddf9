"""Everything before the first drain: look, refuse what would hurt, pull, stage, lock, plan.

A refusal here changes nothing that serves anybody: at most images were pulled and releases staged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from fabfile.balancers.model import BackendReading, ServerRecord, ServerRef
from fabfile.drivers.aside import aside
from fabfile.drivers.balancers import Pool, backend_key, record_of
from fabfile.drivers.hooks import Dues
from fabfile.drivers.identity import whoami
from fabfile.drivers.locks import Claim, Locks, check_fence
from fabfile.drivers.preflight import (
    connect,
    disagreements,
    everywhere,
    facts_of,
    failed,
    look_around,
    refuse,
    refuse_unfinished,
)
from fabfile.drivers.stage import Images, stage
from fabfile.drivers.wish import Wish
from fabfile.drivers.without import Outside
from fabfile.errors import EvenkeelError, PreflightFailed
from fabfile.inventory.model import Balancer, Drain, Instance, Inventory, Service
from fabfile.remote import state
from fabfile.remote.pool import Remotes
from fabfile.rollout import capacity
from fabfile.rollout.batches import batches
from fabfile.rollout.events import Event, Notice, PhaseFinished, PhaseStarted
from fabfile.rollout.plan import Plan, Release, Target
from fabfile.runtimes import compose
from fabfile.runtimes import secrets as secret_sources
from fabfile.runtimes.facts import HostFacts
from fabfile.runtimes.render import Project, StagedRelease, project

WRITE_TIMEOUT = 30.0
"""Deadline in seconds of writing the plan."""
NO_DIGEST = "sha256:" + "0" * 64
"""Stands for a digest that nobody could be asked for."""

Facts = Mapping[str, HostFacts]
Staged = Mapping[str, Sequence[StagedRelease]]


@dataclass
class Prepared:
    """A frozen plan and all that is needed to carry it out. Close it when done."""

    plan: Plan
    service: Service
    remotes: Remotes
    pool: Pool
    locks: Locks | None
    """``None``: nothing is to be changed, or only on paper."""
    readings: Mapping[str, BackendReading]
    dues: Dues = field(default_factory=Dues)

    def close(self) -> None:
        """Give the locks back and end conversations."""
        self.pool.close()
        if self.locks is not None:
            self.locks.release()


class Preparation:
    """The steps before the first drain, in order; see :meth:`run`."""

    def __init__(
        self,
        inventory: Inventory,
        wish: Wish,
        remotes: Remotes,
        emit: Callable[[Event], None],
        rollout: str,
    ) -> None:
        """``rollout`` is its id, see ``identity.new_id``."""
        self._inventory = inventory
        self._wish = wish
        self._service = wish.service
        self._remotes = remotes
        self._emit = emit
        self._id = rollout
        self._by = whoami()
        self._locks: Locks | None = None
        self._pool = Pool(self._service, self._service.hosts, remotes, self._fence)

    def run(self, *, dry: bool = False) -> Prepared:
        """Prepare a rollout. With ``dry`` nothing is pulled, staged, locked or written.

        Raises :class:`PreflightFailed` with every reason at once, :class:`Locked` for an
        unfinished rollout or somebody's lock.
        """
        try:
            return self._run(dry)
        except BaseException:
            self._pool.close()
            if self._locks is not None:
                self._locks.release()
            raise

    def _run(self, dry: bool) -> Prepared:
        settings = secret_sources.settings(self._service)
        rendering = aside(self._render)  # it asks nobody
        facts = self._preflight()
        projects = rendering.result()
        images = Images(self._service, self._wish.hosts, self._remotes, self._emit)
        version = self._wish.version
        digest = self._on_paper(images) if dry else images.pull(version)
        staged = {
            host: rendered.releases(digest, settings, facts[host].salt)
            for host, rendered in projects.items()
        }
        changing = {host: found for host, found in staged.items() if _differs(facts[host], found)}
        if changing and not dry:
            facts, readings = self._stage_and_lock(changing)
        else:
            readings = self._read(self._pool.read())
        targets = [
            self._target(facts[host], release, readings)
            for host in self._wish.hosts
            for release in staged[host]
        ]
        return self._ready(self._plan(targets, readings, digest), readings)

    def _ready(self, plan: Plan, readings: Mapping[str, BackendReading]) -> Prepared:
        """``plan``, after the last objection, written down where it is going to be carried out."""
        self._check_capacity(plan, readings)
        if self._locks is not None:
            self._write(plan)
        return Prepared(plan, self._service, self._remotes, self._pool, self._locks, readings)

    def _preflight(self) -> dict[str, HostFacts]:
        self._emit(PhaseStarted("preflight"))
        concerned = self._concerned()
        self._check_left_out()
        connect(self._remotes, [*self._wish.hosts, *(b.host for b in self._pool.balancers)])
        refs, ids = self._refs(self._wish.hosts), [b.id for b in concerned]
        facts, warnings = look_around(
            self._service, self._wish.hosts, self._remotes, self._pool, refs, ids
        )
        for text in warnings:
            self._emit(Notice(text))
        note = f"{len(facts)} hosts, {len(concerned)} balancers"
        self._emit(PhaseFinished("preflight", note))
        return facts

    def _check_left_out(self) -> None:
        if self._service.without:
            outside = Outside(
                self._inventory, self._service, self._remotes, self._emit, self._wish.hosts
            )
            outside.check(
                self._service.without,
                flag="--without-balancer",
                allow_loss=self._wish.allow_loss,
            )

    def _on_paper(self, images: Images) -> str:
        digest = images.local(self._wish.version)
        if not digest:
            self._emit(Notice("no host has this image yet, and the registry was not asked for it"))
        return digest or NO_DIGEST

    def _stage_and_lock(
        self, changing: Staged
    ) -> tuple[dict[str, HostFacts], dict[str, BackendReading]]:
        """Releases are laid down while the locks are taken: they change nothing that runs."""
        staging = aside(partial(stage, self._service, changing, self._remotes))
        if self._wish.lock_wait:  # what can't be staged is told before anybody waits
            staging.result()
        self._lock()
        facts, readings = self._look_again()
        staging.result()
        # What had gone missing and was laid down anew was perhaps not there yet.
        laid = {host: {r.id: r.record for r in found} for host, found in changing.items()}
        facts = {h: replace(f, kept={**f.kept, **laid.get(h, {})}) for h, f in facts.items()}
        return facts, readings

    def _look_again(self) -> tuple[dict[str, HostFacts], dict[str, BackendReading]]:
        """Under the locks: another rollout may have come and gone while images were pulled."""
        answers = aside(self._pool.read)
        facts, problems = facts_of(self._service, self._wish.hosts, self._remotes, again=True)
        refuse(problems)
        refuse_unfinished(facts)
        return facts, self._read(answers.result())

    def _render(self) -> dict[str, Project]:
        return {
            host: project(self._service, self._inventory.hosts[host], self._wish.version)
            for host in self._wish.hosts
        }

    # locks

    def _fence(self, host: str, keys: Iterable[str], effect: str) -> str:
        assert self._locks is not None
        return self._locks.fence(host, keys, effect)

    def _lock(self) -> None:
        claims = [Claim(host, compose.project_key(self._service)) for host in self._wish.hosts]
        claims += [Claim(b.host, backend_key(b)) for b in self._concerned()]
        facts = {"by": self._by, "reason": self._wish.reason or f"deploy {self._wish.version}"}
        locks = Locks(
            self._remotes,
            self._id,
            claims,
            facts,
            self._lock_lost,
            notice=lambda host, text: self._emit(Notice(text, host)),
            wait=self._wish.lock_wait,
        )
        if self._wish.lock_wait:
            self._emit(PhaseStarted("lock"))  # its end is told by whatever comes next
        locks.acquire()
        self._locks = locks

    def _lock_lost(self, host: str) -> None:
        self._emit(Notice("its lock was taken over: nothing more can be changed there", host))

    def _concerned(self) -> list[Balancer]:
        """The balancers in front of the selected hosts."""
        found = {b.id: b for host in self._wish.hosts for b in self._service.balancers_of(host)}
        return list(found.values())

    # the plan

    def _read(
        self, answers: Mapping[str, BackendReading | EvenkeelError]
    ) -> dict[str, BackendReading]:
        found = {}
        for name, answer in answers.items():
            if isinstance(answer, EvenkeelError):
                raise PreflightFailed(f"nothing was changed: {answer}")
            found[name] = answer
        for text in disagreements(self._service, found):
            self._emit(Notice(text))
        return found

    def _refs(self, hosts: Iterable[str]) -> list[ServerRef]:
        return [
            ref
            for host in hosts
            for instance in self._service.instances_on(host)
            for ref in self._servers(instance)
        ]

    def _servers(self, instance: Instance) -> list[ServerRef]:
        return [
            ServerRef(b.id, b.spec.backend, self._service.server_name(b.spec, instance))
            for b in self._service.balancers_of(instance.host)
        ]

    def _plan(
        self, targets: Sequence[Target], readings: Mapping[str, BackendReading], digest: str
    ) -> Plan:
        service = self._service
        baseline = [
            record_of(ref, readings[ref.balancer])
            for ref in self._refs(service.hosts)
            if ref.server in readings[ref.balancer].servers
        ]
        return Plan(
            id=self._id,
            service=service.name,
            version=self._wish.version,
            digest=digest,
            owner=self._by,
            reason=self._wish.reason,
            batches=batches(self._wish.hosts, service.rollout.serial),
            targets=tuple(targets),
            baseline=tuple(baseline),
            summed=tuple(b.id for b in self._pool.balancers if b.spec.hosts == "self"),
            policy=service.rollout,
            drain=self._drain(service.drain),
            allow_outage=self._wish.allow_outage,
            chosen=self._wish.chosen,
            watch=service.health.min_healthy,
            hooks=service.hooks,
            without=self._service.without,
            allow_loss=self._wish.allow_loss,
        )

    def _target(
        self,
        facts: HostFacts,
        release: StagedRelease,
        readings: Mapping[str, BackendReading],
    ) -> Target:
        return Target(
            release.instance,
            Release(release.id, release.version, release.digest, release.image),
            earlier_release(facts, release.instance),
            self._records(release.instance, readings),
            change=not already(facts, release),
        )

    def _drain(self, drain: Drain) -> Drain:
        """Where no balancer can pin a client to a server, there is nobody to have a grace."""
        pinned = any(hand.pins for hand in self._pool.hands.values())
        return drain if pinned else replace(drain, sticky_grace=0.0)

    def _records(
        self, instance: Instance, readings: Mapping[str, BackendReading]
    ) -> tuple[ServerRecord, ...]:
        return tuple(record_of(ref, readings[ref.balancer]) for ref in self._servers(instance))

    def _check_capacity(self, plan: Plan, readings: Mapping[str, BackendReading]) -> None:
        by_backend: dict[tuple[str, str], BackendReading] = {
            (b.id, b.spec.backend): readings[b.id] for b in self._pool.balancers
        }
        ledger = capacity.Ledger(
            capacity.pools(plan.baseline, plan.summed), plan.policy.min_capacity
        )
        ledger.see(by_backend)
        problems = [
            f"{target.instance.id}: {refused}"
            for target in plan.changing
            if not plan.allow_outage and (refused := ledger.refusal(target.refs)) is not None
        ]
        if problems:
            mend = "bring back what is down, lower rollout.min_capacity, or say --allow-outage"
            refuse([*problems, mend])

    def _write(self, plan: Plan) -> None:
        assert self._locks is not None
        begin, text = state.begin(plan.id), state.packed(plan.to_json())
        keys = self._locks.keys
        hosts = dict.fromkeys([*self._wish.hosts, *(b.host for b in self._concerned())])
        # Fenced: whoever slept through its own replacement must not begin a rollout after all.
        scripts = {host: self._locks.fence(host, keys(host), begin) for host in hosts}
        results = everywhere(self._remotes, scripts, "write the plan", WRITE_TIMEOUT, text)
        for result in results.values():
            check_fence(result)
        problems = [failed(result) for result in results.values() if not result.ok]
        if problems:
            end = state.finish(plan.id, {"verdict": "not begun"})
            undo = {host: self._locks.fence(host, keys(host), end) for host in hosts}
            everywhere(self._remotes, undo, "undo", WRITE_TIMEOUT)
            refuse(problems)


def _differs(facts: HostFacts, found: Sequence[StagedRelease]) -> bool:
    return not all(already(facts, release) for release in found)


def already(facts: HostFacts, release: StagedRelease) -> bool:
    """Whether ``release`` is what runs now, container and compose file alike."""
    container = facts.container(release.instance)
    return (
        container is not None
        and container.running
        and container.release == release.id
        and facts.current.get(release.instance.name) == release.id
    )


def earlier_release(facts: HostFacts, instance: Instance) -> Release | None:
    """What ``instance`` runs now, where that lies on its host to be put back."""
    container = facts.container(instance)
    identity = container.release if container else facts.current.get(instance.name, "")
    kept = facts.kept.get(identity)
    return None if kept is None else release_of(kept)


def release_of(kept: Mapping[str, str]) -> Release:
    """A release that lies on its host, from its ``release.json``."""
    return Release(kept["release"], kept["version"], kept["digest"], kept.get("image", ""))
