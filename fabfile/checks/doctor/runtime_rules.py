"""What a running HAProxy tells: the preflight's findings, and what to write instead.

What the configuration file shows as well is found by ``config_rules``, with its line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from fabfile.balancers.haproxy import preflight
from fabfile.balancers.haproxy.language import Line
from fabfile.balancers.haproxy.observe import parse_poll, reading
from fabfile.balancers.haproxy.parse import HaproxyError
from fabfile.balancers.model import ServerReading
from fabfile.checks.doctor.facts import Proxy
from fabfile.checks.doctor.findings import Finding, found
from fabfile.checks.fleet.verdict import several

MASTER = (
    "hosts.yaml: master_socket: /run/haproxy/master.sock, and HAProxy run as"
    " haproxy -W -S /run/haproxy/master.sock"
)
CHECKS = "check inter 2s fastinter 200ms downinter 500ms rise 2 fall 3"
PROBLEMS = ("level", "backend-missing", "server-missing", "on-marked-down", "persist")
"""Of the preflight's findings; all others are risks."""
_OLDEST = (2, 6)


def silent(proxy: Proxy) -> Iterator[Finding]:
    """A HAProxy that can't be asked, with the line its configuration lacks."""
    spec = proxy.balancer.spec
    if proxy.said:
        return
    line = stats_socket(proxy)
    lacks = proxy.config is not None and line is None
    text = "its configuration has no such `stats socket`" if lacks else proxy.why
    mend = f"hosts.yaml: socket: PATH (now {spec.socket})"
    if lacks:
        mend = f"{socket_line(proxy)} (in `global`)"
    elif known := next((told for word, told in _SILENCE if word in proxy.why), ""):
        mend = known
    elif spec.template:
        mend = "fab provision.balancers"
    yield found("balancer-silent", proxy.balancer.id, text, mend, file=spec.config if lacks else "")


_SILENCE = (
    ("socat", "apt-get install socat"),
    ("permission denied", "mode 660 group evenkeel (on the `stats socket` line; docs/hosts.md)"),
    ("not writable", "mode 660 group evenkeel (on the `stats socket` line; docs/hosts.md)"),
)
"""What mends a silence that is not HAProxy's own."""


def said_by_preflight(proxy: Proxy) -> Iterator[Finding]:
    """All that a rollout's own preflight finds, one finding for each kind."""
    if not proxy.said:
        return
    spec, name = proxy.balancer.spec, proxy.balancer.id
    text = proxy.said
    if proxy.config is not None and "@evenkeel config\n" not in text:
        text += f"\n@evenkeel config\n{proxy.config}\n"
    try:
        findings = preflight.preflight(name, spec, proxy.ours, text)
    except (HaproxyError, ValueError, KeyError) as error:
        yield found(
            "balancer-silent", name, f"its answer can't be read: {error}", "docs/haproxy.md"
        )
        return
    for code, texts in _by_code(findings, name).items():
        socket = stats_socket(proxy) if code == "level" else None
        yield found(
            code,
            name,
            texts[0] if len(texts) == 1 else f"{texts[0]}, and {len(texts) - 1} more like it",
            mended(proxy, _MENDS[code](proxy)),
            severity="problem" if code in PROBLEMS else "risk",
            file=spec.config if socket else "",
            line=socket.number if socket else 0,
        )


def _by_code(findings: Sequence[preflight.Finding], name: str) -> dict[str, list[str]]:
    by_code: dict[str, list[str]] = {}
    for finding in findings:
        by_code.setdefault(finding.code, []).append(finding.text.removeprefix(f"{name}: "))
    return by_code


def weights(proxy: Proxy) -> Iterator[Finding]:
    """Weights too small to take a share of."""
    small = [s.name for s in servers(proxy).values() if s.iweight == 1 and s.name in proxy.ours]
    if small:
        canary = "canary" in proxy.service.rollout.strategy
        yield found(
            "weight-one",
            proxy.balancer.id,
            f"{several(small)}: weight 1 (what HAProxy takes where none is given); half of 1 is 0,"
            " so a share of traffic can't be given to it",
            mended(proxy, "weight 100 (on each server's line, or on `default-server`)"),
            severity="problem" if canary else "hint",
        )


