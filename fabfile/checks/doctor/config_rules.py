"""What HAProxy's configuration file shows, whoever wrote it, with the line to change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from fabfile.balancers.haproxy.configured import read_configuration
from fabfile.balancers.haproxy.language import Section, last, number, option, seconds, sections_of
from fabfile.checks.doctor.facts import Proxy
from fabfile.checks.doctor.findings import Finding, found
from fabfile.checks.doctor.kinds import Severity
from fabfile.checks.doctor.runtime_rules import (
    MASTER,
    backend_mend,
    mended,
    server_mend,
    socket_line,
    state_mend,
    stats_socket,
)
from fabfile.checks.fleet.verdict import several


def found_in(
    proxy: Proxy,
    code: str,
    text: str,
    mend: str,
    line: int = 0,
    severity: Severity | None = None,
) -> Finding:
    """A finding about a line of the file."""
    spec = proxy.balancer.spec
    subject, told = proxy.balancer.id, mended(proxy, mend)
    return found(code, subject, text, told, severity=severity, file=spec.config, line=line)


def defined(proxy: Proxy) -> Iterator[Finding]:
    """The backend and our servers are there at all."""
    spec = proxy.balancer.spec
    if proxy.config is None:
        if spec.template and not proxy.said:
            return  # it is still to be written: that HAProxy is silent says it all
        text = (
            f"{spec.config} can't be read: nobody knows of `on-marked-down`, `option persist`,"
            " timeouts and checks"
        )
        yield found("config-unread", proxy.balancer.id, text, "hosts.yaml: config: PATH")
    elif not proxy.defined:
        known = _backends(proxy.sections)
        there = f" (there is {several(known)})" if known else ""
        text = f"there is no backend {spec.backend!r}{there}; `backend:` in hosts.yaml names it"
        yield found_in(proxy, "backend-missing", text, backend_mend(proxy))
    else:
        there_are = {server.name for server in proxy.servers}
        absent = [name for name in proxy.ours if name not in there_are]
        if absent:
            text = f"backend {spec.backend!r} has no server {several(absent)}"
            mend = server_mend(proxy, absent[0])
            yield found_in(proxy, "server-missing", text, mend, proxy.head)


def edited(proxy: Proxy) -> Iterator[Finding]:
    """A file of ours that is not what we would write; somebody else's may stand in its place."""
    if not proxy.edited:
        return
    kept = _backends(sections_of(proxy.meant or ""))
    lost = [name for name in _backends(proxy.sections) if name not in kept]
    if lost:
        text = f"`fab provision` would write it anew, without its backends {several(lost)}"
        mend = "leave `template:` out of hosts.yaml, or take them into a template of yours"
        yield found_in(proxy, "config-edited", text, f"hosts.yaml: {mend}", severity="risk")
        return
    text = "it is not what hosts.yaml and the template give: edited there, or not written anew"
    mend = "fab provision.balancers (writes it anew; keep what you edited in the template)"
    yield found_in(proxy, "config-edited", text, mend)


def _backends(sections: Iterable[Section]) -> list[str]:
    return [s[0][1] for s in sections if s[0][0] in ("backend", "listen") and s[0][1:]]


def socket(proxy: Proxy) -> Iterator[Finding]:
    """What the runtime socket lets us do."""
    line = stats_socket(proxy)
    if line is None:
        return
    level = line[line.index("level") + 1] if "level" in line[:-1] else "operator"
    if level != "admin":
        text = f"the socket has level {level}: no server can be drained"
        yield found_in(proxy, "level", text, socket_line(proxy), line.number)
    if "expose-fd" not in line:
        master = proxy.balancer.spec.master_socket is not None
        text = "without `expose-fd listeners` a reload may refuse connections for a moment"
        severity: Severity = "hint" if master else "risk"
        yield found_in(proxy, "expose-fd", text, socket_line(proxy), line.number, severity)


def reloads(proxy: Proxy) -> Iterator[Finding]:
    """What a reload in the midst of a drain does to it."""
    spec = proxy.balancer.spec
    facts = read_configuration(proxy.config or "", spec.backend)
    if spec.state_file is None:
        text = "no state_file: a reload in mid-drain puts a server back into rotation"
        yield found_in(proxy, "no-state-file", text, state_mend(proxy))
    elif facts and not facts.loads_state:
        text = "hosts.yaml names a state_file that a reload would not read"
        yield found_in(proxy, "state-file-not-loaded", text, state_mend(proxy))
    if spec.master_socket is None:
        text = "no master_socket: what processes of before a reload still serve can't be seen"
        yield found_in(proxy, "no-master-socket", text, MASTER)
    if not proxy.whole:
        return
    stop = last(proxy.whole, "hard-stop-after")
    limit = seconds(stop[1]) if stop and len(stop) > 1 else None
    patience = proxy.service.drain.timeout
    if stop is None:
        text = "no `hard-stop-after`: processes of before a reload may stay for ever"
        yield found_in(proxy, "hard-stop-after", text, "hard-stop-after 10m", severity="hint")
    elif limit is not None and limit < patience:
        text = (
            f"after a reload requests are cut after {stop[1]}; a drain would wait {patience:g} s"
            " for them"
        )
        yield found_in(proxy, "hard-stop-after", text, "hard-stop-after 10m", stop.number)


