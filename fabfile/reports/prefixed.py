"""Lines of many instances for one reader: ``web1 app_1 | …``, in colours on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TextIO

COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
"""Of the prefixes, one instance after the other."""


class Prefixed:
    """Writes lines to a stream."""

    def __init__(
        self,
        names: Iterable[tuple[str, str]],
        stream: TextIO | None = None,
        *,
        colours: bool | None = None,
    ) -> None:
        """``names``: host and instance of everybody who may speak, for one width.

        ``colours`` ``None``: on a terminal, unless NO_COLOR is set.
        """
        self._stream = stream or sys.stdout
        if colours is None:
            colours = self._stream.isatty() and not os.environ.get("NO_COLOR")
        known = list(dict.fromkeys(names))
        width = max((len(_name(*name)) for name in known), default=0)
        self._width = width
        self._heads = {name: _name(*name).ljust(width) for name in known}
        if colours:
            self._heads = {
                name: f"\x1b[{COLOURS[number % len(COLOURS)]}m{head}\x1b[0m"
                for number, (name, head) in enumerate(self._heads.items())
            }

    def line(self, host: str, instance: str, text: str) -> None:
        """One line. Raises ``BrokenPipeError`` when nobody reads any more."""
        head = self._heads.get((host, instance)) or _name(host, instance).ljust(self._width)
        coding = getattr(self._stream, "encoding", None) or "utf-8"
        line = f"{head} | {text}\n"
        self._stream.write(line.encode(coding, "backslashreplace").decode(coding))
        self._stream.flush()


def _name(host: str, instance: str) -> str:
    return f"{host} {instance}".rstrip()