def version(proxy: Proxy) -> Iterator[Finding]:
    """A HAProxy that nobody tried this with."""
    said = re.search(r"^Version: (\d+)\.(\d+)", proxy.said, re.MULTILINE)
    if said and (int(said[1]), int(said[2])) < _OLDEST:
        text = f"HAProxy {said[1]}.{said[2]} is older than 2.6, the oldest one that was tried"
        yield found("haproxy-old", proxy.balancer.host, text, "a maintained HAProxy")


def servers(proxy: Proxy) -> Mapping[str, ServerReading]:
    """The backend's servers as HAProxy shows them; none where it could not be asked."""
    if not proxy.said:
        return {}
    try:
        name = proxy.balancer.id
        return reading(name, proxy.balancer.spec.backend, parse_poll(proxy.said)).servers
    except (HaproxyError, ValueError, KeyError):
        return {}


def stats_socket(proxy: Proxy) -> Line | None:
    """The line of the socket that hosts.yaml names."""
    wanted = proxy.balancer.spec.socket
    for line in proxy.whole:
        if line[:2] == ("stats", "socket") and len(line) > 2:
            path = line[2].removeprefix("unix@")
            if path == wanted:
                return line
    return None


def socket_line(proxy: Proxy) -> str:
    """The line that ought to be there."""
    path = proxy.balancer.spec.socket
    return f"stats socket {path} mode 660 group haproxy level admin expose-fd listeners"


def mended(proxy: Proxy, mend: str) -> str:
    """Where our own template writes the file, nobody mends it there."""
    template = proxy.balancer.spec.template
    if not template or mend.startswith(("fab ", "hosts.yaml")):
        return mend
    if proxy.edited:
        return f"{mend}; the file was edited: fab provision.balancers puts it back"
    return f"{mend}; in `options` or {template.name}, then fab provision.balancers"


def server_mend(proxy: Proxy, missing: str = "NAME") -> str:
    """The line of a server that is not there."""
    if proxy.balancer.spec.template:
        return "fab provision.balancers"
    spot = proxy.spots.get(missing, "ADDRESS:PORT")
    return f"server {missing} {spot} {CHECKS} weight 100 (or `server:` in hosts.yaml)"


def backend_mend(proxy: Proxy) -> str:
    """What makes the backend be there."""
    if proxy.balancer.spec.template:
        return "fab provision.balancers"
    backend, first = proxy.balancer.spec.backend, next(iter(proxy.ours), "NAME")
    return f"backend {backend}, with lines such as: {server_mend(proxy, first)}"


def state_mend(proxy: Proxy) -> str:
    """The lines that make a reload keep weights and states."""
    path = proxy.balancer.spec.state_file or "/run/haproxy/state"
    line = f"server-state-file {path} (in `global`) and load-server-state-from-file global"
    return line if proxy.balancer.spec.state_file else f"hosts.yaml: state_file: {path}; {line}"


_MENDS: Mapping[str, Callable[[Proxy], str]] = {
    "level": socket_line,
    "backend-missing": backend_mend,
    "server-missing": lambda proxy: server_mend(proxy),
    "on-marked-down": lambda _: "no `on-marked-down shutdown-sessions`",
    "persist": lambda _: "no option persist",
    "force-persist": lambda _: "no `force-persist`",
    "no-redispatch": lambda _: "option redispatch",
    "static-algorithm": lambda _: "balance roundrobin (a hash: `hash-type consistent`)",
    "unchecked": lambda _: CHECKS,
    "backup": lambda _: "no `backup` on its line",
    "agent-check": lambda _: "no-agent-check",
    "unresolved": lambda _: "hosts.yaml: `internal:`, or the name on the server's line",
    "tracker": lambda _: "a `check` of its own instead of `track`",
    "no-state-file": state_mend,
    "state-file-not-loaded": state_mend,
    "no-master-socket": lambda _: MASTER,
    "config-unread": lambda proxy: f"hosts.yaml: config: PATH (now {proxy.balancer.spec.config})",
}


RUNTIME_RULES: tuple[Callable[[Proxy], Iterator[Finding]], ...] = (
    silent,
    said_by_preflight,
    weights,
    version,
)
