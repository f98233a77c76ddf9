"""What has to be put back of one instance or server: recorded ahead, open, closed.

An instance that is recorded before its turn (``rollout.engine``) has its servers' records in
``ahead/``, where they mean nothing yet. The command that takes a server out of rotation moves its
record to ``undo/`` first: so a rollout that ends in between has left that server alone, and whoever
takes over knows it.

Builders return shell text and run nothing. ``remote.state`` says what lies where.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from fabfile.remote import state
from fabfile.remote.quoting import q


def of_instance(service: str, instance: str) -> str:
    """Name of an instance's record."""
    return f"instance.{service}.{instance}"


def of_server(backend: str, server: str) -> str:
    """Name of a server's record, on its balancer's host."""
    return f"server.{backend}.{server}"


def _folder(rollout: str) -> str:
    return f"{state.ROOT}/rollouts/{q(rollout)}"


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
    return written if waits else f"{written} && rm -f {folder}/ahead/{q(name)}.json"


def open_now(rollout: str, names: Iterable[str]) -> str:
    """Their servers are about to be touched: what was written ahead counts from here on.

    May be said again; ends with 71, and nothing may be touched, where it can't be done.
    """
    folder = _folder(rollout)
    return "".join(
        f"if [ -e {folder}/ahead/{q(name)}.json ]; then"
        f" mv -f {folder}/ahead/{q(name)}.json {folder}/undo/{q(name)}.json"
        f" && sync {folder}/undo {folder}/ahead || exit 71; fi\n"
        for name in names
    )


def close(rollout: str, names: Iterable[str]) -> str:
    """What these records speak of was put back, or is what was wanted."""
    folder = _folder(rollout)
    moves = "\n".join(
        f"if [ -e {folder}/undo/{q(name)}.json ]; then"
        f" mv -f {folder}/undo/{q(name)}.json {folder}/done/{q(name)}.json || exit 71; fi\n"
        f"rm -f {folder}/ahead/{q(name)}.json"
        for name in names
    )
    return f"{moves}\nsync {folder}/done {folder}/undo"


def forget(rollout: str, names: Iterable[str]) -> str:
    """Nothing that these records speak of was ever touched."""
    folder = _folder(rollout)
    files = " ".join(f"{folder}/undo/{q(name)}.json" for name in names)
    return f"rm -f {files} && sync {folder}/undo" if files else "true"
