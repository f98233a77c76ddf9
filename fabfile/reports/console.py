"""Events as lines for a person, and as JSON lines for a machine."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TextIO

from fabfile.rollout import events as e

QUIET_STEPS = ("ask-capacity", "record", "take-out", "shut", "admit")
"""Steps that are worth a line only when they fail or have something to say."""


class Console:
    """Plain lines, each with the seconds since the start in front."""

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``stream``: stdout, where none is given."""
        self._stream = stream or sys.stdout
        self._clock = clock
        self._began = clock()
        self._began_at: dict[str, float] = {}

    def __call__(self, event: e.Event) -> None:
        """Print ``event``, where it is worth a line."""
        for line in self._lines(event):
            text = f"{self._clock() - self._began:7.1f}s  {line}\n"
            coding = getattr(self._stream, "encoding", None) or "utf-8"
            _write(self._stream, text.encode(coding, "backslashreplace").decode(coding))

    def _lines(self, event: e.Event) -> list[str]:
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
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """``stream``: stdout, where none is given."""
        self._stream = stream or sys.stdout
        self._clock = clock

    def __call__(self, event: e.Event) -> None:
        """Write ``event``."""
        _write(self._stream, as_json(event, self._clock()) + "\n")


def _write(stream: TextIO, text: str) -> None:
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

    def _lost(self, error: Exception) -> None:
        text = f"no more events here: {type(error).__name__}: {error}"
        for receiver in self._receivers:
            with contextlib.suppress(Exception):
                receiver(e.Notice(text))
