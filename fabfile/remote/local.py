"""This machine, with the contract of a remote one (``connection: local``)."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import shutil
import signal
import subprocess
import threading
import time

from fabfile.errors import OutcomeUnknown, Unreachable
from fabfile.remote.base import Command, Result
from fabfile.remote.channel import DEADLINE_EXIT, ORPHAN_GRACE, PATIENCE
from fabfile.remote.patience import LOOK, Deadline
from fabfile.remote.streams import LocalStream


def _spawn(host: str, argv: list[str]) -> subprocess.Popen[bytes]:
    try:
        # A session of its own: Ctrl-C at the terminal is for us alone.
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise Unreachable(host, f"cannot start a process here: {error}") from error


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)


class LocalRunning:
    """A command that was started here."""

    def __init__(self, host: str, command: Command) -> None:
        self._host = host
        self._command = command
        self._seconds = max(1, math.ceil(command.timeout))
        argv = ["sh", "-c", command.script]
        if shutil.which("timeout"):
            # So that it ends in time even if we do not live to end it.
            argv = ["timeout", "-k", "5", str(self._seconds), *argv]
        self._began = time.monotonic()
        self._process = _spawn(host, argv)
        self._result: Result | None = None
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def wait(self) -> Result:
        """Block until the command ended or its deadline passed; never raises for its exit."""
        self._thread.join()
        assert self._result is not None
        return self._result

    def _collect(self) -> None:
        out, err, note = self._communicate()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:  # an orphan may hold the other end
                with contextlib.suppress(OSError):
                    stream.close()
        elapsed = time.monotonic() - self._began
        code = self._process.returncode
        if elapsed >= self._seconds and (note or code in (DEADLINE_EXIT, 137, 143, -9, -15)):
            code, note = DEADLINE_EXIT, note or f"ended by its deadline of {self._seconds} s"
        elif code < 0:
            code = 128 - code  # as a shell says it
        text = err.decode(errors="replace")
        if note:
            text += f"evenkeel: {self._host}: {note}\n"
        stdout = out.decode(errors="replace")
        self._result = Result(self._host, self._command.label, code, stdout, text, elapsed)

    def _communicate(self) -> tuple[bytes, bytes, str]:
        """stdout, stderr, and why it was cut short if it was."""
        feed: bytes | None = self._command.stdin
        deadline = Deadline(self._seconds + PATIENCE)
        quiet: tuple[bytes, bytes] | None = None
        while True:
            try:
                out, err = self._process.communicate(feed, timeout=ORPHAN_GRACE)
            except subprocess.TimeoutExpired as late:
                feed = None  # communicate() remembers what it has not sent yet
                so_far = (late.output or b"", late.stderr or b"")
                if deadline.left() <= 0:
                    _kill(self._process)
                    self._process.wait()
                    return *so_far, f"killed after {self._seconds + PATIENCE:.0f} s"
                if self._process.poll() is not None:
                    if so_far == quiet:
                        return *so_far, ""  # only an orphan that holds stdout open is left
                    quiet = so_far
            else:
                return out, err, ""


class LocalLines:
    """A conversation with a script that runs here. Thread-safe."""

    def __init__(self, host: str, command: Command, marker: str) -> None:
        self._host = host
        self._label = command.label or "conversation"
        self._end = marker.encode() + b"\n"
        self._process = _spawn(host, ["sh", "-c", command.script])
        self._chunks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._stderr = b""
        self._broken = ""
        self._asking = threading.Lock()
        for reader in (self._read_stdout, self._read_stderr):
            threading.Thread(target=reader, daemon=True).start()

    def ask(self, line: str, *, timeout: float) -> str:
        """As :meth:`fabfile.remote.channel.SshLines.ask`."""
        if "\n" in line:
            raise ValueError(f"one line at a time: {line!r}")
        with self._asking:
            if self._broken:
                raise self._unknown()
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(line.encode() + b"\n")
                self._process.stdin.flush()
                return self._answer(Deadline(timeout)).decode(errors="replace")
            except queue.Empty:
                self._broken = f"no answer within {timeout:g} s"
            except (OSError, EOFError) as error:
                self._broken = str(error)
            self.close()
            raise self._unknown()

    def close(self) -> None:
        """End it. Never raises; twice is fine."""
        self._broken = self._broken or "it was closed"
        _kill(self._process)
        with contextlib.suppress(OSError):
            self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def _answer(self, deadline: Deadline) -> bytes:
        reply = bytearray()
        while not reply.endswith(self._end):
            try:
                chunk = self._chunks.get(timeout=max(min(deadline.left(), LOOK), 0.001))
            except queue.Empty:
                if deadline.left() <= 0:
                    raise
                continue
            if not chunk:
                raise EOFError("the script ended")
            reply += chunk
        return bytes(reply[: -len(self._end)])

    def _read_stdout(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            while chunk := os.read(stream.fileno(), 1 << 16):
                self._chunks.put(chunk)
        self._chunks.put(b"")

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            while chunk := os.read(stream.fileno(), 1 << 16):
                self._stderr = (self._stderr + chunk)[-2000:]

    def _unknown(self) -> OutcomeUnknown:
        detail = self._stderr.decode(errors="replace").strip()
        return OutcomeUnknown(self._host, f"{self._label}: {self._broken}", detail=detail)


class LocalTransport:
    """This machine; see :class:`fabfile.remote.base.Transport`."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        """The host's inventory name."""
        return self._name

    def connect(self) -> None:
        """Nothing to do."""

    def start(self, command: Command) -> LocalRunning:
        """Start ``command`` in a session of its own."""
        return LocalRunning(self._name, command)

    def run(self, command: Command) -> Result:
        """``start`` and ``wait`` in one."""
        return self.start(command).wait()

    def converse(self, command: Command, *, marker: str) -> LocalLines:
        """Start a conversation; see ``quoting.answer_lines`` for the script."""
        return LocalLines(self._name, command, marker)

    def follow(self, command: Command) -> LocalStream:
        """Start a script and read along."""
        return LocalStream(_spawn(self._name, ["sh", "-c", command.script]))

    def close(self) -> None:
        """Nothing to do."""
