"""From the flags of the everyday tasks to their exit codes: logs, exec, ps, servers.

Imported lazily by the tasks: it pulls in everything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial

from fabfile.drivers.everyday import inside, listing, logs, picking
from fabfile.drivers.everyday.maintenance import switch
from fabfile.drivers.everyday.shifting import BROKEN, Shifting
from fabfile.drivers.signals import interrupted, leave, terminated
from fabfile.drivers.wish import with_flags
from fabfile.errors import BadInput
from fabfile.inventory.model import Instance, Inventory, Service
from fabfile.inventory.values import parse_duration
from fabfile.jobs import asked
from fabfile.remote.pool import Remotes
from fabfile.reports import servers_view
from fabfile.reports.prefixed import Prefixed
from fabfile.reports.receivers import receivers

NOT_ALL = 1
"""Exit code where a host could not be asked: what is shown is not everything."""


@contextmanager
def _reading() -> Iterator[None]:
    """Around what only shows something: whoever closed the pipe has seen enough, and a Ctrl-C is
    how one ends it. Both end without a word."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def show_logs(
    inventory: Inventory,
    hosts: Sequence[str],
    service: str,
    instances: Sequence[str],
    *,
    follow: bool,
    since: str,
    tail: str,
) -> int:
    """Print the logs; with ``follow`` until a Ctrl-C."""
    wanted = logs.wanted(since, tail)
    found, chosen = _instances(inventory, hosts, service, instances)
    out = Prefixed((i.host, i.name) for i in chosen)
    code = 0
    with Remotes(inventory) as remotes, _reading():
        if follow:
            with closing(logs.follow(found, chosen, remotes, wanted)) as coming:
                for line in coming:
                    if isinstance(line, str):
                        _warn([line])
                        code = NOT_ALL
                    else:
                        out.line(line.host, line.instance, line.text)
            return code
        lines, problems = logs.read(found, chosen, remotes, wanted)
        for line in lines:
            out.line(line.host, line.instance, line.text)
    return _warn(problems)


def run_inside(
    inventory: Inventory,
    hosts: Sequence[str],
    service: str,
    instances: Sequence[str],
    command: str,
) -> int:
    """Run a command in containers; the worst exit code of all."""
    if not command.strip():
        raise BadInput("say what to run: fab exec --command 'cat /etc/hostname', or after --")
    found, chosen = _instances(inventory, hosts, service, instances)
    out = Prefixed((i.host, i.name) for i in chosen)
    worst = 0
    with (
        Remotes(inventory) as remotes,
        _reading(),
        closing(inside.run(found, chosen, remotes, command)) as coming,
    ):
        for piece in coming:
            if isinstance(piece, inside.Said):
                out.line(piece.host, piece.instance, piece.text)
                continue
            worst = max(worst, piece.code)
            if piece.why or piece.code:
                where = f"{piece.host}/{piece.instance}"
                _warn([piece.why or f"{where}: exit code {piece.code}"])
    return worst


def ps(inventory: Inventory, hosts: Sequence[str], service: str, *, json: bool) -> int:
    """Print every container of the service."""
    from fabfile.checks.fleet import listing as view

    found, chosen = asked.chosen(inventory, service, hosts)
    with Remotes(inventory) as remotes, _reading():
        listed, problems = listing.containers(found, chosen, remotes)
        _print(map(view.as_json, listed) if json else view.lines(listed))
    return _warn(problems)


def servers(inventory: Inventory, hosts: Sequence[str], service: str, *, json: bool) -> int:
    """Print what every balancer of the service says of its servers."""
    found, chosen = asked.chosen(inventory, service, hosts)
    if not found.balancers:
        raise BadInput(f"{found.name} has no balancers")
    with Remotes(inventory) as remotes, _reading():
        there, problems = listing.servers(found, chosen, remotes, whole=not hosts)
        _print(map(servers_view.as_json, there) if json else servers_view.lines(there))
    return _warn(problems)


def drain(
    inventory: Inventory,
    hosts: Sequence[str],
    service: str,
    instances: Sequence[str],
    servers: Sequence[str],
    *,
    drain_timeout: str,
    on_timeout: str,
    reason: str,
    lock_wait: str,
    allow_outage: bool,
    json: bool,
) -> int:
    """Take instances out of rotation until they are enabled; returns the exit code."""
    if not (hosts or picking.split([*instances, *servers])):
        raise BadInput("say which: fab -H web1 drain, or --instance app_2, or --server NAME")
    found, chosen = asked.chosen(inventory, service, hosts)
    policy = {
        "timeout": parse_duration(drain_timeout, "--drain-timeout") if drain_timeout else None,
        "on_timeout": asked.one_of(on_timeout, "--on-timeout", ("cut", "abort", "wait")),
    }
    found = with_flags(found, drain=policy, policy={})
    return _shift(
        inventory,
        found,
        picking.instances(found, chosen, instances, servers),
        lambda shifting: shifting.drain(allow_outage=allow_outage),
        reason=reason,
        lock_wait=lock_wait,
        json=json,
    )


def enable(
    inventory: Inventory,
    hosts: Sequence[str],
    service: str,
    instances: Sequence[str],
    servers: Sequence[str],
    *,
    lock_wait: str,
    json: bool,
) -> int:
    """Put instances back into rotation; 0 only when they are up at their weight everywhere."""
    found, chosen = asked.chosen(inventory, service, hosts)
    named = bool(hosts or picking.split([*instances, *servers]))
    return _shift(
        inventory,
        found,
        picking.instances(found, chosen, instances, servers),
        lambda shifting: shifting.enable(chosen=named),
        lock_wait=lock_wait,
        json=json,
    )


def maintenance(
    inventory: Inventory,
    hosts: Sequence[str],
    service: str,
    what: str,
    *,
    message: str,
    lock_wait: str,
    json: bool,
) -> int:
    """The 503 page on or off; returns the exit code."""
    if what not in ("on", "off"):
        raise BadInput(f"maintenance {what or '?'}: say fab maintenance on, or off")
    found, chosen = asked.chosen(inventory, service, hosts)
    asked.refuse_unbuilt(inventory, found)
    wait = parse_duration(lock_wait, "--lock-wait") if lock_wait else 0.0
    out = receivers(inventory, json=json)
    with Remotes(inventory) as remotes, terminated():
        return switch(found, chosen, remotes, out, on=what == "on", message=message, wait=wait)


def _shift(
    inventory: Inventory,
    service: Service,
    instances: Sequence[Instance],
    do: Callable[[Shifting], int],
    *,
    lock_wait: str,
    json: bool,
    reason: str = "",
) -> int:
    asked.refuse_unbuilt(inventory, service)
    wait = parse_duration(lock_wait, "--lock-wait") if lock_wait else 0.0
    out = receivers(inventory, json=json)
    with Remotes(inventory) as remotes, terminated():
        shifting = Shifting(service, instances, remotes, out, reason=reason, wait=wait)
        try:
            with interrupted(shifting.stop, partial(leave, BROKEN)) as caught:
                code = do(shifting)
        finally:
            shifting.close()
    return 128 + caught[0] if caught and code else code


def _instances(
    inventory: Inventory, hosts: Sequence[str], service: str, names: Sequence[str]
) -> tuple[Service, tuple[Instance, ...]]:
    found, chosen = asked.chosen(inventory, service, hosts)
    return found, picking.instances(found, chosen, names)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _warn(problems: Sequence[str]) -> int:
    for problem in problems:
        sys.stderr.write(problem + "\n")
    return NOT_ALL if problems else 0
