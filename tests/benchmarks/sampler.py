"""Asks balancers for their statistics all the while, independently of whoever upgrades."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Mapping

from .capacity import Sample, weights

INTERVAL = 0.05
"""Seconds between two looks."""
SOCKET = "/run/haproxy/admin.sock"
PROMPT = b"\n> "


class Sampler:
    """Looks at backends of several balancers until it is stopped. A context manager.

    ``containers``: the lab's container in which each balancer's socket is found, by its name.
    """

    def __init__(self, containers: Mapping[str, str], backend: str, socket: str = SOCKET) -> None:
        self.samples: dict[str, list[Sample]] = {name: [] for name in containers}
        self._over = threading.Event()
        self._ready = {name: threading.Event() for name in containers}
        self._threads = [
            threading.Thread(target=self._watch, args=(name, where, backend, socket), daemon=True)
            for name, where in containers.items()
        ]

    def __enter__(self) -> Sampler:
        for thread in self._threads:
            thread.start()
        for name, ready in self._ready.items():
            if not ready.wait(20):
                self.__exit__()
                raise RuntimeError(f"{name}: its HAProxy does not answer on its socket")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(5)

    def _watch(self, name: str, container: str, backend: str, socket: str) -> None:
        argv = ["docker", "exec", "-i", container, "socat", "-t30", "-", f"UNIX-CONNECT:{socket}"]
        with Conversation(argv) as talk:
            while not self._over.wait(INTERVAL):
                text = talk.ask(f"show stat {backend} 4 -1")
                self.samples[name].append(Sample(time.time(), weights(text)))
                self._ready[name].set()


class Conversation:
    """HAProxy's prompt, kept open: one process for all questions."""

    def __init__(self, argv: list[str]) -> None:
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.ask("prompt")

    def ask(self, line: str) -> str:
        """Send ``line``; returns what is said up to the next prompt."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        said = b""
        while not said.endswith(PROMPT):
            some = self._process.stdout.read1(65536)  # type: ignore[attr-defined]
            if not some:
                raise RuntimeError("HAProxy's socket was closed")
            said += some
        return said[: -len(PROMPT)].decode()

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
