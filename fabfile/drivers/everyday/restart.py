"""Every container anew, of the release it has: the way of a deploy, without a new release.

Neither a registry nor a template is asked. What has to go is known by its container's id, frozen in
the plan: so a recovery sees which instances were restarted, and one that was is not done again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fabfile.balancers.model import BackendReading
from fabfile.drivers.preflight import refuse
from fabfile.drivers.prepare import Preparation, Prepared, release_of
from fabfile.inventory.model import Instance
from fabfile.rollout.plan import Target
from fabfile.runtimes.facts import HostFacts

Facts = Mapping[str, HostFacts]


class Restart(Preparation):
    """Prepares a restart; ``wish.version`` is empty."""

    def _run(self, dry: bool) -> Prepared:
        facts = self._preflight()
        self._refuse_strange(facts)
        if not dry:
            self._lock()
            facts, readings = self._look_again()
            self._refuse_strange(facts)
        else:
            readings = self._read(self._pool.read())
        targets = [self._again(facts, instance, readings) for instance in self._instances()]
        versions = ", ".join(sorted({target.wanted.version for target in targets}))
        plan = self._plan(targets, readings, targets[0].wanted.digest)
        policy = plan.policy
        if policy.on_failure == "rollback":  # there is nothing else to go back to
            policy = replace(policy, on_failure="hold")
        plan = replace(plan, mode="restart", version=versions, policy=policy)
        return self._ready(plan, readings)

    def _instances(self) -> list[Instance]:
        return [i for host in self._wish.hosts for i in self._service.instances_on(host)]

    def _again(
        self, facts: Facts, instance: Instance, readings: Mapping[str, BackendReading]
    ) -> Target:
        fact = facts[instance.host]
        container = fact.container(instance)
        assert container is not None
        release = release_of(fact.kept[container.release])
        records = self._records(instance, readings)
        return Target(instance, release, release, records, container=container.id)

    def _refuse_strange(self, facts: Facts) -> None:
        """Refuse instances that nobody could say how to make anew."""
        problems = []
        for instance in self._instances():
            fact = facts[instance.host]
            container = fact.container(instance)
            if container is None:
                problems.append(
                    f"{instance.host}: {instance.name} has no container: `fab provision.app`"
                )
            elif container.release not in fact.kept:
                problems.append(
                    f"{instance.host}: {instance.name} runs a container that is no release of"
                    " ours: `fab deploy` makes it one"
                )
        refuse(problems)
