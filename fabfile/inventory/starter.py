"""A first hosts.yaml: from what a person said to a commented file that surely loads."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TypeVar

from fabfile.errors import BadInput
from fabfile.inventory import fields, loader
from fabfile.inventory.checking import check_name
from fabfile.inventory.mistakes import Mistakes, shown, spelled
from fabfile.inventory.values import direct

Value = TypeVar("Value")

SELF: Final = "self"
"""As ``balancers``: each host has a HAProxy of its own."""
TEMPLATE = Path(__file__).with_name("starter.yaml.j2")


@dataclass(frozen=True)
class Machine:
    """One host, as far as a beginning needs it."""

    name: str
    address: str
    internal: str = ""
    """Empty: the address."""
    port: int | None = None
    user: str = ""
    """Empty: as for all."""
    identity_file: str = ""
    local: bool = False

    @property
    def block(self) -> str:
        """What stands behind its name, on one line."""
        if self.local:
            return "{connection: local}"
        ssh = {"user": self.user, "port": self.port, "identity_file": self.identity_file}
        inner = ", ".join(f"{key}: {quoted(value)}" for key, value in ssh.items() if value)
        parts = [f"address: {quoted(self.address)}"]
        if self.internal and self.internal != self.address:
            parts.append(f"internal: {quoted(self.internal)}")
        return "{" + ", ".join([*parts, *([f"ssh: {{{inner}}}"] if inner else [])]) + "}"


@dataclass(frozen=True)
class Start:
    """All that the file is made of."""

    hosts: tuple[Machine, ...]
    image: str
    service: str = "app"
    balancers: tuple[Machine, ...] | Literal["self"] = ()
    group: str = "web"
    edge: str = "edge"
    """Names of the groups of hosts and balancers."""
    instances: int = 2
    port: int = 8080
    publish: int = 3001
    path: str = "/"
    user: str = ""
    template: bool = False
    """``fab provision`` is to write HAProxy's configuration."""
    config_file: str = ""
    """An ssh_config that is not the user's own."""

    @property
    def machines(self) -> tuple[Machine, ...]:
        """Every host once; one may be a balancer as well."""
        balancers = () if isinstance(self.balancers, str) else self.balancers
        return tuple({machine.name: machine for machine in (*self.hosts, *balancers)}.values())


def text_of(start: Start) -> str:
    """The file's text."""
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - this is YAML
    )
    environment.filters |= {"yaml": quoted, "ljust": str.ljust}
    group, edge = _group_names(start)
    groups = [(group, [machine.name for machine in start.hosts])]
    if start.balancers and not isinstance(start.balancers, str):
        groups.append((edge, [machine.name for machine in start.balancers]))
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        machines=start.machines,
        groups=groups,
        group=group,
        balancers=SELF if start.balancers == SELF else edge if start.balancers else "",
        server=f"{start.hosts[0].name}_app_1",
        project_dir="/srv/" + start.service.replace(".", "-"),
        **{
            name: getattr(start, name)
            for name in ("service", "image", "instances", "port", "publish", "path", "user")
        },
        template=start.template,
        config_file=start.config_file,
    )


def _group_names(start: Start) -> tuple[str, str]:
    """A group must not bear the name of a host, of ``all`` or of the other group."""
    taken = {machine.name for machine in start.machines} | {"all"}
    found = []
    for wanted in (start.group, start.edge):
        name = wanted
        while name in taken:
            name = f"{name[:55]}-hosts"
        taken.add(name)
        found.append(name)
    return found[0], found[1]


_PLAIN = re.compile(
    r"[A-Za-z_/~][A-Za-z0-9_./@-]*(:[A-Za-z0-9_./@-]+)*|[0-9]{1,3}(\.[0-9]{1,3}){3}"
)
_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~"])


def quoted(value: object) -> str:
    """``value`` as YAML, in double quotes where it could be taken for something else."""
    text = str(value)
    if isinstance(value, int) or (_PLAIN.fullmatch(text) and text.lower() not in _WORDS):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def write(start: Start, output: Path, *, force: bool = False) -> Path:
    """Write the file where it surely loads, whole or not at all; returns where.

    Raises :class:`BadInput` where one is there (unless ``force``), or can't be written.
    """
    place = refuse_overwriting(output, force=force)
    text = text_of(start)
    try:
        handle, name = tempfile.mkstemp(prefix=".init-", suffix=".yaml", dir=place.parent)
    except OSError as error:
        raise BadInput(f"--output: {place}: {error.strerror or error}") from None
    new = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        _check(new)
        new.chmod(0o666 & ~_umask())
        _put(new, place, force=force)
    except OSError as error:
        raise BadInput(f"--output: {place}: {error.strerror or error}") from None
    finally:
        new.unlink(missing_ok=True)
    return place


