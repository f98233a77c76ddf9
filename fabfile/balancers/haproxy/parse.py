"""What HAProxy's answers mean. Pure text in, values or typed errors out.

Replies come from the runtime API (management guide, section 9.3) and the master CLI (9.4).
Columns differ between versions, so every table is read by its own header.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fabfile.errors import BadInput, EvenkeelError

RefusalKind = Literal[
    "no-such-server",
    "no-such-backend",
    "permission",
    "unknown-command",
    "weight",
    "static-algorithm",
    "no-such-process",
    "process-leaving",
    "other",
]

Row = Mapping[str, str]


class HaproxyError(EvenkeelError):
    """Base of everything that can be wrong with asking HAProxy."""


class Refused(HaproxyError):
    """HAProxy answered with an error text (it has no error codes)."""

    def __init__(self, answer: str, *, command: str = "", where: str = "") -> None:
        first = answer.strip().splitlines()[0] if answer.strip() else "no answer"
        place = f"{where}: " if where else ""
        asked = f" to `{command}`" if command else ""
        super().__init__(f"{place}HAProxy answered{asked}: {first}", detail=answer.strip())
        self.answer = answer.strip()
        self.command = command
        self.kind = kind_of(answer)


class Unreadable(HaproxyError):
    """The reply is cut off or is not what the command prints: nothing may be concluded."""


# The texts of 2.6 and 3.0; kinds are for messages and findings, never the only evidence.
_KINDS: tuple[tuple[str, RefusalKind], ...] = (
    (r"no such server", "no-such-server"),
    (r"no such (backend|proxy)|can't find backend", "no-such-backend"),
    (r"permission denied", "permission"),
    (r"unknown command", "unknown-command"),
    (r"static lb algorithm", "static-algorithm"),
    (r"can't find the target pid", "no-such-process"),
    (r"can't connect to the target cli", "process-leaving"),
    (r"weight", "weight"),
)


def kind_of(answer: str) -> RefusalKind:
    """Sort an error text by what it is about."""
    for pattern, kind in _KINDS:
        if re.search(pattern, answer, re.IGNORECASE):
            return kind
    return "other"


_NAME = re.compile(r"[A-Za-z0-9_.:-]+\Z")
_PATH = re.compile(r"/[A-Za-z0-9_./+@-]*\Z")


def checked_name(name: str) -> str:
    """``name`` when HAProxy could have it, so that it can't carry another command with it.

    Raises :class:`BadInput`.
    """
    if not _NAME.match(name):
        raise BadInput(f"{name!r} can't be a name in HAProxy (letters, digits and -_.: only)")
    return name


def checked_path(path: str) -> str:
    """``path`` when it is absolute and plain: socat reads commas and colons as syntax.

    Raises :class:`BadInput`.
    """
    if not _PATH.match(path):
        raise BadInput(
            f"{path!r} can't be used as a socket or file of HAProxy: absolute, no spaces"
        )
    return path


def blocks(text: str) -> list[str]:
    """Split a chained reply: HAProxy ends the reply of every command with an empty line."""
    return [block.strip("\n") for block in re.split(r"\n[ \t]*\n", text) if block.strip()]


def _other_than_asked(text: str) -> HaproxyError:
    """An error text; an empty one says nothing, as from a process that leaves in a reload."""
    return Refused(text) if text.strip() else Unreadable("HAProxy gave no answer")


def parse_info(text: str) -> dict[str, str]:
    """``show info``. Raises :class:`Refused`, or :class:`Unreadable` without a ``Pid``."""
    lines = (line.partition(": ") for line in text.splitlines())
    found = {key: value for key, colon, value in lines if colon}
    if not found.get("Name", "").startswith("HAProxy"):
        raise _other_than_asked(text)
    if not found.get("Pid", "").isdigit():
        raise Unreadable("show info came without a process id")
    return found


def parse_stat(text: str) -> list[dict[str, str]]:
    """``show stat`` in CSV: one dictionary for each line, by the header of this version.

    Raises :class:`Refused`, or :class:`Unreadable` when a line was cut.
    """
    lines = text.strip("\n").splitlines()
    if not lines or not lines[0].startswith("# pxname,"):
        raise _other_than_asked(text)
    names = lines[0][2:].rstrip(",").split(",")
    rows = []
    for fields in csv.reader(lines[1:]):
        if len(fields) < len(names):
            raise Unreadable(f"show stat: a line has {len(fields)} of {len(names)} columns")
        rows.append(dict(zip(names, fields, strict=False)))
    return rows


def parse_servers_state(text: str) -> list[dict[str, str]]:
    """``show servers state``: one dictionary for each server.

    Raises :class:`Refused`, or :class:`Unreadable` when a line was cut or the format is not 1.
    """
    lines = text.strip("\n").splitlines()
    if len(lines) < 2 or not lines[1].startswith("# "):
        raise _other_than_asked(text)
    if lines[0].strip() != "1":
        raise Unreadable(f"show servers state: format {lines[0]!r} is not known, only 1 is")
    names = lines[1][2:].split()
    rows = []
    for line in lines[2:]:
        fields = line.split()
        if len(fields) < len(names):
            raise Unreadable(
                f"show servers state: a line has {len(fields)} of {len(names)} columns"
            )
        rows.append(dict(zip(names, fields, strict=False)))
    return rows


@dataclass(frozen=True)
class Processes:
    """``show proc`` of the master: process ids."""

    master: int
    workers: tuple[int, ...]
    old_workers: tuple[int, ...]
    """Workers of before a reload that still have sessions."""
    failed_reloads: int | None = None
    """How often a reload failed; ``None`` before HAProxy 2.7."""


def parse_proc(text: str) -> Processes:
    """``show proc``. Raises :class:`Refused` when this is no such table."""
    if not text.lstrip().startswith("#<PID>"):
        raise _other_than_asked(text)
    section, master = "", 0
    workers: list[int] = []
    old: list[int] = []
    failed: int | None = None
    for line in text.splitlines():
        if line.startswith("# "):
            section = line[2:].strip()
            continue
        fields = line.split()
        if len(fields) < 2 or not fields[0].isdigit():
            continue
        if fields[1] == "master":
            master = int(fields[0])
            seen = re.search(r"\[failed: (\d+)\]", line)
            failed = int(seen.group(1)) if seen else None
        elif fields[1] == "worker":
            (old if section == "old workers" else workers).append(int(fields[0]))
    if not master:
        raise Unreadable("show proc came without a master")
    return Processes(master, tuple(workers), tuple(old), failed)


@dataclass(frozen=True)
class ReloadAnswer:
    """The master's answer to ``reload``. ``ok`` ``None``: it did not say (before 2.7)."""

    ok: bool | None
    log: str


