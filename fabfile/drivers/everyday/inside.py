"""One command in the containers of many instances, side by side."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from fabfile.drivers.everyday.picking import by_host
from fabfile.drivers.everyday.streams import Piece, Streams
from fabfile.inventory.model import Instance, Service
from fabfile.remote.base import Command
from fabfile.remote.pool import Remotes
from fabfile.runtimes import containers

NOT_RUN = 1
"""Counts as the exit code where the command could not be run."""


@dataclass(frozen=True)
class Said:
    """One line of output, both streams of the command in one."""

    host: str
    instance: str
    text: str


@dataclass(frozen=True)
class Ended:
    """It ended in one instance, or could not be run there."""

    host: str
    instance: str
    """Empty: its host broke off, with all that was not ended there."""
    code: int
    why: str = ""


def run(
    service: Service, instances: Sequence[Instance], remotes: Remotes, command: str
) -> Generator[Said | Ended, None, None]:
    """Run a shell's ``command`` in every container; lines as they come, each end as it comes.

    To stop iterating ends what runs on the hosts; what the command itself started in a container
    may go on, as with ``docker exec``.
    """
    chosen = by_host(instances)

    def make(host: str) -> Command:
        names = [instance.name for instance in chosen[host]]
        return Command(containers.exec_script(service, names, command), label="docker exec")

    open_now = {host: [i.name for i in mine] for host, mine in chosen.items()}
    with Streams(remotes, dict.fromkeys(chosen, make)) as streams:
        for piece in streams.pieces():
            if piece.kind == "end":
                if open_now[piece.host]:
                    names = ", ".join(open_now[piece.host])
                    why = piece.text or f"{piece.host}: it ended early"
                    yield Ended(piece.host, "", NOT_RUN, f"{why}; nothing is known of {names}")
            else:
                yield from _read(piece, open_now[piece.host])


def _read(piece: Piece, left: list[str]) -> Iterator[Said | Ended]:
    word, _, rest = piece.text.partition(" ")
    if piece.kind == "out":
        yield Said(piece.host, word, rest)
        return
    name, _, code = rest.partition(" ")
    if word != "exit" or name not in left:
        yield Said(piece.host, "", piece.text)
        return
    left.remove(name)
    why = "" if code else f"{piece.host}/{name}: no container of it runs"
    yield Ended(piece.host, name, int(code) if code.isdecimal() else NOT_RUN, why)
