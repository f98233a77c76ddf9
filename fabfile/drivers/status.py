"""Everything ``inv status`` judges, found out: all hosts side by side, one command for each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from fabfile.checks.fleet.facts import Fleet, HostFacts, Reading, Silent
from fabfile.checks.fleet.look import Question, questions
from fabfile.checks.fleet.read import passing, read_balancers, read_host, read_maintained
from fabfile.errors import EvenkeelError
from fabfile.inventory.model import Inventory, Service
from fabfile.remote.base import Command, Result
from fabfile.remote.pool import Remotes

TIMEOUT = 20.0
"""Deadline of one host's command, in seconds."""
WORKERS = 32
"""Hosts at a time."""
SECOND_LOOK = 1.0
"""Seconds after which a HAProxy that gave no answer is asked once more: it may be reloading."""


def look(
    inventory: Inventory,
    services: Sequence[Service],
    selected: Mapping[str, tuple[str, ...]],
    remotes: Remotes,
) -> Fleet:
    """Ask every host of ``selected`` (by service) and the balancers in front of them.

    A host that can't be asked is told of and spoils nothing else.
    """
    began = time.monotonic()
    asked = questions(services, selected)
    answers = _ask(asked, remotes)
    again = {h: q for h, q in asked.items() if answers[h].ok and _passing(answers[h], q)}
    if again:
        time.sleep(SECOND_LOOK)
        answers |= _ask(again, remotes)
    known = tuple(inventory.services.values())
    hosts: dict[str, HostFacts] = {}
    unreachable: dict[str, str] = {}
    readings: dict[str, dict[str, Reading]] = {service.name: {} for service in services}
    maintained: set[tuple[str, str]] = set()
    for host, question in asked.items():
        answer = answers[host]
        if not answer.ok:
            unreachable[host] = _why(answer)
            continue
        hosts[host] = read_host(answer.stdout, question, known)
        maintained |= read_maintained(answer.stdout, question)
        for (name, balancer_id), found in read_balancers(answer.stdout, question).items():
            readings[name][balancer_id] = found
    for service in services:
        for balancer in (b for h in selected[service.name] for b in service.balancers_of(h)):
            if balancer.spec.kind != "haproxy":
                why = f"{balancer.id}: {balancer.spec.kind} can't be asked yet"
                readings[service.name][balancer.id] = Silent(why)
    elapsed = time.monotonic() - began
    pages = {
        service.name: frozenset(b for name, b in maintained if name == service.name)
        for service in services
    }
    return Fleet(
        inventory, tuple(services), hosts, unreachable, readings, dict(selected), elapsed, pages
    )


def _ask(asked: Mapping[str, Question], remotes: Remotes) -> dict[str, Result]:
    def one(host: str) -> Result:
        """One connection, one command, and the connection is given up: there may be hundreds."""
        try:
            transport = remotes.get(host)
        except EvenkeelError as error:
            return Result(host, "", None, "", str(error), 0.0)
        try:
            return transport.run(Command(asked[host].script(), timeout=TIMEOUT, label="status"))
        except EvenkeelError as error:
            return Result(host, "", None, "", str(error), 0.0)
        finally:
            with contextlib.suppress(Exception):
                transport.close()

    if not asked:
        return {}
    with ThreadPoolExecutor(min(WORKERS, len(asked)), thread_name_prefix="status") as workers:
        return dict(zip(asked, workers.map(one, asked), strict=True))


def _passing(answer: Result, question: Question) -> bool:
    return any(map(passing, read_balancers(answer.stdout, question).values()))


def _why(answer: Result) -> str:
    said = answer.tail(1).removeprefix("evenkeel: ").removeprefix(f"{answer.host}: ")
    return said or f"its command ended with {answer.exit_code}"
