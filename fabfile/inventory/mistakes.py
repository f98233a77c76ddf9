"""Collects what is wrong with a file, so that a person sees all of it at once."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fabfile.errors import BadInput

Path = tuple[str | int, ...]
"""Keys and list positions that lead to a value: ``("services", "web", "urls", 0)``."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.@-]{1,80}")


class Mark(NamedTuple):
    """A position in a file, counted from 1."""

    line: int
    column: int


class Place(NamedTuple):
    """Where a key and its value start. They are the same for an entry of a list."""

    key: Mark
    value: Mark


def shown(value: object) -> str:
    """``value`` in a few words on one line, for the end of a message."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` (did you mean health?)`` or nothing."""
    near = difflib.get_close_matches(word[:80], list(known), n=1, cutoff=0.65)
    return f" (did you mean {near[0]}?)" if near else ""


def spelled(path: Path) -> str:
    """``services.web.urls[0]``; always one line."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += "." * bool(text) + (part if _PLAIN_KEY.fullmatch(part) else shown(part))
    return text


@dataclass
class Mistakes:
    """The mistakes found so far in the file that people call ``name``."""

    name: str
    places: Mapping[Path, Place] = field(default_factory=dict)
    _found: dict[tuple[Mark, str], None] = field(default_factory=dict)

    def add(self, path: Path, message: str, *, at_key: bool = False) -> None:
        """Something is wrong with the value (or the key) at ``path``.

        A path that is not in the file, such as a missing key's, is shown at what should hold it.
        """
        place, near = None, path
        while place is None and near:
            place = self.places.get(near)
            near, at_key = near[:-1], at_key or place is None
        mark = Mark(1, 1) if place is None else place.key if at_key else place.value
        self.add_at(mark, f"{spelled(path)}: {message}" if path else message)

    def add_at(self, mark: Mark, text: str) -> None:
        """Something is wrong at ``mark``."""
        self._found[mark, text] = None

    def raise_any(self) -> None:
        """Raise :class:`BadInput` with one mistake a line, in the order of the file."""
        if self._found:
            lines = [f"{self.name}:{mark.line}:{mark.column}: {text}" for mark, text in self.sorted]
            raise BadInput("\n".join(lines))

    def __len__(self) -> int:
        return len(self._found)

    @property
    def sorted(self) -> list[tuple[Mark, str]]:
        """In the order of the file."""
        return sorted(self._found, key=lambda found: found[0])
