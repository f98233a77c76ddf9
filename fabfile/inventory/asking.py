"""``inv init``: what was typed as flags, the rest asked for on a terminal, and a file of it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TextIO, TypeVar

from fabfile.errors import BadInput
from fabfile.inventory import foreign, loader, starter
from fabfile.inventory.foreign import Foreign
from fabfile.inventory.starter import SELF, Machine, Start

Value = TypeVar("Value")
ROOT = Path(__file__).resolve().parents[2]
REQUIRED = ("hosts", "image")


@dataclass(frozen=True)
class Flags:
    """One field per flag, as typed; empty where it was not given."""

    hosts: str = ""
    balancers: str = ""
    image: str = ""
    instances: str = ""
    port: str = ""
    publish: str = ""
    service: str = ""
    user: str = ""
    source: str = ""
    """``--from``."""
    template: bool = False
    force: bool = False
    output: str = ""

    @property
    def silent(self) -> bool:
        """Nothing was said of the fleet."""
        said = (self.hosts, self.balancers, self.image, self.instances, self.port, self.publish)
        return not any((*said, self.service, self.user, self.template))


@dataclass(frozen=True)
class Terminal:
    """Where questions are asked."""

    keyboard: TextIO
    screen: TextIO
    interactive: bool

    @classmethod
    def real(cls) -> Terminal:
        """This process's own."""
        interactive = sys.stdin.isatty() and sys.stdout.isatty()
        return cls(sys.stdin, sys.stdout, interactive)

    def say(self, text: str) -> None:
        """One line."""
        self.screen.write(f"{text}\n")
        self.screen.flush()

    def ask(self, question: str, default: str, check: Callable[[str], Value]) -> Value:
        """Ask until the answer is one; Enter takes the default.

        Raises :class:`BadInput` when the keyboard is gone.
        """
        while True:
            shown = f" [{default}]" if default else ""
            self.screen.write(f"{question}{shown}: ")
            self.screen.flush()
            line = self.keyboard.readline()
            if not line:
                self.say("")
                raise BadInput("nothing was written: there were no more answers")
            try:
                return check(line.strip() or default)
            except BadInput as error:
                self.say(f"  {re.sub('^--[a-z]+: ', '', str(error))}")


def init(flags: Flags, terminal: Terminal | None = None) -> Path:
    """Write a hosts.yaml and say what comes next; returns where it is.

    Raises :class:`BadInput` for any mistake; then nothing was written.
    """
    terminal = terminal or Terminal.real()
    output = Path(flags.output or loader.FILE)
    starter.refuse_overwriting(output, force=flags.force)
    known = foreign.read(Path(flags.source)) if flags.source else Foreign((), {}, closed=False)
    missing = [f"--{name}" for name in REQUIRED if not getattr(flags, name)]
    if missing and not terminal.interactive:
        names = f" (--from knows {_some(known)})" if known.machines and not flags.hosts else ""
        raise BadInput(
            f"{' and '.join(missing)} missing{names}: say them, or run this on a terminal and be"
            " asked"
        )
    check_all(flags, known)
    if known.machines and not flags.hosts:
        terminal.say(f"{flags.source}: {_some(known)}")
    start = _Interview(flags, known, terminal).start()
    place = starter.write(start, output, force=flags.force)
    for line in _closing(start, place):
        terminal.say(line)
    return place


def _some(known: Foreign) -> str:
    names = list(known.groups) or [machine.name for machine in known.machines]
    kind = "the groups" if known.groups else "the hosts"
    return f"{kind} {', '.join(names[:8])}{', …' if len(names) > 8 else ''}"


