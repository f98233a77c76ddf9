"""Scripts whose output is read while they run; see :class:`fabfile.remote.base.Stream`."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
from collections.abc import Callable

import paramiko

from fabfile.remote.channel import Reader

_CHUNK = 1 << 16


class SshStream:
    """A script in a session of its own. Not thread-safe, but for :meth:`close`."""

    def __init__(self, channel: paramiko.Channel, done: Callable[[], None]) -> None:
        """``done`` gives the session's place back."""
        self._channel = channel
        self._reader = Reader(channel)
        self._done = done

    def read(self, seconds: float) -> tuple[bytes, bytes] | None:
        """What arrived; see the contract."""
        # Asked first: what came before the end is read even where the end comes in between.
        over = self._channel.closed or self._channel.eof_received
        out, err = self._reader.drain()
        if out or err:
            return out, err
        if over:
            return None
        self._reader.wait(seconds)
        return self._reader.drain()

    def send(self, data: bytes) -> None:
        """To the script's stdin."""
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            if self._channel.send_ready():
                self._channel.send(data)

    @property
    def exit_code(self) -> int | None:
        """How it ended."""
        # The code comes a moment after the end of the output, or never where the connection broke.
        self._channel.status_event.wait(2.0)
        code = self._channel.exit_status
        return None if code == -1 else code

    def close(self) -> None:
        """End it; sshd tells the script by the end of its stdin."""
        with contextlib.suppress(Exception):
            self._channel.close()
        done, self._done = self._done, lambda: None
        done()


class LocalStream:
    """A script that runs here, in a session of its own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._select = selectors.DefaultSelector()
        for number, pipe in enumerate((process.stdout, process.stderr)):
            if pipe is not None:
                self._select.register(pipe, selectors.EVENT_READ, number)

    def read(self, seconds: float) -> tuple[bytes, bytes] | None:
        """What arrived; see the contract."""
        if not self._select.get_map():
            return None
        found = [b"", b""]
        for key, _ in self._select.select(seconds):
            chunk = os.read(key.fd, _CHUNK)
            found[key.data] += chunk
            if not chunk:
                self._select.unregister(key.fileobj)
        return found[0], found[1]

    def send(self, data: bytes) -> None:
        """To the script's stdin."""
        with contextlib.suppress(OSError, ValueError):
            if self._process.stdin is not None:
                self._process.stdin.write(data)
                self._process.stdin.flush()

    @property
    def exit_code(self) -> int | None:
        """How it ended; a signal as a shell says it."""
        code = self._process.wait()
        return 128 - code if code < 0 else code

    def close(self) -> None:
        """End it and all that it started."""
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self._process.wait()
        self._select.close()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError, ValueError):
                    pipe.close()