def parse_reload(text: str) -> ReloadAnswer:
    """``reload`` on the master CLI: ``Success=1`` or ``0``, ``--``, then the start-up log."""
    head, _, log = text.partition("--\n")
    said = re.search(r"Success=([01])", head)
    return ReloadAnswer(said.group(1) == "1" if said else None, log.strip() or text.strip())


def _answers(text: str) -> Iterator[str]:
    """The answers of chained changes: an empty line is a success, a text ends at one."""
    error: list[str] = []
    for line in text.split("\n")[:-1]:
        if line.strip():
            error.append(line)
            continue
        yield "\n".join(error)
        error = []
    if error:
        yield "\n".join(error)


def check_answers(commands: Sequence[str], text: str, *, where: str = "") -> None:
    """Hold the reply of chained changes against the commands: each must have answered nothing.

    Raises :class:`Refused` with the first command that was refused, and :class:`Unreadable`
    when there are fewer answers than commands (HAProxy went away in between).
    """
    answers = list(_answers(text))
    for command, answer in zip(commands, answers, strict=False):
        if answer:
            raise Refused(answer, command=command, where=where)
    if len(answers) < len(commands):
        place = f"{where}: " if where else ""
        raise Unreadable(f"{place}{len(answers)} answers to {len(commands)} commands")
    for answer in answers[len(commands) :]:
        if answer:
            raise Refused(answer, where=where)
