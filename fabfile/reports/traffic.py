"""What a prober recorded beside a rollout (``inv healthcheck --record``), second by second."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fabfile.errors import BadInput


@dataclass
class Moment:
    """One second, all lanes of traffic together."""

    at: float
    """Seconds since 1970."""
    requests: int = 0
    failures: int = 0
    p50: float = 0.0
    p99: float = 0.0
    versions: Counter[str] = field(default_factory=Counter)


@dataclass
class Traffic:
    """One run of the prober."""

    moments: list[Moment]
    summary: Mapping[str, Any] = field(default_factory=dict)
    """Empty: the run was killed before its end."""

    def between(self, start: float, end: float) -> list[Moment]:
        """The moments that are at least partly within."""
        return [moment for moment in self.moments if start - 1 <= moment.at <= end]

    @property
    def requests(self) -> int:
        """All of them."""
        return sum(moment.requests for moment in self.moments)

    @property
    def failures(self) -> int:
        """All of them."""
        return sum(moment.failures for moment in self.moments)


def read(path: Path) -> Traffic:
    """Read a record. Raises :class:`BadInput` for a file that is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise BadInput(f"{path}: can't be read: {error}") from None
    began, moments, summary = None, dict[int, Moment](), {}
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # a run that was killed ends in the middle of a line
        kind = event.get("event") if isinstance(event, dict) else None
        if kind == "began":
            began = float(event["at"])
        elif kind == "summary":
            summary = event
        elif kind == "second" and began is not None:
            second = int(event["t"])
            _add(moments.setdefault(second, Moment(began + second)), event)
    if began is None:
        raise BadInput(f"{path}: is no record of `inv healthcheck --record`")
    return Traffic([moments[second] for second in sorted(moments)], summary)


def _add(moment: Moment, event: Mapping[str, Any]) -> None:
    moment.requests += event["requests"]
    moment.failures += event["failures"]
    # Of several lanes the slower one is what somebody felt.
    moment.p50, moment.p99 = max(moment.p50, event["p50"]), max(moment.p99, event["p99"])
    moment.versions.update(event["versions"])
