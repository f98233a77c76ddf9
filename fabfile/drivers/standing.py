"""How the servers of one instance stand, and what that calls for: answers in, orders out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from fabfile.balancers.haproxy import change
from fabfile.balancers.haproxy.shell import Unusable
from fabfile.balancers.model import BackendReading, ServerReading, ServerRecord, ServerRef
from fabfile.errors import EvenkeelError, RemoteError
from fabfile.rollout.capacity import Readings
from fabfile.rollout.plan import Target

Servers = dict[ServerRef, ServerReading]
Answers = Mapping[str, BackendReading | EvenkeelError]


def servers(target: Target, answers: Answers) -> Servers:
    """All of its servers. Raises what the first balancer answered that could not say."""
    found = {}
    for ref in target.refs:
        answer = answers[ref.balancer]
        if isinstance(answer, EvenkeelError):
            raise answer
        if ref.server not in answer.servers:
            raise RemoteError(ref.balancer, f"no server {ref.backend}/{ref.server} any more")
        found[ref] = answer.servers[ref.server]
    return found


def asked(target: Target) -> tuple[list[str], frozenset[str]]:
    """Which balancers to ask, and for which servers."""
    balancers = list(dict.fromkeys(ref.balancer for ref in target.refs))
    return balancers, frozenset(ref.server for ref in target.refs)


def readings(target: Target, answers: Answers) -> Readings:
    """The backends they are in, as far as their balancers answered."""
    found = {}
    for ref in target.refs:
        if isinstance(answer := answers[ref.balancer], BackendReading):
            found[ref.balancer, ref.backend] = answer
    return found


def process(answers: Answers, ref: ServerRef) -> int:
    """The process that answered for ``ref``; 0: none did."""
    answer = answers[ref.balancer]
    return answer.process if isinstance(answer, BackendReading) else 0


def conditions(
    servers: Iterable[tuple[ServerRef, ServerReading | ServerRecord]],
) -> dict[str, tuple[change.AsLeft, ...]]:
    """An order is for servers that stand like that."""
    found: dict[str, tuple[change.AsLeft, ...]] = {}
    for ref, server in servers:
        mine = change.AsLeft(ref.server, server.admin, server.uweight)
        found[ref.balancer] = (*found.get(ref.balancer, ()), mine)
    return found


def changed(answers: Answers) -> list[str]:
    """Balancers whose hosts refused an order, since a server does not stand as it should."""
    return [n for n, a in answers.items() if isinstance(a, Unusable) and a.kind == "changed"]


def found(target: Target, answers: Answers) -> Servers:
    """Its servers on those balancers that answered."""
    found = {}
    for ref in target.refs:
        answer = answers[ref.balancer]
        if not isinstance(answer, EvenkeelError) and ref.server in answer.servers:
            found[ref] = answer.servers[ref.server]
    return found


def admitting(seen: Servers) -> Callable[[ServerRecord], Iterable[str]]:
    """What takes a server in, from where it stands; nothing for one that nobody has seen."""

    def commands(record: ServerRecord) -> Iterable[str]:
        server = seen.get(record.ref)
        if server is None:
            return ()
        if record.admin == "maint":  # an operator's: it stays where it was
            weight = (*checks_back(record, server), *change.set_weight(record.ref, record.uweight))
            shut = server.admin == "maint"
            return weight if shut else (*weight, *change.set_state(record.ref, "maint"))
        back = change.admit(record.ref, record.uweight, record.admin)
        back = (*checks_back(record, server), *back)
        passes = server.up and server.check_port == change.PARKED  # its check has its own port
        if server.admin != "maint" and not passes:  # it waits for a fresh one
            return back
        return (*change.admit_first(record.ref, checked=server.checked), *back)

    return commands


def checks_back(record: ServerRecord, seen: ServerReading) -> tuple[str, ...]:
    """Its checks go where they went when it was recorded."""
    if record.check_port is None or record.check_port == seen.check_port:
        return ()
    return change.check_at(record.ref, record.check_port)


def _is_out(server: ServerReading) -> bool:
    """It gets no new requests but those of pinned clients."""
    return server.admin in ("drain", "maint") or server.uweight == 0


def stays_out(server: ServerReading, *, maint: bool) -> bool:
    """Nobody but pinned clients gets to it; with ``maint``, not even they."""
    if not maint:
        return _is_out(server)
    return server.admin == "maint" or (
        server.admin == "drain" and server.check_port == change.PARKED
    )


def is_restored(record: ServerRecord, server: ServerReading) -> bool:
    """Weight and state, and where its checks go, are what was recorded."""
    checked = record.check_port is None or record.check_port == server.check_port
    return checked and server.uweight == record.uweight and server.admin == record.admin
