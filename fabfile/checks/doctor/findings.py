"""A finding: one thing that a set-up lacks or risks, where, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from fabfile.checks.doctor.catalogue import CATALOGUE
from fabfile.checks.doctor.kinds import Severity
from fabfile.checks.fleet.verdict import several

GRAVITY: tuple[Severity, ...] = ("problem", "risk", "hint")

EXIT_RISK, EXIT_PROBLEM = 3, 5
"""Below it nothing is worse than a hint: 0. 5 is also what a refused rollout ends with."""


@dataclass(frozen=True)
class Finding:
    """One thing, said once for all it concerns alike."""

    code: str
    severity: Severity
    subjects: tuple[str, ...]
    """Hosts, balancers, or ``hosts.yaml``."""
    text: str
    """What it means, in a sentence."""
    mend: str
    """What to write or run instead."""
    file: str = ""
    line: int = 0
    """Of ``file``; 0: not known, or it is something that is missing there."""

    @property
    def area(self) -> str:
        """One of ``kinds.AREAS``."""
        return CATALOGUE[self.code].area

    @property
    def where(self) -> str:
        """``lb1, lb2 /etc/haproxy/haproxy.cfg:12``."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return " ".join(filter(None, (several(self.subjects, 6), place)))


def found(
    code: str,
    subject: str,
    text: str,
    mend: str,
    *,
    severity: Severity | None = None,
    file: str = "",
    line: int = 0,
) -> Finding:
    """A finding with the severity its kind usually has.

    Raises :class:`KeyError` for a code, :class:`ValueError` for a severity that the catalogue (and
    so the documentation) does not know.
    """
    known = CATALOGUE[code].severities
    chosen = severity or known[0]
    if chosen not in known:
        raise ValueError(f"{code} is never a {chosen}")
    return Finding(code, chosen, (subject,), text, mend, file, line)


def together(findings: Iterable[Finding]) -> list[Finding]:
    """What several subjects suffer from alike is said once; the worst comes first."""
    merged: dict[Finding, list[str]] = {}
    for finding in findings:
        merged.setdefault(replace(finding, subjects=()), []).extend(finding.subjects)
    said = [replace(f, subjects=tuple(dict.fromkeys(who))) for f, who in merged.items()]
    return sorted(said, key=lambda finding: GRAVITY.index(finding.severity))


def exit_code(findings: Iterable[Finding]) -> int:
    """0, :data:`EXIT_RISK` or :data:`EXIT_PROBLEM`."""
    severities = {finding.severity for finding in findings}
    if "problem" in severities:
        return EXIT_PROBLEM
    return EXIT_RISK if "risk" in severities else 0
