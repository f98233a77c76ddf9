"""Back to what ran before: each instance's own earlier release, as it lies on its host.

Image, compose block and env file of that time together; neither a registry nor a template is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fabfile.drivers.preflight import everywhere, failed, refuse
from fabfile.drivers.prepare import Preparation, Prepared, earlier_release, release_of
from fabfile.inventory.model import Instance
from fabfile.remote import records, state
from fabfile.rollout.plan import Release, Target
from fabfile.rollout.recovery import going_back
from fabfile.runtimes.facts import HostFacts

LOOK_TIMEOUT = 30.0
"""Deadline in seconds."""


class Rollback(Preparation):
    """Prepares a rollback; ``wish.version`` is ``--to``, or empty: what ran before."""

    def _run(self, dry: bool) -> Prepared:
        facts = self._preflight()
        aims = self._aims(facts)
        if not dry and any(self._now(facts, i) != aim for i, aim in aims.items()):
            self._lock()
            facts, readings = self._look_again()
            aims = self._aims(facts)
        else:
            readings = self._read(self._pool.read())
        targets = [
            Target(instance, aim, self._now(facts, instance), self._records(instance, readings))
            for instance, aim in aims.items()
        ]
        plan = self._plan(targets, readings, next(iter(aims.values())).digest)
        plan = replace(plan, version=", ".join(sorted({aim.version for aim in aims.values()})))
        return self._ready(going_back(plan, {i.id: aim for i, aim in aims.items()}), readings)

    @staticmethod
    def _now(facts: Mapping[str, HostFacts], instance: Instance) -> Release | None:
        return earlier_release(facts[instance.host], instance)

    def _aims(self, facts: Mapping[str, HostFacts]) -> dict[Instance, Release]:
        """Where each instance goes. Refuses, before anything changed, what no host has."""
        instances = [i for host in self._wish.hosts for i in self._service.instances_on(host)]
        to = self._wish.version
        if to:
            found = {i: kept(facts[i.host], i, to) for i in instances}
        else:
            found = self._before(facts, instances)
        what = f"no release of {to} is kept here" if to else "nothing is known of what ran before"
        refuse([f"{i.host}: {i.name}: {what}" for i, aim in found.items() if aim is None])
        return {i: aim for i, aim in found.items() if aim is not None}

    def _before(
        self, facts: Mapping[str, HostFacts], instances: list[Instance]
    ) -> dict[Instance, Release | None]:
        scripts = dict.fromkeys(self._wish.hosts, state.history())
        results = everywhere(self._remotes, scripts, "read the history", LOOK_TIMEOUT)
        refuse([failed(result) for result in results.values() if not result.ok])
        histories = {host: state.parse_history(r.stdout) for host, r in results.items()}
        return {
            i: before(self._now(facts, i), i, histories[i.host], facts[i.host]) for i in instances
        }


def kept(facts: HostFacts, instance: Instance, version: str) -> Release | None:
    """A release of ``instance`` at ``version`` that lies on its host; what runs, if it is that."""
    now = earlier_release(facts, instance)
    if now is not None and now.version == version:
        return now
    mine = [
        release
        for release in facts.kept.values()
        if release.get("instance") == instance.name and release.get("version") == version
    ]
    return release_of(mine[-1]) if mine else None


def before(
    now: Release | None,
    instance: Instance,
    history: list[state.Ended],
    facts: HostFacts,
) -> Release | None:
    """What ``instance`` was before the newest rollout that made it what it is now."""
    name = records.of_instance(instance.service, instance.name)
    for ended in history:
        record = ended.instances.get(name, {})
        wanted, earlier = record.get("wanted"), record.get("earlier")
        if ended.facts.get("verdict") != "done" or not isinstance(earlier, dict):
            continue
        if now is not None and isinstance(wanted, dict) and wanted.get("id") != now.id:
            continue
        if isinstance(wanted, dict) and wanted.get("id") == earlier.get("id"):
            continue  # a restart: what was before it is the same
        if earlier.get("id") in facts.kept:
            return release_of(facts.kept[earlier["id"]])
    return None
