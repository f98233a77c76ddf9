"""The contract every door to a host keeps: what is asked, what comes back.

A *builder* makes a :class:`Command` and never runs it; a :class:`Transport` runs it and never
builds one. Quoting happens in ``quoting`` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Command:
    """A POSIX ``sh`` script for one host.

    ``script`` shows up in process lists, so it never holds a secret; ``stdin`` may.
    ``timeout`` is in seconds and is kept on both ends: the host's ``timeout -k 5`` ends the
    script, and a slightly longer one here gives the connection up.
    """

    script: str
    stdin: bytes = b""
    timeout: float = 30.0
    label: str = ""
    """What a person reads in an error: ``docker compose up app_1``."""
    urgent: bool = False
    """Never queued behind commands that are not: a sign of life, or a last order."""
    gives_way: bool = False
    """A conversation that ends for good where sshd allows too few sessions for commands."""


@dataclass(frozen=True)
class Result:
    """What a command left behind. ``exit_code`` ``None``: nobody knows whether it ran."""

    host: str
    label: str
    exit_code: int | None
    stdout: str
    stderr: str
    elapsed: float
    """Seconds."""

    @property
    def ok(self) -> bool:
        """Exit code 0."""
        return self.exit_code == 0

    def tail(self, lines: int = 10) -> str:
        """The last lines of stderr, or of stdout where stderr is empty."""
        text = self.stderr.strip() or self.stdout.strip()
        return "\n".join(text.splitlines()[-lines:])

    @property
    def why(self) -> str:
        """The last line of that, for a text that names the host already."""
        return self.tail(1).removeprefix(f"{self.host}: ")


class Running(Protocol):
    """A command that was started. Starting many and then waiting runs them side by side."""

    def wait(self) -> Result:
        """Block until the command ended or its deadline passed; never raises for its exit."""
        ...


class Lines(Protocol):
    """A long-lived conversation with one script: a request line in, reply lines out."""

    def ask(self, line: str, *, timeout: float) -> str:
        """Send ``line``; return everything up to the end marker.

        Raises :class:`fabfile.errors.OutcomeUnknown` when the conversation broke.
        """
        ...

    def close(self) -> None:
        """End it."""
        ...


class Stream(Protocol):
    """A script whose output is read while it runs; it ends, at the latest, with our end of it."""

    def read(self, seconds: float) -> tuple[bytes, bytes] | None:
        """What arrived on stdout and stderr, waited for at most ``seconds``; ``None``: all was
        read, and there is no more to come."""
        ...

    def send(self, data: bytes) -> None:
        """Write to the script's stdin; never raises, a broken connection shows in :meth:`read`."""
        ...

    @property
    def exit_code(self) -> int | None:
        """After the last :meth:`read`; ``None``: the connection broke."""
        ...

    def close(self) -> None:
        """Close its stdin, and the whole session. Never raises; twice is fine."""
        ...


class Transport(Protocol):
    """One host, one connection."""

    @property
    def name(self) -> str:
        """The host's inventory name."""
        ...

    def start(self, command: Command) -> Running:
        """Start ``command``. A lost connection is opened again first.

        When there is no connection to be had, it raises :class:`fabfile.errors.Unreachable`, or
        the result says so; :meth:`fabfile.remote.pool.Remotes.start` makes one of the two.
        """
        ...

    def run(self, command: Command) -> Result:
        """Run ``command`` to its end.

        Raises :class:`fabfile.errors.Unreachable` when there is no connection to be had.
        """
        ...

    def converse(self, command: Command, *, marker: str) -> Lines:
        """Start a script that answers each line of its stdin and then prints ``marker``."""
        ...

    def follow(self, command: Command) -> Stream:
        """Start a script and read along; it takes the place of a conversation, and has no deadline.

        Raises :class:`fabfile.errors.Unreachable` when there is no connection to be had.
        """
        ...

    def close(self) -> None:
        """Close the connection; never raises."""
        ...
