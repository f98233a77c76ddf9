"""Who took a server out of rotation, when, why, and what it was before: on its balancer's host.

::

    /var/lib/evenkeel/drained/KEY.SERVER.json    KEY as in locks/: one file for each server

It is written before the first order and removed when the server is back, so it explains the server
to ``inv status`` at any moment, and tells ``fab enable`` what to put back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from fabfile.remote import state
from fabfile.remote.quoting import q
from fabfile.remote.scripts import script

_FOLDER = f"{state.ROOT}/drained"


@dataclass(frozen=True)
class Drained:
    """One server that somebody drained."""

    key: str
    """The lock of its backend."""
    backend: str
    server: str
    instance: str
    """``web1/app_1``."""
    service: str
    uweight: int
    """Its weight before."""
    by: str
    reason: str
    since: str = ""
    """By the host's own clock, in UTC."""

    @property
    def name(self) -> str:
        """Of its file, without ``.json``."""
        return f"{self.key}.{self.server}"

    @property
    def told(self) -> str:
        """``by anna since …: reason``."""
        why = f": {self.reason}" if self.reason else ""
        return f"by {self.by} since {self.since or '?'}{why}"


def write(records: Iterable[Drained]) -> str:
    """Write records down so that they survive a power cut."""
    lines = [f"umask 002; mkdir -p {_FOLDER} && cd {_FOLDER} || exit 71"]
    for record in records:
        file, facts = q(f"{record.name}.json"), asdict(record)
        when = "date -u +%Y-%m-%dT%H:%M:%SZ"
        if facts.pop("since"):
            when = f"printf '%s\\n' {q(record.since)}"
        text = q(json.dumps(facts, sort_keys=True))
        lines.append(
            f"{{ printf '%s\\n' {text}; {when}; }} >{file}.new"
            f" && sync {file}.new && mv -f {file}.new {file} || exit 71"
        )
    return "\n".join([*lines, "sync ."])


def remove(records: Iterable[Drained]) -> str:
    """These servers are back."""
    files = " ".join(q(f"{_FOLDER}/{record.name}.json") for record in records)
    return f"rm -f {files} && sync {_FOLDER}"


def show() -> str:
    """Print every record of this host, for :func:`parse`."""
    return script(state.SHELL / "drained.sh", root=state.ROOT)


def parse(text: str) -> list[Drained]:
    """Read what :func:`show` printed; what is damaged is left out."""
    found: list[Drained] = []
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                found.append(Drained(**json.loads(line)))
            except (TypeError, ValueError):
                continue
        elif found and not found[-1].since:
            found[-1] = replace(found[-1], since=line.strip())
    return [one for one in found if type(one.uweight) is int and 0 <= one.uweight <= 256]
