"""A URL to probe, taken apart once."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from fabfile.errors import BadInput


@dataclass(frozen=True)
class Target:
    """Where requests for one URL go."""

    url: str
    tls: bool
    name: str
    """Host name or address, without brackets."""
    port: int
    path: str
    """Path and query, as the request line has them."""
    authority: str
    """The Host header."""


def parse(url: str) -> Target:
    """Take ``url`` apart.

    Raises :class:`BadInput` unless it is http or https with a host, and with nothing in it that
    could not go on a request line.
    """
    if not url.isascii() or any(c <= " " or c == "\x7f" for c in url):
        raise BadInput(f"{url!r} is no URL: it holds a space or something that is not ASCII")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadInput(f"{url!r} is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput(f"{url!r} is no URL to probe (say http://host:port/path)")
    if parts.username or parts.password:
        raise BadInput("a URL with a user name or password in it ends up in reports: leave it out")
    tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    wanted = port if port is not None else (443 if tls else 80)
    return Target(url, tls, parts.hostname, wanted, path, parts.netloc)


def addresses(target: Target) -> tuple[str, ...]:
    """All addresses of the target's name, in the resolver's order.

    Raises :class:`BadInput` when there are none. It blocks: not for the event loop.
    """
    try:
        found = socket.getaddrinfo(target.name, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadInput(f"{target.url}: no address for {target.name} ({reason})") from None
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
