"""Durations, percentages, batch sizes and versions, as hosts.yaml and the flags spell them.

The functions named after a thing raise ``ValueError`` with what is allowed; the ``parse_…``
ones are for flags and raise :class:`fabfile.errors.BadInput` that names the flag.
"""

from __future__ import annotations

import math
import re

from fabfile.errors import BadInput
from fabfile.inventory.mistakes import shown
from fabfile.inventory.model import Count

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s?(ms|s|m|h)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PERCENT = re.compile(r"([0-9]{1,3})\s?%?")
_COUNT = re.compile(r"(-?[0-9]{1,9})(\s?%)?")
_DIRECT = re.compile(
    r"(?P<user>[A-Za-z0-9_][A-Za-z0-9_.$-]*)@"
    r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[A-Za-z0-9][A-Za-z0-9_.-]*))(?::(?P<port>[0-9]{1,5}))?"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")

_DURATION_FORMS = "a duration such as 500ms, 5s, 2m, 1h or a plain number of seconds"
_SERIAL_FORMS = "a number of hosts (3), a percentage from 1% to 100% (35%), or a list (1,35%)"


class WrittenFloat(float):
    """A number with a fraction that remembers how it was written: ``1.10`` is not ``1.1``."""

    text: str

    def __new__(cls, text: str) -> WrittenFloat:
        """Raises ``ValueError`` where ``text`` is no number."""
        new = super().__new__(cls, text)
        new.text = text
        return new


def text(value: object) -> str:
    """Text. Whole numbers are taken as they are written, but nothing that YAML would change."""
    if isinstance(value, bool):
        raise ValueError(f'{shown(value)} is not text: put it in quotes, "{shown(value)}"')
    if isinstance(value, WrittenFloat):
        changed = "" if repr(float(value)) == value.text else f" {float(value)!r}"
        raise ValueError(
            f'{value.text} without quotes is the number{changed}, not text: write "{value.text}"'
        )
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"expected text, found {shown(value)}")
    return value


def duration(value: object) -> float:
    """Seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value) and 0 <= value < 1e9:
            return float(value)
    elif isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return float(match[1]) * _SECONDS[match[2] or "s"]
    raise ValueError(f"expected {_DURATION_FORMS}, found {shown(value)}")


def percent(value: object) -> int:
    """A whole percentage, 0 to 100: ``"10%"`` or ``10``."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 100:
        return value
    if isinstance(value, str) and (match := _PERCENT.fullmatch(value.strip())):
        number = int(match[1])
        if number <= 100:
            return number
    raise ValueError(f"expected a whole percentage from 0% to 100%, found {shown(value)}")


def count(value: object) -> Count:
    """One batch size. 0 or less means all hosts, as in Ansible's ``serial``."""
    if isinstance(value, int | str) and not isinstance(value, bool):
        match = _COUNT.fullmatch(str(value).strip())
        if match and not match[2]:
            return Count(int(match[1]))
        if match and 1 <= int(match[1]) <= 100:
            return Count(int(match[1]), percent=True)
    raise ValueError(f"expected {_SERIAL_FORMS}, found {shown(value)}")


def counts(value: object) -> tuple[Count, ...]:
    """Batch sizes: one, or a list of them."""
    if not isinstance(value, list | tuple):
        return (count(value),)
    if not value:
        raise ValueError(f"expected {_SERIAL_FORMS}, found an empty list")
    return tuple(count(item) for item in value)


def direct(text: str) -> tuple[str, str, int | None] | None:
    """User, address and port of ``user@host:port`` or ``user@host``; ``None`` for anything else."""
    match = _DIRECT.fullmatch(text)
    if match is None or (match["port"] and not 1 <= int(match["port"]) <= 65535):
        return None
    return (
        match["user"],
        match["v6"] or match["host"],
        int(match["port"]) if match["port"] else None,
    )


def parse_duration(text: str, flag: str) -> float:
    """Seconds from what was typed for ``flag``."""
    try:
        return duration(text)
    except ValueError as error:
        raise BadInput(f"{flag}: {error}") from None


def parse_percent(text: str, flag: str) -> int:
    """A whole percentage, 0 to 100, from what was typed for ``flag``."""
    try:
        return percent(text)
    except ValueError as error:
        raise BadInput(f"{flag}: {error}") from None


def parse_serial(text: str, flag: str = "--serial") -> tuple[Count, ...]:
    """Batch sizes as typed: ``3``, ``35%``, ``1,35%``, ``[1, "35%"]``."""
    inner = text.strip()
    if inner.startswith("[") and inner.endswith("]"):
        inner = inner[1:-1].strip()
    pieces = [piece.strip().strip("\"'") for piece in inner.split(",")] if inner else []
    try:
        return counts(pieces)
    except ValueError:
        raise BadInput(f"{flag}: expected {_SERIAL_FORMS}, found {shown(text)}") from None


def parse_version(text: str, flag: str = "--version") -> str:
    """A Docker tag. Docker's grammar also keeps every shell character out."""
    if _TAG.fullmatch(text):
        return text
    if not text:
        raise BadInput(f"{flag}: the version is empty")
    if len(text) > 128:
        raise BadInput(f"{flag}: {len(text)} characters are too many, an image tag has at most 128")
    raise BadInput(
        f"{flag}: {shown(text)} is not an image tag"
        " (letters, digits and . _ - are allowed; it starts with a letter, a digit or _)"
    )
