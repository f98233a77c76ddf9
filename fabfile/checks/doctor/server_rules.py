"""What the server lines of HAProxy's configuration show."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator

from fabfile.balancers.haproxy.language import ServerLine, last, seconds
from fabfile.checks.doctor.config_rules import found_in
from fabfile.checks.doctor.facts import Proxy
from fabfile.checks.doctor.findings import Finding
from fabfile.checks.doctor.kinds import Severity
from fabfile.checks.doctor.runtime_rules import CHECKS
from fabfile.checks.fleet.verdict import several


def on_marked_down(proxy: Proxy) -> Iterator[Finding]:
    """Servers whose requests maintenance cuts."""
    cut = [s for s in proxy.servers if s.value("on-marked-down") == "shutdown-sessions"]
    if cut:
        text = f"`on-marked-down` on {several(s.name for s in cut)}: maintenance cuts its requests"
        mend = "no `on-marked-down shutdown-sessions`"
        yield found_in(proxy, "on-marked-down", text, mend, _line_of(proxy, "on-marked-down"))


def agents(proxy: Proxy) -> Iterator[Finding]:
    """Agents, which can overwrite weight and state."""
    mine = [s for s in proxy.servers if s.has("agent-check")]
    if mine:
        text = (
            f"an agent of {several(s.name for s in mine)} can overwrite weight and state while a"
            " rollout changes them"
        )
        yield found_in(proxy, "agent-check", text, "no-agent-check", _line_of(proxy, "agent-check"))


def trackers(proxy: Proxy) -> Iterator[Finding]:
    """Servers elsewhere that leave when ours do."""
    backend = proxy.balancer.spec.backend
    wanted = {f"{backend}/{name}" for name in proxy.ours}
    affected: dict[str, int] = {}
    for section in proxy.sections:
        for line in section[1:]:
            if line[0] in ("server", "server-template") and "track" in line[:-1]:
                target = line[line.index("track") + 1]
                inside = section[0][1] == backend and target in proxy.ours
                if target in wanted or inside:
                    affected.setdefault(section[0][1], line.number)
    if affected:
        text = (
            f"servers of {several(affected)} track ours and leave with them; nobody looks after"
            f" the capacity of {several(affected)}"
        )
        mend = "check (instead of `track`)"
        yield found_in(proxy, "tracker", text, mend, next(iter(affected.values())))


def backups(proxy: Proxy) -> Iterator[Finding]:
    """Our instances as backup servers."""
    mine = [s for s in proxy.servers if s.has("backup")]
    if mine:
        text = f"{several(s.name for s in mine)}: a backup server adds no capacity"
        yield found_in(proxy, "backup", text, "no `backup` on its line", mine[0].line)


def checks(proxy: Proxy) -> Iterator[Finding]:
    """How HAProxy finds out that a server is there again, and how long that takes."""
    blind = [s for s in proxy.servers if not s.has("check") and not s.value("track")]
    if blind:
        text = (
            f"{several(s.name for s in blind)}: without `check` HAProxy goes on sending requests to"
            " a server that died, and only our own probe admits it"
        )
        mend = CHECKS
        yield found_in(proxy, "unchecked", text, mend, blind[0].line)
    slowest = max((s for s in proxy.servers if s.has("check")), key=_return, default=None)
    if slowest is not None and (takes := _return(slowest)) > 10.0:
        severity: Severity = "problem" if takes > 60 else "risk" if takes > 30 else "hint"
        text = f"an instance takes up to {takes:g} s to come back (its checks alone)"
        if severity == "problem":
            text += "; after 60 s it counts as failed and its earlier release is put back"
        mend = "inter 2s fastinter 200ms downinter 500ms rise 2"
        yield found_in(proxy, "slow-return", text, mend, slowest.line, severity)
    slow = next((s for s in proxy.servers if seconds(s.value("slowstart"))), None)
    if slow is not None:
        text = (
            f"slowstart {slow.value('slowstart')}: an instance that is back counts as capacity"
            " only little by little, and the next drain waits for that"
        )
        yield found_in(proxy, "slowstart", text, "nothing, if it is meant", slow.line)


def _return(server: ServerLine) -> float:
    """Seconds until a healthy server is up again, at worst.

    HAProxy's srv_getinter(): ``downinter`` while it is down, ``fastinter`` while it is becoming
    up, ``inter`` otherwise (in maintenance, too), which also stands for those not given.
    """
    inter = seconds(server.value("inter")) or 2.0
    fast = seconds(server.value("fastinter")) or inter
    down = seconds(server.value("downinter")) or inter
    rise = server.value("rise") or "2"
    return max(inter, down) + fast * (int(rise) - 1 if rise.isdecimal() else 1)


def places(proxy: Proxy) -> Iterator[Finding]:
    """Servers that are not where hosts.yaml has their instances: another one would be drained."""
    by_spot = {spot: name for name, spot in proxy.spots.items()}
    for server in proxy.servers:
        wanted = proxy.spots.get(server.name)
        if wanted is None or _is_name(server.address) or server.address == wanted:
            continue
        other = by_spot.get(server.address)
        inside = server.address.endswith(f":{proxy.service.port}")  # a network of Docker's
        if other is not None:
            text = (
                f"{server.name} points at {server.address}, which is {other} by hosts.yaml: its"
                " drain would leave that one serving, and stop this one under requests"
            )
            yield found_in(proxy, "server-elsewhere", text, wanted, server.line)
        elif server.address.rpartition(":")[2] != wanted.rpartition(":")[2] and not inside:
            text = f"{server.name} points at {server.address}, hosts.yaml has it at {wanted}"
            yield found_in(proxy, "server-elsewhere", text, wanted, server.line, "risk")


def names(proxy: Proxy) -> Iterator[Finding]:
    """Servers by name: when is that resolved again?"""
    named = [s for s in proxy.servers if _is_name(s.address)]
    fixed = [s for s in named if not s.value("resolvers")]
    if fixed:
        text = (
            f"{several(s.name for s in fixed)}: {_host(fixed[0].address)!r} is resolved only when"
            " HAProxy starts; a container that is made anew may have another address"
        )
        mend = "resolvers NAME init-addr libc,last,none (or an address that stays)"
        yield found_in(proxy, "resolvers", text, mend, fixed[0].line)
    moving = next((s for s in named if s.value("resolvers")), None)
    if moving is not None:
        resolver = moving.value("resolvers") or ""
        section = next((s for s in proxy.sections if s[0][:2] == ("resolvers", resolver)), [])
        hold = last(section, "hold", "valid")
        valid = hold[2] if hold and len(hold) > 2 else "10s"
        text = f"a new address of {_host(moving.address)!r} is seen only after {valid}"
        at = hold.number if hold else moving.line
        yield found_in(proxy, "resolvers", text, "hold valid 1s", at, "hint")


def _host(address: str) -> str:
    bare = address.rpartition("@")[2] if address.startswith(("ipv4@", "ipv6@")) else address
    return bare.rpartition(":")[0].strip("[]") or bare


def _is_name(address: str) -> bool:
    if address.startswith(("/", "unix@", "abns@", "sockpair@", "fd@", "$")):
        return False
    try:
        ipaddress.ip_address(_host(address))
    except ValueError:
        return _host(address) != "localhost"
    return False


def _line_of(proxy: Proxy, word: str) -> int:
    """The first line with ``word`` among those that say what servers are like."""
    kinds = ("server", "server-template", "default-server")
    return next((x.number for x in proxy.lines if x[0] in kinds and word in x), 0)


SERVER_RULES: tuple[Callable[[Proxy], Iterator[Finding]], ...] = (
    on_marked_down,
    agents,
    trackers,
    backups,
    checks,
    places,
    names,
)
