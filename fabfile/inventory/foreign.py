"""Hosts that are written down somewhere else: an ssh_config, an Ansible inventory (INI or YAML).

Only what a beginning needs is read: names, addresses, ports, users, keys and groups. What lies in
Ansible's ``group_vars`` and ``host_vars`` folders, and what is computed, is not.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fabfile.errors import BadInput
from fabfile.inventory import fields
from fabfile.inventory.mistakes import did_you_mean, shown
from fabfile.inventory.starter import Machine, machine, renamed, unlike

FLAG = "--from"
MOST = 10_000
"""Hosts that one range may stand for."""


@dataclass(frozen=True)
class Foreign:
    """What a file of somebody else's describes."""

    machines: tuple[Machine, ...]
    groups: Mapping[str, tuple[str, ...]]
    """Names of hosts, as in ``machines``, by the group's own name."""
    config_file: str = ""
    """The ssh_config the hosts come from, where ssh would not read it by itself."""
    closed: bool = True
    """A name that is not in it is a mistake, unless an address is given with it."""

    def chosen(self, text: str, flag: str) -> tuple[Machine, ...]:
        """The hosts that names of groups or hosts (with commas) stand for.

        One that is unknown here has to be given with its address. Raises :class:`BadInput`.
        """
        known = {each.name: each for each in self.machines}
        found: list[Machine] = []
        for word in (word.strip() for word in text.split(",") if word.strip()):
            if word in self.groups:
                found += (known[name] for name in self.groups[word])
            elif word in known:
                found.append(known[word])
            elif self.closed and "=" not in word:
                near = did_you_mean(word, [*self.groups, *known])
                raise BadInput(f"{flag}: {FLAG} knows no host or group {shown(word)}{near}")
            else:
                found.append(machine(word, flag))
        if not found:
            raise BadInput(f"{flag}: names no host")
        unlike(found, flag)
        return tuple(dict.fromkeys(found))


def read(path: Path) -> Foreign:
    """What ``path`` holds, whatever it is. Raises :class:`BadInput`."""
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise BadInput(f"{FLAG}: {path}: not UTF-8") from None
    except (OSError, RuntimeError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise BadInput(f"{FLAG}: {path}: {why}") from None
    if path.suffix in (".yml", ".yaml"):
        found = _ansible(_from_yaml(text, path), path)
    elif re.search(r"^\s*host[\s=]+\S", text, re.IGNORECASE | re.MULTILINE):
        found = _ssh(text, path)
    else:
        found = _ansible(_from_ini(text, path), path)
    if not found.machines:
        raise BadInput(f"{FLAG}: {path}: no host is named in it")
    return found


# ssh_config


def _ssh(text: str, path: Path) -> Foreign:
    """Each ``Host`` that is a name and no pattern.

    The name itself is the address, because ssh_config is read again whenever that is connected
    to, with all it says of users, keys and jump hosts. Others reach it by its ``HostName``.
    """
    found: dict[str, Machine] = {}
    current: list[str] = []
    settings: dict[str, str] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"\s*([A-Za-z]+)(?:\s*=\s*|\s+)(.+?)\s*", line)
        if match is None:
            continue
        keyword, value = match[1].lower(), match[2].strip('"')
        if keyword in ("host", "match"):
            current = value.split() if keyword == "host" else []
            for name in current:
                if not re.search(r"[*?!]", name):
                    found.setdefault(name, Machine(name, _address(name, path, name)))
        elif keyword == "hostname":
            for name in current:
                if name in found and name not in settings:
                    settings[name] = value
    machines = []
    for name, each in found.items():
        host_name = settings.get(name, name).replace("%h", name)
        machines.append(Machine(name, each.address, internal=_address(host_name, path, name)))
    own = path.expanduser().absolute() in _SSH_FILES()
    return Foreign(renamed(machines), {}, "" if own else str(path))


def _SSH_FILES() -> tuple[Path, ...]:  # noqa: N802 - it is as good as a constant
    return Path("~/.ssh/config").expanduser(), Path("/etc/ssh/ssh_config")


# Ansible


@dataclass
class _Group:
    hosts: dict[str, dict[str, str]] = field(default_factory=dict)
    children: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)


_Groups = dict[str, _Group]
_UNGROUPED = ("all", "ungrouped")


def _ansible(groups: _Groups, path: Path) -> Foreign:
    """Variables of ``all`` come first, then those of groups (the outer before the inner), then
    the host's own, as in Ansible."""
    order = list(dict.fromkeys(host for group in groups.values() for host in group.hosts))
    members = {name: _members(name, groups) for name in groups}
    variables: dict[str, dict[str, str]] = {host: {} for host in order}
    for name in sorted(groups, key=lambda name: (name != "all", -len(members[name]))):
        for host in members[name] or (order if name == "all" else ()):
            variables[host] |= groups[name].variables
    for group in groups.values():
        for host, own in group.hosts.items():
            variables[host] |= own
    plain = [_machine(host, variables[host], path) for host in order]
    machines = renamed(plain)
    names = {host: each.name for host, each in zip(order, machines, strict=True)}
    known = {
        name: tuple(names[host] for host in order if host in members[name])
        for name in groups
        if name not in _UNGROUPED and members[name]
    }
    return Foreign(machines, known)


def _members(name: str, groups: _Groups) -> set[str]:
    found: set[str] = set()
    seen: set[str] = set()
    todo = [name]
    while todo:
        group = todo.pop()
        if group in seen or group not in groups:
            continue
        seen.add(group)
        found.update(groups[group].hosts)
        todo += groups[group].children
    return found


