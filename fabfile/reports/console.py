"""Events as lines for a person, and as JSON lines for a machine."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TextIO

from fabfile.rollout import events as e

QUIET_STEPS = ("ask-capacity", "record", "take-out", "shut", "admit")
"""Steps that are worth a line only when they fail or have something to say."""


PATIENCE = 10.0
"""Seconds after which a step that is still at it is worth a line, and then again."""
TICK = 1.0
"""Seconds between two looks at who waits."""
MOST_WAITS = 8
"""Such lines at a time; of more waits the longest are told."""


class Console:
    """Plain lines, each with the seconds since the start in front.

    Only :meth:`tick` says that something goes on while nothing happens.
    """

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``stream``: stdout, where none is given."""
        self._stream = stream or sys.stdout
        self._clock = clock
        self._began = clock()
        self._began_at: dict[str, float] = {}
        self._waits = Waits()

    def __call__(self, event: e.Event) -> None:
        """Print ``event``, where it is worth a line."""
        self._waits.take(event, self._clock())
        self._print(self.lines(event))

    def tick(self) -> None:
        """Say who waits for what, where that takes its time."""
        self._print(self._waits.overdue(self._clock()))

    def _print(self, lines: Iterable[str]) -> None:
        for line in lines:
            text = f"{self._clock() - self._began:7.1f}s  {line}\n"
            coding = getattr(self._stream, "encoding", None) or "utf-8"
            _write(self._stream, text.encode(coding, "backslashreplace").decode(coding))

    def lines(self, event: e.Event) -> list[str]:
        """What ``event`` is worth."""
        match event:
            case e.StepStarted(instance, step):
                self._mark(instance, step)
                return []
            case e.StepFinished():
                return self._step(event)
            case e.InstanceFinished():
                return self._instance(event)
            case e.RolloutFinished():
                return self._finished(event)
        return self._one_line(event)

    @staticmethod
    def _one_line(event: e.Event) -> list[str]:
        match event:
            case e.PhaseFinished(phase, note):
                return [f"{phase}: {note}" if note else phase]
            case e.RolloutStarted(rollout, service, version, hosts, changing, total):
                what = f"{changing} of {total} instances on {', '.join(hosts)}"
                return [f"rollout {rollout}: {service} to {version}, {what}"]
            case e.BatchStarted(number, of, hosts, back):
                return [f"{'back, batch' if back else 'batch'} {number}/{of}: {', '.join(hosts)}"]
            case e.CapacityAwaited(instance, reason):
                return [f"{instance}  waits: {reason}"]
            case e.HookOutput(host, hook, text, instance):
                return [f"{instance or host}  {hook} | {text}"]
            case e.Notice(text, host):
                return [f"{host}: {text}" if host else text]
        return []

    def _mark(self, instance: str, step: str) -> None:
        """Remember when a step, and the whole way of an instance, began."""
        self._began_at[instance] = self._clock()
        if step == "take-out":
            self._began_at[f"out {instance}"] = self._clock()

    def _step(self, event: e.StepFinished) -> list[str]:
        if event.ok and not event.note and event.step in QUIET_STEPS:
            return []
        took = self._clock() - self._began_at.get(event.instance, self._began)
        text = f"{event.instance}  {event.step} {took:.2f}s"
        if not event.ok:
            text += " failed"
        if event.note:
            text += f": {event.note}"
        return [text, *(f"    | {line}" for line in event.detail.splitlines())]

    def _instance(self, event: e.InstanceFinished) -> list[str]:
        took = self._clock() - self._began_at.get(f"out {event.instance}", self._began)
        text = f"{event.instance}  {event.fate}: {event.version} after {took:.2f}s"
        return [text + (f" ({event.reason})" if event.reason else "")]

    def _finished(self, event: e.RolloutFinished) -> list[str]:
        lines = [f"{event.verdict}: {counted(event)}"]
        if event.reason:
            lines.append(f"because {event.reason}")
        if event.broken:
            lines.append(f"needs repair: {', '.join(event.broken)}")
        return lines


@dataclass
class _Wait:
    since: float
    step: str
    told: float
    text: str = ""


