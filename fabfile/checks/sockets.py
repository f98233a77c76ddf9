"""WebSockets that stay open and echo, until the service ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from fabfile.checks.events import SocketEnded
from fabfile.checks.http1 import Malformed, Response, request
from fabfile.checks.run import Run
from fabfile.checks.sample import Failure, Sample, identity
from fabfile.checks.target import Target, parse
from fabfile.checks.websocket import CLOSE, PING, TEXT, BadFrame, Frames, accept, frame, new_key
from fabfile.checks.wire import Door, Lost, OwnTrouble
from fabfile.errors import BadInput

_REOPEN_AFTER = 0.2
"""Seconds before another socket takes the place of one that ended."""

_GOODBYE = 1.0
"""Seconds the peer gets to answer our close frame."""


@dataclass(frozen=True)
class WebSocketLane:
    """One WebSocket to each URL, with an echo every ``every`` seconds.

    A handshake or an echo counts as a request. A socket that the service ends is noted as
    :class:`SocketEnded` and opened again: that is no failure, since no server can keep a socket
    for ever, but an echo that stays away while the socket is open is one.
    """

    urls: tuple[str, ...]
    """http:// or https://, as everywhere."""
    every: float = 1.0
    name: str = "websocket"
    timeout: float = 5.0
    slow_after: float = 1.0
    headers: Mapping[str, str] = field(default_factory=dict)
    gaps: bool = False

    def targets(self) -> tuple[Target, ...]:
        """The URLs, taken apart. Raises :class:`BadInput`."""
        if not self.urls or self.every <= 0 or self.timeout <= 0:
            raise BadInput(f"lane {self.name}: it needs a URL, an interval and a timeout")
        return tuple(parse(url) for url in self.urls)

    async def run(self, run: Run) -> None:
        """Keep one socket per URL open until the run stops."""
        await asyncio.gather(*(self._keep_open(run, target) for target in self.targets()))

    async def _keep_open(self, run: Run, target: Target) -> None:
        while not run.stopping and run.now() < run.end:
            await _Session(self, run, target).live()
            await run.sleep_until(min(run.now() + _REOPEN_AFTER, run.end))


class _Ended(Exception):
    """The socket is over."""

    def __init__(self, how: str, code: int | None = None, *, by_us: bool = False) -> None:
        super().__init__(how)
        self.how, self.code, self.by_us = how, code, by_us


