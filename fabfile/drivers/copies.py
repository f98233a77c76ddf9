"""What stays of a rollout on this machine: its log and its plan, beside the inventory.

The hosts have all that recovery needs; these are for reading afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from fabfile.rollout.events import Event, Notice
from fabfile.rollout.plan import Plan

MOST = 200
"""Rollouts (and recoveries) of which copies are kept; older ones go."""
_NAME = re.compile(r"(\d{8}-\d{6}-[0-9a-f]+)\.(?:jsonl|plan\.json)")


def folder(root: Path) -> Path:
    """Where copies lie; ``root`` is the inventory's folder."""
    return root / ".evenkeel" / "rollouts"


def keep(root: Path, plan: Plan, emit: Callable[[Event], None]) -> None:
    """Lay the frozen plan beside the rollout's log. That it can't be written is a notice."""
    try:
        folder(root).mkdir(parents=True, exist_ok=True)
        (folder(root) / f"{plan.id}.plan.json").write_text(plan.to_json() + "\n", encoding="utf-8")
        prune(root)
    except OSError as error:
        emit(Notice(f"no copy of the plan is kept here: {error}"))


def prune(root: Path, most: int = MOST) -> None:
    """Remove copies of all but the newest ``most`` rollouts; other files are left alone."""
    files = [
        (name[1], path) for path in folder(root).iterdir() if (name := _NAME.fullmatch(path.name))
    ]
    newest = set(sorted({rollout for rollout, _ in files})[-most:])
    for rollout, path in files:
        if rollout not in newest:
            path.unlink(missing_ok=True)
