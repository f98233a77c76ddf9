"""Scripts on many hosts whose output is read while they run, in one order for one reader.

A thread for each host reads its script; whoever reads all of them does so in the main thread,
where a Ctrl-C arrives. To stop listening ends every script: ``runtimes/shell/services.sh``.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from fabfile.errors import EvenkeelError
from fabfile.remote.base import Command, Stream
from fabfile.remote.pool import Remotes

BEAT = 10.0
"""Seconds between two signs of life; the script ends by itself without any for 60."""
SILENT = 40.0
"""Seconds without an answer to them after which a host counts as gone."""
LOOK = 1.0
"""Seconds that one read waits."""
AGAIN = 3.0
"""Seconds between two tries to reach a host that went away."""

Source = Literal["out", "err"]
Kind = Literal["out", "err", "lost", "back", "end"]
_STREAMS: tuple[Source, ...] = ("out", "err")


@dataclass(frozen=True)
class Piece:
    """One line of a host's script, or what became of the script itself.

    lost: ``text`` says why, and the host is asked again where that makes sense · back: it answers
    again · end: nothing more comes of this host; an empty ``text`` is a good end.
    """

    host: str
    kind: Kind
    text: str = ""


Make = Callable[[str], Command]
"""The command for a host, made afresh for each try."""


class Streams:
    """A script on each host. A context manager: leaving ends all of them."""

    def __init__(self, remotes: Remotes, hosts: Mapping[str, Make], *, again: bool = False) -> None:
        """``again``: a script that broke off is started once more, as soon as its host answers."""
        self._remotes = remotes
        self._hosts = dict(hosts)
        self._again = again
        self._pieces: queue.Queue[Piece] = queue.Queue(maxsize=10_000)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Streams:
        for host in self._hosts:
            thread = threading.Thread(target=self._run, args=(host,), name=host, daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        """Every thread closes its own stream, so that no read is torn from under it."""
        self._stop.set()
        ends = time.monotonic() + 3 * LOOK
        for thread in self._threads:
            thread.join(max(ends - time.monotonic(), 0.0))

    def pieces(self) -> Iterator[Piece]:
        """All that comes, until every host's end."""
        left = len(self._hosts)
        while left:
            piece = self._next()
            left -= piece.kind == "end"
            yield piece

    def _next(self) -> Piece:
        while True:
            try:
                return self._pieces.get(timeout=LOOK)  # a wait without end hears no Ctrl-C
            except queue.Empty:
                continue

    def _put(self, host: str, kind: Kind, text: str = "") -> None:
        while not self._stop.is_set():
            try:
                self._pieces.put(Piece(host, kind, text), timeout=LOOK)
                return
            except queue.Full:
                continue

    def _run(self, host: str) -> None:
        why, lost = "", False
        while not self._stop.is_set():
            try:
                stream = self._remotes.get(host).follow(self._hosts[host](host))
            except EvenkeelError as error:
                why = str(error)
            else:
                if lost:
                    self._put(host, "back")
                lost = False
                why = self._read(host, stream)
            if not (self._again and why):
                break
            if not lost:
                self._put(host, "lost", why)
            lost = True
            self._stop.wait(AGAIN)
        self._put(host, "end", why)

    def _read(self, host: str, stream: Stream) -> str:
        """Until its end; returns why it is not a good one."""
        halves: dict[Source, bytes] = {"out": b"", "err": b""}
        heard = beat = time.monotonic()
        stream.send(b".")
        try:
            while not self._stop.is_set():
                found = stream.read(LOOK)
                now = time.monotonic()
                if found is None:
                    self._flush(host, halves)
                    code = stream.exit_code
                    return {0: "", None: f"{host}: the connection broke"}.get(
                        code, f"{host}: it ended with exit code {code}"
                    )
                if any(found):
                    heard = now
                self._take(host, "out", found[0], halves)
                self._take(host, "err", found[1], halves)
                if now - heard > SILENT:
                    return f"{host}: no sign of life for {now - heard:.0f} s"
                if now - beat > BEAT:
                    beat = now
                    stream.send(b".")
        finally:
            stream.close()
        return ""

    def _take(self, host: str, kind: Source, data: bytes, halves: dict[Source, bytes]) -> None:
        if not data:
            return
        *lines, halves[kind] = (halves[kind] + data).split(b"\n")
        for line in lines:
            if kind == "out" or line != b".":
                self._put(host, kind, line.decode(errors="replace").rstrip("\r"))

    def _flush(self, host: str, halves: dict[Source, bytes]) -> None:
        for kind in _STREAMS:
            if halves[kind]:
                self._take(host, kind, b"\n", halves)