def refuse_overwriting(output: Path, *, force: bool) -> Path:
    """The path of the file (``output`` may be a folder). Raises :class:`BadInput`."""
    try:
        place = output / loader.FILE if output.is_dir() else output
        there = place.exists()
    except OSError as error:
        raise BadInput(f"--output: {output}: {error.strerror or error}") from None
    if there and not force:
        raise BadInput(_there(place))
    return place


def _there(place: Path) -> str:
    return f"{place} is there already: name another file with --output, or say --force"


def _check(path: Path) -> None:
    try:
        loader.load(path)
    except BadInput as error:
        lines = [re.sub(r"^\S*?\.yaml:\d+:\d+: ", "", line) for line in str(error).splitlines()]
        raise BadInput("\n".join(lines)) from None


def _put(new: Path, place: Path, *, force: bool) -> None:
    """A rename replaces what is there; a link never does, whoever was quicker."""
    if force:
        new.replace(place)
        return
    try:
        place.hardlink_to(new)
    except FileExistsError:
        raise BadInput(_there(place)) from None
    except OSError:  # a file system without links
        new.replace(place)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# What a person types, each piece checked by the parsers of the file itself.


def machine(word: str, flag: str) -> Machine:
    """``web1=10.0.0.11``, ``web1=deploy@10.0.0.11:2222``, ``web1.example.com``.

    Raises :class:`BadInput`.
    """
    name, equals, rest = word.strip().partition("=")
    spot = rest.strip() if equals else name
    user, address, port = _spot(spot, flag)
    if not equals:
        if re.fullmatch(r"[0-9.]+|.*:.*", address):
            raise BadInput(f"{flag}: {address}: give it a name: web1={spot}")
        name = address.partition(".")[0].lower()
    return Machine(checked_name(name.strip(), flag), address, port=port, user=user)


def _spot(spot: str, flag: str) -> tuple[str, str, int | None]:
    """User, address and port."""
    parts = direct(spot)
    if parts is None and (with_port := direct(f"user@{spot}")) and with_port[2]:
        parts = ("", with_port[1], with_port[2])  # an IPv6 address without brackets has no port
    user, address, port = parts or ("", spot, None)
    return user, _valued(fields.address, address, flag), port


def unlike(found: Iterable[Machine], flag: str) -> None:
    """Raise :class:`BadInput` where one name stands for two machines, or two for one."""
    by_name: dict[str, Machine] = {}
    by_place: dict[tuple[str, int], Machine] = {}
    for each in found:
        other = by_name.setdefault(each.name, each)
        if other != each:
            raise BadInput(f"{flag}: {each.name} is named twice: {other.address}, {each.address}")
        place = ("local", 0) if each.local else (each.address, each.port or 22)
        other = by_place.setdefault(place, each)
        if other.name != each.name:
            raise BadInput(f"{flag}: {other.name} and {each.name} are the same machine")


def checked_name(name: str, flag: str) -> str:
    """A name of a host or service. Raises :class:`BadInput`."""
    mistakes = Mistakes(flag)
    check_name((name,), mistakes)
    if len(mistakes):
        _, text = mistakes.sorted[0]
        raise BadInput(f"{flag}: {shown(name)}: {text.removeprefix(f'{spelled((name,))}: ')}")
    return name


def image(text: str, flag: str = "--image") -> str:
    """A repository without a tag. Raises :class:`BadInput`."""
    return _valued(fields.image, text.strip(), flag)


def whole(text: str, flag: str, low: int, high: int) -> int:
    """A number. Raises :class:`BadInput`."""
    word = text.strip()
    plain = int(word) if word.isascii() and word.isdecimal() and len(word) < 9 else word
    return _valued(fields.whole(low, high), plain, flag)


def path(text: str, flag: str) -> str:
    """The path of a URL. Raises :class:`BadInput`."""
    return _valued(fields.matching(r"/[!-~]*", "a path that starts with /"), text.strip(), flag)


def user(text: str, flag: str) -> str:
    """A user name. Raises :class:`BadInput`."""
    known = fields.matching(r"[A-Za-z0-9_][A-Za-z0-9_.@$-]*", "a user name")
    return _valued(known, text.strip(), flag)


def _valued(check: Callable[[object], Value], value: object, flag: str) -> Value:
    try:
        return check(value)
    except ValueError as error:
        raise BadInput(f"{flag}: {error}") from None


def renamed(found: Iterable[Machine]) -> tuple[Machine, ...]:
    """Machines under names that hosts.yaml takes, each its own."""
    taken: set[str] = set()
    result = []
    for each in found:
        base = re.sub(r"[^a-z0-9_.-]+", "-", each.name.lower()).lstrip("-_.")[:55] or "host"
        name, count = base, 2
        while name in taken or name in (SELF, "all"):
            name, count = f"{base}-{count}", count + 1
        taken.add(name)
        result.append(replace(each, name=name))
    return tuple(result)
