"""What a row was expected to show, what it showed, and what is wrong with that. Nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

SAFE_WITHIN = 30.0
"""Seconds from a controller's death until everything it had taken out is back."""

IDLE_AT_LEAST = 0.25
"""Share of the machine that has to be idle beside the load for late answers to be judged. Nothing
else makes a failure forgiven."""

KEPT = "of a kept connection"
"""The prober's words for a request that was not the first on its connection."""
Losses = Literal["none", "own", "version"]
"""none: no request may be lost · own: only what the fault itself took · version: only what the
new version itself answers badly."""


@dataclass(frozen=True)
class Bad:
    """A request that failed, or was answered later than it should be. Times are Unix times."""

    sent: float
    ended: float
    lane: str
    url: str
    kind: str
    """As the prober says it, or ``late``."""
    detail: str = ""
    server: str = ""
    """``web1/app_1``; empty where nobody could say."""
    version: str = ""

    @property
    def late(self) -> bool:
        """It was answered, and well, but too late."""
        return self.kind == "late"

    def within(self, since: float, until: float) -> bool:
        """Whether it was under way at any moment from ``since`` to ``until``."""
        return self.sent <= until and self.ended >= since


@dataclass(frozen=True)
class Expectation:
    """Written down before the row runs."""

    codes: frozenset[int] = frozenset({0})
    """Exit codes the deploy may end with. Whatever it says has to be true, see :func:`judge`."""
    losses: Losses = "none"
    recovery: frozenset[int] = frozenset({0})
    """Exit codes of the recovery, where one is run."""
    safe_within: float | None = None
    """Seconds from the fault until everything is in rotation again that was taken out."""

    def __str__(self) -> str:
        codes = " or ".join("killed" if c == -9 else f"exit {c}" for c in sorted(self.codes))
        losses = {
            "none": "nothing lost",
            "own": "nothing lost but by the fault itself",
            "version": "nothing lost but by the version itself",
        }[self.losses]
        safe = f", safe within {self.safe_within:g} s" if self.safe_within else ""
        return f"{codes}, {losses}{safe}"


@dataclass(frozen=True)
class Window:
    """What the fault itself can be blamed for."""

    since: float = 0.0
    until: float = 0.0
    """Unix times: from the moment it struck until what it took was back."""
    servers: tuple[str, ...] = ()
    """Prefixes of the instances it took: ``web2/`` or ``web2/app_3``."""
    url: str = ""
    """The frontend it took."""
    kept: bool = False
    """Of that frontend only the kept connections: who reloads closes idle ones, and a request that
    is on its way at that moment gets no answer."""
    version: str = ""
    """The version that answers badly by itself, at any time."""

    def explains(self, bad: Bad) -> bool:
        """Whether the fault itself, and no rollout, is to blame for ``bad``."""
        if self.version and bad.version == self.version and bad.kind == "HTTP 5xx":
            return True
        if not (self.since and bad.within(self.since, self.until)):
            return False
        if self.url and bad.url.startswith(self.url):
            if self.kept and KEPT not in bad.detail:
                return False
            # What HAProxy itself answers about a server is no matter of its own end.
            return bad.kind not in ("HTTP 5xx", "HTTP 4xx")
        if self.servers and not bad.server and KEPT in bad.detail:
            # A server's end on a connection that HAProxy used again is passed on as such: the client
            # is meant to ask once more, and nobody says which server it was.
            return True
        return bool(bad.server) and bad.server.startswith(self.servers or ("-",))


@dataclass(frozen=True)
class Lost:
    """How many of each kind."""

    fast: int = 0
    long: int = 0
    late: int = 0

    @property
    def failed(self) -> int:
        """Without the late ones."""
        return self.fast + self.long

    @property
    def total(self) -> int:
        """All together."""
        return self.failed + self.late

    def __str__(self) -> str:
        return f"{self.fast} / {self.long} / {self.late}"


def count(bads: Iterable[Bad]) -> Lost:
    """Sum up."""
    bads = list(bads)
    failed = [bad for bad in bads if not bad.late]
    long = sum(bad.lane == "long" for bad in failed)
    return Lost(len(failed) - long, long, len(bads) - len(failed))


@dataclass(frozen=True)
class Command:
    """A `fab` that ended."""

    name: str
    code: int
    seconds: float = 0.0