def persistence(proxy: Proxy) -> Iterator[Finding]:
    """Rules that bind clients to a server, or send them to one that is out."""
    if option(proxy.lines, "persist"):
        line = last(proxy.lines, "option", "persist")
        text = "`option persist` sends pinned clients to a server in maintenance: they fail"
        at = line.number if line else 0
        yield found_in(proxy, "persist", text, "option redispatch (instead)", at)
    for code, text, mend in _RULES_OF_PINS:
        rule = last(proxy.lines, code)
        if rule:
            yield found_in(proxy, code, text, mend, rule.number)


_RULES_OF_PINS = (
    (
        "force-persist",
        "`force-persist` may send pinned clients to a server in maintenance",
        "no `force-persist`",
    ),
    (
        "ignore-persist",
        "`ignore-persist`: what matches it is not pinned, which helps a drain",
        "nothing, if it is meant",
    ),
    (
        "use-server",
        "`use-server` reaches its server at weight 0 and in drain; only maintenance ends that",
        "nothing, if it is meant",
    ),
)


def retries(proxy: Proxy) -> Iterator[Finding]:
    """What happens to a request whose server just died."""
    if not proxy.defined:
        return
    if not option(proxy.lines, "redispatch"):
        text = "no `option redispatch`: pinned clients of a server that dies by itself fail"
        yield found_in(proxy, "no-redispatch", text, "option redispatch", proxy.head)
    if number(proxy.lines, "retries", 3) == 0:
        line = last(proxy.lines, "retries")
        text = "`retries 0`: a connection that a dying server refuses is an error at once"
        yield found_in(proxy, "no-retries", text, "retries 3", line.number if line else 0)
    again = last(proxy.lines, "retry-on")
    beyond = [w for w in again[1:] if w not in ("conn-failure", "none")] if again else []
    if again and beyond:
        text = f"`retry-on {' '.join(beyond)}` sends requests again that may have been carried out"
        yield found_in(proxy, "retry-on", text, "retry-on conn-failure", again.number)


def algorithm(proxy: Proxy) -> Iterator[Finding]:
    """Algorithms that know no weight but 0 and the configured one."""
    facts = read_configuration(proxy.config or "", proxy.balancer.spec.backend)
    line = last(proxy.lines, "balance")
    if facts and facts.static and line:
        text = f"`{' '.join(line)}` is static: no weight but 0 and the configured one is accepted"
        mend = "balance roundrobin"
        if line[1] != "static-rr":
            text += ", and each drain moves most clients to other servers"
            mend = "hash-type consistent (beside it, or `balance roundrobin`)"
        yield found_in(proxy, "static-algorithm", text, mend, line.number)


def timeouts(proxy: Proxy) -> Iterator[Finding]:
    """Requests that HAProxy lets last longer than a drain waits."""
    drain = proxy.service.drain
    then = {"cut": "is cut", "abort": "stops the rollout", "wait": "holds the rollout up"}
    longer = []
    for kind in ("server", "tunnel"):
        line = last(proxy.lines, "timeout", kind)
        lasts = seconds(line[2]) if line and len(line) > 2 else None
        if line and lasts is not None and lasts > drain.timeout:
            longer.append((f"`timeout {kind} {line[2]}`", line.number))
    if longer:
        text = (
            f"{' and '.join(name for name, _ in longer)}: what lasts longer than drain.timeout"
            f" ({drain.timeout:g} s) {then[drain.on_timeout]}"
        )
        mend = "hosts.yaml: drain: {timeout: …}, or shorter timeouts in HAProxy"
        yield found_in(proxy, "drain-timeout", text, mend, longer[0][1])


def stickiness(proxy: Proxy) -> Iterator[Finding]:
    """Clients that are pinned, and no grace for them."""
    line = last(proxy.lines, "cookie") or last(proxy.lines, "stick")
    if line and proxy.service.drain.sticky_grace == 0:
        text = f"`{' '.join(line[:2])}` pins clients, and sticky_grace 0 moves them at once"
        yield found_in(
            proxy, "sticky-grace", text, "hosts.yaml: drain: {sticky_grace: 5s}", line.number
        )


CONFIG_RULES: tuple[Callable[[Proxy], Iterator[Finding]], ...] = (
    defined,
    edited,
    socket,
    persistence,
    algorithm,
    retries,
    reloads,
    timeouts,
    stickiness,
)
