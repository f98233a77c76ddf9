"""``hosts`` and ``groups`` of hosts.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path as FilePath

from fabfile.inventory import model, schema
from fabfile.inventory.checking import check, check_name, entries, require
from fabfile.inventory.mistakes import Mistakes, Path, did_you_mean, shown
from fabfile.inventory.values import direct

ALL = "all"
"""The group every host belongs to; it is there without being written down."""


def hosts(
    raw: Mapping[str, object], defaults: schema.SshEdge, mistakes: Mistakes, root: FilePath
) -> dict[str, model.Host]:
    """The hosts that can be used, in the order of the file."""
    found: dict[str, model.Host] = {}
    for name, block in raw.items():
        path = ("hosts", name)
        check_name(path, mistakes)
        edge = check(schema.HostEdge, {} if block is None else block, path, mistakes, root)
        if edge is not None and (host := _host(name, edge, block, defaults, mistakes)):
            found[name] = host
    _check_gateways(found, raw, mistakes)
    _check_addresses(found, mistakes)
    return found


def _host(
    name: str,
    edge: schema.HostEdge,
    raw: object,
    defaults: schema.SshEdge,
    mistakes: Mistakes,
) -> model.Host | None:
    connection = edge.get("connection", "ssh")
    address = edge.get("address", "127.0.0.1" if connection == "local" else "")
    if not address:
        require(["address"], raw, ("hosts", name), mistakes)
        return None
    ssh = {**defaults, **edge.get("ssh", {})}
    if ssh.get("gateway") == name and "gateway" not in edge.get("ssh", {}):
        # The gateway everybody else goes through by default is itself reached without one.
        ssh["gateway"] = None
    return model.Host(
        name=name,
        address=address,
        internal=edge.get("internal", address),
        ssh=model.Ssh(**ssh),  # type: ignore[arg-type]
        connection=connection,
        labels=edge.get("labels", {}),
    )


def _gateway_path(host: str, mistakes: Mistakes) -> Path:
    """Where the gateway of ``host`` was written: with the host, or in the defaults."""
    own: Path = ("hosts", host, "ssh", "gateway")
    return own if own in mistakes.places else ("defaults", "ssh", "gateway")


def _check_gateways(
    found: Mapping[str, model.Host], raw: Mapping[str, object], mistakes: Mistakes
) -> None:
    in_circles: set[str] = set()
    for name, host in found.items():
        gateway = host.ssh.gateway
        if gateway is None or host.connection == "local" or direct(gateway):
            continue
        path = _gateway_path(name, mistakes)
        if gateway not in raw:
            near = did_you_mean(gateway, raw)
            mistakes.add(path, f"no host {shown(gateway)}{near}; user@host:port is allowed too")
        elif gateway in found and found[gateway].connection == "local":
            mistakes.add(path, f"{gateway} is this machine: leave the gateway out")
        elif name not in in_circles and (circle := _circle(name, found)):
            in_circles.update(circle)
            way = " -> ".join([*circle, name])
            mistakes.add(
                ("hosts", name, "ssh", "gateway"),
                f"the gateways go in a circle: {way} (gateway: null takes a default back)",
            )


def _circle(start: str, found: Mapping[str, model.Host]) -> list[str]:
    """The hosts from ``start`` through gateways back to it; empty where there is no way back."""
    way, name = [start], found[start].ssh.gateway
    while name is not None and name in found and name not in way:
        way.append(name)
        name = found[name].ssh.gateway
    return way if name == start else []


def _check_addresses(found: Mapping[str, model.Host], mistakes: Mistakes) -> None:
    """Two names for one machine would count its capacity twice and let two lanes work on it."""
    seen: dict[tuple[object, ...], str] = {}
    for name, host in found.items():
        local = host.connection == "local"
        key = ("local",) if local else (host.address, host.ssh.port or 22, host.ssh.gateway)
        first = seen.setdefault(key, name)
        if first == name:
            continue
        if local:
            mistakes.add(("hosts", name), f"{first} is this machine already", at_key=True)
        else:
            same = f"{first} has the same address and port"
            mistakes.add(("hosts", name, "address"), f"{same}: one machine, one name")


def groups(
    raw: Mapping[str, object], names: Mapping[str, object], mistakes: Mistakes, root: FilePath
) -> dict[str, tuple[str, ...]]:
    """Every group with the names of its hosts in inventory order, ``all`` included.

    A group that could not be read is there with what is known of it.
    """
    members: dict[str, set[str]] = {}
    inner: dict[str, list[str]] = {}
    broken: set[str] = set()
    for name, block in raw.items():
        path = ("groups", name)
        before = len(mistakes)
        _check_group_name(path, names, mistakes)
        edge = check(schema.GroupEdge, {} if block is None else block, path, mistakes, root)
        fields = block if isinstance(block, dict) else {}
        members[name], inner[name] = set(), []
        edge = edge or {}
        for index, host in entries(fields.get("hosts"), edge.get("hosts", [])):
            members[name].add(host)
            _check_known(host, "host", names, raw, (*path, "hosts", index), mistakes)
        for index, group in entries(fields.get("groups"), edge.get("groups", [])):
            inner[name].append(group)
            if group != ALL:
                _check_known(group, "group", raw, names, (*path, "groups", index), mistakes)
        if len(mistakes) > before:
            broken.add(name)
    members[ALL], inner[ALL] = set(names), []
    circles = _circles(inner, mistakes)
    reach = {name: {name, *_reachable(name, inner)} for name in members}
    for name in raw:
        known = [other for other in reach[name] if other in members]
        if not any(members[other] or other in broken for other in known) and name not in circles:
            mistakes.add(("groups", name), "the group is empty", at_key=True)
    resolved = {}
    for name in members:
        wanted = set().union(*(members.get(group, ()) for group in reach[name]))
        resolved[name] = tuple(host for host in names if host in wanted)
    return resolved


def _check_group_name(path: Path, names: Mapping[str, object], mistakes: Mistakes) -> None:
    check_name(path, mistakes)
    if path[-1] == ALL:
        mistakes.add(path, "the group all is there anyway and holds every host", at_key=True)
    elif path[-1] in names:
        mistakes.add(path, "there is a host of the same name", at_key=True)


def _check_known(
    name: str,
    kind: str,
    known: Mapping[str, object],
    other: Mapping[str, object],
    path: Path,
    mistakes: Mistakes,
) -> None:
    if name in known:
        return
    if name in other:
        what = "a group: put it under groups" if kind == "host" else "a host: put it under hosts"
        mistakes.add(path, f"{name} is {what}")
    else:
        mistakes.add(path, f"no {kind} {shown(name)}{did_you_mean(name, known)}")


def _reachable(start: str, inner: Mapping[str, list[str]]) -> dict[str, str]:
    """Every group inside ``start`` and the group it was found in; ``start`` too if in a circle."""
    found: dict[str, str] = {}
    todo = [start]
    while todo:
        group = todo.pop()
        for child in inner.get(group, ()):
            if child not in found:
                found[child] = group
                todo.append(child)
    return found


def _circles(inner: Mapping[str, list[str]], mistakes: Mistakes) -> set[str]:
    """Report every circle once; the groups that are part of one."""
    reported: set[str] = set()
    for name in inner:
        found = _reachable(name, inner)
        if name not in found or name in reported:
            continue
        way = [name]
        while len(way) == 1 or way[-1] != name:
            way.append(found[way[-1]])
        reported.update(way)
        text = " -> ".join(reversed(way))
        mistakes.add(("groups", name, "groups"), f"the groups hold each other: {text}")
    return reported
