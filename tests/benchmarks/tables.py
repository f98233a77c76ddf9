"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; what is not text is put down as it stands."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in lines) + "\n"


def ratio(value: float, to: float) -> str:
    """``2.4 x``; a dash where there is nothing to compare with."""
    return f"{value / to:.2f} x" if to else "-"
