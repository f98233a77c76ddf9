"""What an unfinished rollout has to do without: hosts and balancers that are gone, today's changes.

A recovery ends the rollout by its frozen plan. What that plan names and the inventory no longer
has, or what will never answer again, is given up by name (``--drop``), and only by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace

from fabfile.balancers.model import BackendReading, ServerRef
from fabfile.drivers.balancers import record_of
from fabfile.drivers.without import Outside, all_balancers
from fabfile.errors import BadInput
from fabfile.inventory.model import Instance, Service
from fabfile.rollout.events import Notice
from fabfile.rollout.plan import Plan, Target


@dataclass(frozen=True)
class Gone:
    """What the flags of a recovery say is gone."""

    drop: tuple[str, ...] = ()
    """For good: hosts, or balancers."""
    without: tuple[str, ...] = ()
    """For now: balancers."""
    allow_loss: bool = False


@dataclass(frozen=True)
class Missing:
    """What is left out of the end of one rollout."""

    hosts: tuple[str, ...] = ()
    """Application hosts, given up."""
    dropped: tuple[str, ...] = ()
    """Ids of balancers, given up."""
    silent: tuple[str, ...] = ()
    """Ids of balancers that can't be asked for now."""

    @property
    def balancers(self) -> tuple[str, ...]:
        """Every balancer that is left out."""
        return (*self.dropped, *self.silent)


def _host_of(balancer: str) -> str:
    return balancer.split("/", 1)[0]


def hosts_of(plan: Plan) -> list[str]:
    """The application hosts of ``plan``."""
    return list(dict.fromkeys(target.instance.host for target in plan.targets))


def balancers_of(plan: Plan) -> list[str]:
    """The ids of the balancers that ``plan`` has records of."""
    records = [r for target in plan.targets for r in target.servers]
    return list(dict.fromkeys(r.ref.balancer for r in [*records, *plan.baseline]))


def missing(
    plan: Plan, service: Service, gone: Gone, unreachable: Iterable[str], outside: Outside
) -> Missing:
    """What the end of ``plan`` does without.

    Raises :class:`BadInput` for a name that nobody knows, for one that is not gone, and for what
    is gone from the inventory without having been named; :class:`PreflightFailed` for a balancer
    that can't be asked and may still serve.
    """
    today, hosts, ids = all_balancers(service), hosts_of(plan), balancers_of(plan)
    every = list(dict.fromkeys([*ids, *plan.without, *today]))
    _check_names(gone, [*hosts, *service.hosts], every)
    given_up = tuple(host for host in hosts if host in gone.drop)
    dropped = tuple(b for b in every if {b, _host_of(b)} & set(gone.drop))
    silent = tuple(b for b in every if {b, _host_of(b)} & set(gone.without) - set(dropped))
    vanished = [host for host in hosts if host not in service.hosts and host not in given_up]
    vanished += [b for b in ids if b not in today and b not in (*dropped, *silent)]
    if vanished:
        flags = " ".join(f"--drop {name}" for name in vanished)
        raise BadInput(
            f"rollout {plan.journal} touched {', '.join(vanished)}, which the inventory no longer"
            f" has: put it back there, or give it up with `{flags}`"
        )
    for host in given_up:
        if host in service.hosts and host not in unreachable:
            raise BadInput(f"--drop: {host} can be reached: nothing of it has to be given up")
    for flag, named in (("--drop", dropped), ("--without-balancer", silent)):
        known = [b for b in named if b in today]
        outside.check(known, flag=flag, allow_loss=gone.allow_loss)
    still = [b for b in plan.without if b in today and b not in (*dropped, *silent)]
    still = [b for b in still if not outside.answers(today[b])]
    outside.check(still, flag="--drop", allow_loss=gone.allow_loss or plan.allow_loss)
    return Missing(given_up, dropped, (*silent, *still))


