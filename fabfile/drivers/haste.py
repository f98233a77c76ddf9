"""Told to stop a second time: what is healthy this moment returns, the rest stays as it is.

Nothing is waited for that may take long, an engine that replaces a container least of all. Our own
locks are taken once more under another name, which fences off whatever the lanes have begun: from
then on nobody but us acts. A lock that can't be had like that (something of ours is still at work
under it) is left to go stale, and its instance stays out of rotation, recorded.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from fabfile.drivers.balancers import Pool, backend_key
from fabfile.drivers.hands import Hands
from fabfile.drivers.locks import Claim, Locks
from fabfile.drivers.prepare import Prepared
from fabfile.remote.base import Command
from fabfile.remote.pool import Urgent
from fabfile.rollout.plan import Release, Target
from fabfile.rollout.steps import (
    Admit,
    AwaitAdmitted,
    Failed,
    Record,
    Recreate,
    Restore,
    Reverted,
)
from fabfile.runtimes import compose

PATIENCE = 8.0
"""Seconds all of it may take; what is not done by then stays as it is."""
FLOCK_WAIT = 2
"""Seconds an effect of ours that is at work may take to end."""
HEALTH_WAIT = 1.5
"""Seconds to be found healthy in."""
UNCLOSED = "; its record could not be closed"


@dataclass(frozen=True)
class Left:
    """What became of one instance that was out of rotation."""

    instance: str
    back: bool
    text: str


class Haste:
    """One rollout, let go of."""

    def __init__(self, prepared: Prepared, hands: Hands) -> None:
        assert prepared.locks is not None
        self._prepared = prepared
        self._hands = hands
        self._old: Locks = prepared.locks
        self._remotes = Urgent(prepared.remotes)
        self._planned = {target.instance.id: target for target in prepared.plan.targets}

    def let_go(self) -> list[Left]:
        """Return what is healthy, give back what can be; at most :data:`PATIENCE` seconds."""
        self._old.retire()
        ends = time.monotonic() + PATIENCE
        out = dict(self._hands.open)
        found: dict[str, Left] = {}
        work = _start(self._let_go_quietly, list(out.values()), found)
        work.join(max(ends - time.monotonic(), 0.0))
        late = "could not be brought back in time: it stays out of rotation, recorded"
        return [found.get(name) or Left(name, False, late) for name in out]

    def _let_go_quietly(self, targets: list[Target], found: dict[str, Left]) -> None:
        # A mistake of ours costs what it was about, and no traceback: all of it is recorded.
        with contextlib.suppress(Exception):
            self._let_go(targets, found)

    def _let_go(self, targets: list[Target], found: dict[str, Left]) -> None:
        busy = {t.instance.id for t in targets if self._is_replaced(t)}
        free = [t for t in targets if t.instance.id not in busy]
        wanted = [claim for target in targets for claim in self._claims(target)]
        stuck = {t.instance.host for t in targets if t.instance.id in busy}
        key = compose.project_key(self._prepared.service)
        wanted = [c for c in wanted if not (c.host in stuck and c.key == key)]
        at_work = {claim for t in targets for claim in self._claims(t)}
        idle = [claim for claim in self._old.claims() if claim not in at_work]
        giving = _start(self._old.give_back, idle)
        mine = self._old.seize(wanted, FLOCK_WAIT)
        self._hands.settle(FLOCK_WAIT)  # what it learned of its last orders is what counts
        pool = Pool(self._prepared.service, self._prepared.service.hosts, self._remotes, mine.fence)
        hands = self._hands.afresh(self._remotes, mine, pool)
        for target in targets:
            if target.instance.id in busy:
                text = "its container is being replaced: it stays out of rotation, recorded"
                found[target.instance.id] = Left(target.instance.id, False, text)
        back = [_start(self._bring_back, target, mine, hands, found) for target in free]
        for thread in [*back, giving]:
            thread.join()
        mine.release()

    def _claims(self, target: Target) -> list[Claim]:
        balancers = [self._prepared.pool.hands[ref.balancer].balancer for ref in target.refs]
        project = Claim(target.instance.host, compose.project_key(self._prepared.service))
        return [project, *(Claim(b.host, backend_key(b)) for b in balancers)]

    def _is_replaced(self, target: Target) -> bool:
        return isinstance(self._hands.doing.get(target.instance.id), Recreate)

    def _bring_back(
        self, target: Target, mine: Locks, hands: Hands, found: dict[str, Left]
    ) -> None:
        name = target.instance.id
        try:
            found[name] = self._brought_back(target, mine, hands)
        except Exception as error:  # as above
            found[name] = Left(name, False, f"stays out of rotation, recorded: {error}")

    def _brought_back(self, target: Target, mine: Locks, hands: Hands) -> Left:
        name = target.instance.id
        project, *balancers = self._claims(target)
        if self._is_only_recorded(name):
            # What its servers show is not of our doing.
            every = all(mine.holds(claim.host, claim.key) for claim in (project, *balancers))
            note = _closed(target, project, mine, hands) if every else UNCLOSED
            return Left(name, True, f"was not out of rotation yet{note}")
        missing = [claim.host for claim in balancers if not mine.holds(claim.host, claim.key)]
        if missing:
            why = f"{', '.join(missing)} can't be told to take it in"
            return Left(name, False, f"stays out of rotation, recorded: {why}")
        planned = self._planned[name]
        release = self._hands.put.get(name) or planned.runs or target.earlier
        why = self._ill(target, release)
        if why or release is None:
            return Left(name, False, f"stays out of rotation, recorded: {why}")
        stopped = name in self._hands.put or planned.task != "roll"
        ordered = hands.do(Admit(target) if stopped else Restore(target))
        seen = ordered if isinstance(ordered, Failed) else hands.do(AwaitAdmitted(target, 0.0))
        if isinstance(ordered, Failed) or isinstance(seen, Reverted):
            why = ordered.reason if isinstance(ordered, Failed) else "its return was undone"
            return Left(name, False, f"stays out of rotation, recorded: {why}")
        when = " as soon as its balancers' checks pass" if isinstance(seen, Failed) else ""
        note = _closed(target, project, mine, hands)
        return Left(
            name, True, f"is healthy and takes requests again with {release.version}{when}{note}"
        )

    def _is_only_recorded(self, name: str) -> bool:
        """Nobody of ours has touched it: it waited for its turn."""
        return self._planned[name].task == "roll" and name not in self._hands.touched

    def _ill(self, target: Target, release: Release | None) -> str:
        """Why it may not return; empty: it is healthy this very moment."""
        if release is None:
            return "nothing ran there before"
        service = self._prepared.service
        health = replace(service.health, timeout=HEALTH_WAIT, min_healthy=0.0)
        script = compose.health_script(replace(service, health=health), target.instance, release.id)
        host = self._remotes.get(target.instance.host)
        result = host.run(Command(script, timeout=HEALTH_WAIT + 2.0, label="health check"))
        if result.ok:
            return ""
        return f"not healthy: {(result.stdout.strip().splitlines() or ['no answer'])[-1]}"


def _closed(target: Target, project: Claim, mine: Locks, hands: Hands) -> str:
    """Close its record; what there is to say of that, where it did not work."""
    closed = mine.holds(project.host, project.key) and not isinstance(
        hands.do(Record(target, "restored")), Failed
    )
    return "" if closed else UNCLOSED


def _start(do: Callable[..., object], *args: object) -> threading.Thread:
    # Whoever does not come back in time must not keep the program from ending.
    thread = threading.Thread(target=do, args=args, name="haste", daemon=True)
    thread.start()
    return thread


def summary(left: Iterable[Left]) -> tuple[str, ...]:
    """Ids of what stays out of rotation."""
    return tuple(sorted(one.instance for one in left if not one.back))
