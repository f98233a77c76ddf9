"""A host over one SSH connection.

Fabric connects; commands then run directly on Paramiko's channels, because Invoke's runner polls
and reads stdin a byte at a time. Each running command has one thread here, which sleeps until its
channel has something to say.
"""

from __future__ import annotations

import contextlib
import threading
import time

import paramiko

from fabfile.errors import RemoteError, Unreachable
from fabfile.remote.base import Command, Result
from fabfile.remote.channel import SshLines, SshRunning
from fabfile.remote.connection import HostConnection
from fabfile.remote.inorder import in_order
from fabfile.remote.slots import Slots
from fabfile.remote.streams import SshStream

COMMANDS = 7
"""Commands of one host at a time; more wait their turn."""
URGENT = 1
"""How many of them only what is urgent may take: it never waits for a command that takes long."""
CONVERSATIONS = 2
"""Kept free for :meth:`SshTransport.converse`. With the one that gives way (and does, when sshd is
slow to count an ended session out) that is sshd's MaxSessions of 10."""
OPEN_TIMEOUT = 30.0
"""Seconds for a session to open on a connection that looks alive: a machine where hundreds of
commands begin at once is slow, not gone."""
URGENT_TIMEOUT = 10.0
"""The same for what is urgent, which had rather know."""
LATE = 4
"""Refusals of a session, over 75 ms, that are taken for sshd's being late."""
HOPELESS = 10
"""Refusals, over 2.5 s, without another session of ours open, after which we give up."""


