"""Who may leave rotation: the ledger of capacity, and the patience with lanes that want some."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fabfile.balancers.model import ServerRef
from fabfile.rollout import capacity
from fabfile.rollout import events as e
from fabfile.rollout.lanes import Running
from fabfile.rollout.plan import Plan
from fabfile.rollout.steps import Done, Refused, Seen

OBSERVE_AGAIN = 0.2
"""Seconds between two looks at the capacity while a lane waits for it."""
CAPACITY_PATIENCE = 300
"""Looks (a minute's worth) at a capacity that nothing of ours is holding, before giving up."""


class Grants:
    """Grants capacity to one lane after the other, from what was seen last."""

    def __init__(self, plan: Plan, emit: Callable[[e.Event], None]) -> None:
        self._plan = plan
        self._emit = emit
        self._ledger = capacity.Ledger(
            capacity.pools(plan.baseline, plan.summed), plan.policy.min_capacity
        )

    def see(self, seen: Seen) -> None:
        """Take in a look at all balancers; what changed by it is told."""
        self._ledger.see(seen.readings, partial=seen.partial)
        if changes := self._ledger.changes():
            self._emit(e.CapacitySeen(changes))

    def serves(self, refs: Sequence[ServerRef]) -> bool:
        """Whether any of them takes requests."""
        return self._ledger.serves(refs)

    def give_back(self, lane: Running) -> None:
        """What ``lane`` held counts as the readings say again."""
        self._ledger.give(lane.held)

    def decide(self, lane: Running, *, others: bool, back: bool) -> Done | Refused | None:
        """Whether ``lane`` may drain now; ``None``: later, perhaps.

        ``others``: there are lanes on their way, whose end may bring capacity back. ``back``: the
        rollout is on its way back.
        """
        refs = lane.target.refs
        self._ledger.give(lane.held)
        refused = self._ledger.refusal(refs)
        self._ledger.take(lane.held)
        if refused is None or self._all_the_same(lane, refused, others=others, back=back):
            lane.granted, lane.held = True, refs
            self._ledger.take(refs)
            self._emit(e.CapacityLeft(lane.target.instance.id, self._ledger.left(refs)))
            return Done()
        if refused.pool != lane.told:
            lane.told = refused.pool
            self._emit(e.CapacityAwaited(lane.target.instance.id, str(refused)))
        lane.denied = 0 if others else lane.denied + 1
        if lane.denied > CAPACITY_PATIENCE:
            return Refused(f"no capacity to spare: {refused}")
        return None

    def _all_the_same(
        self, lane: Running, refused: capacity.Refusal, *, others: bool, back: bool
    ) -> bool:
        """Whether a drain goes on although ``refused``.

        A way back is never blocked for good: what is to go is what failed. When waiting has not
        helped it goes below the floor, one at a time, but takes no pool's last server.
        """
        if refused.silent or self._plan.allow_outage:
            return self._plan.allow_outage and not refused.silent
        home = back or lane.homeward or self._plan.mode in ("abort", "rollback")
        return home and not others and lane.denied >= CAPACITY_PATIENCE and refused.after > 0
