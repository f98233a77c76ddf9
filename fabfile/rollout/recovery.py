"""An unfinished rollout: what was found of it, and the plan that ends it.

Nothing here looks at a host. A driver fills in :class:`Found` from the journals, containers and
balancers as they are, :func:`replan` makes of it a plan for the ordinary engine, and
:func:`report` tells a person both.

What resume and abort mean never depends on how often a recovery was itself stopped: resume ends
on the releases that the rollout wanted, abort on those that were there before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from fabfile.balancers.model import ServerReading, ServerRecord, ServerRef
from fabfile.rollout.plan import Plan, Release, Target, Task

Journal = Literal["open", "ahead", "done", "absent", "unknown"]
"""An undo record. open: written and not done yet, whatever else lies there · ahead: written before
its turn, and nobody of ours has touched what it speaks of · unknown: the host that would have it
can't be asked."""
Recovery = Literal["resume", "abort", "repair"]


@dataclass(frozen=True)
class FoundInstance:
    """One instance on its host."""

    release: str | None
    """Id of the release its container was made of; ``None``: no container, or none of ours."""
    running: bool
    record: Journal
    settled: bool = True
    """What the host would start is what the container is. False: a change was begun and its
    outcome is not known, or somebody else began one."""
    container: str = ""
    """Id of its container."""


@dataclass(frozen=True)
class FoundServer:
    """One server on its balancer."""

    record: Journal
    reading: ServerReading | None
    """``None``: its balancer can't be asked."""
    undo: ServerRecord | None = None
    """What the record on the balancer's host says, which may be newer than the plan: an operator
    changed the server before its turn, or in the middle of it."""


@dataclass(frozen=True)
class Found:
    """What a controller that takes over has learned. A host that can't be asked is in
    ``unreachable`` and its instances may be missing; likewise balancers and ``silent``."""

    plan: Plan
    """The highest complete one: the rollout's own, or that of a recovery that was stopped too."""
    instances: Mapping[str, FoundInstance]
    """By instance id: those of the plan's targets."""
    servers: Mapping[ServerRef, FoundServer]
    """Every server of the plan's baseline and targets."""
    unreachable: tuple[str, ...] = ()
    """Application hosts that can't be asked."""
    silent: tuple[str, ...] = ()
    """Ids of balancers that can't be asked."""

    def server(self, ref: ServerRef) -> FoundServer:
        """``ref``, as far as anybody knows."""
        return self.servers.get(ref, FoundServer("unknown", None))

    def instance(self, target: Target) -> FoundInstance | None:
        """``target``'s container; ``None``: its host can't be asked."""
        if target.instance.host in self.unreachable:
            return None
        return self.instances.get(target.instance.id)

    def is_open(self, target: Target) -> bool:
        """Whether any undo record of it is open, so that it may be out of rotation."""
        instance = self.instance(target)
        records = [instance.record] if instance and not self.is_ahead(target) else []
        return "open" in [*records, *(self.server(ref).record for ref in target.refs)]

    def is_ahead(self, target: Target) -> bool:
        """It was recorded before its turn, which had not come: only its own record is open.

        All of its records are written before anything else happens to it, and a server that is
        ordered out has its record opened first.
        """
        records = {self.server(ref).record for ref in target.refs}
        return "ahead" in records and records <= {"ahead", "absent", "done"}

    @property
    def ahead(self) -> tuple[Target, ...]:
        """Those whose own open record means nothing, since their turn had not come."""
        return tuple(
            target
            for target in self.plan.targets
            if self.is_ahead(target)
            and (instance := self.instance(target)) is not None
            and instance.record == "open"
        )

    def runs(self, target: Target) -> Release | None:
        """What ``target``'s container runs now; ``None``: nothing, or nothing of ours."""
        found = self.instance(target)
        if found is None or not found.running or found.release is None:
            return None
        for release in (target.wanted, target.earlier, target.runs):
            if release is not None and release.id == found.release:
                return release
        return Release(found.release, "unknown version", "")


