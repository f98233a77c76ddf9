"""docs/chaos.md: each row of it is written as soon as it is known, and stays until it is renewed."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from .judge import Command, Row, busy, judge, some

HEADS = {
    "faults": (
        "fault | what is done | deploy | recovery | end state | lost without a rollout"
        " | lost with one: by the fault | lost with one: else | safe after | whole after"
        " | expected | verdict"
    ),
    "kills": "kill | when | recovery | out at that moment | lost | safe after | whole after | end state | verdict",
}
INTRO = {
    "faults": "## Faults\n\nLost: fast / long / late.\n",
    "kills": "## The controller killed at random moments\n\nLost: fast / long / late.\n",
}


def seconds(value: float | None) -> str:
    """``12.3 s``, or nothing."""
    return "" if value is None else f"{value:.1f} s"


def verdict(row: Row) -> str:
    """OK, or everything that is not."""
    problems = judge(row)
    if problems:
        return "**NOT ok**: " + "; ".join(problems)
    late = f" (late ones not judged: {row.idle:.0%} of the machine idle)"
    return "ok" + (late if row.added.late and busy(row) else "")


def end_state(row: Row) -> str:
    """What is there at the end."""
    versions = sorted(set(row.versions.values()))
    if dict(row.versions) == dict.fromkeys(row.before, row.new) and row.deploy:
        text = f"{len(row.versions)} on {row.new}"
    elif dict(row.versions) == dict(row.before):
        text = f"{len(row.versions)} as before"
    else:
        counts = [f"{list(row.versions.values()).count(v)} on {v or 'nothing'}" for v in versions]
        text = ", ".join(counts)
    out = f"{len(row.out)} servers not as recorded" if row.out else "weights as recorded"
    rest = ["no lock" if not row.locks else f"locked: {some(row.locks)}"]
    if row.unfinished:
        rest.append("unfinished")
    return ", ".join([text, out, *rest])


def said(command: Command | None) -> str:
    """``resume: 0``."""
    if command is None:
        return "none"
    return f"{command.name}: {'killed' if command.code == -9 else command.code}"


def fault_cells(row: Row, alone: Row | None) -> list[str]:
    """One line of the first table."""
    return [
        row.name,
        row.what,
        said(row.deploy),
        said(row.recovery),
        end_state(row),
        str(alone.mine) if alone else "",
        str(row.mine),
        str(row.added),
        seconds(row.safe),
        seconds(row.whole),
        str(row.expected),
        verdict(row),
    ]


def kill_cells(row: Row) -> list[str]:
    """One line of the second table."""
    lost = row.mine.total + row.added.total
    return [
        row.name,
        row.what,
        said(row.recovery) + ("" if row.taken_up else " (nothing to do)"),
        row.was_out,
        str(row.added) if lost else "0",
        seconds(row.safe),
        seconds(row.whole),
        end_state(row),
        verdict(row),
    ]


class Page:
    """The page; what it says of rows that were not run again stays."""

    def __init__(self, path: Path, about: str, order: Sequence[str] = ()) -> None:
        """``about``: the machine. ``order``: of the lines, by name; others come last."""
        self.path, self.about = path, about
        self._order = {name: number for number, name in enumerate(order)}
        self._tables = {name: _rows(_part(path, name)) for name in HEADS}
        self._notes = {name: _note(_part(path, name)) for name in HEADS}

    def put(self, table: str, cells: Sequence[str]) -> None:
        """Write a line, in place of the one of the same name."""
        self._tables[table][cells[0]] = "| " + " | ".join(map(_cell, cells)) + " |"
        self.write()

    def clear(self, table: str) -> None:
        """Forget a table's lines."""
        self._tables[table] = {}

    def note(self, table: str, text: str) -> None:
        """What stands below a table."""
        self._notes[table] = text
        self.write()

    def write(self) -> None:
        """The whole page, replaced by a rename: a harness that is killed loses nothing."""
        parts = [_before(self.path, self.about)]
        for name, head in HEADS.items():
            known = self._tables[name]
            last = len(self._order)
            lines = [known[n] for n in sorted(known, key=lambda n: self._order.get(n, last))]
            if lines:
                rule = "| " + " | ".join("---" for _ in head.split(" | ")) + " |"
                body = "\n".join([f"| {head} |", rule, *lines])
                note = f"\n\n{self._notes[name]}" if self._notes[name] else ""
                parts.append(f"<!-- {name} -->\n{INTRO[name]}\n{body}{note}\n")
        fresh = self.path.with_suffix(".new")
        fresh.write_text("\n".join(parts).rstrip() + "\n")
        fresh.replace(self.path)


def today() -> str:
    """For a line below a table."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _part(path: Path, name: str) -> str:
    text = path.read_text() if path.exists() else ""
    found = re.search(rf"<!-- {name} -->\n(.*?)(?=<!-- |\Z)", text, re.DOTALL)
    return found[1] if found else ""


def _rows(part: str) -> dict[str, str]:
    lines = [line for line in part.splitlines() if line.startswith("| ")][2:]
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines}


def _note(part: str) -> str:
    return part.rstrip().rpartition("|\n\n")[2].strip() if "|\n\n" in part else ""


def _before(path: Path, about: str) -> str:
    """What is written by hand stands above the tables; the line about the machine is renewed."""
    text = path.read_text() if path.exists() else "# Faults on purpose\n\nMachine: ?\n"
    head = text.partition("<!-- ")[0]
    head = re.sub(r"^Machine: .*$", lambda _: f"Machine: {about}", head, flags=re.MULTILINE)
    return head.rstrip() + "\n"


def summary(kills: Mapping[str, Row]) -> str:
    """What the kills come to."""
    rows = list(kills.values())
    every = [one for row in rows for one in (row.added, row.mine)]
    late = sum(one.late for one in every)
    lost = sum(one.total for one in every) - late
    safes = sorted(row.safe for row in rows if row.safe is not None)
    by = {mode: sum(r.recovery is not None and r.recovery.name == mode for r in rows)
          for mode in ("resume", "abort", "repair")}  # fmt: skip
    text = ", ".join(f"{number} {mode}" for mode, number in by.items())
    if safes:
        text += f"; safe after {safes[len(safes) // 2]:.1f} s (median), {safes[-1]:.1f} s (slowest)"
    return f"{len(rows)} kills: {text}; {lost} requests lost, {late} answered late."
