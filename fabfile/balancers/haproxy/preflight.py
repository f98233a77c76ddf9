"""What an existing balancer lacks for a rollout: refused, or warned of, before any change.

Only what can really be seen is judged: the runtime API for most, the configuration file (where
it can be read) for what HAProxy never tells at runtime, such as ``on-marked-down``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fabfile.balancers.haproxy.configured import Configured, read_configuration
from fabfile.balancers.haproxy.observe import (
    Poll,
    parse_poll,
    poll_body,
    reading,
    sections,
    unresolved,
)
from fabfile.balancers.haproxy.parse import Row, checked_path, parse_stat
from fabfile.balancers.haproxy.shell import on_balancer
from fabfile.balancers.model import ServerReading
from fabfile.inventory.model import BalancerSpec
from fabfile.remote.quoting import q

Severity = Literal["refuse", "warn"]


@dataclass(frozen=True)
class Finding:
    """One thing that was found, in one line."""

    severity: Severity
    code: str
    """Stable and short, for ``--json`` and tests: ``backend-missing``."""
    text: str


def preflight_script(spec: BalancerSpec) -> str:
    """A script that prints all :func:`preflight` wants to know. It changes nothing."""
    body = f"""
{poll_body([spec.backend])}
printf '@evenkeel servers\\n'
ek_ask "$EK_SOCKET" 'show stat -1 4 -1' || exit $?
if [ -r {q(checked_path(spec.config))} ]; then
    printf '@evenkeel config\\n'
    cat {q(spec.config)}
fi
"""
    return on_balancer(spec, body)


@dataclass(frozen=True)
class _Seen:
    """All the rules look at."""

    spec: BalancerSpec
    poll: Poll
    rows: Sequence[Row]
    """Of the backend's own servers and the backend itself."""
    all_servers: Sequence[Row]
    servers: Mapping[str, ServerReading]
    ours: Sequence[str]
    configured: Configured | None


def preflight(
    balancer_id: str, spec: BalancerSpec, wanted: Sequence[str], text: str
) -> list[Finding]:
    """Judge the output of :func:`preflight_script`; ``wanted`` are the servers to be drained.

    Refusals come first. Raises what :func:`observe.parse_poll` raises.
    """
    poll = parse_poll(text, where=balancer_id)
    found = dict(sections(text))
    if poll.level != "admin":
        return [
            Finding(
                "refuse",
                "level",
                f"{balancer_id}: {spec.socket} has level {poll.level}; write `level admin` "
                "on its `stats socket` line",
            )
        ]
    if spec.backend not in poll.stats:
        missing = f"{balancer_id}: HAProxy has no backend {spec.backend!r}"
        return [Finding("refuse", "backend-missing", missing)]
    servers = reading(balancer_id, spec.backend, poll).servers
    absent = [name for name in wanted if name not in servers]
    seen = _Seen(
        spec,
        poll,
        poll.stats[spec.backend],
        parse_stat(found["servers"]),
        servers,
        [name for name in wanted if name in servers],
        read_configuration(found.get("config", ""), spec.backend),
    )
    findings = [
        Finding("refuse", "server-missing", f"backend {spec.backend!r} has no server {name!r}")
        for name in absent
    ]
    for rule in _RULES:
        findings += rule(seen)
    placed = [
        item if item.text.startswith(balancer_id) else _placed(balancer_id, item)
        for item in findings
    ]
    return sorted(placed, key=lambda item: item.severity != "refuse")


def pins(spec: BalancerSpec, text: str) -> bool:
    """Whether clients may be bound to one server, from :func:`preflight_script`'s output.

    True also where the configuration can't be read: then nothing rules it out.
    """
    configured = read_configuration(dict(sections(text)).get("config", ""), spec.backend)
    return configured is None or configured.pins


PARKS_SINCE = (2, 4)
"""Before, `set server … check-port` was refused unless the configuration had a port of its own."""


