"""From facts to a report: rows for people, figures for machines, and every verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from fabfile.balancers.haproxy.switch import SWITCH, maintenance_of
from fabfile.checks.fleet.facts import Fleet
from fabfile.checks.fleet.host_rules import DAY, HOST_RULES, fullest
from fabfile.checks.fleet.instance_rules import INSTANCE_RULES
from fabfile.checks.fleet.server_rules import SERVER_RULES, share
from fabfile.checks.fleet.sight import Server, Sight, is_freeze, live_rollouts
from fabfile.checks.fleet.verdict import Verdict, exit_code, several, worst_first
from fabfile.checks.summary import WORDS
from fabfile.remote import state

NAMES = (
    *("unfinished-rollout", "unreachable", "docker", "state-folder", "stale-lock", "disk"),
    *("certificate", "balancer-silent", "no-capacity", "stuck-weight", "server-missing"),
    *("server-down", "balancers-disagree", "instance-down", "unhealthy", "restarting"),
    *("version-drift", "partial-by-choice", "digest-drift", "compose-differs"),
    *("compose-edited", "stray-container"),
)
"""Every verdict there is."""


@dataclass(frozen=True)
class Cell:
    """An instance on one balancer."""

    balancer: str
    host: str
    server: str
    state: str
    """``up``, ``down``, ``drain``, ``maint``, ``missing``; ``?``: it was not to be asked."""
    weight: int = 0
    """Effective: its share of new requests now."""
    configured: int = 0
    sessions: int = 0
    """Requests running on it and waiting for it."""


@dataclass(frozen=True)
class Row:
    """One instance."""

    service: str
    host: str
    instance: str
    version: str
    release: str
    container: str
    """Docker's word, and ``missing``, or ``?`` where its host was not to be asked."""
    cells: tuple[Cell, ...]

    @property
    def healthy(self) -> bool:
        """It runs, and every balancer sends it requests."""
        return self.container in ("running", "healthy") and all(
            cell.state == "up" and cell.weight > 0 for cell in self.cells
        )

    @property
    def sessions(self) -> int:
        """On all balancers together."""
        return sum(cell.sessions for cell in self.cells)


@dataclass(frozen=True)
class Report:
    """The fleet, judged."""

    fleet: Fleet
    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...]
    """The worst first."""
    notes: tuple[str, ...]
    """What a person should know and that is no trouble: a rollout at work, a freeze."""
    capacity: tuple[tuple[str, str, int], ...]
    """Service, balancer, and the percentage of its weight that takes requests."""

    @property
    def exit_code(self) -> int:
        """Nagios': 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN."""
        return exit_code(self.verdicts)

    @property
    def word(self) -> str:
        """OK, WARNING, CRITICAL or UNKNOWN."""
        return WORDS[self.exit_code]

    @property
    def versions(self) -> tuple[str, ...]:
        """Those that run, each once."""
        return tuple(sorted({row.version for row in self.rows if row.version}))

    @property
    def lowest(self) -> int | None:
        """The capacity of the balancer that has least; ``None``: no balancer was to be asked."""
        return min((percent for _, _, percent in self.capacity), default=None)

    @property
    def fullest(self) -> int:
        """Percent used of the fullest disk."""
        return max(map(fullest, self.fleet.hosts.values()), default=0)

    @property
    def certificate_days(self) -> int | None:
        """Days until the first certificate ends; ``None``: none is known."""
        left = [
            (each.expires - facts.now) / DAY
            for facts in self.fleet.hosts.values()
            for each in facts.certificates
        ]
        return math.floor(min(left)) if left else None

    @property
    def headline(self) -> str:
        """The verdict in one line, without figures: ``CRITICAL: web1/app_1 …``."""
        if not self.verdicts:
            return f"{self.word}: {self._all_well()}"
        first = [f"{verdict.subject}: {verdict.text}" for verdict in self.verdicts[:2]]
        more = len(self.verdicts) - len(first)
        return f"{self.word}: " + "; ".join(first) + (f"; and {more} more" if more else "")

    def _all_well(self) -> str:
        hosts = {row.host for row in self.rows}
        balancers = {(c.host, c.balancer) for row in self.rows for c in row.cells}
        behind = f", behind {_count(len(balancers), 'balancer')}" if balancers else ""
        runs = "run" if len(self.rows) > 1 else "runs"
        return (
            f"{_count(len(self.rows), 'instance')} on {_count(len(hosts), 'host')}"
            f" {runs} {several(self.versions)}{behind}"
        )