def _machine(name: str, variables: Mapping[str, str], path: Path) -> Machine:
    def said(*keys: str) -> str:
        return next((variables[key] for key in keys if variables.get(key)), "")

    port = said("ansible_port", "ansible_ssh_port")
    if port and not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536):
        raise BadInput(f"{FLAG}: {path}: {name}: ansible_port {shown(port)} is no port")
    user = said("ansible_user", "ansible_ssh_user")
    return Machine(
        name,
        _address(said("ansible_host", "ansible_ssh_host") or name, path, name),
        port=int(port) if port and int(port) != 22 else None,
        user=user if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@$-]*", user) else "",
        identity_file=_plain(said("ansible_ssh_private_key_file")),
        local=said("ansible_connection") == "local",
    )


def _plain(text: str) -> str:
    return text if text.isprintable() and "{{" not in text else ""


def _address(text: str, path: Path, name: str) -> str:
    try:
        return fields.address(text)
    except ValueError as error:
        raise BadInput(f"{FLAG}: {path}: {name}: {error}") from None


def _from_ini(text: str, path: Path) -> _Groups:
    groups: _Groups = {}
    name, kind = "ungrouped", "hosts"
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if not bare or bare[0] in "#;":
            continue
        place = f"{FLAG}: {path}:{number}"
        if head := re.fullmatch(r"\[([^\]:]+)(?::(\w+))?\]\s*(?:[#;].*)?", bare):
            name, kind = head[1].strip(), head[2] or "hosts"
            if kind not in ("hosts", "children", "vars"):
                raise BadInput(f"{place}: [{name}:{kind}] means nothing to Ansible")
            groups.setdefault(name, _Group())
            continue
        group = groups.setdefault(name, _Group())
        if kind == "children":
            group.children.append(bare.split()[0])
        elif kind == "vars":
            key, _, value = bare.partition("=")
            group.variables[key.strip()] = value.strip().strip("\"'")
        else:
            _host_line(group, bare, place)
    return groups


def _host_line(group: _Group, line: str, place: str) -> None:
    try:
        first, *rest = shlex.split(line, comments=True)
    except ValueError as error:
        raise BadInput(f"{place}: {error}") from None
    pairs = [word.partition("=")[::2] for word in rest]
    if any("=" not in word for word in rest):
        raise BadInput(f"{place}: expected NAME KEY=VALUE …: is this an Ansible inventory?")
    for name in _expanded(first, place):
        host, colon, port = name.rpartition(":")
        plain = bool(colon) and port.isdecimal() and ":" not in host
        own = group.hosts.setdefault(host if plain else name, {})
        own.update({"ansible_port": port} if plain else {}, **dict(pairs))


def _expanded(name: str, place: str) -> Iterator[str]:
    """``web[01:03]`` stands for web01, web02 and web03; ``[a:c]`` for letters."""
    match = re.search(r"\[([A-Za-z0-9]+):([A-Za-z0-9]+)(?::(\d+))?\]", name)
    if match is None:
        yield name
        return
    low, high, step = match[1], match[2], int(match[3] or 1) or 1
    if low.isdecimal() and high.isdecimal():
        numbers = range(int(low), int(high) + 1, step)
        words: Iterable[str] = (str(n).zfill(len(low)) for n in numbers)
    elif len(low) == len(high) == 1:
        numbers = range(ord(low), ord(high) + 1, step)
        words = (chr(n) for n in numbers)
    else:
        raise BadInput(f"{place}: {match[0]} is no range")
    if len(numbers) > MOST:
        raise BadInput(f"{place}: {match[0]} stands for more than {MOST} hosts")
    for word in words:
        yield from _expanded(name[: match.start()] + word + name[match.end() :], place)


def _from_yaml(text: str, path: Path) -> _Groups:
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import SafeConstructor
    from ruamel.yaml.error import YAMLError

    class Constructor(SafeConstructor):
        """Takes ``!vault`` and the like for nothing: a password is of no use here."""

    def nothing(*_: object) -> None:
        return None

    Constructor.add_multi_constructor("!", nothing)
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = Constructor
    try:
        data = yaml.load(text)
    except YAMLError as error:
        first = str(error).strip().splitlines()[0]
        raise BadInput(f"{FLAG}: {path}: broken YAML: {first}") from None
    groups: _Groups = {}
    if not isinstance(data, dict) or not all(isinstance(v, dict | None) for v in data.values()):
        raise BadInput(f"{FLAG}: {path}: this is no Ansible inventory")
    for name, block in data.items():
        _add_group(groups, str(name), block or {}, path)
    return groups


def _add_group(groups: _Groups, name: str, block: Mapping[str, Any], path: Path) -> None:
    group = groups.setdefault(name, _Group())
    parts = {key: block.get(key) or {} for key in ("hosts", "children", "vars")}
    for key, value in parts.items():
        if not isinstance(value, dict):
            raise BadInput(f"{FLAG}: {path}: {name}.{key}: expected a mapping")
    group.variables |= _texts(parts["vars"])
    for host, own in parts["hosts"].items():
        for one in _expanded(str(host), f"{FLAG}: {path}"):
            group.hosts.setdefault(one, {}).update(_texts(own if isinstance(own, dict) else {}))
    for child, inner in parts["children"].items():
        group.children.append(str(child))
        _add_group(groups, str(child), inner if isinstance(inner, dict) else {}, path)


def _texts(variables: Mapping[object, object]) -> dict[str, str]:
    plain = (str, int)
    return {
        str(key): str(value)
        for key, value in variables.items()
        if isinstance(value, plain) and not isinstance(value, bool)
    }
