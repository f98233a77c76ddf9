"""What becomes of a rollout's folder in the end: finished, mended, forgotten.

``remote.state`` says what lies in it. Builders return shell text and run nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fabfile.remote import state
from fabfile.remote.quoting import q
from fabfile.remote.scripts import script


def finish_as_told(rollout: str) -> str:
    """It is over; ``finished.json`` comes on stdin, since that of a large fleet is long."""
    path = f"{state.ROOT}/rollouts/{q(rollout)}/finished.json"
    return (
        f"umask 002; cat > {path}.new && [ -s {path}.new ] && sync {path}.new"
        f" && mv {path}.new {path} && sync $(dirname {path})"
    )


def forget(rollouts: Iterable[str]) -> str:
    """Remove the journals of these rollouts, which have ended."""
    ids = " ".join(one for one in rollouts if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", one))
    return script(state.SHELL / "forget.sh", root=state.ROOT, ids=ids)


def keep_aside(rollout: str, files: Mapping[str, str | None]) -> str:
    """Move damaged files of a journal to its ``kept-aside/``; each may be written anew.

    ``files`` by their place inside the rollout's folder, with the text to write or ``None``. One
    that is written anew never is missing: its name alone says that something is to be put back.
    """
    folder = f"{state.ROOT}/rollouts/{q(rollout)}"
    parts = [
        f"umask 002\ncd {folder} && mkdir -p kept-aside || exit 71",
        "at=$(date -u +%Y%m%dT%H%M%SZ)",
    ]
    for file, text in files.items():
        aside = f'{q("kept-aside/" + file.replace("/", "."))}."$at"'
        parts.append(f"cp -p {q(file)} {aside} && sync {aside} || exit 71")
        parts.append(
            f"{state.durable(q(file), text) if text is not None else 'rm -f ' + q(file)} || exit 71"
        )
    return "\n".join(parts) + "\nsync kept-aside ."


@dataclass(frozen=True)
class Standing:
    """How far one host is in a rollout that has not ended, by the names of its files."""

    rollout: str
    plan: str = ""
    """The newest one's name; empty: there is none."""
    undo: frozenset[str] = frozenset()
    done: frozenset[str] = frozenset()
    ahead: frozenset[str] = frozenset()
    """Ids of instances of which a server here is recorded and was not touched yet."""
    touched: frozenset[str] = frozenset()
    """Ids of instances of which a server here was, and is not back."""


@dataclass(frozen=True)
class Stands:
    """What one host says when it is asked how things stand."""

    rollouts: tuple[Standing, ...]
    locks: tuple[state.Held, ...]


_LOCKS = "== locks"


def stands() -> str:
    """Print how far each unfinished rollout is, and every lock, for :func:`parse_stands`.

    A few names for each instance: it is asked again and again.
    """
    names = state.journal_is() + script(state.SHELL / "stands.sh", root=state.ROOT)
    return f"{names}\necho '{_LOCKS}'\n{state.locks()}"


def parse_stands(text: str) -> Stands:
    """Read what :func:`stands` printed."""
    journals, _, locks = text.partition(f"{_LOCKS}\n")
    found = []
    for part in re.split(r"^== rollout ", journals, flags=re.MULTILINE)[1:]:
        rollout, *lines = part.splitlines()
        names: dict[str, list[str]] = defaultdict(list)
        for line in lines:
            kind, _, name = line.partition(" ")
            names[kind].append(name)
        records = (frozenset(names[kind]) for kind in ("undo", "done", "ahead-of", "undo-of"))
        found.append(Standing(rollout, max(names["plan"], default=""), *records))
    return Stands(tuple(found), tuple(state.parse_locks(locks)))


def plan(rollout: str, name: str) -> str:
    """Print a plan that :class:`Standing` names."""
    return f"cat {state.ROOT}/rollouts/{q(rollout)}/{q(name)}.json"
