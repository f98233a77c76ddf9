"""All balancers of a service as one: asked and changed side by side; every one must agree.

Each balancer has one :class:`BalancerHand`. Whatever lanes want of it at the same time travels in
one command, and every change is read back in that same command.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar
from weakref import WeakSet

from fabfile.balancers.haproxy import change, observe, parse, preflight, sessions, shell
from fabfile.balancers.haproxy.change import AsLeft
from fabfile.balancers.model import BackendReading, ServerRecord, ServerRef
from fabfile.drivers.combiner import Combiner
from fabfile.drivers.locks import check_fence
from fabfile.errors import EvenkeelError, OutcomeUnknown, RemoteError
from fabfile.inventory.model import Balancer, Service
from fabfile.remote import records, state
from fabfile.remote.base import Command, Lines
from fabfile.remote.pool import Remotes, Urgent

Fence = Callable[[str, Iterable[str], str], str]
"""``(host, keys, effect) -> effect while the locks are ours``; see ``locks.Locks.fence``."""

Answer = TypeVar("Answer")

POLL_TIMEOUT = 10.0
CHANGE_TIMEOUT = 20.0
"""Deadlines in seconds of one question and of one change."""
REST = 3.0
"""Understanding what a backend of hundreds of servers says costs processor time: that many times as
long nobody asks it again. For a small one that is less than a millisecond."""
RELOAD_PATIENCE = 5.0
RELOAD_PAUSE = 0.1
"""Seconds a HAProxy may be without an answer before that is a failure, and between two tries."""


def backend_key(balancer: Balancer) -> str:
    """Name of the lock of one backend on one balancer's socket."""
    return state.key("backend", balancer.spec.socket, balancer.spec.backend)


def process_key(balancer: Balancer) -> str:
    """Name of the lock of a balancer's process and its configuration file."""
    return state.key("process", balancer.spec.config)


@dataclass(frozen=True)
class Change:
    """Runtime commands that belong together; empty: only a reading is wanted."""

    commands: tuple[str, ...] = ()
    only_if: tuple[AsLeft, ...] = ()
    """How servers have to stand for the commands to be sent."""
    servers: frozenset[str] | None = None
    """Those whose reading is wanted; ``None``: of all."""
    opens: tuple[str, ...] = ()
    """Names of records that were written ahead, and count from the moment before it is sent."""
    rollout: str = ""
    """Whose records these are."""


def _merged(batch: Sequence[Change]) -> Change:
    """All of ``batch`` on one trip."""
    wanted = [change.servers for change in batch]
    whole = frozenset().union(*(some for some in wanted if some is not None))
    return Change(
        tuple(command for change in batch for command in change.commands),
        tuple(server for change in batch for server in change.only_if),
        None if None in wanted else whole,
        tuple(name for change in batch for name in change.opens),
        next((change.rollout for change in batch if change.opens), ""),
    )