class SshTransport:
    """One host over one SSH connection; see :class:`fabfile.remote.base.Transport`. Thread-safe."""

    def __init__(self, name: str, connection: HostConnection) -> None:
        self._name = name
        self._connection = connection
        self._commands = Slots(COMMANDS, URGENT)
        self._conversations = Slots(CONVERSATIONS)
        self._spare: SshLines | None = None
        """The conversation that gives way."""
        self._guard = threading.Lock()
        self._crowded = False
        """It gave way: sshd allows too few sessions for it."""

    @property
    def name(self) -> str:
        """The host's inventory name."""
        return self._name

    def connect(self) -> None:
        """Connect unless connected. Raises :class:`Unreachable` or ``HostKeyRefused``."""
        self._connection.open()

    def start(self, command: Command) -> SshRunning:
        """Start ``command``, or queue it when as many run as sshd allows; never blocks.

        To open a session and to send a command are two trips: nobody who starts many waits for
        them one after the other. What comes of it is in the result, an :class:`Unreachable` too.
        """
        return self._collecting(self._running(command))

    def run(self, command: Command) -> Result:
        """Run ``command`` to its end.

        Raises :class:`Unreachable` (``HostKeyRefused``) when there is no connection to be had.
        """
        running = self._running(command)
        running.begin()
        return self._collecting(running).wait()

    def _running(self, command: Command) -> SshRunning:
        def session() -> paramiko.Channel:
            self._commands.take(urgent=command.urgent)
            return self._session(self._commands, urgent=command.urgent)

        return SshRunning(self._name, command, session, self._commands.release)

    def _collecting(self, running: SshRunning) -> SshRunning:
        threading.Thread(target=running.collect, name=running.name, daemon=True).start()
        return running

    def converse(self, command: Command, *, marker: str) -> SshLines:
        """Start a conversation; see ``quoting.answer_lines`` for the script.

        It ends when its stdin does, hence with the connection, and not by ``command.timeout``:
        each ``ask`` has its own, and the script's programs should too. Never waits for running
        commands. Raises :class:`Unreachable` when there is no connection to be had.
        """
        if command.gives_way:
            return self._converse_in_spare(command, marker)
        channel = self._conversation(command)
        return SshLines(self._name, command, channel, marker, self._conversations.release)

    def _converse_in_spare(self, command: Command, marker: str) -> SshLines:
        """In a session that nobody else wants. Raises :class:`RemoteError` when there is none."""
        if self._crowded:
            raise RemoteError(self._name, "sshd allows no session beside those of commands")
        transport = self._alive()
        try:
            channel = in_order(transport.open_session(timeout=URGENT_TIMEOUT), URGENT_TIMEOUT)
            _ask(channel, command.script)
        except (paramiko.SSHException, OSError, EOFError) as error:
            if not _is_refusal(error, transport):
                # One that opens after all would count among sshd's sessions, and nobody has it.
                self._connection.retire(transport)
            raise RemoteError(self._name, f"conversation not started: {error}") from error
        lines = SshLines(self._name, command, channel, marker, self._spare_ended)
        with self._guard:
            self._spare = lines
        return lines

    def _spare_ended(self) -> None:
        with self._guard:
            self._spare = None

    def _given_way(self) -> bool:
        """End the conversation that gives way; whether there was one."""
        with self._guard:
            spare, self._spare = self._spare, None
            self._crowded = self._crowded or spare is not None
        if spare is not None:
            spare.close()
        return spare is not None

    def follow(self, command: Command) -> SshStream:
        """Start a script and read along; as :meth:`converse`, and as many at a time."""
        return SshStream(self._conversation(command), self._conversations.release)

    def _conversation(self, command: Command) -> paramiko.Channel:
        if not self._conversations.try_take():
            raise RemoteError(self._name, f"more than {CONVERSATIONS} conversations at a time")
        channel = self._session(self._conversations)
        try:
            _ask(channel, command.script)
        except (paramiko.SSHException, OSError, EOFError) as error:
            self._conversations.release()
            raise Unreachable(self._name, f"conversation not started: {error}") from error
        return channel

    def close(self) -> None:
        """Close the connection; never raises."""
        with contextlib.suppress(Exception):
            self._connection.close()

    def _session(self, slots: Slots, *, urgent: bool = False) -> paramiko.Channel:
        """A new session for the slot we hold; when it raises, the slot was given back."""
        try:
            return self._opened(slots, urgent)
        except BaseException:
            slots.release()
            raise

    def _opened(self, slots: Slots, urgent: bool) -> paramiko.Channel:
        tries = refusals = 0
        timeout = URGENT_TIMEOUT if urgent else OPEN_TIMEOUT
        while True:
            transport = self._alive()
            try:
                return in_order(transport.open_session(timeout=timeout), timeout)
            except (paramiko.SSHException, OSError, EOFError) as error:
                if _is_refusal(error, transport):
                    refusals += 1
                    if self._refused(slots, refusals, error, urgent):
                        refusals = 0
                    continue
                # Nothing was sent yet, so one more try on a fresh connection is safe.
                self._connection.retire(transport)
                tries += 1
                if tries == 2:
                    raise Unreachable(self._name, f"connection lost: {error}") from error

    def _alive(self) -> paramiko.Transport:
        while True:
            self.connect()
            transport: paramiko.Transport | None = self._connection.transport
            if transport is not None:
                return transport

    def _refused(self, slots: Slots, refusals: int, error: Exception, urgent: bool) -> bool:
        """A live sshd refused a session, the ``refusals``-th time in a row: wait.

        The first times it may only be late: it reads our close and our next open in one go, and
        counts the ended session out afterwards. Then its MaxSessions must be lower than we think.
        True: a session has just been given up for this one, and sshd may be late once more.
        """
        time.sleep(min(0.005 * 2**refusals, 0.5))
        if refusals < LATE:
            return False
        if self._given_way():
            return True
        others = slots.refused()
        slots.take(urgent=urgent)
        if not others and refusals >= HOPELESS:
            raise Unreachable(
                self._name, "sshd allows no further session: raise its MaxSessions"
            ) from error
        return False


def _ask(channel: paramiko.Channel, script: str) -> None:
    """Ask for ``script``; where there is no answer to that, nobody keeps the session."""
    try:
        channel.exec_command(script)
    except BaseException:
        channel.close()
        raise


def _is_refusal(error: Exception, transport: paramiko.Transport) -> bool:
    """Whether a live server said no, as opposed to a connection that is gone."""
    # Paramiko keeps the reason in one place for all threads: of two refusals at the same time
    # one is a ChannelException and the other a bare SSHException.
    if isinstance(error, paramiko.ChannelException):
        return True
    timed_out = "Timeout" in str(error)
    return isinstance(error, paramiko.SSHException) and transport.is_active() and not timed_out
