"""Events as JSON lines, for people's tools and for the report that draws a run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import IO

from fabfile.checks.events import Began, Event, Failed, Second, Seen, SocketEnded
from fabfile.checks.summary import Summary, Verdict, to_dict
from fabfile.errors import BadInput

_NAMES: dict[type[Event], str] = {
    Began: "began",
    Seen: "seen",
    Failed: "failed",
    SocketEnded: "socket_ended",
    Second: "second",
}


def line(event: Event) -> str:
    """``{"event": "second", "t": 12, "lane": "fast", …}``; the fields are those of ``events``."""
    return json.dumps({"event": _NAMES[type(event)], **asdict(event)})


def summary_line(summary: Summary, verdict: Verdict) -> str:
    """The last line: ``{"event": "summary", "exit_code": 0, …}``."""
    return json.dumps(to_dict(summary, verdict))


class Recorder:
    """Writes a run to a file while it goes on, so that a killed run still leaves its start."""

    def __init__(self, path: Path) -> None:
        """Raises :class:`BadInput` when the file cannot be written; what was in it is gone."""
        try:
            self._file: IO[str] = path.open("w", encoding="utf-8", buffering=1)
        except OSError as error:
            raise BadInput(f"--record: {path}: {error.strerror}") from None

    def add(self, events: Iterable[Event]) -> None:
        """Append events."""
        for event in events:
            self._file.write(line(event) + "\n")

    def close(self, summary: Summary, verdict: Verdict) -> None:
        """Append the summary and close the file."""
        self._file.write(summary_line(summary, verdict) + "\n")
        self._file.close()
