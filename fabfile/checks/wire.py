"""Connections, and one request on one of them. Nothing here ever sends a request twice."""

from __future__ import annotations

import asyncio
import errno
import functools
import select
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from fabfile.checks import target as targets
from fabfile.checks.http1 import Malformed, Response
from fabfile.checks.sample import Failure
from fabfile.checks.target import Target
from fabfile.errors import BadInput

_OURS = {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM}

_RESOLVE_EVERY = 5.0
"""Seconds after which a name is looked up again, so that a switch by DNS is followed."""


class OwnTrouble(Exception):
    """This machine ran out of something (files, ports): no word about the service."""


class Lost(Exception):
    """The request failed on its way."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, with at most one request under way."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.requests = 0
        """Requests sent on it so far."""
        self._open = True
        self._response: Response | None = None
        self._done: asyncio.Future[Response] | None = None

    async def ask(self, request: bytes) -> Response:
        """Send ``request`` and wait for all of its answer. Raises :class:`Lost`."""
        if self.transport is None or not self._open:
            raise Lost(Failure.EOF, "the connection was closed at once")
        self._response = Response()
        self._done = asyncio.get_running_loop().create_future()
        self.requests += 1
        self.transport.write(request)
        try:
            return await self._done
        finally:
            self._done = None

    @property
    def reusable(self) -> bool:
        """Another request may go out on it: the last answer ended well and nothing came since.

        Looking at the socket itself counts too: the server may have closed it a moment ago,
        and the event loop does not know yet.
        """
        if not self._open or self.transport is None or self.transport.is_closing():
            return False
        poller = select.poll()
        poller.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poller.poll(0)

    @property
    def progress(self) -> Response | None:
        """What has come of the last answer so far."""
        return self._response

    def close(self) -> None:
        """Close it now, whatever is under way."""
        self._open = False
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: it is open."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Asyncio: bytes came."""
        if self._done is None or self._done.done() or self._response is None:
            self._open = False  # an answer nobody asked for
            return
        try:
            self._response.feed(data)
        except Malformed as error:
            self._fail(Lost(Failure.OTHER, str(error)))
        else:
            self._finish()

    def eof_received(self) -> None:
        """Asyncio: the server sends no more."""
        self._open = False
        if self._response is not None:
            self._response.closed()
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio: it is gone."""
        self._open = False
        self._fail(_loss(exc, self._response, self.requests))

    def _finish(self) -> None:
        response = self._response
        if response is None or not response.complete or self._done is None or self._done.done():
            return
        if not response.keep_alive or response.leftover:
            self._open = False
        self._done.set_result(response)

    def _fail(self, lost: Lost) -> None:
        self._open = False
        if self._done is not None and not self._done.done():
            self._done.set_exception(lost)


def _loss(exc: Exception | None, response: Response | None, requests: int) -> Lost:
    which = "" if requests <= 1 else f", as request {requests} of a kept connection"
    if response is not None and response.status:
        how = "reset" if isinstance(exc, OSError) else "closed"
        return Lost(Failure.INCOMPLETE, f"{how} after {response.length} bytes of the body{which}")
    if isinstance(exc, ConnectionResetError | BrokenPipeError):
        return Lost(Failure.RESET, f"reset before an answer{which}")
    if exc is not None:
        return Lost(Failure.OTHER, f"{exc}{which}")
    half = " in the middle of the headers" if response is not None and response.started else ""
    return Lost(Failure.EOF, f"closed without an answer{half}{which}")


@dataclass
class Door:
    """Opens connections to one target, and keeps idle ones."""

    target: Target
    addresses: tuple[str, ...]
    """What the target's name stands for, as looked up a moment ago."""
    _resolved: float = field(default_factory=time.monotonic)
    _resolving: asyncio.Task[None] | None = None
    _idle: deque[Connection] = field(default_factory=deque)
    _kept: set[Connection] = field(default_factory=set)

    async def connect(self, factory: Callable[[], asyncio.Protocol]) -> asyncio.BaseProtocol:
        """A new connection, from the first address that takes one.

        Raises :class:`Lost` or :class:`OwnTrouble`.
        """
        self._refresh()
        error: Exception = Lost(Failure.OTHER, f"no address for {self.target.name}")
        loop = asyncio.get_running_loop()
        tls, name = (_tls(), self.target.name) if self.target.tls else (None, None)
        for address in self.addresses:
            try:
                _, protocol = await loop.create_connection(
                    factory, address, self.target.port, ssl=tls, server_hostname=name
                )
            except OSError as caught:
                error = _refusal(caught)
            else:
                return protocol
        raise error

    def idle(self) -> Connection | None:
        """The kept connection that has been idle longest; those the server closed are dropped."""
        while self._idle:
            connection = self._idle.popleft()
            if connection.reusable:
                return connection
            self.drop(connection)
        return None

    @property
    def kept(self) -> int:
        """Kept connections, idle or busy."""
        return len(self._kept)

    def adopt(self, connection: Connection) -> None:
        """Count a new connection among the kept ones, busy at first."""
        self._kept.add(connection)

    def keep(self, connection: Connection) -> None:
        """Put a connection back."""
        self._idle.append(connection)

    def drop(self, connection: Connection) -> None:
        """Close a connection that is not idle."""
        self._kept.discard(connection)
        connection.close()

    async def close(self) -> None:
        """Close what is idle and end a look-up under way."""
        while self._idle:
            self._idle.popleft().close()
        if self._resolving is not None:
            self._resolving.cancel()
            await asyncio.gather(self._resolving, return_exceptions=True)

    def _refresh(self) -> None:
        literal = self.addresses == (self.target.name,)
        if literal or time.monotonic() - self._resolved < _RESOLVE_EVERY:
            return
        self._resolved = time.monotonic()
        self._resolving = asyncio.create_task(self._resolve())

    async def _resolve(self) -> None:
        try:
            self.addresses = await asyncio.to_thread(targets.addresses, self.target)
        except BadInput:
            # The name service failed for a moment; the addresses known so far are better.
            return


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _refusal(error: OSError) -> Exception:
    if error.errno in _OURS:
        return OwnTrouble(str(error.strerror))
    if isinstance(error, ConnectionRefusedError):
        return Lost(Failure.REFUSED, "connection refused")
    if isinstance(error, ConnectionResetError):
        return Lost(Failure.RESET, "reset while connecting")
    if isinstance(error, ssl.SSLError):
        return Lost(Failure.OTHER, f"TLS: {error.reason or error}")
    if error.errno == errno.ETIMEDOUT:
        return Lost(Failure.CONNECT_TIMEOUT, "nobody took the connection")
    return Lost(Failure.OTHER, error.strerror or str(error))