def _check_names(gone: Gone, hosts: list[str], balancers: list[str]) -> None:
    ids = [name for b in balancers for name in (b, _host_of(b))]
    for flag, names, known in (
        ("--drop", gone.drop, [*hosts, *ids]),
        ("--without-balancer", gone.without, ids),
    ):
        for name in names:
            if name not in known:
                listed = ", ".join(dict.fromkeys(known))
                raise BadInput(
                    f"{flag}: {name} is neither in the rollout nor in the inventory: {listed}"
                )


def reduced(plan: Plan, gone: Missing) -> Plan:
    """``plan`` without what is missing; what is given up with a host no longer counts as
    capacity either."""
    away = set(gone.balancers)
    lost = {ref for t in plan.targets if t.instance.host in gone.hosts for ref in t.refs}
    names = (*plan.dropped, *gone.hosts, *gone.dropped)
    batches = (tuple(h for h in batch if h not in gone.hosts) for batch in plan.batches)
    return replace(
        plan,
        targets=tuple(_kept(t, away) for t in plan.targets if t.instance.host not in gone.hosts),
        baseline=tuple(
            r for r in plan.baseline if r.ref.balancer not in away and r.ref not in lost
        ),
        batches=tuple(filter(None, batches)),
        summed=tuple(b for b in plan.summed if b not in away),
        without=tuple(dict.fromkeys(gone.silent)),
        dropped=tuple(dict.fromkeys(names)),
    )


def _kept(target: Target, away: set[str]) -> Target:
    return replace(target, servers=tuple(r for r in target.servers if r.ref.balancer not in away))


def joined(
    plan: Plan, service: Service, readings: Mapping[str, BackendReading]
) -> tuple[Plan, list[str]]:
    """``plan`` with the balancers that serve its instances today and that it knows nothing of:
    one that was away when it was made, or is new. Also their ids."""
    new = [name for name in readings if name not in balancers_of(plan)]
    if not new:
        return plan, []

    def refs(instance: Instance) -> list[ServerRef]:
        found = [
            ServerRef(b.id, b.spec.backend, service.server_name(b.spec, instance))
            for b in service.balancers_of(instance.host)
            if b.id in new
        ]
        return [ref for ref in found if ref.server in readings[ref.balancer].servers]

    targets = [
        replace(
            target,
            servers=(
                *target.servers,
                *(record_of(ref, readings[ref.balancer]) for ref in refs(target.instance)),
            ),
        )
        for target in plan.targets
    ]
    every = [ref for host in service.hosts for i in service.instances_on(host) for ref in refs(i)]
    baseline = (*plan.baseline, *(record_of(ref, readings[ref.balancer]) for ref in every))
    return replace(plan, targets=tuple(targets), baseline=baseline), new


def differences(plan: Plan, service: Service) -> list[str]:
    """What hosts.yaml says today that the frozen plan does not; the plan holds."""
    lines = []
    if not plan.chosen:
        new = [host for host in service.hosts if host not in hosts_of(plan)]
        if new and not plan.dropped:
            lines.append(f"{', '.join(new)}: in hosts.yaml, but not in this rollout")
    counts = {host: len(plan.on(host)) for host in hosts_of(plan)}
    other = [host for host, count in counts.items() if count != service.instances]
    if other:
        lines.append(
            f"{', '.join(other)}: {counts[other[0]]} instances in this rollout,"
            f" {service.instances} in hosts.yaml"
        )
    for name, was, now in (
        ("rollout", plan.policy, service.rollout),
        ("drain", plan.drain, service.drain),
    ):
        for one in fields(was):
            old, new_value = getattr(was, one.name), getattr(now, one.name)
            if old != new_value:
                lines.append(
                    f"{name}.{one.name}: {_shown(old)} in this rollout, {_shown(new_value)} in"
                    " hosts.yaml"
                )
    return lines


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def tell(outside: Outside, plan: Plan, service: Service) -> None:
    """Say what hosts.yaml has of it that the plan has not."""
    for line in differences(plan, service):
        outside.emit(Notice(f"{line}: the rollout's holds"))
