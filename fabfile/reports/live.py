"""Where a rollout stands at this moment, kept up to date event by event; ``live_view`` draws it.

Times are seconds since 1970, so that a log can be fed as well as what happens now.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from fabfile.reports.story import KINDS
from fabfile.rollout import events as e

State = Literal["to come", "at work", "done", "failed"]
WORDS = {"ask-capacity": "waits", "at-work": "at work"}
"""What a step is called here, where its kind in ``story.KINDS`` does not say it well."""
WENT_WELL = ("upgraded", "current", "through")
"""Fates that are nobody's failure; ``through`` is what a host's records say of a done one."""


@dataclass
class Piece:
    """One instance."""

    host: str
    name: str
    state: State = "to come"
    step: str = ""
    since: float = 0.0
    """When its step began."""
    text: str = ""
    """What it waits for."""
    sessions: int = -1
    limit: float = 0.0
    version: str = ""
    fate: str = ""

    @property
    def kind(self) -> str:
        """Its step, in a person's words."""
        return WORDS.get(self.step) or KINDS.get(self.step) or self.step


@dataclass
class Row:
    """One host."""

    name: str
    pieces: list[Piece] = field(default_factory=list)

    @property
    def at_work(self) -> list[Piece]:
        """Its instances that something is being done to, the longest first."""
        return sorted((p for p in self.pieces if p.state == "at work"), key=lambda p: p.since)

    @property
    def through(self) -> int:
        """How many are done or have failed."""
        return sum(piece.state in ("done", "failed") for piece in self.pieces)

    @property
    def state(self) -> State:
        """The worst of its instances, in a manner of speaking: who works is at work."""
        if self.at_work:
            return "at work"
        if any(piece.state == "failed" for piece in self.pieces):
            return "failed"
        return "done" if self.pieces and self.through == len(self.pieces) else "to come"


@dataclass
class Level:
    """What a pool of servers has in rotation."""

    left: int
    lowest: int
    total: int

    @staticmethod
    def share(weight: int, total: int) -> int:
        """In percent; of nothing all is there."""
        return 100 * weight // total if total else 100


@dataclass
class Live:
    """One rollout on its way."""

    rollout: str = ""
    service: str = ""
    version: str = ""
    began: float = 0.0
    batch: tuple[int, int] = (0, 0)
    back: bool = False
    now_in: tuple[str, ...] = ()
    """The hosts of the batch."""
    phase: str = ""
    phase_since: float = 0.0
    rows: dict[str, Row] = field(default_factory=dict)
    levels: dict[str, Level] = field(default_factory=dict)
    verdict: str = ""
    alive: str = ""
    """Who does it and when that was last heard of, where it is watched from elsewhere."""
    total: int = 0
    """Instances that change, where they are not known by name."""

    @property
    def pieces(self) -> Iterator[Piece]:
        """All instances."""
        return (piece for row in self.rows.values() for piece in row.pieces)

    @property
    def done(self) -> int:
        """Instances that are through."""
        return sum(row.through for row in self.rows.values())

    @property
    def changing(self) -> int:
        """Instances that something is to be done for."""
        return max(self.total, sum(len(row.pieces) for row in self.rows.values()))

    def take(self, event: e.Event, at: float) -> None:
        """``event`` happened ``at``."""
        self.began = self.began or at
        match event:
            case e.PhaseStarted(phase):
                self.phase, self.phase_since = phase, at
            case e.PhaseFinished():
                self.phase = ""
            case e.RolloutStarted():
                self._started(event)
            case e.BatchStarted(number, of, hosts, back):
                self._batch(number, of, hosts, back=back)
            case e.CapacityLeft(_, pools) | e.CapacitySeen(pools):
                self._levels(pools)
            case e.RolloutFinished(rollout, verdict, version):
                self.rollout, self.verdict, self.version = rollout, verdict, version
            case _:
                self._of_one(event, at)

    def _of_one(self, event: e.Event, at: float) -> None:
        """What concerns one instance."""
        match event:
            case e.StepStarted(instance, step):
                piece = self._piece(instance)
                piece.state, piece.step, piece.since = "at work", step, at
                piece.text, piece.sessions, piece.limit = "", -1, 0.0
            case e.StepProgress(instance, _, text, sessions, limit):
                piece = self._piece(instance)
                piece.text, piece.sessions, piece.limit = text, sessions, limit
            case e.CapacityAwaited(instance, reason):
                self._piece(instance).text = reason
            case e.InstanceFinished(instance, fate, version, reason):
                piece = self._piece(instance)
                well = fate in WENT_WELL or (self.back and fate != "broken")
                piece.state = "done" if well else "failed"
                piece.fate, piece.version, piece.text = fate, version, reason

    def _started(self, event: e.RolloutStarted) -> None:
        self.rollout, self.service, self.version = event.rollout, event.service, event.version
        self.phase, self.total = "", event.changing
        self.rows = {host: Row(host) for host in event.hosts}
        for instance in event.instances:
            self._piece(instance)

    def _batch(self, number: int, of: int, hosts: tuple[str, ...], *, back: bool) -> None:
        self.batch, self.now_in = (number, of), hosts
        if back and not self.back:
            for piece in self.pieces:  # what was upgraded has its way back before it
                if piece.fate == "upgraded":
                    piece.state = "to come"
        self.back = back

    def _piece(self, instance: str) -> Piece:
        host, _, name = instance.rpartition("/")
        row = self.rows.setdefault(host, Row(host))
        for piece in row.pieces:
            if piece.name == name:
                return piece
        row.pieces.append(Piece(host, name))
        return row.pieces[-1]

    def _levels(self, pools: tuple[tuple[str, int, int], ...]) -> None:
        for name, left, total in pools:
            known = self.levels.get(name)
            lowest = min(left, known.lowest) if known else left
            self.levels[name] = Level(left, lowest, total)

    def facts(self, now: float) -> dict[str, Any]:
        """The same for a machine."""
        return {
            "rollout": self.rollout,
            "service": self.service,
            "version": self.version,
            "verdict": self.verdict or "running",
            "seconds": round(max(now - self.began, 0.0), 1),
            "batch": self.batch[0],
            "batches": self.batch[1],
            "back": self.back,
            "phase": self.phase,
            "alive": self.alive,
            "done": self.done,
            "changing": self.changing,
            "capacity": {name: asdict(level) for name, level in self.levels.items()},
            "instances": [self._fact(piece, now) for piece in self.pieces],
        }

    @staticmethod
    def _fact(piece: Piece, now: float) -> dict[str, Any]:
        at_work = piece.state == "at work"
        return {
            "instance": f"{piece.host}/{piece.name}",
            "state": piece.state,
            "step": piece.step if at_work else "",
            "seconds": round(now - piece.since, 1) if at_work else None,
            "sessions": piece.sessions if at_work and piece.sessions >= 0 else None,
            "text": piece.text,
            "version": piece.version,
        }
