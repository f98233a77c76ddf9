"""A rollout's event log, read back: who was where when, what stayed in rotation, what went wrong.

Whatever draws or sums up a rollout reads this and not the log. Times are seconds since 1970.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fabfile.balancers.model import WHOLE
from fabfile.errors import BadInput

Kind = Literal["wait", "drain", "recreate", "health", "return", "hook"]
KINDS: Mapping[str, Kind] = {
    "ask-capacity": "wait",
    "take-out": "drain",
    "await-idle": "drain",
    "shut": "drain",
    "cut": "drain",
    "recreate": "recreate",
    "await-healthy": "health",
    "admit": "return",
    "await-admitted": "return",
    "restore": "return",
    "hook": "hook",
}
"""What a person calls each step; a step that is not here takes no time worth showing."""
_CLOSED = re.compile(r"closed (\d+)")
OUT: frozenset[Kind] = frozenset({"drain", "recreate", "health", "return"})
"""While these last, an instance takes no new requests (pinned clients of a drain apart)."""


@dataclass(frozen=True)
class Span:
    """A stretch of an instance's way: several steps of one kind in a row are one."""

    instance: str
    kind: Kind
    start: float
    end: float
    ok: bool = True
    note: str = ""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.start


@dataclass(frozen=True)
class Mark:
    """A moment in which something failed or was worth a word."""

    at: float
    who: str
    text: str
    detail: str = ""


@dataclass(frozen=True)
class Counted:
    """One server as one balancer counted it; the names are ``balancers.model.COUNTED``."""

    balancer: str
    backend: str
    server: str
    figures: Mapping[str, int]
    resets: int = 0
    """How often the balancer's counters began anew meanwhile."""

    @property
    def whole(self) -> bool:
        """It is no server but the backend as a whole."""
        return self.server == WHOLE

    @property
    def odd(self) -> int:
        """How much of it is trouble."""
        return sum(count for name, count in self.figures.items() if name != "requests")


@dataclass
class Way:
    """What became of one instance."""

    instance: str
    spans: list[Span] = field(default_factory=list)
    fate: str = ""
    version: str = ""
    reason: str = ""

    @property
    def out(self) -> float:
        """Seconds for which it was out of rotation."""
        return sum(span.seconds for span in self.spans if span.kind in OUT)


@dataclass
class Story:
    """One rollout."""

    rollout: str = ""
    service: str = ""
    version: str = ""
    hosts: tuple[str, ...] = ()
    start: float = 0.0
    """The first event; before it nothing was looked at."""
    began: float = 0.0
    """The first batch may begin."""
    end: float = 0.0
    verdict: str = ""
    """Empty: its controller never came to its end."""
    reason: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    ways: dict[str, Way] = field(default_factory=dict)
    cut: int = 0
    """Requests closed at a drain's deadline."""
    batches: list[tuple[float, str]] = field(default_factory=list)
    """When each began, and what it is called."""
    capacity: dict[str, list[tuple[float, int, int]]] = field(default_factory=dict)
    """By pool: moment, weight left in rotation, weight that is 100%."""
    failures: list[Mark] = field(default_factory=list)
    notices: list[Mark] = field(default_factory=list)
    cuts: list[Mark] = field(default_factory=list)
    """Requests that were closed at a drain's deadline."""
    counted: list[Counted] = field(default_factory=list)
    """What each balancer counted of its servers meanwhile."""
    phases: list[tuple[str, float, str]] = field(default_factory=list)
    """What came before the first batch, with the seconds each took, and what it found."""

    @property
    def spans(self) -> list[Span]:
        """Of all instances."""
        return [span for way in self.ways.values() for span in way.spans]

    def lost(self) -> dict[str, float]:
        """By pool: seconds for which all of it was missing, or twice as long half of it."""
        return {name: self._lost(seen) for name, seen in self.capacity.items()}

    def _lost(self, seen: list[tuple[float, int, int]]) -> float:
        ends = [at for at, _, _ in seen[1:]] + [self.end]
        missing = (
            (at, end, 1 - left / total if total else 0.0)
            for (at, left, total), end in zip(seen, ends, strict=True)
        )
        return sum((end - at) * max(0.0, share) for at, end, share in missing)

    def lowest(self) -> dict[str, tuple[int, int]]:
        """By pool: the least weight that was ever left, and 100%."""
        return {
            name: min(((left, total) for _, left, total in seen), key=lambda one: one[0])
            for name, seen in self.capacity.items()
        }