@dataclass(frozen=True)
class _Interview:
    """What flags say, and what is asked for where they say nothing."""

    flags: Flags
    known: Foreign
    terminal: Terminal

    def value(self, flag: str, question: str, default: str, check: Callable[[str], Value]) -> Value:
        """What stands for ``flag``; beside other flags, only what must not be missing is asked."""
        given = getattr(self.flags, flag, "")
        if given:
            return check(given)
        if self.terminal.interactive and (self.flags.silent or flag in REQUIRED):
            return self.terminal.ask(question, default, check)
        return check(default)

    def number(self, flag: str, question: str, default: int, high: int) -> int:
        """A whole number from 1 on."""
        return self.value(
            flag, question, str(default), lambda text: starter.whole(text, f"--{flag}", 1, high)
        )

    def start(self) -> Start:
        """Everything; raises :class:`BadInput`."""
        blank, known = Start((), ""), self.known
        service = self.value(
            "service",
            "Name of the service",
            blank.service,
            lambda text: starter.checked_name(text, "--service"),
        )
        question = "Its image, without a tag (registry.example.com/shop)"
        image = self.value("image", question, "", starter.image)
        hosts, balancers = self.machines()
        instances = self.number("instances", "Instances on each host", blank.instances, 1000)
        return Start(
            hosts=hosts,
            image=image,
            service=service,
            balancers=balancers,
            group=_group(hosts, known, blank.group),
            edge=_group(balancers, known, blank.edge),
            instances=instances,
            port=self.number("port", "Port inside the container", blank.port, 65535),
            publish=self.number(
                "publish", "First port on the host", blank.publish, 65536 - instances
            ),
            user=self.value(
                "user",
                "User who logs in (Enter: as ssh_config says)",
                "",
                lambda text: starter.user(text, "--user") if text else "",
            ),
            template=self.flags.template or (bool(balancers) and self.ours()),
            config_file=known.config_file,
        )

    def machines(self) -> tuple[tuple[Machine, ...], tuple[Machine, ...] | Literal["self"]]:
        """Hosts and balancers."""
        known, interactive = self.known, self.terminal.interactive
        hosts = self.value(
            "hosts",
            "Hosts it runs on (web1=10.0.0.11,web2=10.0.0.12)",
            _guess(known, "web", "app"),
            lambda text: known.chosen(text, "--hosts"),
        )
        guess = _guess(known, "lb", "haproxy", "balancer", "edge") if interactive else ""
        balancers = self.value(
            "balancers",
            "Hosts of HAProxy (lb1=10.0.0.21; self: one on each host; none)",
            guess if self.flags.silent and guess else "none",
            lambda text: balancers_of(text, known, hosts),
        )
        return hosts, balancers

    def ours(self) -> bool:
        """Whether HAProxy's configuration is ours to write."""
        question = "Is `fab provision` to write HAProxy's configuration (no: yours stays)"
        return self.value("", question, "no", _yes)


def check_all(flags: Flags, known: Foreign) -> None:
    """Every mistake in the flags at once. Raises :class:`BadInput`, before anything is asked."""
    checks: list[tuple[str, Callable[[], object]]] = [
        (flags.service, lambda: starter.checked_name(flags.service, "--service")),
        (flags.image, lambda: starter.image(flags.image)),
        (flags.hosts, lambda: known.chosen(flags.hosts, "--hosts")),
        (flags.instances, lambda: starter.whole(flags.instances, "--instances", 1, 1000)),
        (flags.port, lambda: starter.whole(flags.port, "--port", 1, 65535)),
        (flags.publish, lambda: starter.whole(flags.publish, "--publish", 1, 65535)),
        (flags.user, lambda: starter.user(flags.user, "--user")),
    ]
    wrong = []
    for given, check in checks:
        try:
            if given:
                check()
        except BadInput as error:
            wrong.append(str(error))
    if wrong:
        raise BadInput("\n".join(wrong))


def balancers_of(
    text: str, known: Foreign, hosts: tuple[Machine, ...]
) -> tuple[Machine, ...] | Literal["self"]:
    """The same for balancers, which may be among the hosts; ``self`` and ``none`` are words."""
    if text in ("", "none"):
        return ()
    if text == SELF:
        return SELF
    named = {each.name: each for each in (*known.machines, *hosts)}
    found = replace(known, machines=tuple(named.values())).chosen(text, "--balancers")
    starter.unlike([*hosts, *found], "--balancers")
    return found


def _guess(known: Foreign, *words: str) -> str:
    """The group that sounds like it."""
    return next((name for name in known.groups if any(word in name for word in words)), "")


def _group(found: tuple[Machine, ...] | Literal["self"], known: Foreign, otherwise: str) -> str:
    """The hosts of a group keep its name."""
    names = {each.name for each in found if isinstance(each, Machine)}
    name = next((name for name, hosts in known.groups.items() if set(hosts) == names), otherwise)
    try:
        return starter.checked_name(name, "")
    except BadInput:
        return otherwise


def _yes(text: str) -> bool:
    word = text.lower()
    if word not in ("yes", "y", "no", "n"):
        raise BadInput("say yes or no")
    return word in ("yes", "y")


def _closing(start: Start, place: Path) -> list[str]:
    here = Path.cwd()
    count = len(start.machines)
    found = place.absolute() == here / loader.FILE
    fab = "fab" if here == ROOT or ROOT in here.parents else f"fab -r {ROOT}"
    flag = "" if found else f" --inventory {place}"
    return [
        f"wrote {place}: {count} host{'' if count == 1 else 's'}, service {start.service}",
        "What comes next:",
        f"  {fab} doctor{flag}   # what hosts and balancers lack; changes nothing",
        f"  {fab} provision --version VERSION{flag}   # compose projects"
        + (", HAProxy's configuration" if start.template else "; your HAProxy stays yours"),
        f"  {fab} plan --version VERSION{flag}   # what a deploy would do",
        f"  {fab} deploy --version VERSION{flag}",
    ]
