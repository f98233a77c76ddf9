"""An unfinished rollout's journal, as it lies on all its hosts: what of it can be believed.

A file may be cut short, edited by hand or written by a later Evenkeel. The plan is on every host,
so one that can be read is enough; a record says the same as the plan (or that an operator changed
the server), so that one can be written anew. Nothing here looks at a host; ``drivers.recover``
does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args

from fabfile.balancers.model import Admin, ServerRecord, ServerRef
from fabfile.errors import EvenkeelError, NeedsRepair, PreflightFailed
from fabfile.remote import state
from fabfile.rollout.plan import FORMAT, NewerFormat, Plan

Hosts = Mapping[str, state.Unfinished]
"""What each host knows of one rollout."""
Expected = Mapping[str, Mapping[str, object]]
"""By host: the records that the plan would write there, by name."""
BY_HAND = 'docs/hosts.md, "When a journal is damaged", says how to end it by hand'


@dataclass(frozen=True)
class Damage:
    """One file that is not as it was written."""

    host: str
    rollout: str
    file: str
    """Inside the rollout's folder."""
    what: str
    instead: str
    """What counts in its place."""
    text: str | None = None
    """What is to be written in its place; ``None``: nothing."""

    def __str__(self) -> str:
        return f"{path(self.rollout, self.file)} {self.what}: {self.instead}"


def path(rollout: str, file: str) -> str:
    """Where a file of a rollout lies on its host."""
    return f"{state.ROOT}/rollouts/{rollout}/{file}"


def service_of(entries: Iterable[state.Unfinished]) -> str:
    """Whose rollout this is; empty: nothing that is left of it says so."""
    for entry in entries:
        for text in entry.plans.values():
            raw = _json(text)
            if isinstance(raw, dict) and isinstance(raw.get("service"), str):
                return str(raw["service"])
    for entry in entries:
        for name in (*entry.undo, *entry.done):
            if found := re.fullmatch(r"instance\.(.+)\.[^.]+", name):
                return found[1]
    return ""


@dataclass(frozen=True)
class _Read:
    host: str
    number: int
    plan: Plan | None
    what: str = ""


@dataclass(frozen=True)
class Believed:
    """The plans of a rollout, after a look at all of them."""

    plan: Plan
    """The one that counts."""
    number: int
    """The highest in use, by whatever file."""
    plans: tuple[Plan, ...]
    """All that can be read."""
    damage: tuple[Damage, ...]


def believed(rollout: str, hosts: Hosts) -> Believed:
    """Which plan counts, and which do not.

    Raises :class:`PreflightFailed` for a plan of a newer Evenkeel, for several that contradict
    each other, and where none can be read; :class:`NeedsRepair` for the last where something may
    be out of rotation.
    """
    reads = [
        _read(rollout, host, number, text)
        for host, entry in hosts.items()
        for number, text in entry.plans.items()
    ]
    good = [read for read in reads if read.plan is not None]
    if not good:
        raise _nothing(rollout, hosts, reads)
    top = max(read.number for read in good)
    plan = _agreed(rollout, [read for read in good if read.number == top])
    damage = []
    for read in reads:
        what = read.what
        if read.plan is not None and read.number == top and read.plan != plan:
            # Of two recoveries that could not see each other's hosts, the later one counts.
            what = "says something else than the others" if read.plan.id == plan.id else ""
        if what:
            instead = f"kept aside; plan {top} of {_where(good, plan)} counts"
            damage.append(Damage(read.host, rollout, _plan_file(read.number), what, instead))
    plans = tuple(read.plan for read in good if read.plan)
    return Believed(plan, max(read.number for read in reads), plans, tuple(damage))


@lru_cache(maxsize=16)
def _parsed(text: str) -> Plan | ValueError:
    """The hosts of a large fleet all hold the same long text: it is read once."""
    try:
        return Plan.from_json(text)
    except ValueError as error:
        return error


def _read(rollout: str, host: str, number: int, text: str) -> _Read:
    plan = _parsed(text)
    if isinstance(plan, NewerFormat):
        file = path(rollout, _plan_file(number))
        raise PreflightFailed(f"nothing was changed: {host}: {file} was {plan}")
    if isinstance(plan, ValueError):
        return _Read(host, number, None, _why(text, str(plan)))
    if plan.journal != rollout:
        return _Read(host, number, None, f"is of another rollout, {plan.journal}")
    return _Read(host, number, plan)


def _plan_file(number: int) -> str:
    return f"plan-{number:04}.json"


def _where(reads: Sequence[_Read], plan: Plan) -> str:
    return ", ".join(read.host for read in reads if read.plan == plan)


def _agreed(rollout: str, reads: Sequence[_Read]) -> Plan:
    latest = max(read.plan.id for read in reads if read.plan)
    mine = [read for read in reads if read.plan and read.plan.id == latest]
    counts: list[tuple[int, Plan]] = []
    for read in mine:
        assert read.plan is not None
        if all(read.plan != plan for _, plan in counts):
            counts.append((sum(other.plan == read.plan for other in mine), read.plan))
    counts.sort(key=lambda one: one[0], reverse=True)
    if len(counts) > 1 and counts[0][0] == counts[1][0]:
        files = ", ".join(f"{r.host}: {path(rollout, _plan_file(r.number))}" for r in mine)
        raise PreflightFailed(
            f"nothing was changed: the plans of rollout {rollout} contradict each other and none"
            f" has a majority ({files}): copy the right one over the others"
        )
    return counts[0][1]