async def exchange(
    door: Door, request: bytes, *, keep: bool, spare: int, timeout: float
) -> Response:
    """One request, sent once; ``timeout`` in seconds is for all of it.

    With ``keep`` it goes out on an idle kept connection once there are ``spare`` of them (until
    then each such request opens another). Raises :class:`Lost` and :class:`OwnTrouble`.
    """
    connection: Connection | None = None
    try:
        async with asyncio.timeout(timeout):
            if keep and door.kept >= spare:
                connection = door.idle()
            if connection is None:
                made = await door.connect(Connection)
                assert isinstance(made, Connection)
                connection = made
                if keep:
                    door.adopt(connection)
            response = await connection.ask(request)
    except TimeoutError:
        if connection is not None:
            door.drop(connection)
        raise _too_late(connection, timeout) from None
    except BaseException:
        if connection is not None:
            door.drop(connection)
        raise
    if keep and connection.reusable:
        door.keep(connection)
    else:
        door.drop(connection)
    return response


def _too_late(connection: Connection | None, timeout: float) -> Lost:
    if connection is None:
        return Lost(Failure.CONNECT_TIMEOUT, f"not connected within {timeout:g} s")
    progress = connection.progress
    if progress is not None and progress.status:
        return Lost(
            Failure.READ_TIMEOUT, f"{progress.length} bytes of the body within {timeout:g} s"
        )
    return Lost(Failure.READ_TIMEOUT, f"no answer within {timeout:g} s")
