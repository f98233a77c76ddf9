"""hosts.yaml -> :class:`fabfile.inventory.model.Inventory`, or every mistake in it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from fabfile.errors import BadInput
from fabfile.inventory import schema
from fabfile.inventory.checking import check, require
from fabfile.inventory.collisions import check_collisions
from fabfile.inventory.document import read
from fabfile.inventory.fields import is_file
from fabfile.inventory.hosts import groups, hosts
from fabfile.inventory.mistakes import Mistakes, shown
from fabfile.inventory.model import Inventory
from fabfile.inventory.services import Surroundings, services

FILE = "hosts.yaml"
VARIABLE = "EVENKEEL_INVENTORY"
FLAG = "--inventory"
_CHECKOUT = Path(__file__).resolve().parents[2]
OWN_TEMPLATES = _CHECKOUT / "templates"
SHIPPED = _CHECKOUT / FILE
"""The one that counts when there is no other."""
_ELSEWHERE = (
    f"name another one with {VARIABLE} or {FLAG}, or let `inv init` write one (docs/hosts-yaml.md)"
)


def here(flag: str = "") -> Path:
    """:func:`find` for whoever types a command here; ``flag`` is what ``--inventory`` says."""
    return find(flag or None, os.environ, Path.cwd(), SHIPPED)


def find(explicit: str | None, environ: Mapping[str, str], cwd: Path, shipped: Path) -> Path:
    """Where the inventory is: the flag, EVENKEEL_INVENTORY, hosts.yaml from ``cwd`` upwards, ours.

    Each may name the file or its folder. Raises :class:`BadInput` where the one that counts is
    not there: a mistyped name must not fall through to somebody else's hosts.
    """
    for source, name in ((FLAG, explicit), (VARIABLE, environ.get(VARIABLE))):
        if name:
            return _named(cwd / _expanded(name, source), source)
    for folder in (cwd, *cwd.parents):
        if is_file(folder / FILE):
            return folder / FILE
    path = shipped / FILE if shipped.is_dir() else shipped
    if not is_file(path):
        raise BadInput(f"no {FILE} in {cwd} or above it: {_ELSEWHERE}")
    return path


def _expanded(name: str, source: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise BadInput(f"{source}: {shown(name)}: there is no such user's home folder") from None


def _named(path: Path, source: str) -> Path:
    """The inventory that a person named, as a file or as its folder."""
    try:
        found = path / FILE if path.is_dir() else path
        there = found.exists()
    except OSError as error:
        raise BadInput(f"{source}: {path}: {error.strerror}") from None
    if not there:
        raise BadInput(f"{source}: {found} does not exist")
    return found


def load(path: Path, template_dirs: Sequence[Path] = (OWN_TEMPLATES,)) -> Inventory:
    """Read and check the inventory at ``path``.

    ``template_dirs`` is where templates are looked for after the folder of ``path``. Raises
    :class:`BadInput` with every mistake, one a line, each with its position.
    """
    path = path.absolute()
    mistakes = Mistakes(_called(path))
    document = read(_text(path), mistakes)
    mistakes.places = document.places
    if document.data is None:
        raise BadInput(f"{mistakes.name}: the file is empty: {_ELSEWHERE}")
    _check_version(document.data, mistakes)
    file = check(schema.FileEdge, _without_own_keys(document.data), (), mistakes, path.parent)
    if file is None:
        mistakes.raise_any()
    inventory = _inventory(path, file or {}, document.data, template_dirs, mistakes)
    mistakes.raise_any()
    return inventory


def _inventory(
    path: Path,
    file: schema.FileEdge,
    raw: object,
    template_dirs: Sequence[Path],
    mistakes: Mistakes,
) -> Inventory:
    root = path.parent
    defaults = (
        check(schema.DefaultsEdge, file.get("defaults") or {}, ("defaults",), mistakes, root)
        or schema.DefaultsEdge()
    )
    require(["hosts"], raw, (), mistakes)
    if "hosts" not in file or (isinstance(raw, dict) and "groups" in raw and "groups" not in file):
        # Every name in the rest of the file would look unknown.
        mistakes.raise_any()
    names = file["hosts"]
    if not names:
        mistakes.add(("hosts",), "there has to be one host at least", at_key=True)
    known = hosts(names, defaults.get("ssh", {}), mistakes, root)
    known_groups = groups(file.get("groups", {}), names, mistakes, root)
    around = Surroundings(root, template_dirs, names, known_groups, defaults, mistakes)
    known_services = services(file.get("services", {}), around)
    check_collisions(known_services, mistakes)
    return Inventory(path, known, known_groups, known_services)


def _called(path: Path) -> str:
    """The file's name in messages: short where the reader stands near it."""
    try:
        here = Path.cwd()
    except OSError:  # somebody removed the folder we stand in
        return str(path)
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist: {_ELSEWHERE}") from None
    except IsADirectoryError:
        raise BadInput(f"{path} is a folder: {_ELSEWHERE}") from None
    except PermissionError:
        raise BadInput(f"{path}: no permission to read it") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        byte = data[error.start]
        raise BadInput(
            f"{_called(path)}:{line}:{column}: not UTF-8 (byte 0x{byte:02x}): save it as UTF-8"
        ) from None


def _check_version(data: object, mistakes: Mistakes) -> None:
    if not isinstance(data, dict):
        return
    if "version" not in data:
        mistakes.add(("version",), "missing: the file has to say version: 1")
    elif data["version"] != 1 or type(data["version"]) is not int:
        found = shown(data["version"])
        mistakes.add(("version",), f"this Evenkeel reads version 1 of the format, found {found}")


def _without_own_keys(data: object) -> object:
    """``x-…`` at the top is the writer's own, for example to hold anchors, as in Compose."""
    if not isinstance(data, dict):
        return data
    return {key: value for key, value in data.items() if not key.startswith("x-")}
