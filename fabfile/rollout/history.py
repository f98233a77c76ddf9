"""A rollout that is over: what is written down of it, and how it reads afterwards.

Nothing here looks at a host or a clock; ``drivers.history`` reads and merges, ``reports`` shows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fabfile.rollout.events import RolloutFinished
from fabfile.rollout.plan import Plan
from fabfile.rollout.steps import Fate

FORMAT = 1
"""Of ``finished.json``. Files without one are older, and hold verdict, upgraded and reason."""
_STAMP = re.compile(r"(\d{8}-\d{6})-")


@dataclass(frozen=True)
class Past:
    """One rollout, as all hosts together know it. What nobody knows is empty."""

    rollout: str
    verdict: str
    """As in ``events.Verdict``; or ``running``, ``unfinished``, ``not begun``, ``unknown``."""
    service: str = ""
    version: str = ""
    before: tuple[str, ...] = ()
    """The versions that ran before it on what it changed."""
    mode: str = ""
    owner: str = ""
    why: str = ""
    """What ``--reason`` said."""
    reason: str = ""
    """Why it did not end well."""
    digest: str = ""
    began: str = ""
    ended: str = ""
    """ISO 8601 in UTC, by the clocks of the controllers that began and ended it."""
    seconds: float | None = None
    """How long the controller that ended it was at work on it."""
    hosts: tuple[str, ...] = ()
    chosen: bool = False
    """The hosts were picked by ``-H``."""
    fates: Mapping[str, str] = field(default_factory=dict)
    """How each instance ended, by its id."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    upgraded: int = 0
    notes: tuple[str, ...] = ()
    """What is damaged, or not told to some host."""

    @property
    def failed(self) -> int:
        """Instances that something went wrong with. One that was put back because another one
        failed, or by an abort, is none of them."""
        blamed = {} if self.mode in ("abort", "repair") else self.reasons
        return sum(
            fate == "broken" or (fate in ("restored", "untouched") and name in blamed)
            for name, fate in self.fates.items()
        )


def began(identity: str) -> datetime | None:
    """The moment that the id of a rollout or recovery was made; ``None``: it does not say."""
    stamp = _STAMP.match(identity)
    try:
        return stamp and datetime.strptime(stamp[1], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def iso(moment: datetime | None) -> str:
    """``2026-01-31T14:25:30Z``."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""


def facts(
    plan: Plan,
    ended: RolloutFinished,
    fates: Mapping[str, Fate],
    reasons: Mapping[str, str],
    now: datetime,
) -> dict[str, Any]:
    """What ``finished.json`` says of a rollout that ended ``now``."""
    since = began(plan.id)
    earlier = {t.earlier.version for t in plan.targets if t.change and t.earlier}
    return {
        "format": FORMAT,
        "service": plan.service,
        "verdict": ended.verdict,
        "version": plan.version,
        "before": sorted(earlier),
        "mode": plan.mode,
        "owner": plan.owner,
        "why": plan.reason,
        "reason": ended.reason,
        "digest": plan.digest,
        "began": iso(began(plan.journal)),
        "ended": iso(now),
        "seconds": max((now - since).total_seconds(), 0.0) if since else None,
        "hosts": [host for batch in plan.batches for host in batch],
        "chosen": plan.chosen,
        **({"restart": True} if plan.restarts else {}),
        "upgraded": ended.upgraded,
        "fates": dict(fates),
        "reasons": dict(reasons),
    }