def replan(
    found: Found, mode: Recovery, identity: str, *, owner: str = "", reason: str = ""
) -> Plan:
    """The plan that ends the rollout that ``found`` speaks of; ``identity`` is the plan's own id.

    Weights and states to put back are those the rollout recorded, never those of now. Where a
    server has no open undo record it is nobody's but its operator's: it keeps what it has now.
    """
    frozen = found.plan
    plan = replace(
        frozen,
        id=identity,
        of=frozen.journal,
        mode=mode,
        owner=owner or frozen.owner,
        reason=reason,
        baseline=_kept(found, frozen.baseline),
    )
    return replace(plan, targets=tuple(_decided(plan, target, found) for target in frozen.targets))


def going_back(plan: Plan, to: Mapping[str, Release]) -> Plan:
    """``plan``, a fresh one of what runs now, with each instance on its way to ``to``, by its id.

    An instance that runs that already, or that ``to`` does not name, stays untouched.
    """
    policy = plan.policy
    if policy.on_failure == "rollback":  # a rollback is never rolled back
        policy = replace(policy, on_failure="hold")
    targets = []
    for target in plan.targets:
        wanted = to.get(target.instance.id, target.earlier)
        change = wanted is not None and wanted != target.earlier
        target = replace(target, wanted=wanted or target.wanted, change=change, returning=True)
        targets.append(target)
    return replace(plan, mode="rollback", policy=policy, targets=tuple(targets))


def _kept(found: Found, records: Iterable[ServerRecord]) -> tuple[ServerRecord, ...]:
    return tuple(_as_meant(record, found.server(record.ref)) for record in records)


def _as_meant(record: ServerRecord, server: FoundServer) -> ServerRecord:
    """What has to be there in the end: what was recorded, or what an operator has made of it."""
    if server.record == "open" and server.undo is not None:
        return replace(record, uweight=server.undo.uweight, admin=server.undo.admin)
    if server.reading is None or server.record in ("open", "unknown"):
        return record
    return replace(record, uweight=server.reading.uweight, admin=server.reading.admin)


def _decided(plan: Plan, target: Target, found: Found) -> Target:
    target = replace(
        target, servers=_kept(found, target.servers), runs=found.runs(target), task="roll"
    )
    if not target.change:
        return replace(target, task="none")
    instance = found.instance(target)
    if instance is None:
        # Nobody knows what it runs, so only a repair may pass it over, and only where every
        # balancer says that it left nothing out of rotation.
        records = {found.server(ref).record for ref in target.refs}
        closed = records <= {"done", "absent", "ahead"}
        passed = plan.mode == "repair" and target.servers and closed
        return replace(target, task="none" if passed else "stay")
    decide = _task_of_open if found.is_open(target) else _task_of_closed
    return replace(target, task=decide(plan, target, found, instance))


def _task_of_closed(plan: Plan, target: Target, _: Found, instance: FoundInstance) -> Task:
    """Nothing of it is out of rotation by our doing."""
    aim = plan.aim(target)
    if plan.mode == "repair" or aim is None:
        return "none"
    if instance.release != aim.id or not instance.settled:
        return "roll"
    if plan.mode == "resume" and _still_there(target, instance):
        return "roll"
    # An earlier release that stopped by itself is not ours to start; what was asked for is.
    return "none" if instance.running or plan.mode == "abort" else "roll"


def _task_of_open(plan: Plan, target: Target, found: Found, instance: FoundInstance) -> Task:
    """It may be out of rotation, anywhere between its first record and its last."""
    aim = plan.aim(target)
    checked = all(_checks(found.server(ref)) for ref in target.refs)
    if plan.mode == "repair" and not instance.running and target.earlier is not None:
        return "replace"
    if plan.mode == "repair" and aim is None:
        # A container that is none of ours can only be judged by the balancers themselves.
        return "return" if instance.running and instance.release is None and checked else "stay"
    if aim is None:
        if checked:
            return "vacate"
        return "return" if target.runs == target.wanted and instance.settled else "stay"
    if target.runs != aim or not instance.settled:
        return "replace"
    if plan.mode == "resume" and _still_there(target, instance):
        return "replace"
    return "close" if all(_is_back(r, found.server(r.ref)) for r in target.servers) else "return"


