"""The live view: a rollout's state as lines of a terminal, as wide and as high as that is.

A pure function: state in, lines of ``rich`` out, each of which fills one row of the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.text import Text

from fabfile.reports.live import Level, Live, Piece, Row
from fabfile.rollout.capacity import EVERYWHERE

STYLES = {
    "waits": "bright_black",
    "drain": "yellow",
    "recreate": "blue",
    "health": "cyan",
    "return": "green",
    "hook": "magenta",
    "done": "green",
    "failed": "bold red",
    "to come": "bright_black",
}
MESSAGES = 6
"""Lines at the bottom for what was said last."""
BAR = 10
"""Letters of a capacity's bar."""
WIDE, MIDDLE = 90, 56
"""From so many letters on there is room for the version and a bar; for what is waited for."""


def seconds(length: float) -> str:
    """``7s``, ``1:05``, ``1:02:03``."""
    whole = int(max(length, 0.0))
    if whole < 60:
        return f"{whole}s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def clean(text: str) -> str:
    """``text`` without anything that a terminal would obey: hosts and containers wrote it."""
    return "".join(c if c.isprintable() else " " for c in text.expandtabs(4))


def view(live: Live, messages: Sequence[str], now: float, width: int, height: int) -> list[Text]:
    """The picture ``now``, at most ``height`` lines of at most ``width`` letters."""
    head = [_head(live, now, width)]
    if live.alive:
        head.append(Text(clean(live.alive), style="bright_black"))
    room = height - len(head)
    said = [_said(line) for line in messages[-min(MESSAGES, height // 4) :]] if height >= 8 else []
    said = [Text(), *said] if said and height >= 16 else said
    room -= len(said)
    levels = _levels(live, width, 1 if room < 8 else 3)
    room -= len(levels)
    rows = _rows(live, now, width, room)
    lines = [*head, *levels, *rows, *said][: max(height, 1)]
    return [_cut(line, width) for line in lines]


def _said(line: str) -> Text:
    """A line with its time in front, which is not what people look for."""
    text = Text(clean(line))
    text.stylize("bright_black", 0, 9)
    return text


def _cut(line: Text, width: int) -> Text:
    line.rstrip()
    line.truncate(max(width, 1), overflow="ellipsis")
    line.no_wrap = True
    return line


def _head(live: Live, now: float, width: int) -> Text:
    line = Text()
    if not live.rollout:
        since = live.phase_since if live.phase else live.began
        return line.append(f"{live.phase or 'preparing'} {seconds(now - since)}", "bold")
    line.append(clean(f"{live.service} {live.version}"), "bold")
    number, of = live.batch
    if live.phase:
        line.append(f"  {live.phase}")
    elif number:
        word = ("back, batch " if live.back else "batch ") if width >= MIDDLE else ""
        line.append(f"  {word}{number}/{of}", "bold yellow" if live.back else "")
    line.append(f"  {live.done}/{live.changing} done")
    line.append(f"  {seconds(now - live.began)}")
    if width >= WIDE:
        line.append(f"  {clean(live.rollout)}", "bright_black")
    return line


def _levels(live: Live, width: int, most: int) -> list[Text]:
    """As many pools on one line as fit; when there are too many, the sum and the lowest ones."""

    def first(pool: tuple[str, Level]) -> tuple[bool, int]:
        return pool[0] != EVERYWHERE, Level.share(pool[1].lowest, pool[1].total)

    lines: list[Text] = []
    for number, (name, level) in enumerate(sorted(live.levels.items(), key=first)):
        entry = _level(name, level, width)
        if lines and lines[-1].cell_len + 3 + entry.cell_len <= width:
            lines[-1].append("   ").append_text(entry)
        elif len(lines) < most:
            lines.append(entry)
        else:
            rest = f"  +{len(live.levels) - number}"
            lines[-1].truncate(max(width - len(rest), 1))
            lines[-1].append(rest, "bright_black")
            break
    return lines


def _level(name: str, level: Level, width: int) -> Text:
    now = Level.share(level.left, level.total)
    lowest = Level.share(level.lowest, level.total)
    line = Text().append(clean(name) + " ", "bright_black")
    if width >= WIDE:
        filled = now * BAR // 100
        line.append("█" * min(filled, BAR), "green").append("░" * (BAR - filled), "bright_black")
        line.append(" ")
    return line.append(f"{now}%").append(f" (lowest {lowest}%)", "bright_black")


def _rows(live: Live, now: float, width: int, room: int) -> list[Text]:
    """Every host where there is room for all; otherwise who is at work, and counts of the rest."""
    rows = list(live.rows.values())
    if room <= 0:
        return []
    label = min(max((len(row.name) for row in rows), default=0), max(width // 4, 6))
    if len(rows) <= room:
        return [_row(row, live, now, width, label) for row in rows]
    order = {"at work": 0, "failed": 1, "to come": 2, "done": 3}
    busy = sorted(
        (row for row in rows if row.state in ("at work", "failed")),
        key=lambda row: order[row.state],
    )
    shown = busy[: max(room - 1, 0)]
    return [
        *(_row(row, live, now, width, label) for row in shown),
        _folded([row for row in rows if row not in shown]),
    ]


def _folded(rows: Iterable[Row]) -> Text:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.state] = counts.get(row.state, 0) + 1
    order = ("at work", "failed", "done", "to come")
    said = [f"{counts[state]} {state}" for state in order if state in counts]
    return Text(f"… hosts: {', '.join(said)}", "bright_black")


def _row(row: Row, live: Live, now: float, width: int, label: int) -> Text:
    line = Text()
    name = clean(row.name)
    line.append(name[:label].ljust(label + 1), "" if row.state != "to come" else "bright_black")
    line.append(f"{row.through}/{len(row.pieces)}".rjust(5) + "  ")
    if not row.at_work:
        return line.append_text(_resting(row, width))
    piece, *others = row.at_work
    line.append(clean(piece.name).ljust(7)[: max(len(piece.name), 7)] + " ")
    line.append(piece.kind.ljust(9), STYLES.get(piece.kind, ""))
    line.append(_elapsed(piece, now).rjust(7 if width < MIDDLE else 9))
    if width >= WIDE:
        version = "" if live.back else live.version
        line.append(f"  {clean(version)[:12]:12}", "bright_black")
    if piece.sessions >= 0 and width < WIDE:
        line.append(f"  {piece.sessions} left" if width >= MIDDLE else f" {piece.sessions}", "bold")
    elif piece.text:
        line.append(f"  {clean(piece.text)}", "bold" if piece.sessions >= 0 else "bright_black")
    if others:
        line.append(f"  +{len(others)} more", "bright_black")
    return line


def _elapsed(piece: Piece, now: float) -> str:
    limit = f"/{seconds(piece.limit)}" if piece.limit else ""
    return seconds(now - piece.since) + limit


def _resting(row: Row, width: int) -> Text:
    """A host that nothing is being done to."""
    line = Text().append(row.state, STYLES.get(row.state, ""))
    said = dict.fromkeys(f"{p.fate} {p.version}".strip() for p in row.pieces if p.fate)
    if said and width >= MIDDLE:
        line.append(f"  {clean(', '.join(said))}", "bright_black")
    failed = next((piece for piece in row.pieces if piece.state == "failed"), None)
    if failed and width >= MIDDLE:
        line.append(f"  {clean(failed.name)}: {clean(failed.text)}")
    return line
