"""The maintenance page on and off: 503 for everybody, from the balancers themselves.

It has locks of its own (those of the page's backends), so that a rollout that is at work, or one
that died, keeps nobody from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fabfile.balancers.haproxy.change import set_weight
from fabfile.balancers.haproxy.parse import Refused
from fabfile.balancers.haproxy.switch import SWITCH, maintenance_of
from fabfile.balancers.model import BackendReading, ServerRef
from fabfile.drivers.balancers import Change, Pool, backend_key
from fabfile.drivers.everyday.footing import Footing
from fabfile.drivers.preflight import refuse
from fabfile.errors import BadInput, EvenkeelError
from fabfile.inventory.model import Balancer, Service
from fabfile.remote.drained import Drained
from fabfile.remote.pool import Remotes
from fabfile.rollout.events import Event, Notice

BROKEN = 6
"""Exit code where not every balancer shows what was asked for."""


def switch(
    service: Service,
    hosts: Sequence[str],
    remotes: Remotes,
    emit: Callable[[Event], None],
    *,
    on: bool,
    message: str,
    wait: float,
) -> int:
    """Turn the page on or off on every balancer in front of ``hosts``; returns the exit code.

    Raises :class:`PreflightFailed` where a configuration has no such page, :class:`Locked`; in both
    cases nothing was changed.
    """
    pages = replace(
        service,
        balancers=tuple(
            replace(spec, backend=maintenance_of(spec.backend)) for spec in service.balancers
        ),
    )
    mine = {b.id: b for host in hosts for b in pages.balancers_of(host)}
    if not mine:
        raise BadInput(f"{service.name} has no balancers that could show a page")
    failures = remotes.connect(dict.fromkeys(b.host for b in mine.values()))
    gone = [b.id for b in mine.values() if b.host in failures]
    if len(gone) == len(mine):
        refuse([str(error) for error in failures.values()])
    for error in failures.values():
        emit(Notice(str(error)))
    pages = replace(pages, without=(*pages.without, *gone))
    balancers = {name: b for name, b in mine.items() if name not in gone}
    with Footing(
        pages, balancers.values(), remotes, emit, "maintenance", message, wait, beside=True
    ) as footing:
        pool = Pool(pages, hosts, remotes, footing.fence)
        try:
            answers = pool.read()
            refuse(_without_page(answers, balancers))
            silent = {n: str(a) for n, a in answers.items() if isinstance(a, EvenkeelError)}
            balancers = {name: b for name, b in balancers.items() if name not in silent}
            refuse([] if balancers else list(silent.values()))
            wrong = [*silent.values()]
            wrong += _turn(pool, footing, balancers, service, on=on, message=message)
        finally:
            pool.close()
    for text in wrong:
        emit(Notice(text))
    shown = ", ".join(name for name in balancers if not any(w.startswith(name) for w in wrong))
    if shown:
        emit(Notice(f"{shown}: maintenance page {'on' if on else 'off'}"))
    return BROKEN if wrong or gone else 0


def _without_page(
    answers: Mapping[str, BackendReading | EvenkeelError],
    balancers: Mapping[str, Balancer],
) -> list[str]:
    found = []
    for name, answer in answers.items():
        spec = balancers[name].spec
        missing = isinstance(answer, Refused) and answer.kind == "no-such-backend"
        if missing or (isinstance(answer, BackendReading) and SWITCH not in answer.servers):
            mend = "docs/everyday.md has the lines to add"
            if spec.template is not None:
                mend = "`fab provision.balancers` adds it"
            found.append(f"{name}: its configuration has no backend {spec.backend}: {mend}")
    return found


def _turn(
    pool: Pool,
    footing: Footing,
    balancers: Mapping[str, Balancer],
    service: Service,
    *,
    on: bool,
    message: str,
) -> list[str]:
    """Change them all, read back; returns what went wrong. The record is there before the page."""
    records: dict[str, list[Drained]] = {}
    for b in balancers.values():
        record = Drained(
            backend_key(b), b.spec.backend, SWITCH, "", service.name, 0, footing.by, message
        )
        records.setdefault(b.host, []).append(record)
    if on:
        footing.note(records)
    orders = {
        name: Change(set_weight(ServerRef(name, b.spec.backend, SWITCH), int(on)))
        for name, b in balancers.items()
    }
    wrong = []
    for name, answer in pool.change(orders).items():
        if isinstance(answer, EvenkeelError):
            wrong.append(f"{name}: {str(answer).removeprefix(f'{name}: ')}")
        elif answer.servers[SWITCH].uweight != int(on):
            wrong.append(f"{name}: the page is not {'on' if on else 'off'}")
    if not on and not wrong:
        footing.forget(records)
    return wrong
