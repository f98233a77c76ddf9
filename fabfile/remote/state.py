"""What Evenkeel keeps on a host, and the shell that keeps it: locks, fences, records.

::

    /var/lib/evenkeel/                 group-writable for whoever deploys
        salt                           random; release ids of this host are keyed with it
        locks/KEY.lock                 held: token, facts as JSON, since when; its mtime is the
                                       heartbeat, judged by this host's own clock
        locks/KEY.epoch                counts every acquisition; never goes down
        locks/KEY.flock                taken with flock(1) by each effect
        drained/KEY.SERVER.json        what people drained by hand: see ``drained``
        kept-aside/                    damaged locks and counts
        rollouts/ID/plan-0001.json     the frozen plan; the highest complete one wins
        rollouts/ID/ahead/NAME.json    written before its turn: nothing to be put back yet
        rollouts/ID/undo/NAME.json     not done yet: what has to be put back
        rollouts/ID/done/NAME.json     the same, once it was
        rollouts/ID/hooks/NAME.json    a hook of the whole rollout: begun, and how it ended
        rollouts/ID/finished.json      how it ended; absent: the rollout is unfinished
        rollouts/ID/kept-aside/        files of it that were damaged

Builders return shell text. They quote what they are given and run nothing. Exit codes of the
scripts: 73 somebody holds the lock, 74 the flock was not to be had, 75 fenced off.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fabfile.remote.quoting import q
from fabfile.remote.scripts import script

SHELL = Path(__file__).parent / "shell"

ROOT = "/var/lib/evenkeel"
EXIT_HELD = 73
EXIT_BUSY = 74
EXIT_FENCED = 75
FLOCK_WAIT = 10
"""Seconds an effect waits for another one on the same target to end."""


STALE_AFTER = 15
"""Seconds without a sign of life after which a lock's holder is taken for dead."""
_DESCRIPTORS = range(3, 10)
"""dash reads one digit in front of a redirection and no more."""


@dataclass(frozen=True)
class Held:
    """A lock somebody holds."""

    key: str
    age: int
    """Seconds since its holder last gave a sign of life."""
    owner: str
    facts: Mapping[str, object]
    since: str
    damaged: str = ""
    """What its first line reads, where that names no owner and epoch; empty: it is whole."""


def key(*parts: str) -> str:
    """A lock's file name: ``backend.run.haproxy.admin.sock.challenge``."""
    return ".".join(re.sub(r"[^A-Za-z0-9_-]+", ".", part).strip(".") for part in parts)


def durable(path: str, text: str, folder: str = "") -> str:
    """Write ``text`` to ``path`` so that it survives a power cut, or leave the old file.

    ``path`` is a shell word already quoted, and so is ``folder``, where it lies.
    """
    return (
        f"printf '%s\\n' {q(text)} > {path}.new && sync {path}.new && mv {path}.new {path}"
        f" && sync {folder or f'$(dirname {path})'}"
    )


def acquire(
    keys: Sequence[str],
    owner: str,
    facts: Mapping[str, object],
    over: Iterable[str] = (),
    stale: int = STALE_AFTER,
    wait: int | None = None,
) -> str:
    """Take every lock of ``keys`` on this host, or none of them.

    An effect that is at work is waited for ``wait`` seconds (:data:`FLOCK_WAIT`).

    A lock of one of the owners ``over``, or of a recovery of it (``OWNER.…``), is taken over when
    it gave no sign of life for ``stale`` seconds. Prints ``got KEY EPOCH`` for each; exit 73 and
    ``held KEY AGE`` with the lock file's text when one is taken. An owner is one word.
    """
    return script(
        SHELL / "acquire.sh",
        keys=" ".join(sorted(keys)),
        owner=owner,
        facts=json.dumps(dict(facts), sort_keys=True),
        root=ROOT,
        wait=FLOCK_WAIT if wait is None else wait,
        over=" ".join(over),
        stale=stale,
    )


def locks() -> str:
    """Print every lock of this host, for :func:`parse_locks`."""
    return script(SHELL / "locks.sh", root=ROOT)


def parse_locks(text: str) -> list[Held]:
    """Read what :func:`locks` printed."""
    found: list[Held] = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("held "):
            name, _, age = line.removeprefix("held ").rpartition(" ")
            found.append(parse_lock(name, int(age), _lock_text(lines[number + 1 :])))
    return found


def _lock_text(lines: Sequence[str]) -> list[str]:
    """The lines of one lock file: a damaged one may be shorter than three."""
    found = []
    for line in lines[:3]:
        if line.startswith("held "):
            break
        found.append(line)
    return found


