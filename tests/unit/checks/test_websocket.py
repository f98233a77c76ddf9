"""Frames as RFC 6455 has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile.checks.websocket import CLOSE, PING, TEXT, BadFrame, Frames, Message, accept, frame


def from_server(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    size = len(payload)
    if size < 126:
        length = bytes([size])
    elif size < 65536:
        length = bytes([126]) + size.to_bytes(2)
    else:
        length = bytes([127]) + size.to_bytes(8)
    return bytes([opcode | (0x80 if final else 0)]) + length + payload


def test_the_handshake_of_the_rfc():
    assert accept("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@given(st.binary(max_size=70000))
def test_a_server_reads_what_we_sent(payload):
    data = frame(TEXT, payload)
    size = data[1] & 0x7F
    start = {126: 4, 127: 10}.get(size, 2)
    mask, body = data[start : start + 4], data[start + 4 :]

    assert data[1] & 0x80
    assert bytes(b ^ mask[i % 4] for i, b in enumerate(body)) == payload


@given(st.lists(st.binary(max_size=200), max_size=5), st.integers(1, 50))
def test_messages_come_whole_however_the_network_cuts_them(payloads, step):
    data = b"".join(from_server(TEXT, payload) for payload in payloads)
    frames, found = Frames(), []
    for start in range(0, len(data), step):
        found += frames.feed(data[start : start + step])

    assert found == [Message(TEXT, payload) for payload in payloads]


def test_a_ping_between_the_parts_of_a_message_disturbs_nothing():
    data = from_server(TEXT, b"he", final=False) + from_server(PING, b"?") + from_server(0, b"llo")

    assert Frames().feed(data) == [Message(PING, b"?"), Message(TEXT, b"hello")]


def test_the_code_of_a_close_frame_is_told():
    assert Frames().feed(from_server(CLOSE, b"\x03\xe9bye"))[0].close_code == 1001
    assert Frames().feed(from_server(CLOSE, b""))[0].close_code == 1005


@pytest.mark.parametrize("data", [b"\xf1\x00", b"\x81\x81", b"\x82\x7f" + (1 << 40).to_bytes(8)])
def test_a_broken_peer_is_told_from_a_quiet_one(data):
    with pytest.raises(BadFrame):
        Frames().feed(data)