@dataclass(frozen=True)
class Row:
    """What was seen of one fault."""

    name: str
    what: str
    expected: Expectation
    before: Mapping[str, str]
    """What ran before, by instance."""
    new: str
    """The version that was asked for."""
    deploy: Command | None
    """``None``: the fault was tried without a rollout."""
    recovery: Command | None = None
    taken_up: bool = False
    """There was an unfinished rollout for the recovery."""
    versions: Mapping[str, str] = field(default_factory=dict)
    out: tuple[str, ...] = ()
    """Servers that are not as recorded at the end."""
    locks: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    oddities: tuple[str, ...] = ()
    mine: Lost = field(default_factory=Lost)
    """What the fault itself took."""
    added: Lost = field(default_factory=Lost)
    """Everything else that was lost."""
    safe: float | None = None
    """Seconds from the fault until what was out of rotation was back; ``None``: not measured."""
    whole: float | None = None
    """Seconds from the fault until everything was as it should be at the end of the row."""
    idle: float = 1.0
    """Share of the machine that was idle right before, with the load and without a rollout."""
    kept_schedule: bool = True
    was_out: str = ""
    """What was out of rotation when the controller was killed."""
    wrong: tuple[str, ...] = ()
    """What the row itself found wrong: the fault could not be made, a take-over was not noticed."""


def judge(row: Row) -> list[str]:
    """Everything in ``row`` that is not as expected; empty: it is OK."""
    found = list(row.wrong)
    found += _commands(row)
    found += _state(row)
    found += _losses(row)
    if row.expected.safe_within is not None and row.deploy is not None:
        if row.safe is None:
            found.append("never came to a safe state")
        elif row.safe > row.expected.safe_within:
            found.append(f"safe after {row.safe:.0f} s, not {row.expected.safe_within:g} s")
    if not row.kept_schedule:
        found.append("the prober could not keep its schedule, so its figures prove nothing")
    return found


def _commands(row: Row) -> list[str]:
    found = []
    if row.deploy is not None and row.deploy.code not in row.expected.codes:
        found.append(f"{row.deploy.name} ended with {row.deploy.code}")
    if row.recovery is not None and row.recovery.code not in row.expected.recovery:
        found.append(f"{row.recovery.name} ended with {row.recovery.code}")
    return found


def _state(row: Row) -> list[str]:
    found = [*row.oddities]
    if row.out:
        found.append(f"not as recorded: {some(row.out)}")
    if row.locks:
        found.append(f"locked: {some(row.locks)}")
    if row.unfinished:
        found.append(f"unfinished: {some(row.unfinished)}")
    found += _versions(row)
    return found


def whose(row: Row) -> tuple[str, ...]:
    """What may run at the end, by what the last command says of it: old, new, mixed."""
    if row.deploy is None:
        return ("old",)
    if row.recovery is not None:
        if not row.taken_up:  # the deploy was over, or had not begun, and that must be whole
            return ("old", "new")
        said = (row.recovery.name, row.recovery.code)
        ends = {("resume", 0): ("new",), ("resume", 7): ("old",), ("abort", 0): ("old",)}
        return ends.get(said, ("mixed",))
    return {0: ("new",), 7: ("old",), 4: ("old",), 5: ("old",)}.get(row.deploy.code, ("mixed",))


def _versions(row: Row) -> list[str]:
    allowed = whose(row)
    wholes = {"old": dict(row.before), "new": dict.fromkeys(row.before, row.new)}
    if any(dict(row.versions) == wholes[name] for name in allowed if name in wholes):
        return []
    strange = [
        f"{name} runs {version or 'nothing'}"
        for name, version in row.versions.items()
        if version not in {whole.get(name) for whole in wholes.values()}
    ]
    if "mixed" in allowed and not strange:
        return []
    wanted = " or ".join(f"what was {name}" for name in allowed if name in wholes)
    return [f"versions: {some(strange) or 'mixed'}, wanted: {wanted or 'old or new ones'}"]


def busy(row: Row) -> bool:
    """Other programs kept this machine so busy that a late answer says nothing of the rollout."""
    return row.idle < IDLE_AT_LEAST


def _losses(row: Row) -> list[str]:
    found = []
    if row.added.failed or (row.added.late and not busy(row)):
        found.append(f"lost: {row.added} (fast / long / late)")
    if row.mine.failed and row.expected.losses == "none":
        found.append(f"the fault itself took {row.mine} (fast / long / late)")
    return found


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few of ``names``."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