def unlock(keys: Sequence[str]) -> str:
    """Remove these locks, whoever holds them; their epochs stay, so the holder is fenced off.

    One that is damaged is kept aside.
    """
    return script(SHELL / "unlock.sh", root=ROOT, keys=" ".join(keys))


def release(keys: Mapping[str, str]) -> str:
    """Give locks back; ``keys`` maps each to its token line. One that is not ours stays."""
    return _remove({name: q(line) for name, line in keys.items()})


def abandon(keys: Iterable[str], owner: str) -> str:
    """Give back whatever ``owner`` may hold of ``keys``, for when nobody knows what it got.

    ``owner`` must be one that nobody else ever used.
    """
    return _remove({name: q(owner + " ") + "*" for name in keys})


def _remove(keys: Mapping[str, str]) -> str:
    """Remove each lock whose first line fits its pattern; under its flock, so that nobody takes
    it over between the look and the removal. What we left running ourselves may hold that: then
    nobody can take the lock over either, and it is removed all the same."""
    parts = [
        f"(flock -w 1 9; read -r line <{q(name)}.lock 2>/dev/null || exit\n"
        f"case $line in {pattern}) rm -f {q(name)}.lock ;; esac) 9>>{q(name)}.flock"
        for name, pattern in sorted(keys.items())
    ]
    return f"cd {ROOT}/locks || exit 71\n" + "\n".join(parts) + "\ntrue"


def fenced(keys: Mapping[str, str], effect: str) -> str:
    """``effect``, only while every lock of ``keys`` (name to token line) is still ours.

    The flocks stay taken for as long as anything that ``effect`` started is alive, so a
    take-over that waits for them knows that nothing of ours is still running.
    """
    taken = sorted(keys.items())
    parts = []
    for fd, (name, line) in zip(_DESCRIPTORS, taken, strict=False):
        lock = f"{ROOT}/locks/{name}"
        parts.append(
            f"exec {fd}>>{q(lock + '.flock')} && flock -w {FLOCK_WAIT} {fd} || exit {EXIT_BUSY}\n"
            f"line=; {{ IFS= read -r line <{q(lock + '.lock')}; }} 2>/dev/null\n"
            f'[ "$line" = {q(line)} ] || exit {EXIT_FENCED}'
        )
    rest = dict(taken[len(_DESCRIPTORS) :])
    inner = f"sh -c {q(fenced(rest, effect))}" if rest else effect
    return "\n".join([*parts, inner])


def parse_acquired(text: str) -> tuple[dict[str, int], Held | None]:
    """Read what :func:`acquire` printed: epochs by key, and the lock in the way, if any."""
    lines = text.splitlines()
    got: dict[str, int] = {}
    for number, line in enumerate(lines):
        word, _, rest = line.partition(" ")
        if word == "got":
            name, _, epoch = rest.rpartition(" ")
            got[name] = int(epoch)
        elif word == "held":
            name, _, age = rest.rpartition(" ")
            return got, parse_lock(name, int(age), lines[number + 1 :])
    return got, None


def parse_lost(text: str) -> list[str]:
    """The epoch files that :func:`acquire` found damaged."""
    lines = (line.partition(" ") for line in text.splitlines())
    return [f"{ROOT}/locks/{rest}" for word, _, rest in lines if word == "lost"]


def parse_lock(name: str, age: int, lines: Sequence[str]) -> Held:
    """Read a lock file; one that is cut short or edited by hand still names its first line."""
    first = lines[0].strip() if lines else ""
    owner = first.rpartition(" ")[0] or first or "?"
    facts: object = {}
    if len(lines) > 1:
        try:
            facts = json.loads(lines[1])
        except ValueError:
            facts = {"unreadable": lines[1][:80]}
    since = lines[2] if len(lines) > 2 else "?"
    damaged = "" if re.fullmatch(r"\S+ \d+", first) else repr(first[:80])
    return Held(name, age, owner, facts if isinstance(facts, dict) else {}, since, damaged)


def packed(plan: str) -> bytes:
    """``plan`` as :func:`begin` takes it.

    All hosts get the whole of it, so that for some hundred of them it adds up to gigabytes.
    """
    return gzip.compress(plan.encode(), 6, mtime=0)


def begin(rollout: str, number: int = 1) -> str:
    """Write the frozen plan, which comes :func:`packed` on stdin, under its number: the highest
    one wins. Half a plan is refused by gzip's own checksum.
    """
    folder = f"{ROOT}/rollouts/{q(rollout)}"
    plan = f"{folder}/plan-{number:04}.json"
    return (
        f"umask 002; mkdir -p {folder}/ahead {folder}/undo {folder}/done && gzip -dc > {plan}.new"
        f" && [ -s {plan}.new ] && sync {plan}.new && mv {plan}.new {plan} && sync {folder}"
    )


