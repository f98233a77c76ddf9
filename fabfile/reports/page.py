"""Where reports lie: beside the event log of their rollout."""

from __future__ import annotations

from pathlib import Path

from fabfile.errors import BadInput
from fabfile.reports import story, traffic
from fabfile.reports.eventlog import logs as logs
from fabfile.reports.html import html


def log_of(root: Path, rollout: str) -> Path:
    """The event log of ``rollout`` (an id, the start of one, or a path); empty: the newest.

    Raises :class:`BadInput` when there is none, or more than one.
    """
    if rollout and Path(rollout).is_file():
        return Path(rollout)
    folder = logs(root)
    found = sorted(
        path
        for path in folder.glob("*.jsonl")
        if not path.name.endswith(".probe.jsonl") and path.name.startswith(rollout)
    )
    if not found:
        what = f"no rollout {rollout}" if rollout else "no rollout"
        raise BadInput(f"{folder}: has a log of {what}; `fab deploy` writes one")
    if rollout and len(found) > 1:
        raise BadInput(f"{rollout}: could be any of {', '.join(path.stem for path in found)}")
    return found[-1]


def write(log: Path, record: Path | None = None, out: Path | None = None) -> Path:
    """Write the page of ``log``; returns where it is.

    ``record`` is a prober's; otherwise the one that ``fab deploy --probe`` left beside the log.
    Raises :class:`BadInput` for what can't be read or written.
    """
    beside = log.with_suffix(".probe.jsonl")
    if record is None and beside.is_file():
        record = beside
    text = html(story.read(log), traffic.read(record) if record else None)
    place = out or log.with_suffix(".html")
    try:
        place.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{place}: can't be written: {error.strerror}") from None
    return place
