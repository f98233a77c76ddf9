"""A rollout watched from elsewhere: what the hosts' own records say, asked again and again.

Each look is one command per host, side by side, over connections that are kept. What changed since
the look before comes out as events, so that the same view draws it. Nothing on a host is changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from fabfile.drivers import history
from fabfile.drivers.preflight import everywhere, failed
from fabfile.errors import EvenkeelError, PreflightFailed
from fabfile.inventory.model import Service
from fabfile.remote import journal, records, state
from fabfile.remote.base import Command
from fabfile.remote.pool import Remotes
from fabfile.rollout import events as e
from fabfile.rollout.history import Past, began
from fabfile.rollout.plan import Plan

TIMEOUT = 10.0
"""Deadline of one look, in seconds."""
AGAIN = 15.0
"""Seconds until a host that could not be asked is tried once more."""
Happened = list[tuple[e.Event, float]]
"""Events, and when each was, in seconds since 1970."""


@dataclass(frozen=True)
class Sight:
    """What one look found."""

    rollout: str = ""
    """Empty: none that is unfinished."""
    events: tuple[tuple[e.Event, float], ...] = ()
    alive: str = ""
    """Who is at work, and when that was last heard of."""
    dead: bool = False
    """Its controller gave no sign of life for too long."""
    ended: Past | None = None
    """The rollout of the look before is over, and how."""


class Watching:
    """Looks at one service's hosts."""

    def __init__(
        self, service: Service, remotes: Remotes, clock: Callable[[], float] = time.time
    ) -> None:
        self._service = service
        self._remotes = remotes
        self._clock = clock
        balancers = [b.host for host in service.hosts for b in service.balancers_of(host)]
        self._hosts = tuple(dict.fromkeys([*service.hosts, *balancers]))
        self._silent: dict[str, float] = {}
        """Hosts that could not be asked, and when each is tried again."""
        self._plans: dict[tuple[str, str], Plan | None] = {}
        self._drawn = _Drawn()

    def look(self) -> Sight:
        """Ask every host once. Raises :class:`PreflightFailed` when none ever answered."""
        now = self._clock()
        stands, problems = self._ask(now)
        if not stands and not self._drawn.plan:
            said = "; ".join(f"{host}: {text}" for host, text in problems.items())
            raise PreflightFailed(f"no host can be asked: {said}")
        notices: Happened = [
            (e.Notice(f"can't be asked: {text}", host), now) for host, text in problems.items()
        ]
        rollout, plan = self._chosen(stands)
        if plan is None and self._unheard(stands):
            known = self._drawn.plan
            assert known is not None
            return Sight(known.journal, tuple(notices), "none of its hosts can be asked now")
        if plan is None:
            return Sight(events=tuple(notices), ended=self._over())
        happened = self._drawn.changes(plan, stands, now)
        ages, by = _life(rollout, stands)
        dead = not ages or min(ages) >= state.STALE_AFTER
        return Sight(rollout, tuple(happened + notices), _told(ages, by), dead)

    def _ask(self, now: float) -> tuple[dict[str, journal.Stands], dict[str, str]]:
        """What each host says; and why one says nothing, when that is news."""
        wanted = [host for host in self._hosts if self._silent.get(host, 0.0) <= now]
        new = {host for host in wanted if host not in self._silent}
        failures = self._remotes.connect(wanted)
        problems = {host: _short(host, str(error)) for host, error in failures.items()}
        scripts = {host: journal.stands() for host in wanted if host not in failures}
        stands = {}
        for host, result in everywhere(self._remotes, scripts, "watch", TIMEOUT).items():
            if result.ok:
                stands[host] = journal.parse_stands(result.stdout)
            else:
                problems[host] = _short(host, failed(result))
        for host in stands:
            self._silent.pop(host, None)
        self._silent |= dict.fromkeys(problems, now + AGAIN)
        return stands, {host: text for host, text in problems.items() if host in new}

    def _chosen(self, stands: Mapping[str, journal.Stands]) -> tuple[str, Plan | None]:
        """The rollout to be watched: of several, the one that gave a sign of life last."""
        newest: dict[str, tuple[str, str]] = {}
        for host, stand in stands.items():
            for one in stand.rollouts:
                if one.plan > newest.get(one.rollout, ("", ""))[0]:
                    newest[one.rollout] = (one.plan, host)
        found = [
            (min(_life(rollout, stands)[0], default=10**9), rollout, plan)
            for rollout, (name, host) in newest.items()
            if (plan := self._plan(rollout, name, host)) and plan.service == self._service.name
        ]
        if not found:
            return "", None
        _, rollout, plan = min(found, key=lambda one: (one[0], one[1]))
        return rollout, plan

    def _plan(self, rollout: str, name: str, host: str) -> Plan | None:
        """Read once; ``None`` for one that can't be read, or is of a later Evenkeel."""
        key = (rollout, name)
        if key not in self._plans:
            try:
                command = Command(journal.plan(rollout, name), timeout=TIMEOUT, label="plan")
                result = self._remotes.get(host).run(command)
            except EvenkeelError:
                return None  # asked again with the next look
            if not result.ok:
                return None
            try:
                self._plans[key] = Plan.from_json(result.stdout)
            except ValueError:
                self._plans[key] = None
        return self._plans[key]

    def _unheard(self, stands: Mapping[str, journal.Stands]) -> bool:
        """Whether nobody who would know could say if the rollout of the look before goes on."""
        plan = self._drawn.plan
        return plan is not None and not any(h in stands for batch in plan.batches for h in batch)

    def _over(self) -> Past | None:
        """How the rollout of the look before ended, if there was one."""
        plan = self._drawn.plan
        if plan is None:
            return None
        self._drawn = _Drawn()
        past, _ = history.read(self._service, self._remotes)
        return next((one for one in past if one.rollout == plan.journal), None)


