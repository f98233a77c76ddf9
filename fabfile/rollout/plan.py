"""What one rollout is going to do, frozen before the first change.

A plan is written to every host it touches, as JSON, and is all that recovery needs: it never
reads today's inventory, templates or registry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from fabfile.balancers.model import ServerRecord, ServerRef
from fabfile.inventory.model import Count as _Count
from fabfile.inventory.model import Drain, Hooks, Instance, RolloutPolicy

FORMAT = 2
"""Since 2 a server's record says where its checks go. A plan of 1 is read as well."""


class NewerFormat(ValueError):
    """Written by a later Evenkeel, in a format nobody here can know."""

    def __init__(self, number: int) -> None:
        super().__init__(f"made by a newer Evenkeel (format {number}); use that one")


Mode = Literal["deploy", "rollback", "restart", "resume", "abort", "repair"]
"""deploy: to the wanted releases · rollback: the same, to older ones; never undone by itself ·
restart: every container anew, of the release it has.

The others end an unfinished rollout: resume goes on to the wanted releases, abort takes every
instance to its own earlier one, repair puts weights and states back and changes no version.
"""
Task = Literal["roll", "return", "replace", "close", "vacate", "stay", "none"]
"""What is to be done for one instance.

roll: the ordinary lane · none: nothing. The others are recovery's, for an instance that has an
open undo record, so that it may be out of rotation. return: its container is the right one, it
comes back · replace: its container has to change, from a state nobody knows · close: all of it
is as recorded, the record alone is open · vacate: nothing was there before, weight and state come
back and its balancers' checks keep out what is not healthy · stay: nothing can be done for it,
and it stays recorded.
"""


@dataclass(frozen=True)
class Release:
    """What an instance is: an image, its compose block and its env file, under one id."""

    id: str
    version: str
    digest: str
    image: str = field(default="", compare=False)
    """``repository@digest``; empty in plans from before it was written down."""

    def __str__(self) -> str:
        return f"{self.version} ({self.id})"


@dataclass(frozen=True)
class Target:
    """One instance of the plan."""

    instance: Instance
    wanted: Release
    earlier: Release | None
    """What it was before; ``None``: there was no container, or none of ours."""
    servers: tuple[ServerRecord, ...]
    """It on each balancer, with the weight and state to put back."""
    change: bool = True
    """False: it was what is wanted before the rollout, and stays untouched."""
    task: Task = "roll"
    runs: Release | None = None
    """Recovery's: what its container was found to run; ``None``: it does not run."""
    returning: bool = False
    """It goes back to a release it had before: no hook may stop it."""
    container: str = ""
    """A restart's: id of the container that has to go, though its release stays. As long as it is
    there, nothing was done; another one of that release is what is wanted."""

    @property
    def refs(self) -> tuple[ServerRef, ...]:
        """The full names of its servers."""
        found: tuple[ServerRef, ...] | None = self.__dict__.get("_refs")
        if found is None:  # kept, since a large plan is asked a million times
            found = self.__dict__["_refs"] = tuple([record.ref for record in self.servers])
        return found

    def back(self) -> Target:
        """The same instance on its way to the release it had before."""
        assert self.earlier is not None
        return replace(
            self,
            wanted=self.earlier,
            earlier=self.wanted,
            change=True,
            task="roll",
            runs=None,
            returning=True,
            container="",
        )


