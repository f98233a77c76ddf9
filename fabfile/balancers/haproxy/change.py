"""Changing weights and states: the commands, the one script that sends them, the read-back.

Commands are plain strings of the runtime API; nothing here runs them. HAProxy answers a change
with an empty line, so a script's text is judged twice: by :func:`check_change`, and by
:func:`verify` on the reading that the same script took afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fabfile.balancers.haproxy.observe import request, sections
from fabfile.balancers.haproxy.parse import Unreadable, check_answers, checked_name
from fabfile.balancers.haproxy.shell import on_balancer
from fabfile.balancers.model import Admin, BackendReading, ServerRef
from fabfile.errors import BadInput
from fabfile.inventory.model import BalancerSpec
from fabfile.remote.quoting import q

PARKED = 1
"""A port where nothing answers (tcpmux, which nobody runs): a host refuses it without a delay."""
_ROOM = 8000
"""Characters in one chain; HAProxy reads at most a buffer (16,384) of a line."""


def _name(ref: ServerRef) -> str:
    return f"{checked_name(ref.backend)}/{checked_name(ref.server)}"


def set_weight(ref: ServerRef, weight: int) -> tuple[str, ...]:
    """Set the absolute weight, 0 to 256. (A percentage would be one of the configured weight:
    50% of 1 is 0.)

    Raises :class:`fabfile.errors.BadInput` outside that range.
    """
    if not 0 <= weight <= 256:
        raise BadInput(f"{ref}: weight {weight} is outside 0 to 256")
    return (f"set server {_name(ref)} weight {weight}",)


def set_state(ref: ServerRef, admin: Admin) -> tuple[str, ...]:
    """``ready``, ``drain`` or ``maint``.

    Never return a checked server with ``ready`` out of ``maint`` alone: HAProxy takes it for up
    until a check fails. See :func:`admit_first`.
    """
    return (f"set server {_name(ref)} state {admin}",)


def admit_first(ref: ServerRef, *, checked: bool) -> tuple[str, ...]:
    """Leave maintenance as *down*, so that only HAProxy's own fresh checks admit the server.

    May be sent as soon as the old container is gone; checks then run beside the start of the
    new one. Not where clients are pinned: one of them may come through between the two commands.
    The order matters: ``health down`` is lost inside maint. Empty for a server without
    checks: nothing would ever raise it again.
    """
    if not checked:
        return ()
    name = _name(ref)
    return (f"set server {name} state drain", f"set server {name} health down")


def admit(ref: ServerRef, uweight: int, admin: Admin) -> tuple[str, ...]:
    """The recorded weight, then the recorded state; may follow :func:`admit_first` at once."""
    return (*set_weight(ref, uweight), *set_state(ref, admin))


def park(ref: ServerRef) -> tuple[str, ...]:
    """Down, in drain, with checks that fail: for a server nobody can be pinned to.

    In maintenance HAProxy pauses checks and looks at the server again only every ``inter``. Checks
    that fail keep it looking every ``downinter``, so that what comes next is seen at once. A
    configuration whose check names a port of its own (``http-check connect port``) goes on
    passing: then the server is up, and in drain all the same.
    """
    name = _name(ref)
    return (
        f"set server {name} check-port {PARKED}",
        f"set server {name} state drain",
        f"set server {name} health down",
    )


def check_at(ref: ServerRef, port: int) -> tuple[str, ...]:
    """Let checks go to ``port``; 0: to where requests go."""
    return (f"set server {_name(ref)} check-port {port}",)


def shutdown_sessions(ref: ServerRef) -> tuple[str, ...]:
    """Close everything that runs on a server, in processes of before a reload too."""
    return (f"shutdown sessions server {_name(ref)}",)


def _cut_in_old(spec: BalancerSpec, commands: Sequence[str]) -> list[str]:
    """Lines that cut a server's sessions in processes of before a reload, one by one.

    Such a process answers every change, ``shutdown sessions server`` too, with "Proxy is
    disabled."; it still takes ``shutdown session ID``. (It need not be drained: it closes idle
    connections and takes no new ones.)
    """
    if not spec.master_socket:
        return []
    start = "shutdown sessions server "
    names = [command.removeprefix(start) for command in commands if command.startswith(start)]
    lines = []
    for name in names:
        backend, _, server = name.replace(".", "\\.").partition("/")
        found = f"s/^\\(0x[0-9a-f]*\\): .* be={backend} srv={server} .*/\\1/p"
        lines += [
            "ek_procs",
            "for ek_pid in $ek_pids; do",
            "    for ek_id in $(ek_each_old \"$ek_pid\" '@!PID show sess' | "
            f"sed -n {q(found)}); do",
            '        ek_each_old "$ek_pid" "@!PID shutdown session $ek_id" >/dev/null',
            "    done",
            "done",
        ]
    return lines


@dataclass(frozen=True)
class AsLeft:
    """How a server has to stand for a change to be made."""

    server: str
    admin: Admin
    uweight: int


def change_script(
    spec: BalancerSpec,
    commands: Sequence[str],
    *,
    read: Sequence[str] = (),
    only_if: Sequence[AsLeft] = (),
    servers: Collection[str] | None = None,
) -> str:
    """ONE script: send ``commands`` chained, rewrite the server-state file, poll ``read``.

    ``servers``: of these alone.

    Nothing is sent, and the exit code is 95, where a server of the backend does not stand as
    ``only_if`` says: between a look from afar and an order somebody may have changed it.

    Its stdout has a section ``answer`` (:func:`check_change`) and a poll
    (:func:`observe.read_backend`), also where HAProxy refused a command: then exit 96, and
    what was not refused has been done. Exit 97: all was done but for the server-state file.
    """
    guarded = " ".join(f"{checked_name(s.server)}={s.admin}={s.uweight}" for s in only_if)
    guard = [f"ek_guard {q(checked_name(spec.backend))} {q(guarded)}"] if guarded else []
    lines = [*guard, "printf '@evenkeel answer\\n'", "ek_said=", "ek_end='\n'"]
    for chain in _chains(commands):
        lines += [
            f'ek_reply=$(ek_ask "$EK_SOCKET" {q(chain)} && echo x) || exit $?',
            "ek_said=$ek_said${ek_reply%x}",
        ]
    lines.append("printf '%s' \"$ek_said\"")
    lines += _cut_in_old(spec, commands)
    lines += [
        f"ek_save_poll {request(read, servers)}",
        'case "$ek_said" in',
        "*[!$ek_end]*) ;;",
        "*) exit $ek_saved ;;",
        "esac",
        "ek_die 96 \"HAProxy refused: $(printf '%s' \"$ek_said\" | sed -n '/./{p;q;}')\"",
    ]
    return on_balancer(spec, "\n".join(lines))


def _chains(commands: Sequence[str]) -> list[str]:
    """Join commands by ``;``, in as many lines as HAProxy's buffer asks for."""
    chains: list[str] = []
    for command in commands:
        if chains and len(chains[-1]) + len(command) < _ROOM:
            chains[-1] += f";{command}"
        else:
            chains.append(command)
    return chains