class BalancerHand:
    """One balancer; thread-safe."""

    def __init__(self, balancer: Balancer, remotes: Remotes | Urgent, fence: Fence | None) -> None:
        """Without ``fence`` it can only be read."""
        self.balancer = balancer
        self.pins = True
        """Clients may be bound to one server; unless a preflight ruled it out, they are."""
        self.parks = False
        """A server that is being replaced can be parked (``change.park``)."""
        self._remotes = remotes
        self._fence = fence
        self._lines: Lines | None = None
        self._asking = threading.Lock()
        self._rested = 0.0
        """On the monotonic clock: when it may be read again."""
        self._hopeless = False
        """It was waited for in vain: until it answers again, nobody waits once more."""
        self._failed_changes: WeakSet[EvenkeelError] = WeakSet()
        self._sent: WeakSet[EvenkeelError] = WeakSet()
        """Went wrong after a change was sent: its condition held, and need not hold any more."""
        self._trips: Combiner[Change, BackendReading] = Combiner(self._trip)

    def read(self, servers: frozenset[str] | None = None) -> BackendReading:
        """A reading that was begun after this call. Raises :class:`RemoteError`.

        ``servers``: of these at least.
        """
        wanted = Change(servers=servers)
        try:
            return self._trips.ask(wanted)
        except EvenkeelError as error:
            if error not in self._failed_changes:
                raise
            return self.alone(wanted)  # it travelled with a change, and that is what went wrong

    def change(self, wanted: Change) -> BackendReading:
        """Send its commands chained; returns what the balancer shows afterwards.

        Raises :class:`EvenkeelError` for an answer that is not empty (kind ``changed``: nothing
        was sent, since a server is not as ``only_if`` says), :class:`OutcomeUnknown` when the
        connection broke.
        """
        return self._trips.ask(wanted)

    def alone(self, wanted: Change) -> BackendReading:
        """As :meth:`change` or :meth:`read`, on a trip that nobody else is on."""
        return self._trip([wanted])

    def again(self, wanted: Change, error: EvenkeelError) -> BackendReading:
        """As :meth:`alone`, after ``error``: where it was sent already, on no condition."""
        return self.alone(self._after(wanted, error))

    def _after(self, wanted: Change, error: EvenkeelError) -> Change:
        return replace(wanted, only_if=()) if error in self._sent else wanted

    def close(self) -> None:
        """End the conversation the readings come from."""
        if self._lines is not None:
            self._lines.close()

    def preflight(self, servers: Sequence[str]) -> list[preflight.Finding]:
        """What in this balancer's set-up speaks against draining ``servers``."""
        spec = self.balancer.spec
        text = self._run(preflight.preflight_script(spec), "look at HAProxy", POLL_TIMEOUT)
        self.pins = preflight.pins(spec, text)
        self.parks = not self.pins and preflight.parks(text)
        return preflight.preflight(self.balancer.id, spec, servers, text)

    def sessions(self, server: str) -> list[sessions.Session]:
        """Who is connected to ``server`` now, oldest first. Raises :class:`RemoteError`."""
        spec = self.balancer.spec
        text = self._run(sessions.sessions_script(spec), "show sess", POLL_TIMEOUT)
        return sessions.who(text, spec.backend, server)

    def _trip(self, batch: Sequence[Change]) -> BackendReading:
        whole = _merged(batch)
        try:
            return self._patiently(whole)
        except EvenkeelError as error:
            if whole.commands:
                self._failed_changes.add(error)
            raise

    def _patiently(self, wanted: Change) -> BackendReading:
        ends: float | None = None
        while True:
            try:
                text = self._send(wanted) if wanted.commands else self._poll(wanted)
                began = time.thread_time()
                found = self._understood(text)
                self._rested = time.monotonic() + REST * (time.thread_time() - began)
                self._hopeless = False
                return found
            except (shell.Unusable, parse.Unreadable) as problem:
                # A master that reloads does not answer for a moment, and a change may reach a
                # worker that is on its way out; all of our commands may be said twice.
                passing = getattr(problem, "kind", "") in ("", "not-running", "no-socket")
                # From the first refusal: the way there may have taken long.
                ends = ends or time.monotonic() + RELOAD_PATIENCE
                if not passing or self._hopeless or time.monotonic() > ends:
                    self._hopeless = self._hopeless or passing
                    raise
                wanted = self._after(wanted, problem)
                time.sleep(RELOAD_PAUSE)

    def _understood(self, text: str) -> BackendReading:
        try:
            return observe.read_backend(self.balancer.id, self.balancer.spec.backend, text)
        except EvenkeelError as error:
            self._sent.add(error)
            raise

    def _poll(self, wanted: Change) -> str:
        with self._asking:
            time.sleep(max(0.0, self._rested - time.monotonic()))
            return self._poll_in_turn(wanted.servers)

    def _poll_in_turn(self, servers: frozenset[str] | None) -> str:
        spec = self.balancer.spec
        try:
            if self._lines is None:
                transport = self._remotes.get(self.balancer.host)
                self._lines = transport.converse(
                    Command(observe.observer_script(spec), label="watch HAProxy"),
                    marker=observe.MARKER,
                )
            line = observe.request([spec.backend], servers)
            return self._lines.ask(line, timeout=POLL_TIMEOUT)
        except OutcomeUnknown:
            if self._lines is not None:
                self._lines.close()
            self._lines = None
            script = observe.poll_script(spec, [spec.backend], servers)
            return self._run(script, "ask HAProxy", POLL_TIMEOUT)

    def _send(self, wanted: Change) -> str:
        spec = self.balancer.spec
        assert self._fence is not None
        effect = change.change_script(
            spec,
            wanted.commands,
            read=[spec.backend],
            only_if=wanted.only_if,
            servers=wanted.servers,
        )
        keys = [backend_key(self.balancer)]
        effect = records.opening(wanted.rollout, wanted.opens, effect, shell.CHANGED)
        script = self._fence(self.balancer.host, keys, effect)
        text = self._run(script, "; ".join(wanted.commands)[:200], CHANGE_TIMEOUT)
        try:
            change.check_change(self.balancer.id, wanted.commands, text)
        except EvenkeelError as error:
            self._sent.add(error)
            raise
        return text

    def _run(self, script: str, label: str, timeout: float) -> str:
        host = self.balancer.host
        result = self._remotes.get(host).run(Command(script, timeout=timeout, label=label))
        if result.exit_code is None:
            raise OutcomeUnknown(host, f"{label}: {result.tail(1) or 'the connection broke'}")
        check_fence(result)
        problem: EvenkeelError | None = shell.problem(self.balancer.id, result)
        if problem is None and not result.ok:
            problem = RemoteError(host, f"{label}: {result.tail(1) or result.exit_code}")
        if problem is not None:
            if change.was_sent(result.stdout):
                self._sent.add(problem)
            raise problem
        return result.stdout


