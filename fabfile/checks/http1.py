"""HTTP/1.1 as the prober needs it, without any I/O: a request as bytes, a response fed by bytes.

The common clients repeat an idempotent request on a fresh connection without saying so, which
hides the very thing a prober is there to see. This one cannot: it never holds a connection.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

KEPT_BODY = 65536
"""Bytes of a body that are kept to look for a version; the rest is counted only."""

_MAX_HEAD = 65536
_STATUS = re.compile("[1-5][0-9]{2}")


class Malformed(Exception):
    """What came is not HTTP/1.1."""


def request(
    path: str, host: str, headers: Mapping[str, str], *, keep_alive: bool, method: str = "GET"
) -> bytes:
    """A request without a body."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Accept: */*"]
    if "User-Agent" not in headers:
        lines.append("User-Agent: evenkeel-prober")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if not keep_alive:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


@dataclass
class Response:
    """A response that grows with :meth:`feed` until ``complete``.

    Raises :class:`Malformed` from :meth:`feed`.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    """Names in lower case; the last of several wins."""
    cookies: list[str] = field(default_factory=list)
    """The values of all Set-Cookie headers."""
    length: int = 0
    """Body bytes received."""
    body: bytearray = field(default_factory=bytearray)
    """The first :data:`KEPT_BODY` bytes of it."""
    complete: bool = False
    keep_alive: bool = False
    measured: bool = False
    """The response says itself where it ends (length or chunks), so a cut cannot be missed."""
    started: bool = False
    """At least one byte came."""
    _buffer: bytearray = field(default_factory=bytearray)
    _phase: Literal["head", "body", "until close", "size", "chunk", "chunk end", "trailer"] = "head"
    _left: int = 0
    """Bytes missing of the body or the chunk."""

    @property
    def leftover(self) -> bytes:
        """What came after the end: nothing, from a well-behaved server (but for an upgrade)."""
        return bytes(self._buffer) if self.complete else b""

    def feed(self, data: bytes) -> None:
        """Take what the connection gave."""
        self.started = True
        self._buffer += data
        while not self.complete and self._step():
            pass

    def closed(self) -> None:
        """The server closed: the right end for a body of unknown length, and for no other."""
        if self.status and not self.measured:
            self.complete = True

    def _step(self) -> bool:
        """Go on by one piece; ``False``: more bytes are needed."""
        match self._phase:
            case "head":
                return self._head()
            case "size":
                return self._chunk_size()
            case "chunk end" | "trailer":
                return self._line_after_chunk()
            case _:
                return self._data()

    def _head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _MAX_HEAD:
                raise Malformed("the headers never end")
            return False
        lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        status, minor = _status_line(lines[0])
        if 100 <= status < 200 and status != 101:
            return True
        self.status = status
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                raise Malformed(f"a header without a colon: {line[:60]!r}")
            self.headers[name.strip().lower()] = value.strip()
            if name.strip().lower() == "set-cookie":
                self.cookies.append(value.strip())
        self._frame(minor)
        return True

    def _frame(self, minor: str) -> None:
        connection = self.headers.get("connection", "").lower()
        self.keep_alive = "close" not in connection if minor == "1" else "keep-alive" in connection
        self.measured = True
        if self.status in (101, 204, 304):
            self.complete = True
        elif "chunked" in self.headers.get("transfer-encoding", "").lower():
            self._phase = "size"
        elif "content-length" in self.headers:
            self._phase, self._left = "body", _number(self.headers["content-length"], 10)
            self.complete = self._left == 0
        else:
            self._phase, self.measured, self.keep_alive = "until close", False, False

    def _data(self) -> bool:
        count = len(self._buffer)
        if self._phase != "until close":
            count = min(count, self._left)
            self._left -= count
        self.length += count
        if len(self.body) < KEPT_BODY:
            self.body += self._buffer[: min(count, KEPT_BODY - len(self.body))]
        del self._buffer[:count]
        if self._phase == "until close" or self._left:
            return False
        self.complete = self._phase == "body"
        self._phase = "chunk end"
        return True

    def _chunk_size(self) -> bool:
        line = self._line()
        if line is None:
            return False
        self._left = _number(line.split(";")[0].strip(), 16)
        self._phase = "chunk" if self._left else "trailer"
        return True

    def _line_after_chunk(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if self._phase == "trailer":
            self.complete = not line
        elif line:
            raise Malformed(f"a chunk longer than it says: {line[:30]!r}")
        else:
            self._phase = "size"
        return True

    def _line(self) -> str | None:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > _MAX_HEAD:
                raise Malformed("a line that never ends")
            return None
        line = bytes(self._buffer[:end]).decode("latin-1")
        del self._buffer[: end + 2]
        return line


def _number(text: str, base: int) -> int:
    if not text or not set(text) <= set("0123456789abcdefABCDEF"[: 10 if base == 10 else 22]):
        raise Malformed(f"{text[:30]!r} is no length")
    return int(text, base)


def _status_line(line: str) -> tuple[int, str]:
    words = line.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not _STATUS.fullmatch(words[1]):
        raise Malformed(f"no HTTP/1.1 answer: {line[:60]!r}")
    return int(words[1]), words[0][7:]
