"""What only the configuration file tells: the few keywords that decide whether a drain is safe.

Not a parser of HAProxy's language: it reads sections, ``defaults`` (the nearest one before, or
the named one of ``from``) and keywords at the start of a line. ``.if`` blocks and environment
variables are taken as they stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fabfile.balancers.haproxy.language import (
    Line,
    Section,
    after,
    defaults_of,
    headers,
    number,
    option,
    sections_of,
)


@dataclass(frozen=True)
class Configured:
    """The facts about one backend."""

    cuts_on_maint: tuple[str, ...] = ()
    """Servers with ``on-marked-down shutdown-sessions``."""
    persist: bool = False
    """``option persist``: pinned clients are sent to a server even while it is down."""
    force_persist: bool = False
    """``force-persist`` rules: the same, under a condition."""
    redispatch: bool = False
    retries: int = 3
    pins: bool = True
    """Something may reach a server in drain: a cookie, a stick table, a rule that names it."""
    static: bool = False
    """The balance algorithm accepts no weight but 0 and the configured one."""
    loads_state: bool = False
    """``load-server-state-from-file global`` and a ``server-state-file``."""


def read_configuration(text: str, backend: str) -> Configured | None:
    """The facts about ``backend``; ``None`` when this text does not define it."""
    sections = sections_of(text)
    own = [section for section in sections if section[0][:2] in headers(backend)]
    if not own:
        return None
    section = own[-1]
    lines = [*defaults_of(section, sections), *section[1:]]
    return Configured(
        cuts_on_maint=_cutting(lines),
        persist=option(lines, "persist"),
        force_persist=any(line[0] == "force-persist" for line in lines),
        redispatch=option(lines, "redispatch"),
        retries=number(lines, "retries", 3),
        pins=any(line[0] in _PINNING for line in lines) or option(lines, "persist"),
        static=_static(lines),
        loads_state=_loads_state(lines, sections),
    )


def ports(text: str) -> dict[str, int]:
    """The port of each ``backend/server`` that is written with one."""
    return {
        f"{section[0][1]}/{line[1]}": int(line[2].rpartition(":")[2])
        for section in sections_of(text)
        if section[0][0] in ("backend", "listen") and len(section[0]) > 1
        for line in section[1:]
        if line[0] == "server" and len(line) > 2 and line[2].rpartition(":")[2].isdigit()
    }


def frontends(text: str, backend: str) -> tuple[tuple[str, int], ...]:
    """Address (empty: every one) and port of each ``bind`` whose requests may reach ``backend``.

    A ``use_backend`` that is computed may be any. Sockets and ranges of ports without a number at
    their start are left out.
    """
    found = []
    for section in sections_of(text):
        if section[0] != ("listen", backend) and not _leads_to(section, backend):
            continue
        for line in section[1:]:
            if line[0] == "bind" and len(line) > 1:
                found += [spot for word in line[1].split(",") if (spot := _spot(word))]
    return tuple(dict.fromkeys(found))


def _leads_to(section: Section, backend: str) -> bool:
    if section[0][0] not in ("frontend", "listen"):
        return False
    targets = [line[1] for line in section[1:] if line[0] in _CHOOSING and len(line) > 1]
    return any(target == backend or "%[" in target for target in targets)


_CHOOSING = ("default_backend", "use_backend")


def _spot(word: str) -> tuple[str, int] | None:
    """``*:80``, ``:80``, ``10.0.0.1:80``, ``[::]:80``, ``ipv4@:80``; ``None``: no TCP port."""
    plain = word.rpartition("@")[2] if word.startswith(("ipv4@", "ipv6@", "tcp@")) else word
    host, colon, port = plain.rpartition(":")
    number = port.split("-", 1)[0]
    if not colon or not number.isdigit() or "@" in plain or plain.startswith("/"):
        return None
    host = host.strip("[]")
    return ("" if host in _EVERYWHERE else host), int(number)


_EVERYWHERE = ("*", "0.0.0.0", "::")  # noqa: S104 (read, not bound)


def _cutting(lines: Sequence[Line]) -> tuple[str, ...]:
    """Servers whose sessions are cut when they go to maintenance; the last word on a line wins."""
    by_default = None
    found = []
    for line in lines:
        own = after(line, "on-marked-down")
        if line[0] == "default-server":
            by_default = own or by_default
        elif line[0] in ("server", "server-template") and len(line) > 2:
            found.append((line[1], own or by_default))
    return tuple(name for name, action in found if action == "shutdown-sessions")


_PINNING = ("cookie", "stick", "persist", "appsession", "use-server", "force-persist")
_DYNAMIC = ("roundrobin", "leastconn", "first", "random")


def _static(lines: Sequence[Line]) -> bool:
    """Hashes are static unless ``hash-type consistent`` (configuration guide, ``balance``)."""
    balance = [line[1] for line in lines if line[0] == "balance" and len(line) > 1]
    if not balance or balance[-1].split("(")[0] in _DYNAMIC:
        return False
    hashes = [line[1] for line in lines if line[0] == "hash-type" and len(line) > 1]
    return balance[-1] == "static-rr" or not hashes or hashes[-1] != "consistent"


def _loads_state(lines: Sequence[Line], sections: Sequence[Section]) -> bool:
    named = any(
        line[0] == "server-state-file"
        for section in sections
        if section[0][0] == "global"
        for line in section[1:]
    )
    loads = [line[1] for line in lines if line[0] == "load-server-state-from-file" and line[1:]]
    return named and bool(loads) and loads[-1] == "global"
