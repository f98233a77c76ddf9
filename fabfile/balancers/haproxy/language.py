"""HAProxy's configuration language, as far as it takes to find a keyword and the line it is on.

Sections, ``defaults`` (the nearest one before, or the named one of ``from``) and keywords at the
start of a line. ``.if`` blocks and environment variables are taken as they stand.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_SECTIONS = (
    *("global", "defaults", "frontend", "backend", "listen", "peers", "resolvers", "userlist"),
    *("mailers", "program", "ring", "cache", "http-errors", "fcgi-app", "log-forward"),
    *("crt-store", "traces"),
)


class Line(tuple[str, ...]):
    """The words of one line, and which line of the file that is."""

    number: int

    def __new__(cls, words: Iterable[str], number: int = 0) -> Line:
        """``number`` counts from 1; 0: nobody knows."""
        new = super().__new__(cls, words)
        new.number = number
        return new


Section = list[Line]
"""Its head is the first line."""


@dataclass(frozen=True)
class ServerLine:
    """One server as the file has it."""

    name: str
    address: str
    line: int
    words: tuple[str, ...]
    """What ``default-server`` says before it, then its own: the last word on a matter counts."""

    def value(self, keyword: str) -> str | None:
        """The word after the last ``keyword``."""
        return after(self.words, keyword)

    def has(self, keyword: str) -> bool:
        """Whether ``keyword`` is there and no ``no-keyword`` after it takes it back."""
        said = [word for word in self.words if word in (keyword, f"no-{keyword}")]
        return said[-1:] == [keyword]


def sections_of(text: str) -> list[Section]:
    """The sections of a file, in its order."""
    found: list[Section] = []
    for count, raw in enumerate(text.splitlines(), 1):
        words = _words(raw)
        if not words:
            continue
        if words[0] in _SECTIONS:
            found.append([Line(words, count)])
        elif found:
            found[-1].append(Line(words, count))
    return found


def _words(raw: str) -> list[str]:
    try:
        return shlex.split(raw, comments=True)
    except ValueError:  # HAProxy's quoting is not quite the shell's
        return raw.split("#", 1)[0].split()


def headers(backend: str) -> tuple[tuple[str, str], ...]:
    """How a section that defines ``backend`` begins."""
    return ("backend", backend), ("listen", backend)


def defaults_of(section: Section, sections: Sequence[Section]) -> list[Line]:
    """The lines of ``defaults`` that hold for ``section``."""
    head = section[0]
    named = head[head.index("from") + 1] if "from" in head[:-1] else None
    earlier = sections[: next(n for n, other in enumerate(sections) if other is section)]
    fitting = [
        candidate
        for candidate in earlier
        if candidate[0][0] == "defaults" and (named is None or named in candidate[0][1:2])
    ]
    return fitting[-1][1:] if fitting else []


def option(lines: Iterable[Sequence[str]], name: str) -> bool:
    """Whether ``option name`` holds."""
    state = False
    for line in lines:
        if tuple(line[:2]) == ("option", name):
            state = True
        elif tuple(line[:3]) == ("no", "option", name):
            state = False
    return state


def number(lines: Iterable[Sequence[str]], keyword: str, otherwise: int) -> int:
    """The number after the last ``keyword`` at the start of a line."""
    values = [line[1] for line in lines if line[0] == keyword and len(line) > 1]
    return int(values[-1]) if values and values[-1].isdecimal() else otherwise


def last(lines: Iterable[Line], *keywords: str) -> Line | None:
    """The last line that begins with ``keywords``."""
    found = [line for line in lines if line[: len(keywords)] == keywords]
    return found[-1] if found else None


def after(line: Sequence[str], word: str) -> str | None:
    """What stands behind the last ``word`` of a line."""
    places = [index for index, value in enumerate(line[:-1]) if value == word]
    return line[places[-1] + 1] if places else None


def server_lines(lines: Iterable[Line]) -> Iterator[ServerLine]:
    """Every server of a backend's ``lines`` (``defaults`` included)."""
    common: tuple[str, ...] = ()
    for line in lines:
        if line[0] == "default-server":
            common += line[1:]
        elif line[0] == "server" and len(line) > 2:
            yield ServerLine(line[1], line[2], line.number, common + line[3:])
        elif line[0] == "server-template" and len(line) > 3:
            for count in _counts(line[2]):
                name = f"{line[1]}{count}"
                yield ServerLine(name, line[3], line.number, common + line[4:])


def _counts(text: str) -> range:
    """``3`` is 1 to 3, ``2-4`` is 2 to 4."""
    low, dash, high = text.partition("-")
    if not (low.isdecimal() and (high.isdecimal() or not dash)):
        return range(0)
    first, end = (int(low), int(high)) if dash else (1, int(low))
    return range(first, min(end, first + 9999) + 1)


_TIME = re.compile(r"([0-9]+)(us|ms|s|m|h|d)?")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str | None) -> float | None:
    """``2s``, ``500ms``, ``500`` (milliseconds); ``None``: not there, or no time."""
    match = _TIME.fullmatch(text or "")
    return int(match[1]) * _SECONDS[match[2] or "ms"] if match else None
