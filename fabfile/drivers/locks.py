"""The locks of one rollout or task: taken on every host, kept alive, given back.

Fencing: :meth:`Locks.fence` wraps an effect so that it happens only while the target's lock is
still ours, on the host itself; see ``remote.state``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fabfile.drivers.heart import Heart
from fabfile.errors import EvenkeelError, Fenced, Locked, RemoteError
from fabfile.remote import life, state
from fabfile.remote.base import Command, Result, Running
from fabfile.remote.pool import Remotes

HEART_STOPS = 1.0
"""Seconds that a sign of life under way is waited for; it harms nobody if it comes too late."""
AT_ONCE = 64
"""Hosts whose answers are waited for at the same time."""
AGAIN = 1.0
"""Seconds between two tries while somebody else's lock is waited for."""
FREEZE = "freeze-"
"""How the owner of a lock begins that a person took by hand; it needs no sign of life."""


@dataclass(frozen=True)
class Claim:
    """One lock: a key on a host."""

    host: str
    key: str


class Locks:
    """Every lock of one owner. A context manager: leaving gives them back."""

    def __init__(
        self,
        remotes: Remotes,
        owner: str,
        claims: Iterable[Claim],
        facts: Mapping[str, object],
        lost: Callable[[str], None] = lambda _: None,
        *,
        notice: Callable[[str, str], None] = lambda _host, _text: None,
        wait: float = 0.0,
        over: Iterable[str] = (),
        stale: int = state.STALE_AFTER,
    ) -> None:
        """``owner`` is the rollout's id; ``lost`` hears the host of a lock that was taken over,
        ``notice`` host and text of what a person should know.

        ``wait``: seconds to wait for somebody else's lock. ``over``: owners whose locks are
        taken over after ``stale`` seconds without a sign of life.
        """
        self._wait = wait
        self._over = tuple(over)
        self._stale = stale
        self._remotes = remotes
        self._owner = owner
        self._facts = facts
        self._lost = lost
        self._notice = notice
        self._keys: dict[str, list[str]] = {}
        for claim in claims:
            keys = self._keys.setdefault(claim.host, [])
            if claim.key not in keys:
                keys.append(claim.key)
        self._tokens: dict[str, dict[str, str]] = {}
        self._stop = threading.Event()
        self._hearts: list[Heart] = []

    def acquire(self) -> None:
        """Take all of them, or none.

        The first host (in sorted order, so that two rollouts meet at the same one) is asked
        alone: whoever loses there has taken nothing. Raises :class:`Locked`.
        """
        ends = time.monotonic() + self._wait
        told = False
        while True:
            try:
                self._try()
                break
            except Locked as error:
                if time.monotonic() >= ends:
                    raise
                if not told:
                    self._notice("", f"waits for somebody else's lock: {error}")
                told = True
                time.sleep(AGAIN)

    def _try(self) -> None:
        hosts = sorted(self._keys, key=lambda host: (min(self._keys[host]), host))
        try:
            self._take(hosts[:1])
            self._take(hosts[1:])
        except BaseException:
            self._still()
            # What is under way still would take a lock after it was given back.
            for running in self._taking:
                running.wait()
            # A host whose answer got lost may have given us its locks all the same.
            self._everywhere(
                {host: state.abandon(keys, self._owner) for host, keys in self._keys.items()}
            )
            self._tokens.clear()
            raise

    def _take(self, hosts: Sequence[str]) -> None:
        self._taking = [
            self._remotes.start(
                host,
                Command(
                    state.acquire(
                        self._keys[host], self._owner, self._facts, self._over, self._stale
                    ),
                    label="lock",
                ),
            )
            for host in hosts
        ]
        # One host's answer may take longer than the locks of another live without a sign of life.
        with ThreadPoolExecutor(min(AT_ONCE, max(1, len(hosts)))) as waiting:
            results = list(waiting.map(self._taken, self._taking))
        for result in results:
            if not result.ok:
                raise self._refused(result)

    def _taken(self, running: Running) -> Result:
        result = running.wait()
        for file in state.parse_lost(result.stdout):
            text = f"{file} was damaged; it is kept aside, and the count goes on from the clock"
            self._notice(result.host, text)
        got, _ = state.parse_acquired(result.stdout)
        if result.ok:
            tokens = {key: f"{self._owner} {epoch}" for key, epoch in got.items()}
            self._tokens[result.host] = tokens
            heart = Heart(self._remotes, result.host, tokens, self._lost, self._stop)
            heart.start()
            self._hearts.append(heart)
        return result

    def _still(self) -> None:
        """No further sign of life, until locks are taken again."""
        self._stop.set()
        ends = time.monotonic() + HEART_STOPS
        for heart in self._hearts:
            heart.join(max(0.0, ends - time.monotonic()))
        self._hearts, self._stop = [], threading.Event()

    def _refused(self, result: Result) -> EvenkeelError:
        _, held = state.parse_acquired(result.stdout)
        if held is None:
            why = f": {result.why}" if result.exit_code is None and result.why else ""
            return RemoteError(
                result.host, f"the lock could not be taken{why}", detail=result.tail()
            )
        return Locked(f"{result.host}: {describe(held)}")

    def fence(self, host: str, keys: Iterable[str], effect: str) -> str:
        """``effect``, only while these locks of ``host`` are ours."""
        tokens = self._tokens[host]
        return state.fenced({key: tokens[key] for key in keys}, effect)

    def check(self, host: str, keys: Iterable[str]) -> str:
        """A script that exits with 75 unless these locks of ``host`` are ours.

        It takes no flock: for what may last long and changes nothing of ours. Raises
        :class:`RemoteError` for a host that was out of reach when the locks were taken.
        """
        if host not in self._tokens:
            raise RemoteError(host, "it could not be locked, so nothing is done there")
        tokens = self._tokens[host]
        return life.heartbeat({key: tokens[key] for key in keys})

    def _everywhere(self, scripts: Mapping[str, str]) -> dict[str, Result]:
        running = {
            host: self._remotes.start(host, Command(script, label="lock", urgent=True))
            for host, script in scripts.items()
        }
        return {host: waiting.wait() for host, waiting in running.items()}

    def retire(self) -> None:
        """Give no further sign of life; nothing is given back, so that all of it goes stale."""
        self._stop.set()

    def seize(self, claims: Iterable[Claim], wait: int) -> Locks:
        """These of our locks once more, under another owner and with a higher epoch.

        From then on nothing that was begun under the old ones can change anything; an effect that
        is at work is waited for, ``wait`` seconds. What can't be had in that time is missing in
        what is returned (see :meth:`holds`), which gives no signs of life.
        """
        owner = f"{self._owner}.stop"
        mine = Locks(self._remotes, owner, claims, self._facts)
        found: dict[Claim, Running] = {}
        for claim in dict.fromkeys(claims):
            script = state.acquire([claim.key], owner, self._facts, [self._owner], 0, wait)
            command = Command(script, timeout=wait + 2.0, label="lock", urgent=True)
            found[claim] = self._remotes.start(claim.host, command)
        for claim, running in found.items():
            result = running.wait()
            got, _ = state.parse_acquired(result.stdout)
            if result.ok and claim.key in got:
                tokens = mine._tokens.setdefault(claim.host, {})
                tokens[claim.key] = f"{owner} {got[claim.key]}"
        return mine

    def holds(self, host: str, key: str) -> bool:
        """Whether this lock is ours, as far as we know."""
        return key in self._tokens.get(host, {})

    def keys(self, host: str) -> list[str]:
        """All that is held there."""
        return list(self._tokens.get(host, {}))

    def claims(self) -> list[Claim]:
        """All that is held."""
        return [Claim(host, key) for host, tokens in self._tokens.items() for key in tokens]

    def give_back(self, claims: Iterable[Claim]) -> None:
        """Only these; the rest stays held."""
        parts: dict[str, dict[str, str]] = {}
        for claim in claims:
            if self.holds(claim.host, claim.key):
                token = self._tokens[claim.host].pop(claim.key)
                parts.setdefault(claim.host, {})[claim.key] = token
        self._everywhere({host: state.release(tokens) for host, tokens in parts.items()})

    def release(self) -> None:
        """Give back what is held; a host that can't be reached keeps a lock that goes stale."""
        self._still()
        self._everywhere({host: state.release(tokens) for host, tokens in self._tokens.items()})
        self._tokens.clear()

    def __enter__(self) -> Locks:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def describe(held: state.Held) -> str:
    """Who holds a lock, since when and why: ``locked by anna@laptop:4242 since …``."""
    by = held.facts.get("by", "somebody")
    why = held.facts.get("reason", "no reason given")
    if held.damaged:
        return (
            f"locked, but by whom is unknown: {state.ROOT}/locks/{held.key}.lock is damaged, it"
            f" reads {held.damaged} (last sign of life {held.age} s ago). Whoever held it can"
            " change nothing any more: `fab lock.release --force` takes it away and keeps it aside"
        )
    if held.owner.startswith(FREEZE):
        return f"frozen by {by} since {held.since}: {why} (`fab lock.release` ends it)"
    alive = (
        f"last sign of life {held.age} s ago"
        if held.age < state.STALE_AFTER
        else f"no sign of life for {held.age} s: `fab resume`, `abort` or `repair` takes it over"
    )
    return f"locked by {by} since {held.since} ({why}; {held.owner}; {alive})"


def check_fence(result: Result) -> None:
    """Raise :class:`Fenced` when the host refused an effect because the lock is not ours."""
    if result.exit_code == state.EXIT_FENCED:
        raise Fenced(result.host, "another controller has taken over; nothing was changed")
    if result.exit_code == state.EXIT_BUSY:
        raise RemoteError(result.host, "another command still works on the same target")
