"""Polling a balancer: one script, one round trip, and the reading it adds up to.

A poll's text has sections that start with a line ``@evenkeel …``:

==================  ==========================================================================
``runtime``         the chained replies of ``show cli level``, ``show info``,
                    ``show stat -1 6 -1`` (cut down to the backends by the script: asked by name
                    HAProxy answers for a frontend of the same name) and, for each backend,
                    ``show servers state BACKEND``
``proc``            ``show proc`` of the master, where there is a master socket
``old PID``         the same statistics of a process of before a reload
``answer``          only in :mod:`change`: what HAProxy said to the changes
``failed CODE``     only in a conversation: this poll failed; its last line says why
``end``             the text is complete
==================  ==========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fabfile.balancers.haproxy.parse import (
    Processes,
    Refused,
    Row,
    Unreadable,
    blocks,
    checked_name,
    parse_info,
    parse_proc,
    parse_servers_state,
    parse_stat,
)
from fabfile.balancers.haproxy.shell import EXIT_CODES, Unusable, on_balancer, said
from fabfile.balancers.model import WHOLE, Admin, BackendReading, ServerReading
from fabfile.inventory.model import BalancerSpec
from fabfile.remote.quoting import q

MARKER = "@evenkeel over"
"""The line that ends each answer of :func:`observer_script`."""

# Bits of srv_admin_state (HAProxy: enum srv_admin). What was merely inherited from a tracked
# server (0x02, 0x10) or comes of a name that does not resolve (0x20) was ordered by nobody.
_ORDERED_MAINT = 0x01 | 0x04
_ORDERED_DRAIN = 0x08
_UNRESOLVED = 0x20
# srv_op_state: 0 stopped, 1 starting (slowstart), 2 running, 3 stopping (404 on its check).
_SERVING = {"1", "2"}
# srv_check_state: configured and enabled; checks are merely paused in maintenance.
_CHECKED = 0x02 | 0x04


def poll_script(
    spec: BalancerSpec, backends: Sequence[str], servers: Collection[str] | None = None
) -> str:
    """A script that reads ``backends`` of one balancer; its stdout is for :func:`read_backend`.

    ``servers``: of these alone. Its exit codes are those of :mod:`shell`.
    """
    return on_balancer(spec, poll_body(backends, servers))


def poll_body(backends: Sequence[str], servers: Collection[str] | None = None) -> str:
    """The poll as the last lines of a larger script for :func:`shell.on_balancer`."""
    return f"ek_poll {request(backends, servers)}"


def observer_script(spec: BalancerSpec) -> str:
    """A script that polls once for each line of its stdin (:func:`request`), then :data:`MARKER`.

    A poll that fails is an answer too: :func:`read_backend` raises what went wrong.
    """
    body = f"""
while IFS= read -r ek_request; do
    ( ek_poll $ek_request ) 2>&1 || printf '@evenkeel failed %s\\n' "$?"
    printf '%s\\n' {q(MARKER)}
