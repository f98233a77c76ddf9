"""What has to be put back of one instance or server: recorded ahead, open, closed.

An instance that is recorded before its turn (``rollout.engine``) has its servers' records in
``ahead/``, where they mean nothing yet. The command that takes a server out of rotation moves its
record to ``undo/`` first: so a rollout that ends in between has left that server alone, and whoever
takes over knows it.

Builders return shell text and run nothing. ``remote.state`` says what lies where.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from fabfile.remote import state
from fabfile.remote.quoting import q
from fabfile.remote.scripts import script

SHELL = Path(__file__).parent / "shell"


class Known(Protocol):
    """What one host knows of a rollout's instances, by id."""

    @property
    def ahead(self) -> Collection[str]:
        """A server of theirs here is recorded and was not touched."""
        ...

    @property
    def touched(self) -> Collection[str]:
        """A server of theirs here was."""
        ...


def only_recorded(hosts: Iterable[Known]) -> set[str]:
    """Instances whose turn has not come: no server of theirs was touched on any of ``hosts``."""
    ahead: set[str] = set()
    touched: set[str] = set()
    for known in hosts:
        ahead.update(known.ahead)
        touched.update(known.touched)
    return ahead - touched


def of_instance(service: str, instance: str) -> str:
    """Name of an instance's record."""
    return f"instance.{service}.{instance}"


def of_server(backend: str, server: str) -> str:
    """Name of a server's record, on its balancer's host."""
    return f"server.{backend}.{server}"


def _path(rollout: str) -> str:
    return f"{state.ROOT}/rollouts/{rollout}"


def _folder(rollout: str) -> str:
    """As a shell word."""
    return q(_path(rollout))


def write(rollout: str, records: Mapping[str, object], *, ahead: bool = False) -> str:
    """Write down what has to be put back; ``records`` by file name without ``.json``.

    ``ahead``: those of servers, before the turn of their instance.
    """
    parts = ["umask 002"]
    for name, record in records.items():
        waits = ahead and name.startswith("server.")
        parts.append(_written(_folder(rollout), name, json.dumps(record, sort_keys=True), waits))
    return " || exit 71\n".join(parts)


def _written(folder: str, name: str, text: str, waits: bool) -> str:
    place = f"{folder}/ahead" if waits else f"{folder}/undo"
    written = state.durable(f"{place}/{q(name)}.json", text, place)
    return written if waits else f"{written} && {_no_longer_ahead(folder, name)}"


def _no_longer_ahead(folder: str, name: str) -> str:
    """It is rarely there: to look costs no program."""
    file = f"{folder}/ahead/{q(name)}.json"
    return f"{{ [ ! -e {file} ] || rm -f {file}; }}"


def opening(rollout: str, names: Sequence[str], effect: str, unless: int) -> str:
    """``effect``, which touches the servers of these records: what was written ahead counts from
    the moment before it.

    Where it ends with ``unless`` it has touched nothing, and what this opened is closed again. Ends
    with 71, and nothing is touched, where one of them was never written or can't be opened. May be
    said again.
    """
    if not names:
        return effect
    return f"""{script(SHELL / "open.sh", at=_path(rollout), names=names)}(
{effect}
)
ek_code=$?
[ $ek_code -ne {unless} ] || ek_unopen
exit $ek_code
"""


def close(rollout: str, names: Iterable[str]) -> str:
    """What these records speak of was put back, or is what was wanted."""
    folder = _folder(rollout)
    moves = "\n".join(
        f"if [ -e {folder}/undo/{q(name)}.json ]; then"
        f" mv -f {folder}/undo/{q(name)}.json {folder}/done/{q(name)}.json || exit 71; fi\n"
        f"{_no_longer_ahead(folder, name)}"
        for name in names
    )
    return f"{moves}\nsync {folder}/done {folder}/undo"


def forget(rollout: str, names: Iterable[str]) -> str:
    """Nothing that these records speak of was ever touched."""
    folder = _folder(rollout)
    files = " ".join(f"{folder}/undo/{q(name)}.json" for name in names)
    return f"rm -f {files} && sync {folder}/undo" if files else "true"