def was_sent(text: str) -> bool:
    """Whether the script got as far as sending its commands: what it was to find first held."""
    return any(name == "answer" for name, _ in sections(text))


def check_change(balancer_id: str, commands: Sequence[str], text: str) -> None:
    """Judge the ``answer`` section of :func:`change_script`'s stdout.

    Raises :class:`parse.Refused` naming the first refused command, :class:`parse.Unreadable`
    when the answer is missing or short.
    """
    answer = dict(sections(text)).get("answer")
    if answer is None:
        raise Unreadable(f"{balancer_id}: the change's script printed no answer")
    check_answers(commands, answer, where=balancer_id)


@dataclass(frozen=True)
class Expectation:
    """What a reading must show after a change; ``None``: any."""

    ref: ServerRef
    uweight: int | None = None
    admin: Admin | None = None
    up: bool | None = None
    process: int | None = None
    """The process that was changed: another one has forgotten it, unless its state file knew."""
    idle: bool = False


def verify(reading: BackendReading, expected: Expectation) -> str | None:
    """What is wrong, in one line, or ``None``."""
    if expected.process is not None and reading.process != expected.process:
        return (
            f"{expected.ref}: HAProxy was reloaded (process {reading.process}, "
            f"it was {expected.process})"
        )
    server = reading.servers.get(expected.ref.server)
    if server is None:
        return f"{expected.ref}: the server is not in the backend"
    wanted: Mapping[str, tuple[object, object]] = {
        "weight": (expected.uweight, server.uweight),
        "state": (expected.admin, server.admin),
        "up": (expected.up, server.up),
    }
    wrong = [
        f"{what} is {got}, expected {want}"
        for what, (want, got) in wanted.items()
        if want is not None and want != got
    ]
    if expected.idle and (server.scur or server.qcur):
        wrong.append(f"{server.scur} requests running and {server.qcur} waiting, expected none")
    return f"{expected.ref}: {'; '.join(wrong)}" if wrong else None