class _Feed(asyncio.Protocol):
    """Hands on what the connection gives; an exception stands for its end."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.arrived: asyncio.Queue[bytes | _Ended] = asyncio.Queue()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.arrived.put_nowait(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.arrived.put_nowait(_Ended("reset" if exc else "closed without a close frame"))


class _Session:
    """One socket from handshake to end."""

    def __init__(self, lane: WebSocketLane, run: Run, target: Target) -> None:
        self._lane, self._run, self._target = lane, run, target
        self._door: Door = run.door(lane.name, target.url)
        self._feed = _Feed()
        self._frames = Frames()
        self._opened = 0.0
        self._count = 0
        self._version: str | None = None
        self._server: str | None = None
        self._closing: _Ended | None = None

    async def live(self) -> None:
        started = self._run.now()
        try:
            async with asyncio.timeout(self._lane.timeout):
                rest = await self._handshake()
        except (Lost, TimeoutError) as error:
            lost = error if isinstance(error, Lost) else Lost(Failure.READ_TIMEOUT, "no handshake")
            self._count_one(started, lost)
            return
        except OwnTrouble:
            self._run.tally.unsent(self._lane.name)
            return
        finally:
            if not self._opened:
                self._abort()
        self._count_one(started)
        try:
            await self._echo_on(rest)
        except _Ended as ended:
            self._note(ended)
        finally:
            self._abort()

    async def _handshake(self) -> bytes:
        await self._door.connect(lambda: self._feed)
        key = new_key()
        headers = {
            **self._lane.headers,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key,
        }
        target = self._target
        self._write(request(target.path, target.authority, headers, keep_alive=True))
        response = Response()
        while not response.complete:
            data = await self._feed.arrived.get()
            if isinstance(data, _Ended):
                raise Lost(Failure.RESET if data.how == "reset" else Failure.EOF, "no handshake")
            try:
                response.feed(data)
            except Malformed as error:
                raise Lost(Failure.OTHER, str(error)) from None
        self._check(response, key)
        self._opened = self._run.now()
        self._version, self._server = identity(response.headers, b"")
        return response.leftover

    def _check(self, response: Response, key: str) -> None:
        if response.status >= 500:
            raise Lost(Failure.HTTP_5XX, f"handshake: HTTP {response.status}")
        if response.status >= 400:
            raise Lost(Failure.HTTP_4XX, f"handshake: HTTP {response.status}")
        if response.status != 101 or response.headers.get("sec-websocket-accept") != accept(key):
            raise Lost(Failure.OTHER, f"handshake: HTTP {response.status}, no WebSocket")

    async def _echo_on(self, rest: bytes) -> None:
        """Echo until the end. Raises :class:`_Ended`, always."""
        if rest:
            self._feed.arrived.put_nowait(rest)
        while True:
            due = self._run.now() + self._lane.every
            await self._echo()
            await self._listen(min(due, self._run.end))
            if self._run.stopping or self._run.now() >= self._run.end:
                await self._say_goodbye()

    async def _echo(self) -> None:
        self._count += 1
        word = f"echo {self._count}"
        started = self._run.now()
        self._write(frame(TEXT, word.encode("ascii")))
        try:
            async with asyncio.timeout(self._lane.timeout):
                while not await self._heard(word):
                    pass
        except TimeoutError:
            detail = f"no echo within {self._lane.timeout:g} s"
            self._count_one(started, Lost(Failure.READ_TIMEOUT, detail))
            raise _Ended(detail) from None
        except _Ended as ended:
            raise _Ended(f"{ended.how}, an echo unanswered", ended.code) from None
        self._count_one(started)

    async def _listen(self, until: float) -> None:
        """Wait for the next echo's turn, while hearing what the peer says."""
        while not self._run.stopping and (left := until - self._run.now()) > 0:
            try:
                async with asyncio.timeout(min(left, 0.1)):
                    await self._heard("")
            except TimeoutError:
                continue

    async def _heard(self, word: str) -> bool:
        """Take what arrives next; whether ``word`` was in it. Raises :class:`_Ended`."""
        if self._closing is not None:
            raise self._closing
        data = await self._feed.arrived.get()
        if isinstance(data, _Ended):
            raise data
        found = False
        try:
            messages = self._frames.feed(data)
        except BadFrame as error:
            raise _Ended(str(error)) from None
        for message in messages:
            if message.opcode == CLOSE:
                self._write(frame(CLOSE, message.payload[:2]))
                self._closing = _Ended(f"close frame {message.close_code}", message.close_code)
                break
            if message.opcode == PING:
                self._write(frame(0xA, message.payload))
            found = found or (message.opcode == TEXT and word.encode("ascii") in message.payload)
        # The last echo may have come together with the close frame.
        if self._closing is not None and not found:
            raise self._closing
        return found

    async def _say_goodbye(self) -> None:
        self._write(frame(CLOSE, (1000).to_bytes(2)))
        try:
            async with asyncio.timeout(_GOODBYE):
                while True:
                    await self._heard("")
        except (_Ended, TimeoutError):
            raise _Ended("the run is over", 1000, by_us=True) from None

    def _write(self, data: bytes) -> None:
        if self._feed.transport is not None and not self._feed.transport.is_closing():
            self._feed.transport.write(data)

    def _abort(self) -> None:
        if self._feed.transport is not None:
            self._feed.transport.abort()

    def _count_one(self, started: float, lost: Lost | None = None) -> None:
        failure, detail = (lost.failure, lost.detail) if lost else (None, "")
        now = self._run.now()
        self._run.tally.add(
            Sample(
                self._lane.name,
                self._target.url,
                started,
                now,
                failure,
                detail,
                self._version,
                self._server,
            )
        )

    def _note(self, ended: _Ended) -> None:
        now = self._run.now()
        self._run.tally.socket_ended(
            SocketEnded(
                t=round(now, 3),
                lane=self._lane.name,
                url=self._target.url,
                server=self._server,
                lived=round(now - self._opened, 3),
                how=ended.how,
                code=ended.code,
                by_us=ended.by_us,
            )
        )