def parks(text: str) -> bool:
    """Whether this HAProxy's checks can be sent elsewhere, from :func:`preflight_script`'s output.

    Raises what :func:`observe.parse_poll` raises.
    """
    numbers = re.match(r"(\d+)\.(\d+)", parse_poll(text).info.get("Version", ""))
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= PARKS_SINCE


def _placed(balancer_id: str, item: Finding) -> Finding:
    return Finding(item.severity, item.code, f"{balancer_id}: {item.text}")


def _servers(seen: _Seen) -> Iterator[Finding]:
    for name in seen.ours:
        server = seen.servers[name]
        if not server.checked:
            yield Finding(
                "warn", "unchecked", f"{name} has no `check`: only our own probe admits it"
            )
        if server.backup:
            yield Finding("warn", "backup", f"{name} is a backup server and adds no capacity")
    for row in seen.rows:
        if row["svname"] in seen.ours and row.get("agent_status", "").strip():
            text = f"{row['svname']} has an agent-check, which can overwrite weight and state"
            yield Finding("warn", "agent-check", text)


def _unresolved(seen: _Seen) -> Iterator[Finding]:
    for state in seen.poll.states[seen.spec.backend]:
        if state["srv_name"] in seen.ours and unresolved(state):
            text = f"the name of {state['srv_name']} does not resolve: it takes no requests"
            yield Finding("warn", "unresolved", text)


def _trackers(seen: _Seen) -> Iterator[Finding]:
    ours = {f"{seen.spec.backend}/{name}" for name in seen.ours}
    for row in seen.all_servers:
        if row.get("tracked") in ours:
            text = f"{row['pxname']}/{row['svname']} tracks {row['tracked']} and leaves with it"
            yield Finding("warn", "tracker", text)


def _reloads(seen: _Seen) -> Iterator[Finding]:
    if seen.spec.state_file is None:
        text = "no state_file: a reload in mid-drain would put servers back into rotation"
        yield Finding("warn", "no-state-file", text)
    elif seen.configured and not seen.configured.loads_state:
        text = (
            "state_file is set, but the configuration lacks `server-state-file` or "
            "`load-server-state-from-file global`: a reload would not read it"
        )
        yield Finding("warn", "state-file-not-loaded", text)
    if seen.spec.master_socket is None:
        text = "no master_socket: requests of processes of before a reload can't be seen"
        yield Finding("warn", "no-master-socket", text)


def _static(seen: _Seen) -> Iterator[Finding]:
    algorithm = next((row.get("algo", "") for row in seen.rows if row["svname"] == "BACKEND"), "")
    sure = seen.configured.static if seen.configured else algorithm == "static-rr"
    if sure:
        text = f"`balance {algorithm}` is static: it accepts no weight but 0 and the configured one"
        yield Finding("warn", "static-algorithm", text)


def _configuration(seen: _Seen) -> Iterator[Finding]:
    facts = seen.configured
    if facts is None:
        text = (
            f"{seen.spec.config} can't be read or does not define the backend: "
            "`on-marked-down`, `option persist` and retries are unknown"
        )
        yield Finding("warn", "config-unread", text)
        return
    cutting = [name for name in seen.ours if name in facts.cuts_on_maint]
    if cutting:
        text = (
            f"`on-marked-down shutdown-sessions` on {', '.join(cutting)}: maint would cut requests"
        )
        yield Finding("refuse", "on-marked-down", text)
    if facts.persist:
        text = "`option persist` sends pinned clients to a server in maintenance: they would fail"
        yield Finding("refuse", "persist", text)
    if facts.force_persist:
        text = "`force-persist` may send pinned clients to a server in maintenance"
        yield Finding("warn", "force-persist", text)
    if not facts.redispatch:
        text = "no `option redispatch`: pinned clients of a server that dies by itself fail"
        yield Finding("warn", "no-redispatch", text)


_RULES: tuple[Callable[[_Seen], Iterator[Finding]], ...] = (
    _configuration,
    _static,
    _servers,
    _unresolved,
    _trackers,
    _reloads,
)
