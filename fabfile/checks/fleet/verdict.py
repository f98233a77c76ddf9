"""A verdict: one thing that is wrong, whom it concerns, and the command that mends it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from fabfile.checks.summary import CRITICAL, OK, UNKNOWN, WARNING

Severity = Literal["WARNING", "CRITICAL", "UNKNOWN"]
CODES: dict[str, int] = {"WARNING": WARNING, "CRITICAL": CRITICAL, "UNKNOWN": UNKNOWN}

_GRAVITY: tuple[Severity, ...] = ("CRITICAL", "UNKNOWN", "WARNING")
"""What cannot be asked may hide something critical, so it outweighs a warning."""


@dataclass(frozen=True)
class Verdict:
    """One thing that is wrong."""

    name: str
    """Stable and short, for machines: ``stuck-weight``."""
    severity: Severity
    subject: str
    """Whom it concerns: ``web1/app_1``, ``lb1``, a rollout's id."""
    text: str
    """What is wrong, in one sentence that begins after the subject."""
    mend: str
    """The command that mends it, or shows why it is so."""
    service: str = ""
    """Empty: it concerns a host and all that runs on it."""

    @property
    def key(self) -> str:
        """The same for the same trouble in every run; counts and ages in the text may change."""
        return f"{self.severity} {self.name} {self.service} {self.subject}"


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """Nagios' code for all of them together."""
    found = {verdict.severity for verdict in verdicts}
    return next((CODES[severity] for severity in _GRAVITY if severity in found), OK)


def worst_first(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """By severity; otherwise in the order in which they were found."""
    return sorted(verdicts, key=lambda verdict: _GRAVITY.index(verdict.severity))


def several(names: Iterable[str], most: int = 4) -> str:
    """``a, b, c, d and 5 more``."""
    listed = list(dict.fromkeys(names))
    if len(listed) <= most + 1:
        return ", ".join(listed)
    return f"{', '.join(listed[:most])} and {len(listed) - most} more"
