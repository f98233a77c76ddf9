"""What users get from an instance after its return: its own 5xx, as its balancers count them.

Health checks ask one path; people ask for all of them. A release whose health check passes while
it answers everybody with errors has failed after all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fabfile.balancers.model import BackendReading, ServerReading, ServerRef
from fabfile.rollout.capacity import Readings
from fabfile.rollout.plan import Plan, Target

ENOUGH = 20
"""Requests below which nothing is judged: two bad ones out of three say little."""
LOOK = 0.5
"""Seconds between two looks beside the next steps."""
LOOK_AT_END = 0.2
"""Seconds between two looks while the end of a batch waits for a judgement, and nothing else."""


@dataclass(frozen=True)
class Bad:
    """An instance that answers too many of its requests with 5xx."""

    target: Target
    requests: int
    errors: int

    @property
    def reason(self) -> str:
        """One line for a person."""
        share = 100 * self.errors // self.requests
        return f"answers 5xx: {self.errors} of {self.requests} requests since its return ({share}%)"


@dataclass
class _Watched:
    """One instance; counters start at the first look after its return."""

    target: Target
    last: dict[ServerRef, tuple[int, int, int]] = field(default_factory=dict)
    """Process, requests and errors at the last look, by server."""
    requests: int = 0
    errors: int = 0
    looks: int = 0
    """While a batch's end waited for it."""

    def add(self, ref: ServerRef, backend: BackendReading, server: ServerReading) -> None:
        now = (backend.process, server.requests, server.errors_5xx)
        before = self.last.get(ref)
        self.last[ref] = now
        # After a reload the counters begin anew; what fell between is nobody's.
        if before is None or before[0] != now[0] or now[1] < before[1] or now[2] < before[2]:
            return
        self.requests += now[1] - before[1]
        self.errors += now[2] - before[2]


class Watch:
    """The instances of one rollout that came back with a new release."""

    def __init__(self, plan: Plan) -> None:
        self._rate = plan.policy.max_error_rate
        self._patience = plan.watch
        # On the way back there is nothing better to go back to.
        on = plan.mode in ("deploy", "resume") and self._rate < 100
        self._on = on
        self._watched: dict[str, _Watched] = {}
        self._of: dict[ServerRef, _Watched] = {}

    @property
    def active(self) -> bool:
        """Whether there is anybody to look at."""
        return bool(self._watched)

    def begin(self, target: Target) -> None:
        """``target`` is back in rotation on its new release."""
        if not (self._on and target.servers):
            return
        watched = self._watched[target.instance.id] = _Watched(target)
        self._of |= dict.fromkeys(target.refs, watched)

    def end(self) -> None:
        """Nobody is watched any more, whatever comes back from now on."""
        self._on = False
        self._watched.clear()
        self._of.clear()

    def see(self, readings: Readings) -> list[Bad]:
        """Take in what the balancers say; who has failed now, and is watched no longer."""
        for (balancer, name), backend in readings.items():
            for server in backend.servers.values():
                ref = ServerRef(balancer, name, server.name)
                if ref in self._of:
                    self._of[ref].add(ref, backend, server)
        bad = [
            Bad(watched.target, watched.requests, watched.errors)
            for watched in self._watched.values()
            if watched.requests >= ENOUGH and watched.errors * 100 > self._rate * watched.requests
        ]
        for one in bad:
            self._forget(one.target)
        return bad

    def _forget(self, target: Target) -> None:
        del self._watched[target.instance.id]
        for ref in target.refs:
            self._of.pop(ref, None)

    def undecided(self, names: Iterable[str]) -> bool:
        """Whether the end of a batch should wait for any of ``names``; each call is one look.

        It waits until each has had enough requests, at most ``min_healthy`` seconds each, and no
        longer than it takes to see that there are too few requests to judge by.
        """
        waiting = False
        for name in names:
            watched = self._watched.get(name)
            if watched is None or watched.requests >= ENOUGH:
                continue
            watched.looks += 1
            spent = watched.looks * LOOK_AT_END
            hopeless = watched.looks > 3 and watched.requests * self._patience < ENOUGH * spent
            waiting = waiting or (spent <= self._patience and not hopeless)
        return waiting
