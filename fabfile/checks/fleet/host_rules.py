"""What can be wrong with hosts, whatever runs on them: reach, Docker, disks, locks, rollouts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from fabfile.checks.fleet.facts import Fleet, HostFacts, Lock, Rollout
from fabfile.checks.fleet.sight import alive, holds, live_rollouts, on_host
from fabfile.checks.fleet.verdict import Severity, Verdict, several
from fabfile.remote import records, state

DISK_WARNING, DISK_CRITICAL = 90, 95
"""Percent used."""
DISK_FREE = 100 * 1024
"""KiB that a deploy needs; below, the disk is critical whatever the percentage."""
DAY = 86400.0
CERTIFICATE_WARNING, CERTIFICATE_CRITICAL = 21, 3
"""Days that are left."""


def unreachable(fleet: Fleet) -> Iterator[Verdict]:
    """Hosts that could not be asked; nothing is known of what runs there."""
    for host, why in fleet.unreachable.items():
        yield Verdict(
            "unreachable", "UNKNOWN", host, f"can't be asked: {why}", f"fab -H {host} uptime"
        )


def docker(fleet: Fleet) -> Iterator[Verdict]:
    """Application hosts whose Docker does not answer."""
    for host, facts in fleet.hosts.items():
        if facts.docker:
            text = f"Docker does not answer: {facts.docker}"
            yield Verdict("docker", "CRITICAL", host, text, on_host(host, "docker info"))


def state_folder(fleet: Fleet) -> Iterator[Verdict]:
    """Hosts where locks and records can't be read, so that nobody knows of a rollout there."""
    for host, facts in fleet.hosts.items():
        if facts.state:
            text = f"{state.ROOT} is {facts.state}: docs/hosts.md says how to make it"
            mend = on_host(host, f"ls -ld {state.ROOT}")
            yield Verdict("state-folder", "WARNING", host, text, mend)


def disk(fleet: Fleet) -> Iterator[Verdict]:
    """Disks close to the end."""
    for host, facts in fleet.hosts.items():
        for each in facts.disks:
            full = each.used >= DISK_CRITICAL or each.free < DISK_FREE
            if full or each.used >= DISK_WARNING:
                text = f"is {each.used}% full, {each.free // 1024} MiB are left"
                # Kept releases have a tag of their own, which a prune spares.
                mend = on_host(host, "docker image prune -f; docker builder prune -f")
                severity: Severity = "CRITICAL" if full else "WARNING"
                yield Verdict("disk", severity, f"{host}:{each.mount}", text, mend)


def certificate(fleet: Fleet) -> Iterator[Verdict]:
    """Certificates that HAProxy serves and that end soon."""
    for host, facts in fleet.hosts.items():
        for each in facts.certificates:
            days = (each.expires - facts.now) / DAY
            if days >= CERTIFICATE_WARNING:
                continue
            when = f"ends in {math.floor(days)} days" if days >= 0 else "has expired"
            yield Verdict(
                "certificate",
                "CRITICAL" if days < CERTIFICATE_CRITICAL else "WARNING",
                f"{host}:{each.name}",
                f"{when}: renew the file, then reload HAProxy",
                on_host(host, f"openssl x509 -noout -enddate -in {each.name}"),
            )


def stale_lock(fleet: Fleet) -> Iterator[Verdict]:
    """Locks whose holder is dead and left no rollout that anybody could take up."""
    unfinished = {r.id for f in fleet.hosts.values() for r in f.rollouts if not r.finished}
    stale: dict[str, list[tuple[str, Lock]]] = {}
    for host, facts in fleet.hosts.items():
        for lock in facts.locks:
            told = any(holds(lock.held.owner, rollout) for rollout in unfinished)
            if not alive(lock) and not told and fleet.concerns(lock.service):
                stale.setdefault(lock.held.owner, []).append((host, lock))
    for owner, found in stale.items():
        held = found[0][1].held
        age = max(lock.held.age for _, lock in found)
        service = next((lock.service for _, lock in found if lock.service), "")
        by, why = held.facts.get("by", "somebody"), held.facts.get("reason") or "no reason given"
        yield Verdict(
            "stale-lock",
            "WARNING",
            owner,
            f"holds a lock on {several(host for host, _ in found)} since {held.since} and has given"
            f" no sign of life for {age} s ({by}: {why})",
            "fab lock.release --force" + _flag(fleet, service),
            service,
        )


def unfinished_rollout(fleet: Fleet) -> Iterator[Verdict]:
    """Rollouts that never ended and that nobody works on."""
    live = live_rollouts(fleet)
    known: dict[str, dict[str, Rollout]] = {}
    for host, facts in fleet.hosts.items():
        for rollout in facts.rollouts:
            over = rollout.finished or rollout.id in live
            if not over and fleet.concerns(rollout.service):
                known.setdefault(rollout.id, {})[host] = rollout
    for identity, on in known.items():
        service = next((r.service for r in on.values() if r.service), "")
        version = next((f" of {r.service} to {r.version}" for r in on.values() if r.version), "")
        left = [f"{_short(name)} on {host}" for host, name in _not_put_back(on)]
        what = f"; not put back: {several(left, 6)}" if left else ""
        yield Verdict(
            "unfinished-rollout",
            "CRITICAL",
            identity,
            f"a rollout{version} that was never finished{_silence(fleet, identity)}{what}"
            " (`fab abort` goes back, `fab repair` only puts weights back)",
            "fab resume" + _flag(fleet, service),
            service,
        )


def _not_put_back(on: Mapping[str, Rollout]) -> Iterator[tuple[str, str]]:
    """Open records of one rollout, by host; not those of instances that nobody has touched yet."""
    ahead = records.only_recorded(on.values())
    for host, rollout in on.items():
        for name in rollout.undo:
            if not (name.startswith("instance.") and f"{host}/{_short(name)}" in ahead):
                yield host, name


def _short(record: str) -> str:
    """``server.BACKEND.SERVER`` and ``instance.SERVICE.INSTANCE``: the last word."""
    return record.rpartition(".")[2]


def _silence(fleet: Fleet, rollout: str) -> str:
    ages = [
        lock.held.age
        for facts in fleet.hosts.values()
        for lock in facts.locks
        if holds(lock.held.owner, rollout)
    ]
    return f", no sign of life for {min(ages)} s" if ages else ""


def _flag(fleet: Fleet, service: str) -> str:
    return f" --service {service}" if service and len(fleet.inventory.services) > 1 else ""


HOST_RULES: tuple[Callable[[Fleet], Iterator[Verdict]], ...] = (
    unfinished_rollout,
    unreachable,
    docker,
    state_folder,
    stale_lock,
    disk,
    certificate,
)


def fullest(facts: HostFacts) -> int:
    """Percent used of the host's fullest disk; 0 where none is known."""
    return max((each.used for each in facts.disks), default=0)
