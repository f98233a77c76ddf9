"""Past rollouts for a person: a table of them, and one of them in full."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from fabfile.reports.columns import columns
from fabfile.rollout.history import Past

HEAD = (
    "ROLLOUT",
    "BEGAN (UTC)",
    "BY",
    "WHAT",
    "VERSION",
    "HOSTS",
    "UP",
    "FAILED",
    "TOOK",
    "VERDICT",
)


def table(past: Sequence[Past], problems: Iterable[str] = ()) -> str:
    """One line each, aligned, in the order given; then what is wrong."""
    lines = list(columns([HEAD, *map(_row, past)]))
    if not past:
        lines = ["no rollout is known"]
    lines += [f"{one.rollout}: {note}" for one in past for note in one.notes]
    lines += problems
    return "".join(f"{line}\n" for line in lines)


def _row(past: Past) -> tuple[str, ...]:
    counted = bool(past.fates) or past.upgraded > 0 or past.verdict == "done"
    return (
        past.rollout,
        past.began.replace("T", " ")[:16] or "-",
        past.owner.partition(":")[0] or "-",
        past.mode or "-",
        _versions(past),
        _hosts(past),
        str(past.upgraded) if counted else "-",
        str(past.failed) if past.fates else "-",
        "-" if past.seconds is None else f"{past.seconds:.0f}s",
        past.verdict,
    )


def _versions(past: Past) -> str:
    before = ",".join(past.before)
    return (
        f"{before} -> {past.version}" if before and before != past.version else past.version or "-"
    )


def _hosts(past: Past) -> str:
    """Up to three by name; ``of -H`` where they were a choice."""
    few = ",".join(past.hosts) if len(past.hosts) <= 3 else str(len(past.hosts))
    return f"{few or '-'}{' (-H)' if past.chosen else ''}"


def as_json(past: Past) -> str:
    """One rollout on one line."""
    return json.dumps({**asdict(past), "failed": past.failed})


def shown(past: Past) -> str:
    """All that is known of one rollout, a line for each thing."""
    took = "" if past.seconds is None else f"{past.seconds:.1f} s"
    known = {
        "rollout": past.rollout,
        "service": past.service,
        "verdict": past.verdict,
        "because": past.reason,
        "what": past.mode,
        "version": _versions(past),
        "digest": past.digest,
        "by": past.owner,
        "why": past.why,
        "began": past.began,
        "ended": past.ended,
        "took": took,
        "hosts": f"{', '.join(past.hosts)}{' (chosen by -H)' if past.chosen else ''}",
    }
    width = max(map(len, known))
    lines = [f"{name.ljust(width)}  {value}" for name, value in known.items() if value]
    lines += [f"{'note'.ljust(width)}  {note}" for note in past.notes]
    for instance, fate in sorted(past.fates.items()):
        why = past.reasons.get(instance, "")
        lines.append(f"  {instance}  {fate}{': ' + why if why else ''}")
    return "".join(f"{line}\n" for line in lines)
