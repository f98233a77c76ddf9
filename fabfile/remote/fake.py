"""A host that exists on paper: answers by rules, remembers what it was asked, breaks on request.

Part of the product, because everybody who writes a hook, a driver or a runtime needs one in tests.

>>> web1 = FakeTransport("web1")
>>> web1.on("docker inspect", "running\\n")
>>> web1.on(r"compose up", exit_code=1, stderr="no such image")
>>> web1.run(Command("docker inspect app_1")).stdout
'running\\n'
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from fabfile.errors import OutcomeUnknown, RemoteError, Unreachable
from fabfile.remote.base import Command, Result

Match = str | re.Pattern[str] | Callable[[Command], bool]
Answer = str | Result | Callable[[Command], "str | Result"]
Lose = Literal["before", "after"]


class UnexpectedCommand(RemoteError):
    """No rule of the fake speaks of this command: a mistake in the test or in what it tests."""


@dataclass
class _Rule:
    match: Match
    answer: Answer
    exit_code: int
    stderr: str
    lose: Lose | None
    left: int | None

    def fits(self, command: Command) -> bool:
        if self.left == 0:
            return False
        if callable(self.match):
            return self.match(command)
        return re.search(self.match, command.script) is not None


@dataclass(frozen=True)
class FakeRunning:
    """A command of a fake: it has ended by the time it was started."""

    result: Result

    def wait(self) -> Result:
        """The result, at once."""
        return self.result


@dataclass
class FakeLines:
    """A conversation with a fake."""

    host: FakeTransport
    reply: Callable[[str], str]
    asked: list[str] = field(default_factory=list)
    broken: bool = False

    def ask(self, line: str, *, timeout: float) -> str:
        """What the rule's function answers. Raises :class:`OutcomeUnknown` when it broke."""
        del timeout
        if self.broken or self.host.down:
            self.broken = True
            raise OutcomeUnknown(self.host.name, "the connection broke")
        self.asked.append(line)
        return self.reply(line)

    def close(self) -> None:
        """End it."""
        self.broken = True


@dataclass
class FakeStream:
    """A script of a fake that is read along: pieces of stdout; ``None`` is a broken connection."""

    pieces: list[str | None]
    closed: bool = False
    exit_code: int | None = 0

    def read(self, seconds: float) -> tuple[bytes, bytes] | None:
        """The next piece."""
        del seconds
        if not self.pieces or self.closed:
            return None
        piece = self.pieces.pop(0)
        if piece is None:
            self.exit_code = None
            self.pieces.clear()
            return None
        return piece.encode(), b""

    def send(self, data: bytes) -> None:
        """Nobody listens."""

    def close(self) -> None:
        """End it."""
        self.closed = True


class FakeTransport:
    """A scripted host; see :class:`fabfile.remote.base.Transport`. Thread-safe."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._rules: list[_Rule] = []
        self._dialogues: list[tuple[str | re.Pattern[str], Callable[[str], str]]] = []
        self._lock = threading.Lock()
        self.commands: list[Command] = []
        """Every command that reached the host, in order."""
        self.conversations: list[FakeLines] = []
        self.streams: list[FakeStream] = []
        """What :meth:`follow` hands out, one after the other; when it is empty, nothing comes."""
        self.down = False
        """True: no connection is to be had."""
        self.closed = False

    @property
    def name(self) -> str:
        """The host's inventory name."""
        return self._name

    @property
    def scripts(self) -> list[str]:
        """The scripts of :attr:`commands`."""
        return [command.script for command in self.commands]

    def on(
        self,
        match: Match,
        answer: Answer = "",
        *,
        exit_code: int = 0,
        stderr: str = "",
        lose: Lose | None = None,
        times: int | None = None,
    ) -> None:
        """Answer commands that ``match``: a regular expression found in the script, or a function.

        ``answer`` is stdout, a whole :class:`Result`, or a function of the command that returns
        either and may have effects. ``lose``: the connection breaks before or after the effect,
        and the caller learns ``exit_code`` ``None`` either way. ``times``: then the rule is used
        up. The rule added last is asked first.
        """
        self._rules.insert(0, _Rule(match, answer, exit_code, stderr, lose, times))

    def on_lines(self, match: str | re.Pattern[str], reply: Callable[[str], str]) -> None:
        """Answer conversations whose script ``match`` is found in, line by line."""
        self._dialogues.insert(0, (match, reply))

    def connect(self) -> None:
        """Raises :class:`Unreachable` while :attr:`down`."""
        if self.down:
            raise Unreachable(self._name, "connection refused (fake)")
        self.closed = False

    def start(self, command: Command) -> FakeRunning:
        """Answer ``command`` by the first rule that fits."""
        self.connect()
        with self._lock:
            rule = next((rule for rule in self._rules if rule.fits(command)), None)
            if rule is None:
                raise UnexpectedCommand(self._name, f"no rule for: {command.script}")
            if rule.left is not None:
                rule.left -= 1
            if rule.lose != "before":
                self.commands.append(command)
        if rule.lose == "before":
            return FakeRunning(self._lost(command))
        result = self._result(rule, command)
        return FakeRunning(self._lost(command) if rule.lose == "after" else result)

    def run(self, command: Command) -> Result:
        """``start`` and ``wait`` in one."""
        return self.start(command).wait()

    def converse(self, command: Command, *, marker: str) -> FakeLines:
        """Start a conversation that :meth:`on_lines` knows."""
        del marker
        self.connect()
        for match, reply in self._dialogues:
            if re.search(match, command.script):
                self.conversations.append(FakeLines(self, reply))
                return self.conversations[-1]
        raise UnexpectedCommand(self._name, f"no rule for a conversation with: {command.script}")

    def follow(self, command: Command) -> FakeStream:
        """The next of :attr:`streams`. Raises :class:`Unreachable` when the host is down."""
        self.connect()
        self.commands.append(command)
        return self.streams.pop(0) if self.streams else FakeStream([])

    def close(self) -> None:
        """Close the connection."""
        self.closed = True

    def _result(self, rule: _Rule, command: Command) -> Result:
        answer = rule.answer(command) if callable(rule.answer) else rule.answer
        if isinstance(answer, Result):
            return replace(answer, host=self._name, label=command.label)
        return Result(self._name, command.label, rule.exit_code, answer, rule.stderr, 0.0)

    def _lost(self, command: Command) -> Result:
        return Result(self._name, command.label, None, "", "the connection broke", 0.0)
