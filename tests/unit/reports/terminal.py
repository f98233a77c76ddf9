"""A terminal, as far as the live view uses one: what a person would see after some output."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n])")


class Terminal:
    """``lines``: all that is on it, what has scrolled away included."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.lines = [""]
        self.row = self.column = 0
        self.odd: list[str] = []
        """Orders that change a mode, which somebody would have to take back."""

    def feed(self, text: str) -> Terminal:
        for order, letter, back, down, char in _TOKEN.findall(text):
            if letter:
                self._order(order, letter)
            elif back:
                self.column = 0
            elif down:
                self._down()
            else:
                self._put(char)
        return self

    def _down(self) -> None:
        self.row, self.column = self.row + 1, 0
        if self.row == len(self.lines):
            self.lines.append("")

    def _put(self, char: str) -> None:
        if self.column == self.width:
            self._down()
        line = self.lines[self.row].ljust(self.column)
        self.lines[self.row] = line[: self.column] + char + line[self.column + 1 :]
        self.column += 1

    def _order(self, order: str, letter: str) -> None:
        top = max(len(self.lines) - self.height, 0)
        if letter == "A":
            self.row = max(self.row - int(order or 1), top)
        elif letter == "K":
            self.lines[self.row] = self.lines[self.row][: self.column]
        elif letter == "J":
            self.lines[self.row] = self.lines[self.row][: self.column]
            del self.lines[self.row + 1 :]
        elif letter != "m":
            self.odd.append(f"{order}{letter}")

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n")