def finish(rollout: str, ended: Mapping[str, object]) -> str:
    """The rollout is over; nothing is left to be put back."""
    path = f"{ROOT}/rollouts/{q(rollout)}/finished.json"
    return f"umask 002; {durable(path, json.dumps(dict(ended), sort_keys=True))}"


def journal_is() -> str:
    """Shell functions that say what a rollout's folder is: ``is_known``, ``is_ended``."""
    return script(SHELL / "journal-is.sh")


def journal() -> str:
    """Print every unfinished rollout this host knows of, for :func:`parse_journal`."""
    return journal_is() + script(SHELL / "journal.sh", root=ROOT)


def ended(rollout: str) -> str:
    """Print, for :func:`parse_journal`, what is left of a rollout that ended on this host;
    nothing where it did not."""
    return script(SHELL / "ended.sh", root=ROOT, rollout=rollout)


@dataclass
class Unfinished:
    """What one host knows of a rollout that never ended."""

    rollout: str
    plans: dict[int, str] = field(default_factory=dict)
    """By number, as they were written; one that is cut short is there, too."""
    finished: str = ""
    """A finished.json that can't be believed: it is damaged, and there are open records."""
    undo: dict[str, str] = field(default_factory=dict)
    """Records by name, as written: not done yet."""
    ahead: dict[str, str] = field(default_factory=dict)
    """The same, written before their turn."""
    done: dict[str, str] = field(default_factory=dict)
    hooks: dict[str, str] = field(default_factory=dict)
    """Of the whole rollout, by name: begun, and how they ended."""


def parse_journal(text: str) -> list[Unfinished]:
    """Read what :func:`journal` printed."""
    found: list[Unfinished] = []
    parts = re.split(r"^== (\S+) (\S+)\n", text, flags=re.MULTILINE)
    for kind, name, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        if kind == "rollout":
            found.append(Unfinished(name))
        elif kind == "plan":
            found[-1].plans[int(re.sub(r"\D", "", name) or 0)] = body.strip()
        elif kind == "finished":
            found[-1].finished = body.strip()
        else:
            one = found[-1]
            records = {"undo": one.undo, "ahead": one.ahead, "hooks": one.hooks}
            records.get(kind, found[-1].done)[name] = body.strip()
    return found


def history(most: int = 1000) -> str:
    """Print the newest rollouts of this host, for :func:`parse_history`."""
    return journal_is() + script(SHELL / "history.sh", root=ROOT, most=most)


@dataclass
class Ended:
    """What one host knows of a rollout, ended or not."""

    rollout: str
    facts: dict[str, object] = field(default_factory=dict)
    """``finished.json``, see ``rollout.history``; empty where it is missing or damaged."""
    instances: dict[str, dict[str, object]] = field(default_factory=dict)
    """The records of instances, by name: what each was, and what it was to become."""
    ended: bool = True
    plan: str = ""
    """The newest plan, where the facts do not say enough."""

    @property
    def service(self) -> str:
        """Whose rollout it was; empty: nobody can tell."""
        named = self.facts.get("service")
        if isinstance(named, str):
            return named
        found = re.search(r'"service": *"([^"]+)"', self.plan)
        return found[1] if found else ""


def parse_history(text: str) -> list[Ended]:
    """Read what :func:`history` printed, the newest first; what is cut short is left out."""
    found: list[Ended] = []
    parts = re.split(r"^== (\S+) (\S+)\n", text, flags=re.MULTILINE)
    for kind, name, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        raw = _object(body)
        if kind in ("ended", "open"):
            found.append(Ended(name, raw, ended=kind == "ended"))
        elif kind == "plan":
            found[-1].plan = body.strip()
        elif raw:
            found[-1].instances[name] = raw
    return found


def _object(text: str) -> dict[str, object]:
    """A JSON object; empty where it is damaged."""
    try:
        raw = json.loads(text)
    except ValueError:
        return {}
    return raw if isinstance(raw, dict) else {}


def unfinished() -> str:
    """Print id and service of every unfinished rollout this host knows of."""
    return journal_is() + script(SHELL / "unfinished.sh", root=ROOT)


def ready() -> str:
    """Make what is missing inside our folder; print ``ready SALT``, or why it can't be used."""
    return script(SHELL / "ready.sh", root=ROOT)
