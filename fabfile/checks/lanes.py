"""Kinds of traffic made of plain requests: fast, sticky, long, downloads."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fabfile.checks.http1 import Response, request
from fabfile.checks.run import Run
from fabfile.checks.sample import Failure, Sample, failure_of_status, identity
from fabfile.checks.schedule import LATE_AFTER, Schedule
from fabfile.checks.target import Target, parse
from fabfile.checks.wire import Lost, OwnTrouble, exchange
from fabfile.errors import BadInput

Connections = Literal["both", "kept", "fresh"]

KEPT = 4
"""Kept connections of one client to one URL, used in turn: one alone would test only itself."""


@dataclass(frozen=True)
class RequestLane:
    """GET requests on a fixed schedule, to the URLs in turn."""

    urls: tuple[str, ...]
    rate: float
    """Requests per second, all URLs together."""
    name: str = "fast"
    connections: Connections = "both"
    """``both``: every other request on a fresh connection, the rest on kept ones."""
    timeout: float = 5.0
    """Seconds for a whole request, connecting included."""
    slow_after: float = 1.0
    clients: int = 0
    """Each of so many clients keeps its own cookies and connections. 0: one, without cookies."""
    headers: Mapping[str, str] = field(default_factory=dict)
    gaps: bool = True

    def targets(self) -> tuple[Target, ...]:
        """The URLs, taken apart. Raises :class:`BadInput`."""
        if not self.urls:
            raise BadInput("no URL to probe")
        if self.rate <= 0 or self.timeout <= 0 or self.clients < 0:
            raise BadInput(f"lane {self.name}: rate and timeout must be above 0")
        return tuple(parse(url) for url in self.urls)

    async def run(self, run: Run) -> None:
        """Send on schedule, whatever comes back, until the run stops."""
        turns = _Turns(self, run)
        schedule = Schedule(self.rate, end=run.end)
        tasks: set[asyncio.Task[None]] = set()
        try:
            while (due := schedule.next_due) is not None and await run.sleep_until(due):
                for moment in schedule.take(run.now()):
                    task = asyncio.create_task(turns.one(moment))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
            run.tally.unsent(self.name, schedule.skipped)
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def check(self, response: Response) -> Lost | None:
        """What is wrong with a whole answer."""
        failure = failure_of_status(response.status)
        return Lost(failure, f"HTTP {response.status}") if failure else None


@dataclass(frozen=True)
class FastLane(RequestLane):
    """Many short requests."""

    rate: float = 50.0


@dataclass(frozen=True)
class StickyLane(RequestLane):
    """Clients that keep the cookies they are given."""

    rate: float = 20.0
    name: str = "sticky"
    clients: int = 10


@dataclass(frozen=True)
class LongLane(RequestLane):
    """Requests that take long by design (``/slow?s=20``): a drain has to wait for them."""

    rate: float = 1.0
    name: str = "long"
    connections: Connections = "fresh"
    timeout: float = 60.0
    slow_after: float = float("inf")
    gaps: bool = False


@dataclass(frozen=True)
class DownloadLane(RequestLane):
    """Downloads that must arrive whole."""

    rate: float = 0.2
    name: str = "download"
    connections: Connections = "fresh"
    timeout: float = 120.0
    slow_after: float = float("inf")
    gaps: bool = False
    expect_bytes: int | None = None
    """Length of the body. ``None``: the response has to say by itself where it ends."""

    def check(self, response: Response) -> Lost | None:
        """A good status and every byte."""
        wrong = super().check(response)
        if wrong is not None:
            return wrong
        if self.expect_bytes is not None and response.length != self.expect_bytes:
            got = f"{response.length} of {self.expect_bytes} bytes"
            return Lost(Failure.INCOMPLETE, got)
        if self.expect_bytes is None and not response.measured:
            return Lost(Failure.INCOMPLETE, "nothing says where the body ends, so it may be cut")
        return None


class _Turns:
    """Whose turn it is: URL, client and kind of connection change from request to request."""

    def __init__(self, lane: RequestLane, run: Run) -> None:
        self._lane = lane
        self._run = run
        self._targets = lane.targets()
        self._count = 0
        self._jars: dict[tuple[int, str], dict[str, str]] = {}

    async def one(self, due: float) -> None:
        """Send the request that was due at ``due`` and count what becomes of it."""
        lane, run = self._lane, self._run
        number = self._count
        self._count += 1
        rounds, which = divmod(number, len(self._targets))
        cycles, client = divmod(rounds, lane.clients or 1)
        keep = lane.connections == "kept" or (lane.connections == "both" and cycles % 2 == 1)
        if run.running.total() >= run.limit:
            run.tally.unsent(lane.name)
            return
        run.running[lane.name] += 1
        try:
            await self._send(self._targets[which], client, due, keep=keep)
        except OwnTrouble:
            run.tally.unsent(lane.name)
        finally:
            run.running[lane.name] -= 1

    async def _send(self, target: Target, client: int, due: float, *, keep: bool) -> None:
        lane, run = self._lane, self._run
        started = run.now()
        late = started - due > LATE_AFTER
        door = run.door(lane.name, target.url, client)
        jar = self._jars.setdefault((client, target.authority), {})
        headers = {**lane.headers, **_cookie_header(jar)}
        data = request(target.path, target.authority, headers, keep_alive=keep)
        version = server = None
        try:
            response = await exchange(door, data, keep=keep, spare=KEPT, timeout=lane.timeout)
        except Lost as lost:
            finished = run.now()
            wrong: Lost | None = lost
        else:
            finished = run.now()
            wrong = lane.check(response)
            version, server = identity(response.headers, bytes(response.body))
            if lane.clients:
                _take_cookies(jar, response.cookies)
        failure, detail = (wrong.failure, wrong.detail) if wrong else (None, "")
        if wrong is not None and server is not None:
            detail = f"{detail} from {server}"
        run.tally.add(
            Sample(lane.name, target.url, started, finished, failure, detail, version, server, late)
        )


def _cookie_header(jar: Mapping[str, str]) -> dict[str, str]:
    return {"Cookie": "; ".join(f"{k}={v}" for k, v in jar.items())} if jar else {}


def _take_cookies(jar: dict[str, str], cookies: list[str]) -> None:
    """Keep, change and forget cookies as told; paths and domains are not looked at."""
    for cookie in cookies:
        pair, *attributes = (part.strip() for part in cookie.split(";"))
        name, _, value = pair.partition("=")
        if not value or any(_expired(attribute) for attribute in attributes):
            jar.pop(name, None)
        else:
            jar[name] = value


def _expired(attribute: str) -> bool:
    key, _, value = attribute.lower().partition("=")
    # HAProxy deletes a cookie with a date in 1970 and Max-Age=0.
    return (key == "max-age" and value.lstrip("-").isdigit() and int(value) <= 0) or (
        key == "expires" and "1970" in value
    )
