"""The steps a lane asks for, and what it is told about each.

A lane is a generator: it yields a :class:`Step`, a driver carries it out, and the lane is sent an
:class:`Outcome`. Durations are seconds. Nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from fabfile.balancers.model import ServerRef
from fabfile.rollout.capacity import Readings
from fabfile.rollout.plan import Release, Target

Progress = Literal["ahead", "undo", "done", "restored"]
"""ahead: before its turn; its servers' records mean nothing until :class:`TakeOut` opens them."""
HookName = Literal["before_rollout", "before_drain", "after_healthy", "after_rollout"]


@cache
def _dashed(word: str) -> str:
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in word).lstrip("-")


@dataclass(frozen=True, slots=True)
class Step:
    """Something to be done for one instance."""

    target: Target

    @property
    def name(self) -> str:
        """How it is called in events: ``await-idle``."""
        return _dashed(type(self).__name__)


@dataclass(frozen=True, slots=True)
class Record(Step):
    """Write down, durably and on the hosts it concerns, how far the instance is."""

    progress: Progress


@dataclass(frozen=True, slots=True)
class AskCapacity(Step):
    """May its servers leave rotation? The engine itself answers, from a fresh reading."""


@dataclass(frozen=True, slots=True)
class TakeOut(Step):
    """No new requests: weight 0 or state drain on every balancer, read back.

    A server that is in maint already stays in maint: drain would let pinned clients in.
    """

    maint: bool = False
    """And maint, or parked (drain, with checks that fail), in the same order: nobody is pinned, or
    has a grace."""
    opens: bool = False
    """Its records were written ahead, and count from the moment before this is ordered."""


@dataclass(frozen=True, slots=True)
class AwaitIdle(Step):
    """Wait until nothing is in flight on any balancer, old processes after a reload included.

    Idle is nothing running and nothing queued in two reads between which no session was added.
    Answered by :class:`Idle`, :class:`Busy` or :class:`Reverted`.
    """

    deadline: float
    maint: bool
    """The state the balancers must still show: maint or parked, or merely drained."""


@dataclass(frozen=True, slots=True)
class Shut(Step):
    """Maint on every balancer: pinned clients go elsewhere, what runs may finish."""


@dataclass(frozen=True, slots=True)
class Cut(Step):
    """Close what is still open on its servers, and say whose it was."""


@dataclass(frozen=True, slots=True)
class Recreate(Step):
    """Put ``release`` in place of the container and start it."""

    release: Release


@dataclass(frozen=True, slots=True)
class AwaitHealthy(Step):
    """Wait until the container runs ``release`` and answers its health check steadily."""

    release: Release


@dataclass(frozen=True, slots=True)
class ReadLogs(Step):
    """Fetch the container's last log lines, for a person: ``detail`` of what comes back."""


@dataclass(frozen=True, slots=True)
class Admit(Step):
    """Recorded weight and state back; the balancers' own fresh checks let it in."""


@dataclass(frozen=True, slots=True)
class AwaitAdmitted(Step):
    """Wait until every balancer shows the recorded weight and state, and the server up.

    Answered by :class:`Admitted` then, by :class:`Reverted`, or by :class:`Failed`.
    """

    deadline: float


@dataclass(frozen=True, slots=True)
class Restore(Step):
    """Recorded weight and state back, for an instance whose container never stopped: at once, and
    where it was parked, as soon as its checks pass."""


@dataclass(frozen=True, slots=True)
class Hook(Step):
    """Run the service's own command of that name for this instance, on its host.

    Never done again when nobody knows how it ended: that has failed.
    """

    hook: HookName

    @property
    def name(self) -> str:
        """As hosts.yaml has it: ``before_drain``."""
        return self.hook


@dataclass(frozen=True, slots=True)
class Observe:
    """Read every backend; not before ``after`` seconds have passed."""

    after: float = 0.0
    name: str = "observe"


@dataclass(frozen=True, slots=True)
class Pause:
    """Let ``seconds`` go by between two batches."""

    seconds: float
    name: str = "pause"


@dataclass(frozen=True, slots=True)
class Done:
    """It is done, and was read back where it can be. ``detail`` is for a person."""

    note: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Idle(Done):
    """Nothing is in flight. ``waited`` seconds went into it."""

    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class Admitted(Done):
    """It takes requests: ``waited`` seconds went into that, and ``readings`` show it."""

    waited: float = 0.0
    readings: Readings = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Busy:
    """The deadline passed with ``sessions`` still in flight."""

    sessions: Mapping[ServerRef, int] = field(default_factory=dict)
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class Reverted:
    """A balancer no longer shows what was ordered: reloaded, restarted or changed by somebody."""

    balancers: tuple[str, ...]
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class Failed:
    """It did not work. ``detail`` is for a person: the last lines of a log."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """No capacity is granted, and waiting any longer is pointless."""

    reason: str


@dataclass(frozen=True, slots=True)
class Seen:
    """The answer to :class:`Observe`; a balancer that could not be asked is missing."""

    readings: Readings
    partial: bool = False
    """Only the servers that may have changed since the last Seen are in it; all the rest, silent
    balancers included, is as it was. A driver that can tell saves counting a large fleet."""


Outcome = Done | Busy | Reverted | Failed | Refused | Seen
Work = Step | Observe | Pause


def told(outcome: Outcome) -> tuple[str, str]:
    """``outcome`` for a person: one line, empty when there is nothing to add, and detail."""
    match outcome:
        case Failed(reason, detail):
            return reason, detail
        case Refused(reason):
            return reason, ""
        case Busy(sessions):
            return f"{sum(sessions.values())} still in flight", ""
        case Reverted(balancers):
            return "undone on " + ", ".join(balancers), ""
        case Done(note, detail):
            return note, detail
        case _:
            return "", ""


Fate = Literal["current", "upgraded", "restored", "untouched", "broken"]
"""How an instance ended.

current: nothing to do · upgraded: on the wanted release, in rotation · restored: something
failed, on its earlier release, in rotation · untouched: never out of rotation · broken: none of
these, and recorded: out of rotation, or not taken in by every balancer.
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a lane returns for one instance."""

    fate: Fate
    reason: str = ""
    detail: str = ""


Lane = Generator[Step, Outcome, Ended]
