"""Looking before leaping: what every host and balancer is like, and all that speaks against it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from fabfile.balancers.model import BackendReading, ServerRef
from fabfile.drivers import journals
from fabfile.drivers.aside import aside
from fabfile.drivers.balancers import Pool
from fabfile.drivers.locks import describe
from fabfile.drivers.operators import said
from fabfile.errors import EvenkeelError, Locked, PreflightFailed
from fabfile.inventory.model import Service
from fabfile.remote import state
from fabfile.remote.base import Command, Result
from fabfile.remote.pool import Remotes
from fabfile.runtimes.facts import HostFacts, facts_script, read_facts

FACTS_TIMEOUT = 30.0
"""Deadline in seconds."""
NOT_PROVISIONED = ("backend-missing", "server-missing")
"""Findings about a balancer that a new configuration mends."""


def everywhere(
    remotes: Remotes,
    scripts: Mapping[str, str],
    label: str,
    timeout: float,
    stdin: bytes | Mapping[str, bytes] = b"",
) -> dict[str, Result]:
    """Run each host's script, all side by side. One that can't be reached has no exit code."""
    running = {
        host: remotes.start(
            host,
            Command(script, stdin if isinstance(stdin, bytes) else stdin[host], timeout, label),
        )
        for host, script in scripts.items()
    }
    return {host: waiting.wait() for host, waiting in running.items()}


def reachable(remotes: Remotes, hosts: Iterable[str]) -> tuple[list[str], list[str]]:
    """Connect to all side by side; the hosts that answered, and a line about each other one."""
    wanted = list(dict.fromkeys(hosts))
    failures = remotes.connect(wanted)
    return [h for h in wanted if h not in failures], [str(e) for e in failures.values()]


def failed(result: Result) -> str:
    """One line about a command that did not end well."""
    if result.exit_code is None:
        why = f" ({result.why})" if result.why else ""
        return f"{result.host}: no answer to: {result.label}{why}"
    return f"{result.host}: {result.label} failed ({result.exit_code}): {result.tail(3)}"


def refuse(problems: Sequence[str], head: str = "nothing was changed") -> None:
    """Raise :class:`PreflightFailed` with every problem, if there is any.

    What several hosts (``web1: …``) suffer from alike is said once.
    """
    problems = _alike(problems)
    if len(problems) == 1:
        raise PreflightFailed(f"{head}: {problems[0]}")
    if problems:
        raise PreflightFailed("\n".join([f"{head}:", *(f"  {problem}" for problem in problems)]))


def _alike(problems: Sequence[str]) -> list[str]:
    hosts: dict[str, list[str]] = {}
    for problem in problems:
        host, colon, text = problem.partition(": ")
        named = bool(colon) and " " not in host
        hosts.setdefault(text if named else problem, []).append(host if named else "")
    return [
        f"{', '.join(dict.fromkeys(names))}: {text}" if names[0] else text
        for text, names in hosts.items()
    ]


def connect(remotes: Remotes, hosts: Iterable[str]) -> None:
    """Open every connection, or raise :class:`PreflightFailed` naming each that failed."""
    failures = remotes.connect(dict.fromkeys(hosts))
    refuse([str(error) for error in failures.values()], "nothing was changed, unreachable")


def facts_of(
    service: Service, hosts: Sequence[str], remotes: Remotes, *, again: bool = False
) -> tuple[dict[str, HostFacts], list[str]]:
    """What each application host is like, and what makes work on it impossible.

    ``again``: it was looked at a moment ago, and Docker worked.
    """
    script = facts_script(service, again=again)
    results = everywhere(remotes, dict.fromkeys(hosts, script), "preflight", FACTS_TIMEOUT)
    facts = {
        host: read_facts(result.stdout, service, again=again)
        for host, result in results.items()
        if result.ok
    }
    problems = [failed(result) for result in results.values() if not result.ok]
    problems += [f"{host}: {text}" for host, f in facts.items() for text in f.problems]
    return facts, problems


def look_around(
    service: Service,
    hosts: Sequence[str],
    remotes: Remotes,
    pool: Pool,
    refs: Iterable[ServerRef],
    ids: Iterable[str],
) -> tuple[dict[str, HostFacts], list[str]]:
    """Every host of ``hosts``, and what to warn of: hosts, balancers and records side by side.

    ``refs`` are the servers that are going to be changed, on the balancers ``ids``. Raises
    :class:`PreflightFailed` with all that speaks against it, and :class:`Locked` for a rollout that
    is unfinished.
    """
    everybody = [balancer.host for balancer in pool.balancers]
    looked = aside(partial(balancer_problems, pool, refs, ids))
    left = aside(partial(refuse_left_over, service, everybody, remotes))
    facts, problems = facts_of(service, hosts, remotes)
    wrong, warnings = looked.result()
    refuse([*problems, *unprovisioned(service, facts), *wrong])
    refuse_unfinished(facts)
    left.result()
    return facts, warnings


def unprovisioned(service: Service, facts: Mapping[str, HostFacts]) -> list[str]:
    """Hosts that have no compose project of the service yet."""
    return [
        f"{host}: {service.project_dir} holds no compose project yet: run `fab provision`"
        for host, f in facts.items()
        if not f.provisioned and not f.problems
    ]


def balancer_problems(
    pool: Pool, refs: Iterable[ServerRef], ids: Iterable[str]
) -> tuple[list[str], list[str]]:
    """What speaks against a rollout behind the balancers ``ids``, and what to warn of.

    ``refs`` are the servers that are going to be changed.
    """
    problems: list[str] = []
    warnings: list[str] = []
    for answer in pool.preflight(refs, ids).values():
        if isinstance(answer, EvenkeelError):
            problems.append(str(answer))
            continue
        problems += [
            found.text + (": run `fab provision`" if found.code in NOT_PROVISIONED else "")
            for found in answer
            if found.severity == "refuse"
        ]
        warnings += [found.text for found in answer if found.severity == "warn"]
    return problems, warnings


def refuse_unfinished(facts: Mapping[str, HostFacts]) -> None:
    """Raise :class:`Locked` when a host knows of a rollout that runs, or that never ended."""
    found = sorted({rollout for f in facts.values() for rollout in f.unfinished})
    for host, fact in facts.items():
        for held in fact.locks:
            if held.owner in found and held.age < state.STALE_AFTER:
                raise Locked(f"{host}: {describe(held)}")
    if found:
        where = ", ".join(sorted(host for host, f in facts.items() if f.unfinished))
        raise Locked(
            f"unfinished rollout {', '.join(found)} on {where}: `fab resume` finishes it,"
            " `fab abort` goes back, `fab repair` only puts weights back"
        )


def refuse_left_over(service: Service, hosts: Iterable[str], remotes: Remotes) -> None:
    """Raise :class:`Locked` when a balancer's host still has records of ``service`` to put back.

    It was away when its rollout ended without it. (Of a rollout that runs, the locks tell.)
    """
    look = dict.fromkeys(hosts, f"{state.journal()}printf '== locks now\\n'\n{state.locks()}true\n")
    found: dict[str, list[str]] = {}
    for host, result in everywhere(remotes, look, "look for records", FACTS_TIMEOUT).items():
        journal, _, locks = result.stdout.partition("== locks now\n")
        alive = {
            held.owner.partition(".")[0]
            for held in state.parse_locks(locks)
            if held.age < state.STALE_AFTER
        }
        for one in state.parse_journal(journal):
            if one.rollout not in alive and one.undo and journals.service_of([one]) == service.name:
                found.setdefault(one.rollout, []).append(host)
    for rollout, places in found.items():
        raise Locked(
            f"{', '.join(places)}: rollout {rollout} ended without it and left servers to be put"
            " back: run `fab repair`"
        )


def disagreements(service: Service, readings: Mapping[str, BackendReading]) -> list[str]:
    """Servers that balancers of one entry have at different weights or states: one was away when
    the others were changed, or somebody means it. Nothing is done about it."""
    whole = {b.id: b for host in service.hosts for b in service.balancers_of(host)}
    lines = []
    for spec in service.balancers:
        mine = [name for name, b in whole.items() if b.spec is spec and name in readings]
        if spec.hosts == "self" or len(mine) < 2:
            continue
        for server in readings[mine[0]].servers:
            seen = {n: s for n in mine if (s := readings[n].servers.get(server)) is not None}
            states = {name: said(s) for name, s in seen.items()}
            if len(set(states.values())) > 1:
                shown = ", ".join(f"{text} on {name}" for name, text in states.items())
                lines.append(
                    f"{spec.backend}/{server}: its balancers disagree and stay so: {shown}"
                )
    return lines
