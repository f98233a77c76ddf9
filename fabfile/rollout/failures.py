"""How many may fail, and why no further drain may begin."""

from __future__ import annotations

from fabfile.rollout.batches import over_budget
from fabfile.rollout.lanes import Batch
from fabfile.rollout.plan import Plan, Target


class Failures:
    """What has failed since the rollout began, or since it turned back; the engine counts it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._count = 0
        self.reason = ""
        """The first one, with its instance."""
        self.stopping = ""
        """Why somebody had it stopped; empty: nobody has."""

    def stop(self, why: str) -> None:
        """Somebody wants it stopped; the first reason counts."""
        self.stopping = self.stopping or why

    def count(self, batch: Batch, target: Target, reason: str) -> None:
        """``target`` failed: of its host nothing more is begun that can wait."""
        told = f"{target.instance.id}: {reason}"
        self._count += 1
        self.reason = self.reason or told
        batch.fail(target.instance.host, f"{told}: nothing more of its host begins")

    def forget(self) -> None:
        """From here on they count anew: it turns back."""
        self._count = 0

    def over(self, batch: Batch) -> bool:
        """Whether more have failed than may."""
        policy = self._plan.policy
        if policy.max_failures is not None and self._count > policy.max_failures:
            return True
        return over_budget(len(batch.failed), len(batch.hosts), policy.max_fail_percentage)

    def no_more(self, batch: Batch | None) -> str:
        """Why no further drain may begin; empty: it may."""
        if batch and batch.urgent:
            return ""
        if self.stopping:
            return self.stopping
        if self._plan.policy.on_failure != "continue" and batch and self.over(batch):
            return "too much has failed: what would start now would only be undone"
        return ""

    def pauses(self, batch: Batch) -> bool:
        """Whether the policy's pause follows ``batch``, where another one comes after it."""
        policy = self._plan.policy
        if batch.paused or policy.pause <= 0 or self.stopping:
            return False
        ends_here = policy.on_failure != "continue" or self._plan.mode == "repair"
        return not (ends_here and self.over(batch))
