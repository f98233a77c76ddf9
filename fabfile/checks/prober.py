"""An open-loop prober: lanes of traffic on one event loop in a thread of its own.

It was measured against http.client in a thread pool (300 requests/s, every other one on a fresh
connection, a small local server): both take a tenth of one core, requests takes a quarter. The
event loop won because thousands of requests can be under way without a thread each: with a
bounded pool a service that hangs soon stops the schedule that is meant to show it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from fabfile.checks import target as targets
from fabfile.checks.events import Began, Event, Second
from fabfile.checks.run import Lane, Run, max_running
from fabfile.checks.summary import Summary
from fabfile.checks.tally import LaneTraits, Tally
from fabfile.errors import BadInput, EvenkeelError

STEADY_SECONDS = 3
"""Whole seconds in which nothing but the wanted version answered, before a run may end on it."""


class Probe:
    """One run of several lanes. ``with Probe([...]) as probe: ...`` starts and stops it."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        *,
        duration: float | None = None,
        expect_version: str | None = None,
        until_version: str | None = None,
    ) -> None:
        """``duration`` in seconds; ``None``: until :meth:`stop`.

        ``expect_version`` is what every server has to answer with at the end;
        ``until_version`` is the same and also ends the run once that is so.
        """
        names = [lane.name for lane in lanes]
        if not lanes or len(set(names)) != len(names):
            raise BadInput(f"lanes need names of their own, and there must be one: {names}")
        self._lanes = tuple(lanes)
        self._duration = duration
        self._expect = until_version or expect_version
        self._until = until_version
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._finished = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._run: Run | None = None
        self._summary: Summary | None = None
        self._error: BaseException | None = None

    def start(self) -> None:
        """Look all names up and begin. Raises :class:`BadInput` for a URL that cannot work."""
        if self._thread is not None:
            raise EvenkeelError("this probe ran already")
        found = {t.url: targets.addresses(t) for lane in self._lanes for t in lane.targets()}
        self._thread = threading.Thread(
            target=self._work, args=(found,), name="prober", daemon=True
        )
        self._thread.start()
        self._ready.wait()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the run's own end (seconds); ``False`` when it is not there yet."""
        return self._finished.wait(timeout)

    def ask_stop(self) -> None:
        """Send nothing more; do not wait for what is under way."""
        self._call(lambda run: run.stop())

    def give_up(self) -> None:
        """End what is under way; it is not counted."""
        self._call(lambda _: self._main.cancel() if self._main else None)

    def stop(self, *, at_once: bool = False) -> Summary:
        """Send nothing more, wait for what is under way (or give it up), and sum up."""
        self.ask_stop()
        if at_once:
            self.give_up()
        self._finished.wait()
        return self.summary()

    def summary(self) -> Summary:
        """The figures: final ones after the run, else those of now."""
        if self._error is not None:
            raise EvenkeelError(f"the prober broke: {self._error!r}") from self._error
        if self._summary is None:
            if self._loop is None or self._run is None:
                raise EvenkeelError("this probe has not been started")
            try:
                coroutine = self._snapshot(self._run)
                return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)
            except (RuntimeError, TimeoutError):
                coroutine.close()
                self._finished.wait()
                return self.summary()
        return self._summary

    def drain(self) -> list[Event]:
        """The events since the last call, oldest first."""
        taken = []
        while not self._events.empty():
            taken.append(self._events.get_nowait())
        return taken

    def __enter__(self) -> Probe:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop(at_once=error is not None)

    def _call(self, what: Callable[[Run], object]) -> None:
        run, loop = self._run, self._loop
        if run is None or loop is None or self._finished.is_set():
            return
        try:
            loop.call_soon_threadsafe(what, run)
        except RuntimeError:
            return  # the loop closed in between: the run is over, which is what was asked for

    async def _snapshot(self, run: Run) -> Summary:
        return run.tally.freeze(run.now())

    def _work(self, addresses: dict[str, tuple[str, ...]]) -> None:
        try:
            asyncio.run(self._drive(addresses))
        except BaseException as error:
            self._error = error
        finally:
            self._finished.set()
            self._ready.set()

    async def _drive(self, addresses: dict[str, tuple[str, ...]]) -> None:
        traits = [LaneTraits(lane.name, lane.slow_after, lane.gaps) for lane in self._lanes]
        tally = Tally(traits, self._events.put)
        end = float("inf") if self._duration is None else self._duration
        run = Run(tally, end, max_running(), addresses)
        self._loop, self._run = asyncio.get_running_loop(), run
        run.begin()
        self._events.put(Began(0.0, round(time.time(), 3), tuple(t.name for t in traits)))
        self._main = asyncio.create_task(self._all_lanes(run))
        self._ready.set()
        ticker = asyncio.create_task(self._tick(run))
        await asyncio.wait([self._main])
        ticker.cancel()
        await asyncio.wait([ticker])
        await run.close()
        if not self._main.cancelled() and (error := self._main.exception()):
            raise error
        self._finish(run)

    async def _all_lanes(self, run: Run) -> None:
        async with asyncio.TaskGroup() as group:
            for lane in self._lanes:
                group.create_task(lane.run(run))

    async def _tick(self, run: Run) -> None:
        second = steady = 0
        try:
            while True:
                await asyncio.sleep(second + 1 - run.now())
                closed = run.tally.close_second(second, dict(run.running))
                second += 1
                steady = steady + 1 if self._only_wanted(list(closed.values())) else 0
                if steady >= STEADY_SECONDS:
                    run.stop()
        finally:
            run.tally.close_second(second, dict(run.running))

    def _only_wanted(self, closed: list[Second]) -> bool:
        short = {lane.name for lane in self._lanes if lane.gaps}
        seconds = [second for second in closed if second.lane in short]
        seen = {version for second in seconds for version in second.versions}
        failed = any(second.failures for second in seconds)
        return self._until is not None and seen == {self._until} and not failed

    def _finish(self, run: Run) -> None:
        sent_until = run.end if run.stopped_at is None else run.stopped_at
        seen = True
        if self._expect is not None:
            seen = run.tally.check_version(self._expect, sent_until)
        summary = run.tally.freeze(sent_until, self._expect)
        self._summary = Summary(summary.overall, summary.lanes, self._expect, seen)
