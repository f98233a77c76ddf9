"""The checks behind ``schema``: what a single value of hosts.yaml may be.

Each takes what YAML gave and returns what the model wants, or raises ``ValueError`` with what was
expected and what was found.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path as FilePath
from urllib.parse import urlsplit

from pydantic import ValidationInfo

from fabfile.inventory import values
from fabfile.inventory.mistakes import shown


def matching(pattern: str, wanted: str) -> Callable[[object], str]:
    """A check for text that ``pattern`` describes whole."""
    compiled = re.compile(pattern)

    def check(value: object) -> str:
        text = values.text(value)
        if not compiled.fullmatch(text):
            raise ValueError(f"expected {wanted}, found {shown(text)}")
        return text

    return check


def whole(low: int, high: int | None = None) -> Callable[[object], int]:
    """A check for whole numbers from ``low`` to ``high``."""
    top = 10**9 if high is None else high
    limits = f"from {low} to {high}" if high is not None else f"of at least {low}"

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= top:
            raise ValueError(f"expected a whole number {limits}, found {shown(value)}")
        return value

    return check


def positive_duration(value: object) -> float:
    """Seconds, more than none."""
    seconds = values.duration(value)
    if seconds == 0:
        raise ValueError("has to be longer than 0s")
    return seconds


def address(value: object) -> str:
    """A name or an IP address, with neither user nor port."""
    text = values.text(value)
    if "@" in text:
        raise ValueError(f"the address holds a user name, {shown(text)}: use ssh.user for that")
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    if re.fullmatch(r"[A-Za-z0-9_.-]+:[0-9]+", text):
        raise ValueError(f"the address holds a port, {shown(text)}: use ssh.port for that")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}", text):
        raise ValueError(f"expected a host name or an IP address, found {shown(text)}")
    return text


def image(value: object) -> str:
    """A repository without tag or digest."""
    text = values.text(value)
    name = text.rsplit("/", 1)[-1]
    if "@" in name or ":" in name:
        plain = text[: -len(name)] + re.split("[@:]", name)[0]
        raise ValueError(f"leave the tag to --version: write {plain}")
    component = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
    registry = r"(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9][A-Za-z0-9.-]*)(?::[0-9]{1,5})?/"
    if len(text) > 255 or not re.fullmatch(f"(?:{registry})?{component}(?:/{component})*", text):
        raise ValueError(
            "expected a repository such as registry.example:5000/team/app (lower case, no tag),"
            f" found {shown(text)}"
        )
    return text


def host_path(value: object) -> str:
    """A path on a host. Odd characters are refused: such paths also stand in socat addresses."""
    text = values.text(value)
    if not text.startswith("/"):
        raise ValueError(f"expected an absolute path on the host, found {shown(text)}")
    if not re.fullmatch(r"[A-Za-z0-9._/@+-]+", text) or ".." in text.split("/"):
        raise ValueError(
            f"expected a path of letters, digits and . _ - @ + without .., found {shown(text)}"
        )
    return text


def file_name(value: object) -> str:
    """A path on this machine, not made absolute yet."""
    text = values.text(value)
    if not text or not text.isprintable():
        raise ValueError(f"expected the path of a file, found {shown(text)}")
    return text


def file(value: object, info: ValidationInfo) -> FilePath:
    """A path on this machine; relative ones start at the folder of hosts.yaml."""
    assert isinstance(info.context, FilePath)
    return local_path(file_name(value), info.context)


def local_path(text: str, root: FilePath) -> FilePath:
    """``text`` made absolute, with ``~`` expanded. Raises ``ValueError`` for no such user."""
    try:
        path = FilePath(text).expanduser()
    except RuntimeError:
        raise ValueError(f"{shown(text)}: there is no such user's home folder") from None
    # Not resolve(): a symbolic link stays the name a person knows.
    return path if path.is_absolute() else root / path


def is_file(place: FilePath) -> bool:
    """Whether there is a file that can be got at; never raises."""
    try:
        return place.is_file()
    except OSError:  # a name that is too long, a folder that may not be entered
        return False


def cpus(value: object) -> str:
    """A number of processors, as Compose takes it."""
    text = str(value) if isinstance(value, float) else values.text(value)
    if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,6})?", text) or float(text) == 0:
        raise ValueError(f"expected a number of processors such as 0.5, found {shown(value)}")
    return text


def url(value: object) -> str:
    """Something an HTTP client can ask."""
    text = values.text(value)
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not text.isprintable() or " " in text:
        raise ValueError(f"expected a URL such as http://127.0.0.1:8080/, found {shown(text)}")
    return text


def ascii_url(text: str) -> str:
    """``text``, if it is a URL as it goes over the wire. Raises ``ValueError``."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or any(ord(letter) <= 32 or ord(letter) > 126 for letter in text):
        raise ValueError("not an http:// or https:// URL")
    return text


def url_or_source(value: object) -> object:
    """Plain text is a URL; a mapping says where one comes from."""
    return {"url": value} if isinstance(value, str) else value


def urls_or_sources(value: object) -> object:
    """A list of these, or a single one."""
    if isinstance(value, list):
        return [url_or_source(item) for item in value]
    return no_items(value) if value is None else [url_or_source(value)]


def collector(value: object, info: ValidationInfo) -> FilePath:
    """The folder of a textfile collector."""
    path = file(value, info)
    if path.suffix == ".prom":
        raise ValueError("name the collector's folder: each service gets a file of its own in it")
    return path


def free(value: object) -> object:
    """Free values, with every number as its writer meant it: plain, and 1.10 in quotes."""
    if isinstance(value, values.WrittenFloat):
        return float(value) if repr(float(value)) == value.text else values.text(value)
    if isinstance(value, list):
        return [free(item) for item in value]
    if isinstance(value, dict):
        return {key: free(item) for key, item in value.items()}
    return value


def blank(value: object) -> object:
    """A block with nothing in it (all of its lines commented out) is an empty one."""
    return {} if value is None else value


def no_items(value: object) -> object:
    """The same for a block that holds a list."""
    return [] if value is None else value


def listed(value: object) -> object:
    """A single name may stand for a list of one."""
    return [value] if isinstance(value, str) else no_items(value)


def named(value: object) -> object:
    """``secrets: [A, B]``: each comes from the environment variable of the same name."""
    if not isinstance(value, list):
        return blank(value)
    for item in value:
        if not isinstance(item, str):
            raise ValueError(f"expected names, found {shown(item)}")
    return {name: {"env": name} for name in value}


one_line = matching(r"[^\x00-\x1f\x7f]+", "one line of text")
