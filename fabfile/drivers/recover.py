"""An unfinished rollout taken up by whoever comes: look, take its locks over, plan, carry it out.

What is known of it lies on the hosts; this machine need not be the one that began it. See
``rollout.recovery`` for what is decided, and ``remote.state`` for what is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from fabfile.balancers.model import BackendReading
from fabfile.drivers import journals, left
from fabfile.drivers.balancers import Pool, backend_key
from fabfile.drivers.dropping import Dropping
from fabfile.drivers.freeze import claims
from fabfile.drivers.hands import records_of
from fabfile.drivers.hooks import dues
from fabfile.drivers.identity import whoami
from fabfile.drivers.left import Unfinished
from fabfile.drivers.locks import Claim, Locks, check_fence
from fabfile.drivers.missing import Gone, Missing, joined, missing, reduced, tell
from fabfile.drivers.preflight import everywhere, facts_of, failed, refuse
from fabfile.drivers.prepare import Prepared
from fabfile.drivers.without import Outside
from fabfile.errors import BadInput, EvenkeelError, PreflightFailed
from fabfile.inventory.model import Inventory, Service
from fabfile.remote import journal, records, state
from fabfile.remote.pool import Remotes
from fabfile.rollout.events import Event, Notice
from fabfile.rollout.plan import Plan, Target
from fabfile.rollout.recovery import (
    Found,
    Recovery,
    replan,
    report,
)

LOOK_TIMEOUT = 30.0
"""Deadline in seconds of reading or writing a journal."""
TAKE_OVER_PATIENCE = state.STALE_AFTER + 5.0
"""Seconds a recovery waits for a dead rollout's locks to count as dead."""


