"""What was rolled out before: the hosts' own records, merged; every machine sees the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fabfile.drivers.preflight import everywhere, failed
from fabfile.errors import PreflightFailed
from fabfile.inventory.model import Service
from fabfile.remote import state
from fabfile.remote.pool import Remotes
from fabfile.rollout import history
from fabfile.rollout.history import Past
from fabfile.rollout.plan import NewerFormat, Plan

LOOK_TIMEOUT = 60.0
"""Deadline in seconds."""
_MARK = "== locks =="


def read(service: Service, remotes: Remotes) -> tuple[list[Past], list[str]]:
    """Every rollout of ``service`` that some host knows of, the newest first; and what is wrong.

    A host that can't be asked is one line of the second. Raises :class:`PreflightFailed` when
    none can be.
    """
    balancers = [b.host for host in service.hosts for b in service.balancers_of(host)]
    hosts = list(dict.fromkeys([*service.hosts, *balancers]))
    failures = remotes.connect(hosts)
    problems = [str(error) for error in failures.values()]
    reachable = [host for host in hosts if host not in failures]
    script = f"{state.history()}echo '{_MARK}'\n{state.locks()}"
    results = everywhere(
        remotes, dict.fromkeys(reachable, script), "read the history", LOOK_TIMEOUT
    )
    problems += [failed(result) for result in results.values() if not result.ok]
    answers = {
        host: result.stdout.partition(f"{_MARK}\n") for host, result in results.items() if result.ok
    }
    if not answers:
        raise PreflightFailed("no host can be asked: " + "; ".join(problems))
    known = {host: state.parse_history(past) for host, (past, _, _) in answers.items()}
    alive = {
        held.owner.partition(".")[0]
        for _, _, locks in answers.values()
        for held in state.parse_locks(locks)
        if held.age < state.STALE_AFTER
    }
    return merge(service.name, known, alive), problems


def merge(
    service: str, known: Mapping[str, Sequence[state.Ended]], alive: Iterable[str] = ()
) -> list[Past]:
    """One line of history for each rollout of ``service``, the newest first.

    ``alive``: rollouts whose locks show a sign of life.
    """
    by_id: dict[str, dict[str, state.Ended]] = {}
    for host, entries in known.items():
        for entry in entries:
            by_id.setdefault(entry.rollout, {})[host] = entry
    found = []
    for rollout, by_host in by_id.items():
        named = {name for entry in by_host.values() if (name := entry.service)}
        if service in named or not named:
            found.append(_merged(rollout, by_host, rollout in set(alive)))
    return sorted(found, key=lambda past: past.rollout, reverse=True)


def _merged(rollout: str, entries: Mapping[str, state.Ended], alive: bool) -> Past:
    told = {host: entry for host, entry in entries.items() if entry.facts.get("verdict")}
    past = Past(rollout, "unknown", began=history.iso(history.began(rollout)))
    notes = []
    for entry in entries.values():
        past, note = _from_plan(past, entry.plan)
        if note and note not in notes:
            notes.append(note)
        if past.service:
            break
    if told:
        # The newest end counts: a recovery may have ended it on hosts that were silent before.
        facts = max((e.facts for e in told.values()), key=lambda f: str(f.get("ended", "")))
        past = _from_facts(past, facts)
    still_open = [host for host, entry in entries.items() if not entry.ended]
    if still_open and not told:
        past = replace(past, verdict="running" if alive else "unfinished")
    elif still_open:
        notes.append(f"{', '.join(still_open)} was not told that it is over")
    for host, entry in entries.items():
        if entry.ended and host not in told:
            notes.append(f"{host}: finished.json can't be read")
    return replace(past, notes=tuple(notes))


def _from_plan(past: Past, text: str) -> tuple[Past, str]:
    """What a plan adds; and what is wrong with it."""
    if not text:
        return past, ""
    try:
        plan = Plan.from_json(text)
    except NewerFormat as error:
        return past, str(error)
    except ValueError:
        return past, "its plan can't be read"
    return replace(
        past,
        service=plan.service,
        version=plan.version,
        before=tuple(sorted({t.earlier.version for t in plan.targets if t.change and t.earlier})),
        mode=plan.mode,
        owner=plan.owner,
        why=plan.reason,
        digest=plan.digest,
        hosts=tuple(host for batch in plan.batches for host in batch),
        chosen=plan.chosen,
    ), ""


_TEXTS = (
    "verdict",
    "service",
    "version",
    "mode",
    "owner",
    "why",
    "reason",
    "digest",
    "began",
    "ended",
)


def _from_facts(past: Past, facts: Mapping[str, Any]) -> Past:
    """What ``finished.json`` adds, whoever wrote it: what is missing or odd is passed over."""
    found: dict[str, Any] = {
        name: value for name in _TEXTS if isinstance(value := facts.get(name), str) and value
    }
    for name in ("before", "hosts"):
        if isinstance(value := facts.get(name), list):
            found[name] = tuple(map(str, value))
    for name in ("fates", "reasons"):
        if isinstance(value := facts.get(name), dict):
            found[name] = {str(key): str(text) for key, text in value.items()}
    for name, kind in (("upgraded", int), ("chosen", bool), ("seconds", float)):
        with contextlib.suppress(TypeError, ValueError):
            if facts.get(name) is not None:
                found[name] = kind(facts[name])
    return replace(past, **found)
