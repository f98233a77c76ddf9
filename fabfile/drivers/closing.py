"""The hosts hear how a rollout ended, and keep it for the history."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from fabfile.drivers.prepare import Prepared
from fabfile.remote import journal, state
from fabfile.remote.base import Command
from fabfile.rollout import history
from fabfile.rollout.events import Event, InstanceFinished, Notice, RolloutFinished
from fabfile.rollout.steps import Fate


class Closing:
    """Keeps what the history wants to know of one rollout, and writes it down at the end."""

    def __init__(self, prepared: Prepared, emit: Callable[[Event], None]) -> None:
        self._prepared = prepared
        self._emit = emit
        self._reasons: dict[str, str] = {}
        self.replaced = False
        """Another controller has taken over; what we know of the end may be wrong."""

    def heard(self, event: Event) -> None:
        """Pass ``event`` on; why an instance ended as it did is kept."""
        if isinstance(event, InstanceFinished) and event.reason:
            self._reasons[event.instance] = event.reason
        self._emit(event)

    def tell(self, ended: RolloutFinished, fates: Mapping[str, Fate], verdict: str = "") -> None:
        """Write to every host of the rollout that it is over; ``verdict``, where it never began.

        Unless something is left to be put back: then it is not over.
        """
        if ended.verdict == "needs-repair":
            return
        plan = self._prepared.plan
        facts = history.facts(plan, ended, fates, self._reasons, datetime.now(UTC))
        facts |= {n: v for n in ("without", "dropped") if (v := getattr(plan, n))}
        if verdict:
            facts["verdict"] = verdict
        text = json.dumps(facts, sort_keys=True).encode()
        for running in [
            self._prepared.remotes.start(host, Command(self._script(host), text))
            for host in self._hosts()
        ]:
            result = running.wait()
            if result.exit_code == state.EXIT_FENCED:
                self.replaced = True
                self._emit(Notice("another controller has taken over, and ends it", result.host))
            elif not result.ok:
                busy = result.exit_code == state.EXIT_BUSY
                why = "a command still works there" if busy else result.why
                self._emit(Notice(f"not told that it is over: {why}", result.host))

    def _script(self, host: str) -> str:
        """Fenced: who slept through a take-over must not have the last word of the rollout."""
        script, locks = journal.finish_as_told(self._prepared.plan.journal), self._prepared.locks
        keys = locks.keys(host) if locks else []
        return locks.fence(host, keys, script) if locks and keys else script

    def _hosts(self) -> list[str]:
        plan, hands = self._prepared.plan, self._prepared.pool.hands
        balancers = {
            hands[record.ref.balancer].balancer.host
            for target in plan.targets
            for record in target.servers
        }
        return list(dict.fromkeys([*(h for b in plan.batches for h in b), *sorted(balancers)]))