@dataclass(frozen=True)
class Plan:
    """One rollout of one service."""

    id: str
    service: str
    version: str
    digest: str
    owner: str
    reason: str
    batches: tuple[tuple[str, ...], ...]
    targets: tuple[Target, ...]
    """In the order they are upgraded."""
    baseline: tuple[ServerRecord, ...]
    """Every server of every backend, the service's other hosts included: 100% capacity."""
    summed: tuple[str, ...] = ()
    """Balancers whose capacity also counts together (``hosts: self``)."""
    policy: RolloutPolicy = field(default_factory=RolloutPolicy)
    drain: Drain = field(default_factory=Drain)
    allow_outage: bool = False
    chosen: bool = False
    """The hosts were picked by hand: a subset is a choice, not drift."""
    mode: Mode = "deploy"
    watch: float = 0.0
    """Seconds that the end of a batch may wait for enough requests to judge its instances by."""
    of: str = ""
    """Recovery's: the rollout it ends. Targets, batches and policy are that rollout's."""
    hooks: Hooks = field(default_factory=Hooks)

    without: tuple[str, ...] = ()
    """Ids of balancers that could not be asked and are left out: they serve nobody."""
    allow_loss: bool = False
    """They may serve all the same: that was accepted."""
    dropped: tuple[str, ...] = ()
    """Recovery's: hosts and balancers that were given up, with all that was recorded of them."""

    @property
    def journal(self) -> str:
        """Whose folder on the hosts holds this plan and its records."""
        return self.of or self.id

    @property
    def changing(self) -> tuple[Target, ...]:
        """The targets that something is to be done for."""
        return tuple(target for target in self.targets if target.change and target.task != "none")

    @property
    def first_host(self) -> str:
        """The first of the selected hosts: where a hook of the whole rollout runs."""
        return self.targets[0].instance.host

    @property
    def way_back(self) -> bool:
        """It goes to earlier releases, which no hook may stop."""
        return any(target.returning for target in self.targets)

    @property
    def restarts(self) -> bool:
        """It changes no release: it is a restart, or ends one."""
        return any(target.container for target in self.targets)

    def aim(self, target: Target) -> Release | None:
        """The release ``target`` has to end on; ``None``: nothing that could be put there."""
        if self.mode == "repair":
            # It changes no version; where nothing runs at all, what was there before comes back.
            return target.runs or (target.earlier if target.task == "replace" else None)
        return target.earlier if self.mode == "abort" else target.wanted

    def on(self, host: str) -> tuple[Target, ...]:
        """The targets on ``host``."""
        return tuple(target for target in self.targets if target.instance.host == host)

    def to_json(self) -> str:
        """The plan as it is written to the hosts."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what :meth:`to_json` wrote.

        Raises :class:`NewerFormat` for what a later Evenkeel wrote, ``ValueError`` for anything
        else.
        """
        try:
            raw = json.loads(text)
            found = raw.pop("format")
            if isinstance(found, int) and found > FORMAT:
                raise NewerFormat(found)
            if found not in (1, FORMAT):
                raise ValueError(f"not a plan: format {found}")
            return _plan(raw)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a plan: {error}") from error


def _record(raw: Mapping[str, Any]) -> ServerRecord:
    record = ServerRecord(**{**raw, "ref": ServerRef(**raw["ref"])})
    if type(record.uweight) is not int or not 0 <= record.uweight <= 256:
        raise ValueError(f"not a plan: {record.ref} has the weight {record.uweight!r}")
    if record.check_port is not None and type(record.check_port) is not int:
        raise ValueError(f"not a plan: {record.ref} is checked at {record.check_port!r}")
    return record


def _release(raw: Mapping[str, Any] | None) -> Release | None:
    return None if raw is None else Release(**raw)


def _target(raw: Mapping[str, Any]) -> Target:
    return Target(
        Instance(**raw["instance"]),
        Release(**raw["wanted"]),
        _release(raw["earlier"]),
        tuple(map(_record, raw["servers"])),
        raw["change"],
        raw.get("task", "roll"),
        _release(raw.get("runs")),
        raw.get("returning", False),
        raw.get("container", ""),
    )


def _plan(raw: dict[str, Any]) -> Plan:
    policy = dict(raw["policy"])
    policy["serial"] = tuple(_Count(**count) for count in policy["serial"])
    return Plan(
        **{
            **raw,
            "batches": tuple(map(tuple, raw["batches"])),
            "targets": tuple(map(_target, raw["targets"])),
            "baseline": tuple(map(_record, raw["baseline"])),
            "summed": tuple(raw["summed"]),
            "without": tuple(raw.get("without", ())),
            "dropped": tuple(raw.get("dropped", ())),
            "policy": RolloutPolicy(**policy),
            "drain": Drain(**raw["drain"]),
            "hooks": Hooks(**raw.get("hooks", {})),
        }
    )