def _nothing(rollout: str, hosts: Hosts, reads: Sequence[_Read]) -> EvenkeelError:
    named = [f"{r.host}: {path(rollout, _plan_file(r.number))} {r.what}" for r in reads]
    files = "; ".join(named) or f"no plan-*.json under {path(rollout, '')}"
    text = (
        f"nothing was changed: rollout {rollout} has no plan that can be read ({files}); {BY_HAND}"
    )
    still_open = [
        f"{host}: {path(rollout, f'undo/{name}.json')}: {_told(record)}"
        for host, entry in hosts.items()
        for name, record in entry.undo.items()
    ]
    if still_open:
        return NeedsRepair(text, detail="\n".join(["what it had not put back yet:", *still_open]))
    return PreflightFailed(text)


def _told(text: str) -> str:
    raw = _json(text)
    if not isinstance(raw, dict):
        return "can't be read"
    if "uweight" in raw:
        port = raw.get("check_port")
        checks = "" if port is None else f", check-port {port}"
        return f"weight {raw['uweight']}, {raw.get('admin')}{checks}"
    earlier = raw.get("earlier")
    return f"release {earlier.get('id')}" if isinstance(earlier, dict) else "nothing was there"


def damaged(rollout: str, hosts: Hosts, plans: Iterable[Plan], expected: Expected) -> list[Damage]:
    """Everything else that is not as it was written, and what takes its place.

    ``plans``: all that can be read, since a record was written by one of them. A record is judged
    by what it says is to be put back. Raises :class:`PreflightFailed` for a newer Evenkeel's.
    """
    weights: set[tuple[str, str, object, object]] = {
        (record.ref.backend, record.ref.server, record.uweight, record.admin)
        for plan in plans
        for target in plan.targets
        for record in target.servers
    }
    found = []
    for host, entry in hosts.items():
        if entry.finished:
            what = "can't be read, and there are records that are not done"
            instead = "kept aside; the rollout counts as unfinished"
            found.append(Damage(host, rollout, "finished.json", what, instead))
        for folder, records in (("undo", entry.undo), ("done", entry.done)):
            for name, text in records.items():
                file = f"{folder}/{name}.json"
                wanted = expected.get(host, {}).get(name)
                _refuse_newer(host, path(rollout, file), text)
                what = _wrong(text, wanted, weights)
                if what:
                    found.append(_of_record(host, rollout, file, what, wanted))
    return found


def _of_record(host: str, rollout: str, file: str, what: str, wanted: object) -> Damage:
    if wanted is None:
        return Damage(host, rollout, file, what, "kept aside")
    text = json.dumps(wanted, sort_keys=True)
    return Damage(host, rollout, file, what, f"kept aside; the plan says {_told(text)}", text)


def _refuse_newer(host: str, file: str, text: str) -> None:
    raw = _json(text)
    number = raw.get("format") if isinstance(raw, dict) else None
    if isinstance(number, int) and number > FORMAT:
        error = NewerFormat(number)
        raise PreflightFailed(f"nothing was changed: {host}: {file} was {error}")


def _wrong(text: str, wanted: Any, weights: set[tuple[str, str, object, object]]) -> str:
    """What is wrong with a record; empty: nothing."""
    raw = _json(text)
    if not isinstance(raw, dict):
        return _why(text, "is no record")
    if wanted is None:
        return "belongs to nothing in the plan"
    if wanted["kind"] == "server":
        ref = wanted["ref"]
        said = (ref["backend"], ref["server"], raw.get("uweight"), raw.get("admin"))
        theirs = raw.get("changed") is True  # an operator's, written down by who noticed
        if theirs and server_record(text, ServerRef(**ref)):
            return ""
        return "" if _known(said, weights) else f"was changed: {_told(text)}"
    ids = {_id(raw.get("earlier")), _id(raw.get("wanted"))}
    return "" if ids == {_id(wanted["earlier"]), _id(wanted["wanted"])} else "was changed"


def server_record(text: str, ref: ServerRef) -> ServerRecord | None:
    """What a record of ``ref`` says is to be put back; ``None`` where that can't be read."""
    try:
        raw = json.loads(text)
        uweight, admin, process = int(raw["uweight"]), raw["admin"], int(raw["process"])
        port = raw.get("check_port")
        port = port if port is None else int(port)
    except (KeyError, TypeError, ValueError):
        return None
    if admin not in get_args(Admin) or not 0 <= uweight <= 256:
        return None
    return ServerRecord(ref, uweight, admin, process, port)


def _known(said: tuple[object, ...], weights: set[tuple[str, str, object, object]]) -> bool:
    try:
        return said in weights
    except TypeError:  # a list, say, where a number has to be
        return False


def _id(release: object) -> str:
    return str(release.get("id")) if isinstance(release, dict) else ""


def _why(text: str, otherwise: str) -> str:
    if not text:
        return "is empty"
    if _json(text) is None:
        return "is cut short" if not text.endswith("}") else "is no longer JSON"
    return f"can't be used ({otherwise})"


def _json(text: str) -> Any:
    """``text`` as JSON; ``None`` where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return None