def judge(fleet: Fleet) -> Report:
    """Judge everything that was found."""
    sights = [Sight(fleet, service) for service in fleet.services]
    verdicts = [verdict for rule in HOST_RULES for verdict in rule(fleet)]
    for sight in sights:
        for rule in (*SERVER_RULES, *INSTANCE_RULES):
            verdicts += rule(sight)
    return Report(
        fleet,
        tuple(row for sight in sights for row in _rows(sight)),
        tuple(worst_first(verdicts)),
        (
            *_notes(fleet),
            *(note for sight in sights for note in (*_maintained(sight), *_drained(sight))),
        ),
        tuple(
            (sight.service.name, balancer.id, percent)
            for sight in sights
            for balancer in fleet.balancers(sight.service)
            if (percent := share(sight, balancer)) is not None
        ),
    )


def _rows(sight: Sight) -> Iterator[Row]:
    servers: dict[tuple[str, str], Server] = {
        (s.instance.id, s.balancer.id): s for s in sight.servers
    }
    for instance in sight.instances:
        container = sight.container(instance)
        word = "missing" if container is None else container.health or container.status
        cells = []
        for balancer in sight.service.balancers_of(instance.host):
            server = servers.get((instance.id, balancer.id))
            name = sight.service.server_name(balancer.spec, instance)
            cells.append(_cell(server) if server else Cell(balancer.id, balancer.host, name, "?"))
        yield Row(
            sight.service.name,
            instance.host,
            instance.name,
            container.shown_version if container else "",
            container.release if container else "",
            word if sight.known(instance) else "?",
            tuple(cells),
        )


def _cell(server: Server) -> Cell:
    balancer, reading = server.balancer, server.reading
    if reading is None:
        return Cell(balancer.id, balancer.host, server.name, server.word)
    return Cell(
        balancer.id,
        balancer.host,
        server.name,
        server.word,
        reading.weight if reading.up else 0,
        reading.iweight,
        reading.scur + reading.qcur,
    )


def _notes(fleet: Fleet) -> Iterator[str]:
    live = live_rollouts(fleet)
    for identity in sorted(live):
        known = [
            r for f in fleet.hosts.values() for r in f.rollouts if r.id == identity and r.version
        ]
        what = f" of {known[0].service} to {known[0].version}" if known else ""
        yield f"rollout {identity}{what} is at work"
    freezes: dict[str, tuple[str, list[str]]] = {}
    for host, facts in fleet.hosts.items():
        for lock in facts.locks:
            if is_freeze(lock):
                by, why = lock.held.facts.get("by"), lock.held.facts.get("reason")
                text = f"frozen by {by} since {lock.held.since}: {why}"
                freezes.setdefault(lock.held.owner, (text, []))[1].append(host)
    for text, hosts in freezes.values():
        yield f"{several(hosts)}: {text} (`fab lock.release` ends it)"


def _maintained(sight: Sight) -> Iterator[str]:
    """Balancers that answer everybody with the maintenance page."""
    told: dict[str, list[str]] = {}
    for balancer in sight.fleet.balancers(sight.service):
        if balancer.id not in sight.fleet.maintained.get(sight.service.name, ()):
            continue
        facts, backend = sight.facts(balancer.host), maintenance_of(balancer.spec.backend)
        name = f"{state.key('backend', balancer.spec.socket, backend)}.{SWITCH}"
        records = [r for r in (facts.drained if facts else ()) if r.name == name]
        who = f", {records[0].told}" if records else ""
        told.setdefault(who, []).append(balancer.id)
    for who, names in told.items():
        page = f"{sight.service.name}: everybody gets the maintenance page from {several(names)}"
        yield f"{page}{who} (`{sight.fab('maintenance off')}` ends it)"


def _drained(sight: Sight) -> Iterator[str]:
    """Servers that a person drained: they are out of rotation for a reason."""
    told: dict[str, tuple[Server, list[str]]] = {}
    for server in sight.servers:
        record = sight.drained(server)
        if record is not None:
            text = f"{server.instance.id}: drained {record.told}"
            told.setdefault(text, (server, []))[1].append(server.balancer.id)
    for text, (server, names) in told.items():
        instance = server.instance
        back = sight.fab(f"enable --instance {instance.name}", instance.host)
        yield f"{text}, on {several(names)} (`{back}` ends it)"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