class _Drawn:
    """What was told already."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self._states: dict[str, str] = {}
        self._batch = 0

    def changes(self, plan: Plan, stands: Mapping[str, journal.Stands], now: float) -> Happened:
        """What is different from the look before."""
        found: Happened = []
        if plan != self.plan:
            self.plan, self._states, self._batch = plan, {}, 0
            found += [(_started(plan), _since(plan, now))]
        mine = {
            host: [one for one in stand.rollouts if one.rollout == plan.journal]
            for host, stand in stands.items()
        }
        ahead = records.only_recorded(one for standings in mine.values() for one in standings)
        for target in plan.changing:
            standings = mine.get(target.instance.host)
            if standings is None:
                continue  # it could not be asked: it is where it was
            name = records.of_instance(plan.service, target.instance.name)
            where = _where(name, standings, waits=target.instance.id in ahead)
            if where != self._states.get(target.instance.id, ""):
                self._states[target.instance.id] = where
                found += [(event, now) for event in _moved(target.instance.id, where)]
        found += [(event, now) for event in self._batches(plan)]
        return found

    def _batches(self, plan: Plan) -> list[e.Event]:
        """The first batch that is not through is the one at work."""
        open_hosts = {
            target.instance.host
            for target in plan.changing
            if self._states.get(target.instance.id) != "done"
        }
        for number, hosts in enumerate(plan.batches, 1):
            if open_hosts & set(hosts):
                if number == self._batch:
                    break
                self._batch = number
                return [e.BatchStarted(number, len(plan.batches), hosts, plan.mode == "abort")]
        return []


def _where(name: str, mine: Iterable[journal.Standing], *, waits: bool) -> str:
    """``waits``: it is only recorded, and nobody has touched it yet."""
    for one in mine:
        if name in one.undo:
            return "" if waits else "at work"
        if name in one.done:
            return "done"
    return ""


def _moved(instance: str, where: str) -> list[e.Event]:
    if where == "done":
        return [e.InstanceFinished(instance, "through", "")]
    return [e.StepStarted(instance, "at-work")] if where else []


def _started(plan: Plan) -> e.RolloutStarted:
    names = tuple(target.instance.id for target in plan.changing)
    hosts = tuple(host for batch in plan.batches for host in batch)
    total = len(plan.targets)
    return e.RolloutStarted(
        plan.journal, plan.service, plan.version, hosts, len(names), total, names
    )


def _since(plan: Plan, now: float) -> float:
    moment = began(plan.id)
    return min(moment.timestamp(), now) if moment else now


def _life(rollout: str, stands: Mapping[str, journal.Stands]) -> tuple[list[int], str]:
    """Seconds since each lock of ``rollout`` (or of its recovery) was touched, and by whom."""
    mine = [
        held
        for stand in stands.values()
        for held in stand.locks
        if held.owner == rollout or held.owner.startswith(f"{rollout}.")
    ]
    by = next((str(held.facts["by"]) for held in mine if "by" in held.facts), "")
    return [held.age for held in mine], by


def _told(ages: list[int], by: str) -> str:
    if not ages:
        return "nobody is at work on it: `fab resume` finishes it, `fab abort` goes back"
    who = f"by {by}, " if by else ""
    if min(ages) < state.STALE_AFTER:
        return f"{who}last sign of life {min(ages)} s ago"
    gone = "`fab resume`, `abort` or `repair` takes it up"
    return f"{who}no sign of life for {min(ages)} s: {gone}"


def _short(host: str, text: str) -> str:
    return text.removeprefix(f"{host}: ")
