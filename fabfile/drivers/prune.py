"""After a rollout that went well: releases and journals that nobody goes back to any more.

Each host is looked at, and loses what is surplus by the look, under the locks of the rollout. What
can't be removed is said and stays; it never makes a rollout fail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fabfile.drivers.balancers import backend_key
from fabfile.drivers.preflight import everywhere, failed
from fabfile.drivers.prepare import Prepared
from fabfile.remote import journal, state
from fabfile.remote.base import Result
from fabfile.rollout.events import Event, Notice
from fabfile.runtimes import compose

PRUNE_TIMEOUT = 60.0
"""Deadline in seconds of each of the two looks at a host."""
KEEP_JOURNALS = 50
"""Ended rollouts of a service that each host remembers."""
PRUNING = ("deploy", "rollback", "resume")
"""After a repair or an abort nothing is removed: nobody knows yet where things go from there."""


@dataclass(frozen=True)
class Surplus:
    """What one host can do without."""

    releases: tuple[compose.Kept, ...] = ()
    journals: tuple[str, ...] = ()


def surplus(
    shelf: compose.Shelf,
    history: Sequence[state.Ended],
    service: str,
    keep: int,
    journals: int = KEEP_JOURNALS,
) -> Surplus:
    """What may go: of each instance all but ``keep`` releases beside those in use.

    The newest are kept, by when they last ran or were staged; what `fab rollback` would go back
    to now, always. Another service's releases and journals are none of ours. ``history`` is the
    newest first.
    """
    mine = [release for release in shelf.releases if release.service == service]
    needed = shelf.in_use | {
        earlier
        for release in mine
        if release.id in shelf.in_use
        for earlier in _before(release.id, history)
    }
    gone = []
    for instance in {release.instance for release in mine}:
        own = [r for r in mine if r.instance == instance and r.id not in shelf.in_use]
        own.sort(key=lambda r: (r.id in needed, r.used, r.id), reverse=True)
        gone += own[keep:]
    left = {release.id for release in shelf.releases} - {release.id for release in gone}
    return Surplus(tuple(gone), _old(history, service, left, journals))


def _before(release: str, history: Sequence[state.Ended]) -> list[str]:
    """What ran before the newest rollout that made an instance be ``release``."""
    for ended in history:
        for record in ended.instances.values():
            earlier = _id(record, "earlier")
            if _id(record, "wanted") != release or earlier == release:  # the latter: a restart
                continue
            if ended.facts.get("verdict") == "done":
                return [earlier]
    return []


def _old(
    history: Sequence[state.Ended], service: str, left: set[str], most: int
) -> tuple[str, ...]:
    """Journals beyond the newest ``most``; never one that says what a kept release was before.

    One that is unfinished or damaged stays.
    """
    mine = [one for one in history if one.ended and one.facts and one.service == service]
    needed: dict[str, str] = {}
    for one in mine:
        if one.facts.get("verdict") == "done":
            for record in one.instances.values():
                if {_id(record, "wanted"), _id(record, "earlier")} <= left:
                    needed.setdefault(_id(record, "wanted"), one.rollout)
    return tuple(one.rollout for one in mine[most:] if one.rollout not in needed.values())


def _id(record: Mapping[str, object], which: str) -> str:
    release = record.get(which)
    return str(release.get("id", "")) if isinstance(release, dict) else ""


def prune(prepared: Prepared, emit: Callable[[Event], None]) -> None:
    """Remove what is surplus after ``prepared`` was carried out; its locks are still held."""
    if prepared.locks is None or prepared.plan.mode not in PRUNING:
        return
    try:
        _Pruning(prepared, emit).run()
    except Exception as error:  # whatever it is: the rollout went well, and must end so
        emit(Notice(f"old releases stay for now: {error or type(error).__name__}"))


class _Pruning:
    def __init__(self, prepared: Prepared, emit: Callable[[Event], None]) -> None:
        self._prepared = prepared
        self._emit = emit
        self._service = prepared.service
        plan = prepared.plan
        self._apps = tuple(host for batch in plan.batches for host in batch)
        self._keys: dict[str, set[str]] = {}
        for host in self._apps:
            self._keys.setdefault(host, set()).add(compose.project_key(self._service))
            for balancer in self._service.balancers_of(host):
                self._keys.setdefault(balancer.host, set()).add(backend_key(balancer))

    def run(self) -> None:
        found = {host: self._surplus(host, text) for host, text in self._look().items()}
        scripts = {host: self._script(host, what) for host, what in found.items()}
        results = self._everywhere({host: text for host, text in scripts.items() if text})
        words = [line.split(" ")[0] for r in results.values() for line in r.stdout.splitlines()]
        said = [
            f"{count} old {what}"
            for word, what in (("pruned", "releases"), ("forgot", "journals"))
            if (count := words.count(word))
        ]
        if said:
            self._emit(Notice(f"removed {' and '.join(said)} on {len(results)} hosts"))

    def _look(self) -> dict[str, str]:
        past = state.history()
        shelf = compose.shelf_script(self._service)
        scripts = {
            host: f"{shelf}echo\necho == history\n{past}" if host in self._apps else past
            for host in self._keys
        }
        return {host: r.stdout for host, r in self._everywhere(scripts).items() if r.ok}

    def _surplus(self, host: str, text: str) -> Surplus:
        shelf, _, past = text.partition("\n== history\n") if host in self._apps else ("", "", text)
        return surplus(
            compose.read_shelf(shelf),
            state.parse_history(past),
            self._service.name,
            self._prepared.plan.policy.keep_releases,
        )

    def _script(self, host: str, what: Surplus) -> str:
        locks = self._prepared.locks
        assert locks is not None
        parts = []
        if what.releases:
            # In a shell of its own: what goes wrong there keeps no journal from being removed.
            parts.append(f"(\n{compose.prune_script(self._service, what.releases)})\n")
        if what.journals:
            parts.append(journal.forget(what.journals))
        return locks.fence(host, self._keys[host], "".join(parts)) if parts else ""

    def _everywhere(self, scripts: Mapping[str, str]) -> dict[str, Result]:
        results = everywhere(self._prepared.remotes, scripts, "prune", PRUNE_TIMEOUT)
        for result in results.values():
            if not result.ok:
                self._emit(Notice(f"old releases stay for now: {failed(result)}"))
            elif result.stderr.strip():
                text = result.stderr.strip().splitlines()[-1]
                self._emit(Notice(f"an old release stays for now: {text}", result.host))
        return results
