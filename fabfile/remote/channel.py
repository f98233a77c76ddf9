"""One session of an SSH connection: a command that runs to its end, or a conversation."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable

import paramiko

from fabfile.errors import OutcomeUnknown, RemoteError
from fabfile.remote import quoting
from fabfile.remote.base import Command, Result
from fabfile.remote.patience import LOOK, Deadline

PATIENCE = 10.0
"""Seconds after a command's own deadline until we stop waiting for the host's word on it."""
ORPHAN_GRACE = 1.0
"""Seconds of silence, after the exit code, when a child still holds stdout open."""
DEADLINE_EXIT = 124
_DEADLINE_EXITS = (124, 137, 143, -1)
"""coreutils: 124, after SIGKILL 137; busybox: 143, or a signal, which Paramiko reports as -1."""
_CHUNK = 1 << 20


class _Bell(threading.Event):
    """Stands in for the event of a Paramiko buffer and rings for both of a channel's buffers."""

    def __init__(self, wake: threading.Event) -> None:
        super().__init__()
        self._wake = wake

    def set(self) -> None:
        self._wake.set()

    def clear(self) -> None:
        # Paramiko clears when one buffer is empty; the other one may not be.
        pass


class Reader:
    """Both output streams of a channel, without a thread for each and without polling."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._wake = threading.Event()
        channel.in_buffer.set_event(_Bell(self._wake))
        channel.in_stderr_buffer.set_event(_Bell(self._wake))

    def wait(self, seconds: float) -> None:
        """Until something arrived or the channel closed; at most ``seconds``."""
        self._wake.wait(seconds)
        self._wake.clear()

    def drain(self) -> tuple[bytes, bytes]:
        """What has arrived on stdout and stderr since."""
        out, err = [], []
        while self._channel.recv_ready():
            out.append(self._channel.recv(_CHUNK))
        while self._channel.recv_stderr_ready():
            err.append(self._channel.recv_stderr(_CHUNK))
        return b"".join(out), b"".join(err)


def _send(channel: paramiko.Channel, data: bytes) -> None:
    # A program may end without reading all of its stdin; that is its business.
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        if data:
            channel.sendall(data)
        channel.shutdown_write()


class SshRunning:
    """A command in a session of its own; see :class:`fabfile.remote.base.Running`.

    ``session`` opens the session (it may wait for its turn) and ``done`` gives it back.
    """

    def __init__(
        self,
        host: str,
        command: Command,
        session: Callable[[], paramiko.Channel],
        done: Callable[[], None],
    ) -> None:
        self._host = host
        self._command = command
        self._session = session
        self._give_back = done
        self._seconds = max(1, math.ceil(command.timeout))
        self._channel: paramiko.Channel | None = None
        self._began = time.monotonic()
        self._out: list[bytes] = []
        self._err: list[bytes] = []
        self._ended = threading.Event()
        self._result: Result | None = None

    @property
    def name(self) -> str:
        """For whoever looks at the threads of this program."""
        return f"{self._host} {self._command.label}"

    def begin(self) -> None:
        """Open a session and send the command. Raises :class:`RemoteError` if nothing was sent."""
        channel = self._session()
        self._began = time.monotonic()
        self._channel = channel
        # A broken connection shows in collect(): from here on the command may have run.
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            channel.exec_command(quoting.deadline(self._command.script, self._seconds))

    def collect(self) -> None:
        """Feed and read until the command ended or the deadline passed; for a thread."""
        code: int | None = None
        try:
            if self._channel is None:
                self.begin()
            assert self._channel is not None
            code = self._follow(self._channel)
        except RemoteError as error:
            self._err.append(f"{error}\n".encode())
        except Exception as error:  # wait() promises a result, whatever Paramiko comes up with
            self._note(f"{type(error).__name__}: {error}")
        finally:
            if self._channel is not None:
                with contextlib.suppress(Exception):
                    self._channel.close()
                self._give_back()
            self._result = Result(
                self._host,
                self._command.label,
                code,
                b"".join(self._out).decode(errors="replace"),
                b"".join(self._err).decode(errors="replace"),
                time.monotonic() - self._began,
            )
            self._ended.set()

    def wait(self) -> Result:
        """Block until the command ended or its deadline passed; never raises for its exit."""
        self._ended.wait()
        assert self._result is not None
        return self._result

    def _follow(self, channel: paramiko.Channel) -> int | None:
        reader = Reader(channel)
        self._feed(channel)
        deadline = Deadline(self._seconds + PATIENCE)
        heard = time.monotonic()
        exited = False
        while True:
            # Both are asked before what has come is read: nothing slips in between.
            exits = channel.exit_status_ready()
            ended = channel.closed or (channel.eof_received and exits)
            out, err = reader.drain()
            self._out.append(out)
            self._err.append(err)
            now = time.monotonic()
            if out or err or exits != exited:
                heard, exited = now, exits
            if ended:
                return self._verdict(channel)
            left = deadline.left()
            if left <= 0:
                self._note(f"no word from the host {now - self._began:.0f} s after the start")
                return None
            if channel.eof_received:
                channel.status_event.wait(min(left, LOOK))
            elif exited and now - heard >= ORPHAN_GRACE:
                return self._verdict(channel)
            else:
                # The exit code itself does not ring.
                reader.wait(min(left, LOOK))

    def _feed(self, channel: paramiko.Channel) -> None:
        data = self._command.stdin
        if len(data) <= channel.out_window_size:
            _send(channel, data)
        else:
            # It may block until the program reads, which may block until we read.
            threading.Thread(target=_send, args=(channel, data), daemon=True).start()

    def _verdict(self, channel: paramiko.Channel) -> int | None:
        code = channel.exit_status
        overdue = time.monotonic() - self._began >= self._seconds
        if overdue and code in _DEADLINE_EXITS and (code != -1 or channel.eof_received):
            self._note(f"ended by its deadline of {self._seconds} s")
            return DEADLINE_EXIT
        if code == -1:
            stands = channel.get_transport().is_active()
            why = "a signal ended it, or sshd refused it" if stands else "the connection broke"
            self._note(f"{why}: it may or may not have run")
            return None
        return code

    def _note(self, text: str) -> None:
        text_before = b"".join(self._err)
        lead = "\n" if text_before and not text_before.endswith(b"\n") else ""
        self._err.append(f"{lead}evenkeel: {self._host}: {text}\n".encode())


class SshLines:
    """A conversation with a script; see :class:`fabfile.remote.base.Lines`. Thread-safe."""

    def __init__(
        self,
        host: str,
        command: Command,
        channel: paramiko.Channel,
        marker: str,
        done: Callable[[], None],
    ) -> None:
        self._host = host
        self._label = command.label or "conversation"
        self._channel = channel
        self._reader = Reader(channel)
        self._end = marker.encode() + b"\n"
        self._give_back = done
        self._stderr = b""
        self._broken = ""
        self._asking = threading.Lock()
        if command.stdin:
            channel.sendall(command.stdin)

    def ask(self, line: str, *, timeout: float) -> str:
        """Send ``line``; return what came before the marker. ``timeout`` is in seconds.

        After one failure the conversation is over: a late answer must not pass for the next one.
        Raises :class:`OutcomeUnknown`, and :class:`ValueError` for a line that is several.
        """
        if "\n" in line:
            raise ValueError(f"one line at a time: {line!r}")
        with self._asking:
            if self._broken:
                raise self._unknown(self._broken)
            try:
                self._channel.sendall(line.encode() + b"\n")
                reply = self._answer(Deadline(timeout))
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise self._break(str(error) or "the connection broke") from error
            if reply is None:
                raise self._break(f"no answer within {timeout:g} s")
            return reply.decode(errors="replace")

    def close(self) -> None:
        """End it: the script sees the end of its stdin. Never raises; twice is fine."""
        self._broken = self._broken or "it was closed"
        with contextlib.suppress(Exception):
            self._channel.close()
        give_back, self._give_back = self._give_back, lambda: None
        give_back()

    def _answer(self, deadline: Deadline) -> bytes | None:
        reply = bytearray()
        while True:
            closed = self._channel.closed or self._channel.eof_received
            out, err = self._reader.drain()
            reply += out
            self._stderr = (self._stderr + err)[-2000:]
            # Nothing follows a marker before the next request, so it can only be the end.
            if reply.endswith(self._end):
                return bytes(reply[: -len(self._end)])
            if closed:
                raise EOFError("the script ended or the connection broke")
            left = deadline.left()
            if left <= 0:
                return None
            self._reader.wait(min(left, LOOK))

    def _break(self, why: str) -> OutcomeUnknown:
        self._broken = why
        self.close()
        return self._unknown(why)

    def _unknown(self, why: str) -> OutcomeUnknown:
        detail = self._stderr.decode(errors="replace").strip()
        return OutcomeUnknown(self._host, f"{self._label}: {why}", detail=detail)
