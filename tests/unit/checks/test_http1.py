"""Responses cut into any pieces read the same; cut short they are never taken for whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile.checks.http1 import Malformed, Response, request

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\nhe\r\n3;name=value\r\nllo\r\n0\r\nTrailer: x\r\n\r\n"
)
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN


@pytest.mark.parametrize("whole", [PLAIN, CHUNKED, INTERIM])
@given(data=st.data())
def test_how_the_network_cuts_a_response_makes_no_difference(whole, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    response = Response()
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        assert not response.complete or start == len(whole)
        response.feed(whole[start:end])

    assert response.complete
    assert response.status == 200
    assert bytes(response.body) == b"hello"
    assert response.length == 5
    assert response.keep_alive
    assert response.leftover == b""


@pytest.mark.parametrize("whole", [PLAIN, CHUNKED, INTERIM])
def test_a_response_that_lacks_its_last_byte_is_never_whole(whole):
    for end in range(len(whole)):
        response = Response()
        response.feed(whole[:end])
        response.closed()
        assert not response.complete


def test_a_body_without_a_length_ends_when_the_server_closes():
    response = Response()
    response.feed(b"HTTP/1.1 200 OK\r\n\r\nhel")
    response.feed(b"lo")
    assert not response.complete
    response.closed()

    assert response.complete
    assert bytes(response.body) == b"hello"
    assert not response.keep_alive
    assert not response.measured


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"HTTP/1.1 204 X\r\n\r\n", True),
        (b"HTTP/1.1 204 X\r\nConnection: close\r\n\r\n", False),
        (b"HTTP/1.0 204 X\r\n\r\n", False),
        (b"HTTP/1.0 204 X\r\nConnection: Keep-Alive\r\n\r\n", True),
    ],
)
def test_a_connection_is_kept_only_when_the_server_keeps_it(head, kept):
    response = Response()
    response.feed(head)

    assert response.complete
    assert response.keep_alive is kept


@pytest.mark.parametrize(
    "garbage",
    [
        b"220 mail ready\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n",
        b"x" * 70000,
    ],
)
def test_what_is_not_http_is_refused_and_not_misread(garbage):
    with pytest.raises(Malformed):
        Response().feed(garbage)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_parser(data):
    response = Response()
    try:
        response.feed(b"HTTP/1.1 200 OK\r\n" + data)
    except Malformed:
        return
    response.closed()


def test_big_bodies_are_counted_and_not_kept():
    response = Response()
    response.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    for _ in range(10):
        response.feed(b"x" * 100000)

    assert response.complete
    assert response.length == 1000000
    assert len(response.body) == 65536


def test_a_fresh_request_asks_the_server_to_close():
    assert b"Connection: close\r\n" in request("/", "h", {}, keep_alive=False)
    assert b"Connection" not in request("/a?b=c", "h:1", {}, keep_alive=True)
    assert request("/a?b=c", "h:1", {}, keep_alive=True).startswith(
        b"GET /a?b=c HTTP/1.1\r\nHost: h:1\r\n"
    )