class Taker:
    """Takes one service's unfinished rollout up."""

    def __init__(
        self,
        service: Service,
        remotes: Remotes,
        emit: Callable[[Event], None],
        identity: str,
        inventory: Inventory,
        gone: Gone = Gone(),  # noqa: B008 (frozen)
        *,
        force: bool = False,
    ) -> None:
        """``force``: take the locks over even from a holder that still gives signs of life.

        ``gone``: what is left out of the rollout's end.
        """
        self._service = service
        self._inventory = inventory
        self._gone = gone
        self._missing: Missing | None = None
        self._remotes = remotes
        self._emit = emit
        self._identity = identity
        self._force = force
        self._locks: Locks | None = None
        self._unreachable: dict[str, str] = {}
        self._pool = Pool(service, service.hosts, remotes, self._fence)

    def find(self, rollout: str = "") -> Unfinished | None:
        """The unfinished rollout (called ``rollout``, where there are several); ``None``: none.

        Raises :class:`BadInput` where it takes a choice, :class:`PreflightFailed` or
        :class:`NeedsRepair` for a journal that can't be read on any host.
        """
        known = self._journals()
        ids = sorted({one.rollout for found in known.values() for one in found})
        if rollout:
            ids = [one for one in ids if one == rollout]
            if not ids:
                raise BadInput(
                    f"--rollout: no unfinished rollout {rollout} of {self._service.name}"
                )
        if len(ids) > 1:
            raise BadInput(f"--rollout is needed, these are unfinished: {', '.join(ids)}")
        if not ids:
            return None
        hosts = {
            host: one for host, found in known.items() for one in found if one.rollout == ids[0]
        }
        read = journals.believed(ids[0], hosts)
        self._settle(read.plan)
        wanted = self._expected(read.plan)
        others = journals.damaged(ids[0], hosts, read.plans, wanted)
        over = self._over(ids[0], hosts)
        damage = (*read.damage, *others)
        return Unfinished(read.plan, read.number, {**over, **hosts}, damage, frozenset(over))

    def take(
        self, found: Unfinished, mode: Recovery, *, dry: bool = False, before_rollout: str = ""
    ) -> Prepared:
        """Plan its end and make ready to carry that out. With ``dry`` nothing is locked or written.

        ``before_rollout``: what to do about that hook. Raises :class:`Locked` while its controller
        still lives, :class:`BadInput` where nobody but a person knows whether that hook is done.
        """
        try:
            if not dry:
                self._lock(found.plan)
                found = self.find(found.plan.journal) or found
            owed = dues(
                found.plan,
                mode,
                found.hosts.get(found.plan.first_host),
                before_rollout,
                blind=found.plan.first_host in self._unreachable,
            )
            if owed.warning:
                self._emit(Notice(owed.warning))
            for one in found.damage:
                self._emit(Notice(str(one), one.host))
            plan, readings, void = self._plan(found, mode, dry)
            if not dry:
                self._write(plan, found.number + 1)
                self._keep_aside(found)
                self._forget(plan, void)
        except BaseException:
            self.close()
            raise
        locks, pool = self._locks, self._pool
        return Prepared(plan, self._service, self._remotes, pool, locks, readings, owed)

    def close(self) -> None:
        """Give back what was taken."""
        self._pool.close()
        if self._locks is not None:
            self._locks.release()

    # looking

    def _hosts(self) -> list[str]:
        balancers = [b.host for b in self._pool.balancers]
        return list(dict.fromkeys([*self._service.hosts, *balancers]))

    def _journals(self) -> dict[str, list[state.Unfinished]]:
        hosts = self._hosts()
        failures = self._remotes.connect(hosts)
        self._unreachable = {host: str(error) for host, error in failures.items()}
        reachable = [host for host in hosts if host not in failures]
        if not reachable:
            raise PreflightFailed("none of the hosts can be reached: nothing was changed")
        scripts = dict.fromkeys(reachable, state.journal())
        results = everywhere(self._remotes, scripts, "read the journal", LOOK_TIMEOUT)
        refuse([failed(result) for result in results.values() if not result.ok])
        known = {host: state.parse_journal(r.stdout) for host, r in results.items()}
        by_id: dict[str, list[state.Unfinished]] = {}
        for found in known.values():
            for one in found:
                by_id.setdefault(one.rollout, []).append(one)
        # One that nobody can tell the service of has to be said by somebody.
        ours = {i for i, o in by_id.items() if journals.service_of(o) in ("", self._service.name)}
        return {host: [one for one in o if one.rollout in ours] for host, o in known.items()}

    def _expected(self, plan: Plan) -> journals.Expected:
        """The records that ``plan`` may have led to, by host."""
        found: dict[str, dict[str, object]] = {}
        for target in plan.targets:
            servers = tuple(r for r in target.servers if r.ref.balancer in self._pool.hands)
            mine = records_of(replace(target, servers=servers), self._service, self._pool)
            for host, (_, named) in mine.items():
                found.setdefault(host, {}).update(named)
        return found

    def _over(
        self, rollout: str, known: Mapping[str, state.Unfinished]
    ) -> dict[str, state.Unfinished]:
        """What is left of it on hosts on which it ended."""
        others = [h for h in self._hosts() if h not in known and h not in self._unreachable]
        look = dict.fromkeys(others, state.ended(rollout))
        results = everywhere(self._remotes, look, "read the journal", LOOK_TIMEOUT)
        found = {host: state.parse_journal(r.stdout) for host, r in results.items() if r.ok}
        return {host: one for host, some in found.items() for one in some}

    def _settle(self, plan: Plan) -> None:
        """What the rollout's end does without; from here on its balancers are left alone."""
        if self._missing is not None:
            return
        reachable = [host for host in self._service.hosts if host not in self._unreachable]
        outside = Outside(
            self._inventory, self._service, self._remotes, self._emit, tuple(reachable)
        )
        self._missing = missing(plan, self._service, self._gone, self._unreachable, outside)
        tell(outside, plan, self._service)
        if self._missing.balancers:
            self._pool.close()
            self._service = replace(self._service, without=self._missing.balancers)
            self._pool = Pool(self._service, self._service.hosts, self._remotes, self._fence)

    # deciding

    def _fence(self, host: str, keys: Iterable[str], effect: str) -> str:
        assert self._locks is not None
        return self._locks.fence(host, keys, effect)

    def _lock(self, plan: Plan) -> None:
        assert self._missing is not None
        wanted = claims(self._service, _hosts_of(reduced(plan, self._missing)))
        if self._missing.hosts:  # what they left behind on balancers is put back
            wanted += [Claim(b.host, backend_key(b)) for b in self._pool.balancers]
        locks = Locks(
            self._remotes,
            f"{plan.journal}.{self._identity}",
            [claim for claim in wanted if claim.host not in self._unreachable],
            {"by": whoami(), "reason": f"recovery of {plan.journal}"},
            lambda host: self._emit(Notice("its lock was taken over", host)),
            notice=lambda host, text: self._emit(Notice(text, host)),
            wait=0.0 if self._force else TAKE_OVER_PATIENCE,
            over=[plan.journal],
            stale=0 if self._force else state.STALE_AFTER,
        )
        locks.acquire()
        self._locks = locks

    def _plan(
        self, unfinished: Unfinished, mode: Recovery, dry: bool
    ) -> tuple[Plan, Mapping[str, BackendReading], tuple[Target, ...]]:
        """The plan, what the balancers showed, and whose own open record means nothing."""
        assert self._missing is not None
        answers = self._pool.read()
        readings = {n: a for n, a in answers.items() if not isinstance(a, EvenkeelError)}
        if self._missing.hosts or self._missing.balancers:
            self._give_up(unfinished, readings, dry)
        plan, new = joined(reduced(unfinished.plan, self._missing), self._service, readings)
        for name in new:
            self._emit(Notice("answers, and the rollout did not know it: it counts from now", name))
        unfinished = replace(unfinished, plan=plan)
        hosts = dict.fromkeys(target.instance.host for target in plan.targets)
        asked = [host for host in hosts if host not in self._unreachable]
        facts, problems = facts_of(self._service, asked, self._remotes)
        for problem in problems:
            self._emit(Notice(problem))
        instances = left.instances(unfinished, facts)
        plan = left.ended_elsewhere(plan, unfinished, instances)
        unfinished = replace(unfinished, plan=plan)
        found = Found(
            plan,
            instances,
            left.servers(unfinished, readings, self._pool),
            tuple(host for host in hosts if host not in facts),
            tuple(sorted(set(answers) - set(readings))),
        )
        begun = f"begun by {plan.owner}" + (f": {plan.reason}" if plan.reason else "")
        why = plan.reason if plan.of else begun
        ended = replan(found, mode, self._identity, owner=whoami(), reason=why)
        for line in report(found, ended):
            self._emit(Notice(line))
        return ended, readings, found.ahead

    def _give_up(
        self, unfinished: Unfinished, readings: Mapping[str, BackendReading], dry: bool
    ) -> None:
        assert self._missing is not None
        servers = left.servers(unfinished, readings, self._pool)
        dropping = Dropping(
            unfinished.plan,
            self._pool,
            self._remotes,
            self._fence,
            servers,
            lambda text: self._emit(Notice(text)),
        )
        dropping.give_up(self._missing.hosts, self._missing.balancers, dry=dry)

    def _keep_aside(self, found: Unfinished) -> None:
        """Damaged files leave the journal; what they said is written anew from the plan.

        It comes after the new plan was written: a host is never without any.
        """
        effects = {}
        for host in {one.host for one in found.damage} & set(self._keys(found.plan)):
            files = {one.file: one.text for one in found.damage if one.host == host}
            effects[host] = journal.keep_aside(found.plan.journal, files)
        self._effect(found.plan, effects, "keep damaged files aside")

    def _forget(self, plan: Plan, void: Iterable[Target]) -> None:
        """The own records of ``void``, which nobody touched."""
        names: dict[str, list[str]] = {}
        for instance in (target.instance for target in void):
            name = records.of_instance(instance.service, instance.name)
            names.setdefault(instance.host, []).append(name)
        effects = {host: records.forget(plan.journal, mine) for host, mine in names.items()}
        self._effect(plan, effects, "forget records")

    def _write(self, plan: Plan, number: int) -> None:
        hosts = [host for host in self._keys(plan) if host not in self._unreachable]
        effects = dict.fromkeys(hosts, state.begin(plan.journal, number))
        self._effect(plan, effects, "write the plan", state.packed(plan.to_json()))

    def _effect(self, plan: Plan, effects: Mapping[str, str], what: str, text: bytes = b"") -> None:
        """Change journals, before any server is touched.

        Fenced: a recovery that slept through its own replacement must not have the last word.
        """
        keys = self._keys(plan)
        scripts = {host: self._fence(host, keys[host], each) for host, each in effects.items()}
        results = everywhere(self._remotes, scripts, what, LOOK_TIMEOUT, text)
        for result in results.values():
            check_fence(result)
        refuse(
            [failed(result) for result in results.values() if not result.ok],
            "the end of the rollout has not begun",
        )

    def _keys(self, plan: Plan) -> dict[str, set[str]]:
        keys: dict[str, set[str]] = {}
        for claim in claims(self._service, _hosts_of(plan)):
            keys.setdefault(claim.host, set()).add(claim.key)
        return keys


def _hosts_of(plan: Plan) -> Sequence[str]:
    return list(dict.fromkeys(target.instance.host for target in plan.targets))