class Waits:
    """Steps that were begun and not ended, and what each still waits for."""

    def __init__(self) -> None:
        self._open: dict[str, _Wait] = {}

    def take(self, event: e.Event, now: float) -> None:
        """Something happened ``now``."""
        match event:
            case e.StepStarted(instance, step):
                self._open[instance] = _Wait(now, step, now)
            case e.PhaseStarted(phase):
                self._open[phase] = _Wait(now, "", now)
            case e.StepProgress(instance, _, text) | e.CapacityAwaited(instance, text):
                if instance in self._open:
                    self._open[instance].text = text
            case e.StepFinished(name) | e.PhaseFinished(name) | e.InstanceFinished(name):
                self._open.pop(name, None)
            case e.RolloutStarted() | e.RolloutFinished():
                self._open.clear()

    def overdue(self, now: float) -> list[str]:
        """A line for each that has been silent for :data:`PATIENCE`, the longest wait first."""
        late = [(name, one) for name, one in self._open.items() if now - one.told >= PATIENCE]
        late.sort(key=lambda found: found[1].since)
        for _, one in late:
            one.told = now
        lines = []
        for name, one in late[:MOST_WAITS]:
            what = f"{name}  {one.step} still waits" if one.step else f"{name} still goes on"
            text = f": {one.text}" if one.text else ""
            lines.append(f"{what} after {now - one.since:.0f}s{text}")
        if len(late) > MOST_WAITS:
            lines.append(f"and {len(late) - MOST_WAITS} more wait")
        return lines


class Writable(Protocol):
    """What lines are written to."""

    def write(self, text: str, /) -> int:
        """All of ``text``."""
        ...

    def flush(self) -> None:
        """Now."""
        ...


def counted(event: e.RolloutFinished) -> str:
    """What became of the instances: ``8 upgraded, 1 already there``."""
    counts = {
        "upgraded": event.upgraded,
        "already there": event.current,
        "put back": event.restored,
        "untouched": event.untouched,
        "out of rotation": len(event.broken),
    }
    said = ", ".join(f"{number} {word}" for word, number in counts.items() if number)
    return said or "nothing to do"


class JsonLines:
    """One JSON object a line: ``event``, ``at`` (seconds since 1970) and the event's fields."""

    def __init__(
        self, stream: Writable | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """``stream``: stdout, where none is given."""
        self._stream = stream or sys.stdout
        self._clock = clock

    def __call__(self, event: e.Event) -> None:
        """Write ``event``."""
        _write(self._stream, as_json(event, self._clock()) + "\n")


def _write(stream: Writable, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        if stream is sys.stdout:
            # What is left in its buffer must not fail again when the program ends: that failure's
            # exit code would take the place of ours.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise


def as_json(event: e.Event, at: float) -> str:
    """``event`` on one line."""
    return json.dumps(as_facts(event, at))


def as_facts(event: e.Event, at: float) -> dict[str, Any]:
    """``event`` as plain data."""
    return {"event": type(event).__name__, "at": round(at, 3), **asdict(event)}


def _nothing() -> None:
    """What most receivers do as time goes by."""


class Tee:
    """Every event to each of several receivers, from whatever thread it comes.

    A receiver that breaks (``| head``, a full disk) gets no more events: a rollout must not stop
    half-way because nobody can be told of it.
    """

    def __init__(self, *receivers: Callable[[e.Event], None]) -> None:
        self._receivers = list(receivers)
        self._lock = threading.Lock()

    def __call__(self, event: e.Event) -> None:
        """Pass ``event`` on."""
        with self._lock:
            for receiver in list(self._receivers):
                try:
                    receiver(event)
                except Exception as error:
                    self._receivers.remove(receiver)
                    self._lost(error)

    def tick(self) -> None:
        """Let those who want it know that time goes by."""
        with self._lock:
            for receiver in list(self._receivers):
                try:
                    getattr(receiver, "tick", _nothing)()
                except Exception as error:
                    self._receivers.remove(receiver)
                    self._lost(error)

    def _lost(self, error: Exception) -> None:
        text = f"no more events here: {type(error).__name__}: {error}"
        for receiver in self._receivers:
            with contextlib.suppress(Exception):
                receiver(e.Notice(text))


def wanted(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal that a live view can be drawn on."""
    try:
        return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
    except (ValueError, OSError):
        return False


@contextmanager
def ticking(tick: Callable[[], None]) -> Iterator[None]:
    """Call ``tick`` every second, from a thread of its own."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(TICK):
            tick()

    threading.Thread(target=go_on, name="tick", daemon=True).start()
    try:
        yield
    finally:
        over.set()