done
"""
    return on_balancer(spec, body, stdin=True)


def request(backends: Sequence[str], servers: Collection[str] | None = None) -> str:
    """The line that asks :func:`observer_script` for ``backends``; for ``servers`` alone."""
    words = [checked_name(name) for name in backends]
    words += [f"={checked_name(name)}" for name in sorted(servers or ())]
    return " ".join(words)


@dataclass(frozen=True)
class Poll:
    """A poll, taken apart but not yet judged."""

    level: str
    """``admin``, ``operator`` or ``user``: what the socket lets us do."""
    info: Mapping[str, str]
    stats: Mapping[str, Sequence[Row]]
    """By backend; one that does not exist has no entry."""
    states: Mapping[str, Sequence[Row]]
    processes: Processes | None
    """``None``: there is no master socket to ask."""
    old: Mapping[int, Sequence[Row]]
    """Statistics of each old process, of all backends in one list."""

    @property
    def process(self) -> int:
        """Process id of the worker that answered."""
        return int(self.info["Pid"])


def sections(text: str) -> list[tuple[str, str]]:
    """Split a script's output at its ``@evenkeel`` lines: (what follows the word, text)."""
    parts = re.split(r"^@evenkeel ([^\n]*)\n", text, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def parse_poll(text: str, *, where: str = "") -> Poll:
    """Take a poll apart.

    Raises :class:`Refused` for an error text of HAProxy other than a missing backend,
    :class:`Unreadable` for a text that is cut, :class:`shell.Unusable` for a failed poll of a
    conversation.
    """
    place = f"{where}: " if where else ""
    found = sections(text)
    names = [name for name, _ in found]
    for name in names:
        if name.startswith("failed "):
            _raise_failed(place, int(name.split()[1]), text)
    if "end" not in names:
        raise Unreadable(f"{place}the poll's text is cut off")
    runtime = blocks(dict(found).get("runtime", ""))
    if len(runtime) < 3:
        raise Unreadable(f"{place}{len(runtime)} replies to a poll")
    proc = dict(found).get("proc")
    return Poll(
        level=runtime[0].strip(),
        info=parse_info(runtime[1]),
        stats=_grouped("pxname", parse_stat(runtime[2])),
        states=_grouped("be_name", [row for part in runtime[3:] for row in _unless_gone(part)]),
        processes=None if proc is None else parse_proc(proc),
        old={int(name[4:]): _old(part) for name, part in found if name.startswith("old ")},
    )


def _raise_failed(place: str, code: int, text: str) -> None:
    message = f"{place}{said(text[: text.index('@evenkeel failed')])}"
    raise Unusable(message, EXIT_CODES.get(code, "not-running"))


def _grouped(column: str, rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    return groups


def _unless_gone(state: str) -> Sequence[Row]:
    """The states of one backend; none where there is no such backend."""
    try:
        return parse_servers_state(state)
    except Refused as refused:
        if refused.kind != "no-such-backend":
            raise
        return ()


def _old(text: str) -> Sequence[Row]:
    """Statistics of an old process. One that ended meanwhile adds nothing.

    Raises :class:`Unreadable` for one that the master still lists and that answers no more: it is
    on its way out, and until it is gone nobody knows what it still serves.
    """
    try:
        return parse_stat(text)
    except Refused as refused:
        if refused.kind == "process-leaving":
            raise Unreadable(f"an old process does not answer: {refused.answer}") from refused
        if refused.kind != "no-such-process":
            raise
        return ()


def read_backend(balancer_id: str, backend: str, text: str) -> BackendReading:
    """One backend out of a poll's text, sessions of old processes added to each server.

    Raises :class:`Refused` (kind ``no-such-backend``) when this balancer has no such backend,
    and what :func:`parse_poll` raises.
    """
    return reading(balancer_id, backend, parse_poll(text, where=balancer_id))


def reading(balancer_id: str, backend: str, poll: Poll) -> BackendReading:
    """As :func:`read_backend`, from a poll that was taken apart already."""
    if backend not in poll.stats:
        raise Refused("No such backend.", command=f"show stat {backend}", where=balancer_id)
    states = {row["srv_name"]: row for row in poll.states.get(backend, ())}
    # A reload between the two questions makes the worker that answered an old one.
    old = [
        row
        for pid, rows in poll.old.items()
        if pid != poll.process
        for row in rows
        if row["pxname"] == backend
    ]
    servers: dict[str, ServerReading] = {}
    counts: dict[str, tuple[int, ...]] = {}
    queued = 0
    for row in poll.stats[backend]:
        name = row["svname"]
        earlier = [extra for extra in old if extra["svname"] == name]
        counts[name] = _counts(row)
        if name == WHOLE:
            queued = _sum("qcur", row, *earlier)
        elif name in states:
            servers[name] = _server(row, states[name], earlier)
        else:
            raise Unreadable(f"{balancer_id}: {backend}/{name} has no line in show servers state")
    workers = poll.processes.old_workers if poll.processes else ()
    return BackendReading(
        balancer=balancer_id,
        process=poll.process,
        servers=servers,
        old_workers=len([pid for pid in workers if pid != poll.process]),
        queued=queued,
        counts=counts,
    )


def _server(row: Row, state: Row, earlier: Sequence[Row]) -> ServerReading:
    admin = _admin(int(state["srv_admin_state"]))
    return ServerReading(
        name=row["svname"],
        address=_address(state),
        up=state["srv_op_state"] in _SERVING,
        checked=int(state["srv_check_state"]) & _CHECKED == _CHECKED,
        admin=admin,
        # The CSV goes on showing a server's weight while it is in maintenance.
        weight=_int(row["weight"]) if admin == "ready" else 0,
        uweight=int(state["srv_uweight"]),
        iweight=int(state["srv_iweight"]),
        scur=_sum("scur", row, *earlier),
        qcur=_sum("qcur", row, *earlier),
        stot=_sum("stot", row, *earlier),
        requests=sum(_sum(f"hrsp_{kind}", row, *earlier) for kind in _ANSWERS),
        errors_5xx=_sum("hrsp_5xx", row, *earlier),
        backup=row["bck"] == "1",
        check_port=_int(state.get("srv_check_port", "")),
    )


def _counts(row: Row) -> tuple[int, ...]:
    """In the order of ``balancers.model.COUNTED``."""
    requests = sum(_int(row.get(f"hrsp_{kind}", "")) for kind in _ANSWERS)
    names = ("hrsp_5xx", "wretr", "wredis", "econ", "eresp", "qmax")
    return (requests, *(_int(row.get(name, "")) for name in names))


_ANSWERS = ("1xx", "2xx", "3xx", "4xx", "5xx", "other")


def _admin(bits: int) -> Admin:
    if bits & _ORDERED_MAINT:
        return "maint"
    return "drain" if bits & _ORDERED_DRAIN else "ready"


def _address(state: Row) -> str:
    return f"{state['srv_addr']}:{state['srv_port']}"


def unresolved(state: Row) -> bool:
    """Whether HAProxy keeps this server in maintenance because its name does not resolve."""
    return bool(int(state["srv_admin_state"]) & _UNRESOLVED)


def _int(field: str) -> int:
    return int(field) if field.strip() else 0


def _sum(column: str, *rows: Row) -> int:
    """A column over rows; HAProxy leaves a column empty where it does not apply."""
    return sum(_int(row.get(column, "")) for row in rows)
