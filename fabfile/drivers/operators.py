"""What an operator does to our servers while we work: noticed, kept, told.

Whatever a balancer shows that differs from what our last order was read back as, in the same
process, is somebody's will. A process of its own has forgotten what we ordered: that is a reload.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from fabfile.balancers.model import Admin, BackendReading, ServerReading, ServerRecord, ServerRef
from fabfile.errors import EvenkeelError
from fabfile.rollout.plan import Target

Answers = Mapping[str, BackendReading | EvenkeelError]
Changed = Callable[[Target, ServerRecord, ServerRecord], None]
"""Hears of a server whose weight or state somebody changed: what was recorded, and what is now."""


@dataclass(frozen=True)
class _Shown:
    """How a server stood when nobody but us had touched it."""

    uweight: int
    admin: Admin
    process: int
    reading: ServerReading


class Operators:
    """What is to be put back for each server, an operator's later will included. Thread-safe as
    far as no two threads work on one instance at the same moment."""

    def __init__(self, changed: Changed, fresh: Collection[str] = ()) -> None:
        """``fresh``: ids of instances that nobody of ours has touched before."""
        self._changed = changed
        self._fresh = fresh
        self._kept: dict[ServerRef, ServerRecord] = {}
        self._shown: dict[ServerRef, _Shown] = {}
        self._process: dict[ServerRef, int] = {}
        """Whose process it was when it was looked at before its first order."""

    def learn(self, other: Operators) -> None:
        """Know all that ``other`` knows."""
        self._kept.update(other._kept)
        self._shown.update(other._shown)

    def record(self, record: ServerRecord) -> ServerRecord:
        """``record``, or what somebody has made of it since the plan was frozen."""
        return self._kept.get(record.ref, record)

    def target(self, target: Target) -> Target:
        """``target`` with the weights and states that have to be there in the end."""
        if not any(ref in self._kept for ref in target.refs):
            return target
        return replace(target, servers=tuple(map(self.record, target.servers)))

    def is_untouched(self, target: Target) -> bool:
        """Nobody of ours has touched ``target`` yet."""
        return target.instance.id in self._fresh and not any(r in self._shown for r in target.refs)

    def untouched(self, target: Target, answers: Answers) -> Target:
        """Nobody of ours has touched ``target`` yet: what is there now is what has to come back."""
        for record, seen, process in _answered(target, answers):
            self._process[record.ref] = process
            self._keep(target, record, seen.uweight, seen.admin)
        return self.target(target)

    def ordered(self, target: Target, answers: Answers) -> None:
        """Our order was read back as ``answers``."""
        for record, seen, process in _answered(target, answers):
            self._shown[record.ref] = _Shown(seen.uweight, seen.admin, process, seen)

    def left(self, target: Target) -> dict[ServerRef, ServerReading] | None:
        """How its servers stood when they were seen last; ``None``: not all were, yet."""
        shown = {ref: self._shown[ref].reading for ref in target.refs if ref in self._shown}
        return shown if len(shown) == len(target.refs) else None

    def look(self, target: Target, answers: Answers) -> Target:
        """Take in what is shown now; ``target`` with what somebody changed since our last order."""
        target = self.target(target)
        for record, seen, process in _answered(target, answers):
            shown = self._shown.get(record.ref)
            if shown is None:
                self._look_first(target, record, seen, process)
                continue
            if shown.process != process:
                continue
            uweight = seen.uweight if seen.uweight != shown.uweight else record.uweight
            admin = seen.admin if seen.admin != shown.admin else record.admin
            self._keep(target, record, uweight, admin)
            self._shown[record.ref] = _Shown(seen.uweight, seen.admin, process, seen)
        return self.target(target)

    def _look_first(
        self, target: Target, record: ServerRecord, seen: ServerReading, process: int
    ) -> None:
        """No order of ours was ever read back: one that takes requests got none, since the first
        that any server gets ends that."""
        same = process == self._process.get(record.ref, record.process)
        takes = seen.admin == "ready" and seen.uweight > 0
        if target.instance.id in self._fresh and same and takes:
            self._keep(target, record, seen.uweight, seen.admin)

    def _keep(self, target: Target, record: ServerRecord, uweight: int, admin: Admin) -> None:
        if (uweight, admin) == (record.uweight, record.admin):
            return
        now = replace(record, uweight=uweight, admin=admin)
        self._kept[record.ref] = now
        self._changed(target, record, now)


def _answered(target: Target, answers: Answers) -> list[tuple[ServerRecord, ServerReading, int]]:
    """Each server of ``target`` whose balancer answered, and the process that did."""
    found = []
    for record in target.servers:
        answer = answers.get(record.ref.balancer)
        if isinstance(answer, BackendReading) and record.ref.server in answer.servers:
            found.append((record, answer.servers[record.ref.server], answer.process))
    return found


def said(record: ServerRecord | ServerReading) -> str:
    """``weight 40``, ``maint at weight 40``."""
    weight = f"weight {record.uweight}"
    return weight if record.admin == "ready" else f"{record.admin} at {weight}"
