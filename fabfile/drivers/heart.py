"""Signs of life for the locks on one host, for as long as whoever holds them lives."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping

from fabfile.errors import RemoteError
from fabfile.remote import life, state
from fabfile.remote.base import Command, Lines, Transport
from fabfile.remote.pool import Remotes

HEARTBEAT = 3.0
"""Seconds between two signs of life."""
ANSWER_TIMEOUT = 4.0
"""Deadline in seconds of one in the conversation; then there is time for a command still."""
BEAT_TIMEOUT = 10.0
"""Deadline in seconds of such a command; a later one would find the lock stale anyway."""


class Heart:
    """One host's, in a thread of its own: one that does not answer makes no lock elsewhere stale.

    They go through one conversation. Where there is none to be had, each is a command.
    """

    def __init__(
        self,
        remotes: Remotes,
        host: str,
        tokens: Mapping[str, str],
        lost: Callable[[str], None],
        stop: threading.Event,
    ) -> None:
        """``lost`` hears the host when a lock there is no longer ours; then it ends, as it does
        once ``stop`` is set."""
        self._remotes = remotes
        self._host = host
        self._tokens = dict(tokens)
        self._lost = lost
        self._stop = stop
        self._lines: Lines | None = None
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin; the first sign is given one beat from now."""
        self._thread.start()

    def join(self, seconds: float) -> bool:
        """Wait until it has ended, at most that long; whether it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._stop.wait(HEARTBEAT):
                if not self._beat() and not self._stop.is_set():
                    self._lost(self._host)
                    return
        finally:
            self._hang_up()

    def _beat(self) -> bool:
        """One sign of life; ``False``: a lock is not ours any more."""
        try:
            host = self._remotes.get(self._host)
            try:
                return self._said(host) != "lost"
            except RemoteError:  # there is no conversation to be had, or it is over
                self._hang_up()
            if self._stop.is_set():
                return True
            script = life.heartbeat(self._tokens)
            command = Command(script, timeout=BEAT_TIMEOUT, label="lock", urgent=True)
            return host.run(command).exit_code != state.EXIT_FENCED
        except RemoteError:
            return True

    def _said(self, host: Transport) -> str:
        if self._lines is None:
            script = life.heartbeats(self._tokens)
            command = Command(script, label="signs of life", gives_way=True)
            self._lines = host.converse(command, marker=life.MARKER)
        return self._lines.ask("", timeout=ANSWER_TIMEOUT).strip()

    def _hang_up(self) -> None:
        if self._lines is not None:
            with contextlib.suppress(Exception):  # whoever goes leaves no traceback behind
                self._lines.close()
        self._lines = None