def read(path: Path) -> Story:
    """Read the log at ``path``; a last line that was cut short is left out.

    Raises :class:`BadInput` for a file that can't be read or holds no rollout.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise BadInput(f"{path}: can't be read: {error}") from None
    events = []
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
        except ValueError:
            if number == len(lines):
                break
            raise BadInput(f"{path}:{number}: not an event log: {line[:40]!r}") from None
        if isinstance(event, dict) and "event" in event and "at" in event:
            events.append(event)
    if not events:
        raise BadInput(f"{path}: holds no events of a rollout")
    return tell(events)


def tell(events: Iterable[Mapping[str, Any]]) -> Story:
    """The story that ``events`` (as ``reports.console.JsonLines`` writes them) tell."""
    teller = Teller()
    for event in events:
        teller.take(event)
    return teller.finish()


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


class Teller:
    """Takes events in, one after the other, and keeps no more of them than the story needs."""

    def __init__(self) -> None:
        self.story = Story()
        self._open: dict[str, tuple[str, float]] = {}
        self._phase = 0.0

    def take(self, event: Mapping[str, Any]) -> None:
        """The next event, as ``tell`` reads them."""
        if self.story.verdict:
            return  # what is said after the end is about the report, or about nothing
        at = float(event["at"])
        self.story.start = self.story.start or at
        self.story.end = max(self.story.end, at)
        handle = getattr(self, f"_on_{_snake(str(event['event']))}", None)
        if handle is not None:
            handle(at, event)

    def finish(self) -> Story:
        """The story; nothing comes after it."""
        story = self.story
        for instance, (step, at) in self._open.items():
            # Its controller died in it, or stopped waiting for it.
            self._span(instance, step, at, story.end, ok=not story.verdict, note="no end of it")
        story.began = story.began or story.end
        return story

    def _way(self, instance: str) -> Way:
        return self.story.ways.setdefault(instance, Way(instance))

    def _span(
        self, instance: str, step: str, start: float, end: float, *, ok: bool, note: str
    ) -> None:
        kind = KINDS.get(step.split(":")[0])
        if kind is None:
            return
        spans = self._way(instance).spans
        last = spans[-1] if spans else None
        if last and last.kind == kind and last.ok and start - last.end < 0.5:
            note = "; ".join(filter(None, (last.note, note)))
            spans[-1] = Span(instance, kind, last.start, end, ok, note)
        else:
            spans.append(Span(instance, kind, start, end, ok, note))

    def _on_phase_started(self, at: float, _: Mapping[str, Any]) -> None:
        self._phase = at

    def _on_phase_finished(self, at: float, event: Mapping[str, Any]) -> None:
        note = str(event.get("note", ""))
        self.story.phases.append((str(event["phase"]), at - self._phase, note))

    def _on_rollout_started(self, at: float, event: Mapping[str, Any]) -> None:
        story = self.story
        story.rollout, story.service = str(event["rollout"]), str(event["service"])
        story.version, story.hosts = str(event["version"]), tuple(event["hosts"])
        story.began = at

    def _on_batch_started(self, at: float, event: Mapping[str, Any]) -> None:
        name = f"{'back ' if event['back'] else ''}{event['number']}/{event['of']}"
        self.story.batches.append((at, name))

    def _on_step_started(self, at: float, event: Mapping[str, Any]) -> None:
        self._open[event["instance"]] = (event["step"], at)

    def _on_step_finished(self, at: float, event: Mapping[str, Any]) -> None:
        instance, step, note = event["instance"], event["step"], event.get("note", "")
        begun = self._open.get(instance)
        if begun and begun[0] == step:
            del self._open[instance]
            self._span(instance, step, begun[1], at, ok=event["ok"], note=note)
        if not event["ok"]:
            mark = Mark(at, instance, f"{step}: {note}" if note else step, event.get("detail", ""))
            self.story.failures.append(mark)
        elif event.get("detail"):
            self.story.notices.append(Mark(at, instance, f"{step} {note}", event["detail"]))
        elif step == "cut":
            self.story.cuts.append(Mark(at, instance, note))
            self.story.cut += int(found[1]) if (found := _CLOSED.match(note)) else 0

    def _on_instance_finished(self, _: float, event: Mapping[str, Any]) -> None:
        way = self._way(event["instance"])
        way.fate, way.version = event["fate"], event["version"]
        way.reason = event.get("reason", "")

    def _on_capacity_left(self, at: float, event: Mapping[str, Any]) -> None:
        for name, left, total in event["pools"]:
            self.story.capacity.setdefault(name, []).append((at, left, total))

    _on_capacity_seen = _on_capacity_left

    def _on_capacity_awaited(self, at: float, event: Mapping[str, Any]) -> None:
        self.story.notices.append(Mark(at, event["instance"], f"waits: {event['reason']}"))

    def _on_servers_counted(self, _: float, event: Mapping[str, Any]) -> None:
        for server, figures in sorted(event["servers"].items()):
            one = Counted(event["balancer"], event["backend"], server, figures, event["resets"])
            self.story.counted.append(one)

    def _on_notice(self, at: float, event: Mapping[str, Any]) -> None:
        self.story.notices.append(Mark(at, event.get("host", ""), event["text"]))

    def _on_rollout_finished(self, at: float, event: Mapping[str, Any]) -> None:
        story = self.story
        story.end, story.verdict = at, event["verdict"]
        story.rollout, story.version = event["rollout"], event["version"]
        story.reason = event.get("reason", "")
        names = ("upgraded", "current", "restored", "untouched")
        story.counts = {name: event[name] for name in names}
        story.counts["broken"] = len(event["broken"])