def _still_there(target: Target, instance: FoundInstance) -> bool:
    """The container that a restart is to replace has not gone yet."""
    return bool(target.container) and instance.container == target.container


def _checks(server: FoundServer) -> bool:
    return server.reading is not None and server.reading.checked


def _is_back(record: ServerRecord, server: FoundServer) -> bool:
    seen = server.reading
    if seen is None or (seen.uweight, seen.admin) != (record.uweight, record.admin):
        return False
    if record.check_port not in (None, seen.check_port):
        return False
    return seen.up or record.admin != "ready"


# what a person reads


@dataclass(frozen=True)
class _Line:
    target: Target
    plan: Plan
    found: Found

    def text(self) -> str:
        parts = [self._runs(), *self._out()]
        return f"{self.target.instance.id}: {', '.join(parts)} -> {self._will()}"

    def _runs(self) -> str:
        instance = self.found.instance(self.target)
        if instance is None:
            return "its host can't be asked"
        if not instance.running:
            return "no container runs"
        runs = self.target.runs
        text = f"runs {runs.version}" if runs else "runs a container that is none of ours"
        return text if instance.settled else f"{text} while a change was under way"

    def _out(self) -> list[str]:
        found = []
        for record in self.target.servers:
            server = self.found.server(record.ref)
            seen, name = server.reading, record.ref.balancer
            if seen is None:
                found.append(f"{name} can't be asked")
            elif (seen.uweight, seen.admin) != (record.uweight, record.admin):
                found.append(f"{name} has it {_state(seen)} instead of {_state(record)}")
            elif not _is_back(record, server):
                found.append(f"{name} sees it down")
        return found

    def _will(self) -> str:
        aim, runs = self.plan.aim(self.target), self.target.runs
        version = aim.version if aim else ""
        anew = self.target.container and self.plan.mode == "resume"
        match self.target.task:
            case "roll":
                what = "is restarted" if anew else f"goes to {version}"
                return f"{what} when there is capacity for it"
            case "return":
                kept = version or (runs.version if runs else "what runs")
                return f"comes back with {kept} as soon as it is healthy"
            case "replace":
                what = "is restarted" if anew else f"gets {version}"
                return f"leaves rotation where it is still in it, {what}, comes back"
            case "close":
                return "is back already; its record is closed"
            case "vacate":
                kept = f"{runs.version} stays if it is healthy" if runs else "checks keep it out"
                return f"had nothing before: weight and state come back, {kept}"
            case "stay":
                return "stays as it is, recorded: nothing healthy can be put back"
            case _:
                return "stays"


def _state(server: ServerReading | ServerRecord) -> str:
    weight = f"at weight {server.uweight}"
    return weight if server.admin == "ready" else f"in {server.admin} {weight}"


def report(found: Found, plan: Plan) -> list[str]:
    """What was found and what ``plan``, made of it, is going to do: lines for a person."""
    frozen = found.plan
    lines = [
        f"{plan.mode}: rollout {plan.of} of {plan.service} to {plan.version},"
        f" begun by {frozen.owner or 'somebody'}"
        + (f", {frozen.mode} of it begun ({frozen.id})" if frozen.of else "")
    ]
    lines += [
        f"{host}: can't be reached; if it is gone for good: --drop {host}"
        for host in found.unreachable
    ]
    lines += [
        f"{name}: this balancer can't be asked; to go on without it: --without-balancer {name},"
        f" or --drop {name} if it is gone for good"
        for name in found.silent
    ]
    lines += [_Line(target, plan, found).text() for target in plan.changing]
    lines += _operators(found, plan)
    rest = len(plan.targets) - len(plan.changing)
    if rest:
        lines.append(f"{rest} of {len(plan.targets)} instances stay untouched")
    if not plan.changing:
        lines.append("nothing has to be done")
    return lines


def _operators(found: Found, plan: Plan) -> list[str]:
    """Changes by somebody else, which are kept."""
    return [
        f"{now.ref}: {_state(now)} instead of {_state(was)}, changed by somebody: kept"
        for was, now in zip(found.plan.baseline, plan.baseline, strict=True)
        if (was.uweight, was.admin) != (now.uweight, now.admin)
    ]
