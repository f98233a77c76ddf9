"""What becomes of an instance after its return: its own 5xx, and whether it stays up.

Health checks ask one path; people ask for all of them. A release whose health check passes while
it answers everybody with errors, or that dies a few seconds later, has failed after all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import sqrt

from fabfile.balancers.model import BackendReading, ServerReading, ServerRef
from fabfile.rollout.capacity import Readings
from fabfile.rollout.plan import Plan, Target

ENOUGH = 20
"""Requests below which nothing is judged: two bad ones out of three say little."""
LOOK = 0.5
"""Seconds between two looks beside the next steps."""
SURE = 1.645
"""Standard deviations: 95% sure. A service that always answered 2% of its requests with 5xx has
three in its first forty every now and then, and nobody wants a rollback of that."""
DOWN_PATIENCE = 60.0
"""Seconds that the end of a batch waits for an instance that went down after its return."""
LOOK_AT_END = 0.2
"""Seconds between two looks while the end of a batch waits for a judgement, and nothing else."""


@dataclass(frozen=True)
class Bad:
    """An instance that failed after its return."""

    target: Target
    requests: int
    errors: int
    down: tuple[ServerRef, ...] = ()
    """Where it is down and stays so; otherwise it answers too much with 5xx."""

    @property
    def reason(self) -> str:
        """One line for a person."""
        if self.down:
            return f"went down after its return: {', '.join(map(str, self.down))}"
        share = 100 * self.errors // self.requests
        return f"answers 5xx: {self.errors} of {self.requests} requests since its return ({share}%)"


@dataclass(slots=True)
class _Watched:
    """One instance; counters start at the first look after its return."""

    target: Target
    last: dict[ServerRef, tuple[int, int, int]] = field(default_factory=dict)
    """Process, requests and errors at the last look, by server."""
    requests: int = 0
    errors: int = 0
    looks: int = 0
    """While a batch's end waited for it."""
    since: int = 0
    """How many looks there were at its return."""
    down: set[ServerRef] = field(default_factory=set)
    waited: int = 0
    """Looks for which a batch's end waited for it to come up again."""

    def add(self, ref: ServerRef, backend: BackendReading, server: ServerReading) -> None:
        now = (backend.process, server.requests, server.errors_5xx)
        before = self.last.get(ref)
        self.last[ref] = now
        gone = server.checked and not server.up and server.admin == "ready"
        (self.down.add if gone else self.down.discard)(ref)
        self.waited = self.waited if self.down else 0
        # After a reload the counters begin anew; what fell between is nobody's.
        if before is None or before[0] != now[0] or now[1] < before[1] or now[2] < before[2]:
            return
        self.requests += now[1] - before[1]
        self.errors += now[2] - before[2]


def surely(errors: int, requests: int) -> float:
    """The share of errors (0 to 1) that is exceeded with 95% certainty, from a sample of it.

    The lower bound of E. B. Wilson's score interval, which also holds for small samples.
    """
    if not errors:
        return 0.0
    share, weight = errors / requests, SURE * SURE / requests
    spread = SURE * sqrt((share * (1 - share) + weight / 4) / requests)
    return (share + weight / 2 - spread) / (1 + weight)


class Watch:
    """The instances of one rollout that came back with a new release."""

    def __init__(self, plan: Plan) -> None:
        self._rate = plan.policy.max_error_rate
        self._patience = plan.watch
        self._on = plan.mode in ("deploy", "resume", "rollback", "restart")
        # On the way back, and after a restart, there is nothing better to go back to.
        self._judges = plan.mode != "rollback" and not plan.restarts and self._rate < 100
        self._looks = 0
        self._watched: dict[str, _Watched] = {}
        self._of: dict[tuple[str, str], dict[str, _Watched]] = {}
        """By balancer and backend, and by server."""
        self._down: dict[str, _Watched] = {}

    def __bool__(self) -> bool:
        """Whether anybody is watched."""
        return bool(self._watched)

    @property
    def active(self) -> bool:
        """Whether there is anybody to look at."""
        return bool(self._watched) and self._judges

    def begin(self, target: Target) -> None:
        """``target`` is back in rotation on its new release."""
        if not (self._on and target.servers):
            return
        watched = self._watched[target.instance.id] = _Watched(target, since=self._looks)
        for ref in target.refs:
            self._of.setdefault((ref.balancer, ref.backend), {})[ref.server] = watched

    def end(self) -> None:
        """Nobody is watched any more, whatever comes back from now on."""
        self._on = False
        self._watched.clear()
        self._of.clear()
        self._down.clear()

    def see(self, readings: Readings) -> list[Bad]:
        """Take in what the balancers say; who has failed now, and is watched no longer."""
        self._looks += 1
        # Judged is who has news, and who is down: a look at a large fleet must not cost all of it.
        concerned = dict(self._down)
        for key, backend in readings.items():
            for name, watched in self._told_of(key, backend):
                watched.add(ServerRef(*key, name), backend, backend.servers[name])
                concerned[watched.target.instance.id] = watched
        self._down = {name: watched for name, watched in concerned.items() if watched.down}
        bad = [one for watched in concerned.values() if (one := self._judged(watched))]
        for one in bad:
            self._forget(one.target)
        return bad

    def _told_of(
        self, key: tuple[str, str], backend: BackendReading
    ) -> Iterator[tuple[str, _Watched]]:
        of = self._of.get(key, {})
        return ((name, of[name]) for name in backend.servers if name in of)

    def _judged(self, watched: _Watched) -> Bad | None:
        if watched.down and watched.waited * LOOK_AT_END > DOWN_PATIENCE:
            return Bad(watched.target, watched.requests, watched.errors, tuple(watched.down))
        if not self._judges or watched.requests < ENOUGH:
            return None
        too_many = 100 * surely(watched.errors, watched.requests) > self._rate
        return Bad(watched.target, watched.requests, watched.errors) if too_many else None

    def _forget(self, target: Target) -> None:
        del self._watched[target.instance.id]
        self._down.pop(target.instance.id, None)
        for ref in target.refs:
            self._of[ref.balancer, ref.backend].pop(ref.server, None)

    def unseen(self, names: Iterable[str]) -> bool:
        """Whether nobody has looked at one of ``names`` since its return."""
        found = (self._watched.get(name) for name in names)
        return any(watched.since == self._looks for watched in found if watched is not None)

    def undecided(self, names: Iterable[str]) -> bool:
        """Whether the end of a batch should wait for any of ``names``; each call is one look.

        It waits until each is up and has had enough requests, for the latter at most
        ``min_healthy`` seconds each, and no longer than it takes to see that there are too few
        requests to judge by.
        """
        waiting = False
        for name in names:
            watched = self._watched.get(name)
            waiting = (watched is not None and self._waits(watched)) or waiting
        return waiting

    def _waits(self, watched: _Watched) -> bool:
        if watched.down:
            watched.waited += 1
            return True
        if not self._judges or watched.requests >= ENOUGH:
            return False
        watched.looks += 1
        spent = watched.looks * LOOK_AT_END
        hopeless = watched.looks > 3 and watched.requests * self._patience < ENOUGH * spent
        return spent <= self._patience and not hopeless

    @property
    def names(self) -> tuple[str, ...]:
        """All that are watched."""
        return tuple(self._watched)
