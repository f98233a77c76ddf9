"""WebSocket frames (RFC 6455), without any I/O."""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass, field

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
_CONTINUATION = 0x0
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MAX_MESSAGE = 1 << 20


class BadFrame(Exception):
    """The peer broke the protocol."""


@dataclass(frozen=True)
class Message:
    """A whole message or a control frame."""

    opcode: int
    payload: bytes

    @property
    def close_code(self) -> int:
        """Of a close frame; 1005 when it carries none."""
        return int.from_bytes(self.payload[:2]) if len(self.payload) >= 2 else 1005


def new_key() -> str:
    """A fresh Sec-WebSocket-Key."""
    return base64.b64encode(os.urandom(16)).decode("ascii")


def accept(key: str) -> str:
    """The Sec-WebSocket-Accept that answers ``key``."""
    # SHA-1 is what the RFC prescribes; it protects nothing here.
    digest = hashlib.sha1(key.encode("ascii") + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode("ascii")


def frame(opcode: int, payload: bytes) -> bytes:
    """One final frame, masked as a client has to."""
    mask = os.urandom(4)
    size = len(payload)
    if size < 126:
        head = bytes([0x80 | opcode, 0x80 | size])
    elif size < 65536:
        head = bytes([0x80 | opcode, 0x80 | 126]) + size.to_bytes(2)
    else:
        head = bytes([0x80 | opcode, 0x80 | 127]) + size.to_bytes(8)
    return head + mask + _masked(payload, mask)


@dataclass
class Frames:
    """Turns the bytes a server sends into messages. Raises :class:`BadFrame`."""

    _buffer: bytearray = field(default_factory=bytearray)
    _opcode: int = 0
    _message: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> list[Message]:
        """Everything that is whole now."""
        self._buffer += data
        found = []
        while (taken := self._take()) is not None:
            final, opcode, payload = taken
            message = self._join(final, opcode, payload)
            if message is not None:
                found.append(message)
        return found

    def _take(self) -> tuple[bool, int, bytes] | None:
        if len(self._buffer) < 2:
            return None
        first, second = self._buffer[0], self._buffer[1]
        if first & 0x70 or second & 0x80:
            raise BadFrame("a frame with reserved bits or a mask")
        extra = {126: 2, 127: 8}.get(second & 0x7F, 0)
        start = 2 + extra
        if len(self._buffer) < start:
            return None
        size = int.from_bytes(self._buffer[2:start]) if extra else second & 0x7F
        if size > _MAX_MESSAGE:
            raise BadFrame(f"a frame of {size} bytes")
        if len(self._buffer) < start + size:
            return None
        payload = bytes(self._buffer[start : start + size])
        del self._buffer[: start + size]
        return bool(first & 0x80), first & 0x0F, payload

    def _join(self, final: bool, opcode: int, payload: bytes) -> Message | None:
        if opcode >= CLOSE:
            return Message(opcode, payload)
        if opcode != _CONTINUATION:
            self._opcode = opcode
            self._message.clear()
        self._message += payload
        return Message(self._opcode, bytes(self._message)) if final else None


def _masked(payload: bytes, mask: bytes) -> bytes:
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(len(payload))
