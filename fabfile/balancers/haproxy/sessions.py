"""Who is connected to a server: what a cut closes, for the report."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fabfile.balancers.haproxy.observe import sections
from fabfile.balancers.haproxy.parse import Refused, Unreadable
from fabfile.balancers.haproxy.shell import on_balancer
from fabfile.inventory.model import BalancerSpec

_SESSION = re.compile(r"^0x[0-9a-f]+: (?P<fields>.*)$", re.MULTILINE)
_PART = re.compile(r"(\d+)([dhms])")
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True)
class Session:
    """One stream on a server."""

    client: str
    """``address:port``, or ``unix:N``."""
    age: int
    """Seconds since it began."""
    process: int | None = None
    """The old process that serves it; ``None``: the current one."""


def sessions_script(spec: BalancerSpec) -> str:
    """A script that prints ``show sess`` of the current and of each old process."""
    body = """
printf '@evenkeel sess\\n'
ek_ask "$EK_SOCKET" 'show sess' || exit $?
ek_procs
for ek_pid in $ek_pids; do
    printf '@evenkeel sess %s\\n' "$ek_pid"
    ek_each_old "$ek_pid" '@!PID show sess'
done
printf '@evenkeel end\\n'
"""
    return on_balancer(spec, body)


def who(text: str, backend: str, server: str) -> list[Session]:
    """The sessions on ``server`` alone, oldest first, from :func:`sessions_script`'s stdout.

    Raises :class:`parse.Refused` (``show sess`` needs more than level user) and
    :class:`parse.Unreadable`.
    """
    found = sections(text)
    if "end" not in [name for name, _ in found]:
        raise Unreadable("the list of sessions is cut off")
    sessions = []
    for name, part in found:
        if not name.startswith("sess"):
            continue
        pid = int(name[5:]) if name[5:] else None
        if pid is None and part.strip() and not _SESSION.search(part):
            raise Refused(part, command="show sess")
        for line in _SESSION.finditer(part):
            session = _session(line["fields"], backend, server, pid)
            if session:
                sessions.append(session)
    return sorted(sessions, key=lambda session: -session.age)


def _session(fields: str, backend: str, server: str, pid: int | None) -> Session | None:
    pairs = dict(part.split("=", 1) for part in fields.split() if "=" in part)
    if (pairs.get("be"), pairs.get("srv")) != (backend, server):
        return None
    return Session(pairs.get("src", "?"), seconds(pairs.get("age", "")), pid)


def seconds(age: str) -> int:
    """HAProxy's ``1h2m`` in seconds."""
    return sum(int(count) * _SECONDS[unit] for count, unit in _PART.findall(age))
