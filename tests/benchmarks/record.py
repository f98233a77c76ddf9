"""Runs ``fab`` as it is and writes down every command it sends to a host.

    python -m benchmarks.record FILE deploy --version 0.0.2 --json

What is written is what a bare Fabric script then sends again; see peers/fabric/README.md.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from fabric.main import program

from fabfile.remote import ssh
from fabfile.remote.base import Command, Result
from fabfile.remote.channel import SshRunning
from fabfile.remote.quoting import deadline


class Recorder:
    """Wraps the one place all commands pass. Keeps nothing in memory: that is measured, too."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._guard = threading.Lock()
        self._number = itertools.count()
        self._inputs: set[str] = set()
        self._running = ssh.SshTransport._running

    def install(self) -> None:
        """From now on, everything is written down."""
        recorder = self

        def recorded(transport: ssh.SshTransport, command: Command) -> SshRunning:
            number = next(recorder._number)
            recorder.write(
                {
                    "number": number,
                    "host": transport.name,
                    "label": command.label,
                    "script": deadline(command.script, math.ceil(command.timeout)),
                    "stdin": recorder.known(command.stdin),
                    "began": time.time(),
                }
            )
            running = recorder._running(transport, command)
            wait, heard = running.wait, threading.Lock()

            def to_its_end() -> Result:
                result = wait()
                # Once, and before whoever waited goes on: what comes next came after this one.
                if heard.acquire(blocking=False):
                    ended = {"ended": time.time(), "code": result.exit_code}
                    recorder.write({"number": number, **ended})
                return result

            running.wait = to_its_end  # type: ignore[method-assign]
            return running

        ssh.SshTransport._running = recorded  # type: ignore[method-assign]

    def known(self, stdin: bytes) -> str:
        """A short name of ``stdin``, which is written down once: the plan goes to every host."""
        name = hashlib.sha256(stdin).hexdigest()[:16] if stdin else ""
        with self._guard:
            fresh = bool(name) and name not in self._inputs
            self._inputs.add(name)
        if fresh:
            self.write({"input": name, "data": base64.b64encode(stdin).decode()})
        return name

    def write(self, entry: Mapping[str, Any]) -> None:
        """One line."""
        with self._guard:
            self._stream.write(json.dumps(entry) + "\n")


def main() -> None:
    """Run ``fab`` with what follows the file's name."""
    path, *argv = sys.argv[1:]
    with Path(path).open("w") as stream:
        Recorder(stream).install()
        program.run(["fab", *argv])


if __name__ == "__main__":
    main()
