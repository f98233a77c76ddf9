"""What everything that changes balancers by hand stands on: nobody else at work, locks, records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from fabfile.drivers.balancers import backend_key
from fabfile.drivers.identity import new_id, whoami
from fabfile.drivers.locks import Claim, Locks, check_fence
from fabfile.drivers.preflight import everywhere, failed, refuse
from fabfile.errors import Locked
from fabfile.inventory.model import Balancer, Service
from fabfile.remote import drained, state
from fabfile.remote.pool import Remotes
from fabfile.rollout.events import Event, Notice

TIMEOUT = 30.0
"""Deadline in seconds of reading or writing records."""
BY_HAND = ("drain-", "enable-", "maintenance-")
"""How the owners of such locks begin. One whose holder died is taken over: its records say all."""

_MARK = "== evenkeel locks"


class Footing:
    """The locks of some balancers' backends, and the records on their hosts.

    A context manager: leaving gives the locks back.
    """

    def __init__(
        self,
        service: Service,
        balancers: Iterable[Balancer],
        remotes: Remotes,
        emit: Callable[[Event], None],
        task: str,
        reason: str,
        wait: float,
        *,
        beside: bool = False,
    ) -> None:
        """``task`` begins the locks' owner; ``wait``: seconds to wait for others' locks."""
        # beside: an unfinished rollout has nothing to do with it.
        self._beside = beside
        self.by = whoami().partition(":")[0]
        self.records: dict[tuple[str, str], drained.Drained] = {}
        """What is recorded, by balancer's host and the record's name."""
        self._service = service
        self._balancers = tuple(balancers)
        self._remotes = remotes
        self._emit = emit
        self._owner = f"{task}-{new_id()}"
        self._facts = {"by": whoami(), "reason": reason or f"fab {task}"}
        self._wait = wait
        self._locks: Locks | None = None

    def __enter__(self) -> Footing:
        """Take the locks, and see that no rollout is unfinished. Raises :class:`Locked`."""
        # A rollout at work holds these locks, and is waited for as long as was asked for.
        dead = self._look(unfinished=True)
        locks = Locks(
            self._remotes,
            self._owner,
            [Claim(b.host, backend_key(b)) for b in self._balancers],
            self._facts,
            lambda host: self._emit(Notice("its lock was taken over", host)),
            notice=lambda host, text: self._emit(Notice(text, host)),
            wait=self._wait,
            over=dead,
        )
        locks.acquire()
        self._locks = locks
        try:
            self._look(unfinished=self._beside)
        except BaseException:
            locks.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._locks is not None:
            self._locks.release()

    def fence(self, host: str, keys: Iterable[str], effect: str) -> str:
        """``effect``, only while these locks of ``host`` are ours."""
        assert self._locks is not None
        return self._locks.fence(host, keys, effect)

    def note(self, records: Mapping[str, Sequence[drained.Drained]]) -> None:
        """Write records, by host. Raises :class:`PreflightFailed`, before anything else changed."""
        self._fenced({host: (mine, drained.write(mine)) for host, mine in records.items() if mine})

    def forget(self, records: Mapping[str, Sequence[drained.Drained]]) -> None:
        """Remove records, by host."""
        self._fenced({host: (mine, drained.remove(mine)) for host, mine in records.items() if mine})

    def _fenced(self, effects: Mapping[str, tuple[Sequence[drained.Drained], str]]) -> None:
        scripts = {
            host: self.fence(host, sorted({record.key for record in mine}), effect)
            for host, (mine, effect) in effects.items()
        }
        results = everywhere(self._remotes, scripts, "record who drained it", TIMEOUT)
        for result in results.values():
            check_fence(result)
        refuse([failed(result) for result in results.values() if not result.ok])

    def _look(self, *, unfinished: bool) -> list[str]:
        """Learn what is recorded; returns whose locks of this kind there are.

        Raises :class:`Locked` for an ``unfinished`` rollout, unless there may be one.
        """
        self.records.clear()
        script = f"{state.unfinished()}printf '%s\\n' '{_MARK}'\n{state.locks()}{drained.show()}"
        hosts = dict.fromkeys((b.host for b in self._balancers), script)
        owners: set[str] = set()
        for host, result in everywhere(self._remotes, hosts, "look for records", TIMEOUT).items():
            refuse([] if result.ok else [failed(result)])
            rollouts, _, rest = result.stdout.partition(_MARK)
            if not unfinished:
                self._refuse_unfinished(host, rollouts)
            owners |= {held.owner for held in state.parse_locks(rest)}
            for record in drained.parse(rest):
                self.records[host, record.name] = record
        return sorted(owner for owner in owners if owner.startswith(BY_HAND))

    def _refuse_unfinished(self, host: str, text: str) -> None:
        for line in text.splitlines():
            rollout, _, service = line.partition(" ")
            if service.strip() in ("", self._service.name):
                raise Locked(
                    f"{host}: rollout {rollout} is at work or was never finished: `fab resume`"
                    " finishes it, `fab abort` goes back, `fab repair` only puts weights back"
                )