class Pool:
    """Every balancer of one service."""

    def __init__(
        self,
        service: Service,
        hosts: Iterable[str],
        remotes: Remotes | Urgent,
        fence: Fence | None,
    ) -> None:
        """``hosts`` are the application hosts whose balancers are meant."""
        self.service = service
        self.hands: dict[str, BalancerHand] = {}
        self._of_host: dict[str, tuple[Balancer, ...]] = {}
        for host in hosts:
            self._of_host[host] = service.balancers_of(host)
            for balancer in self._of_host[host]:
                if balancer.id not in self.hands:
                    self.hands[balancer.id] = BalancerHand(balancer, remotes, fence)
        self._threads = ThreadPoolExecutor(
            max_workers=max(4, min(64, 4 * len(self.hands))), thread_name_prefix="balancer"
        )

    @property
    def balancers(self) -> tuple[Balancer, ...]:
        """Each once."""
        return tuple(hand.balancer for hand in self.hands.values())

    def read(
        self, ids: Iterable[str] | None = None, servers: frozenset[str] | None = None
    ) -> dict[str, BackendReading | EvenkeelError]:
        """A fresh reading of each balancer, or why there is none, by balancer id.

        ``servers``: only these are asked for.
        """
        wanted = list(self.hands) if ids is None else list(ids)
        return self._each({name: partial(self.hands[name].read, servers) for name in wanted})

    def change(self, wanted: Mapping[str, Change]) -> dict[str, BackendReading | EvenkeelError]:
        """Change each balancer of ``wanted``; what each shows afterwards, or what went wrong."""
        return self._each({n: partial(self._alone, self.hands[n], w) for n, w in wanted.items()})

    @staticmethod
    def _alone(hand: BalancerHand, wanted: Change) -> BackendReading:
        try:
            return hand.change(wanted)
        except OutcomeUnknown:
            raise
        except EvenkeelError as error:
            # The trip may have carried others' commands too: one of those may be to blame.
            return hand.again(wanted, error)

    def _each(self, calls: Mapping[str, Callable[[], Answer]]) -> dict[str, Answer | EvenkeelError]:
        if len(calls) == 1:
            return {name: _caught(call) for name, call in calls.items()}
        pending = {name: self._threads.submit(_caught, call) for name, call in calls.items()}
        return {name: future.result() for name, future in pending.items()}

    def preflight(
        self, refs: Iterable[ServerRef], ids: Iterable[str]
    ) -> dict[str, list[preflight.Finding] | EvenkeelError]:
        """What speaks against draining ``refs``, for each balancer of ``ids``."""
        wanted: dict[str, list[str]] = {}
        for ref in refs:
            wanted.setdefault(ref.balancer, []).append(ref.server)
        calls: dict[str, Callable[[], list[preflight.Finding]]] = {
            name: partial(self.hands[name].preflight, wanted.get(name, ())) for name in ids
        }
        return self._each(calls)

    def who(self, refs: Iterable[ServerRef]) -> list[str]:
        """Whose sessions are open on these servers: ``192.0.2.7:51234 for 95 s on lb1``."""
        found = []
        for ref in refs:
            try:
                open_now = self.hands[ref.balancer].sessions(ref.server)
            except EvenkeelError:
                continue  # for the report alone: never a reason to stop
            found += [f"{s.client} for {s.age} s on {ref.balancer}" for s in open_now]
        return found

    def close(self) -> None:
        """End all conversations and threads."""
        for hand in self.hands.values():
            hand.close()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _caught(call: Callable[[], Answer]) -> Answer | EvenkeelError:
    try:
        return call()
    except EvenkeelError as error:
        return error


def record_of(ref: ServerRef, reading: BackendReading) -> ServerRecord:
    """What has to be put back for ``ref``; that it was left behind parked is no state to keep."""
    server = reading.servers[ref.server]
    port = 0 if server.check_port == change.PARKED else server.check_port
    return ServerRecord(
        ref, server.uweight, server.admin, reading.process, port if server.checked else None
    )
