"""A balancer that can't be asked, left out of a rollout, and the probe that shows it serves nobody.

Nobody can see whether a balancer that does not answer still sends requests to the containers that
are about to stop. Its frontend tells: where no connection to it can be made, from here and from the
application hosts, it serves nobody.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from fabfile.balancers.haproxy.configured import frontends
from fabfile.drivers.balancers import BalancerHand
from fabfile.drivers.preflight import everywhere
from fabfile.errors import BadInput, EvenkeelError, PreflightFailed
from fabfile.inventory.model import Balancer, Inventory, Service
from fabfile.remote.base import Result
from fabfile.remote.pool import Remotes
from fabfile.remote.quoting import q
from fabfile.remote.scripts import script
from fabfile.rollout.events import Event, Notice

CONNECT_TIMEOUT = 3
"""Whole seconds a connection to a frontend may take; a machine that is gone answers nothing."""
LOOK_TIMEOUT = 30.0
"""Deadline in seconds."""
WITNESSES = 3
"""Application hosts that are asked, at most."""

Address = tuple[str, int]


def split(values: Iterable[str]) -> tuple[str, ...]:
    """The names of a flag that may be repeated and may hold a comma list."""
    names = (name.strip() for value in values for name in value.split(","))
    return tuple(dict.fromkeys(filter(None, names)))


def all_balancers(service: Service) -> dict[str, Balancer]:
    """Every balancer of ``service`` by id, those left out included."""
    whole = replace(service, without=())
    return {b.id: b for host in whole.hosts for b in whole.balancers_of(host)}


def named(
    service: Service, names: Iterable[str], flag: str = "--without-balancer"
) -> tuple[str, ...]:
    """The ids of the balancers that are called ``names``, by id or by host.

    Raises :class:`BadInput` for a name that is none.
    """
    known = all_balancers(service)
    found: list[str] = []
    for name in names:
        mine = [b.id for b in known.values() if name in (b.id, b.host)]
        if not mine:
            raise BadInput(f"{flag}: {name} is none of {', '.join(known) or 'the balancers'}")
        found += mine
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Outside:
    """What is left out of a rollout, and how it is known that it serves nobody."""

    inventory: Inventory
    service: Service
    remotes: Remotes
    emit: Callable[[Event], None]
    witnesses: tuple[str, ...]
    """Application hosts that the frontends are tried from."""

    def check(self, ids: Sequence[str], *, flag: str, allow_loss: bool) -> None:
        """Refuse to leave out a balancer that can be asked, or that still serves.

        Raises :class:`BadInput`, :class:`PreflightFailed`. With ``allow_loss`` it may serve.
        """
        known = all_balancers(self.service)
        for name in ids:
            balancer = known[name]
            if self.answers(balancer):
                raise BadInput(f"{flag}: {name} can be asked: leave the flag out")
            if allow_loss:
                text = f"goes on without {name}: requests through it may be lost (--allow-loss)"
                self.emit(Notice(text))
                continue
            self.emit(Notice(f"goes on without {name}: {self.closed(balancer)}"))

    def answers(self, balancer: Balancer) -> bool:
        """Whether it can be asked, so that it may not be left out."""
        hand = BalancerHand(balancer, self.remotes, None)
        try:
            hand.read()
        except EvenkeelError:
            return False
        finally:
            hand.close()
        return True

    def closed(self, balancer: Balancer) -> str:
        """How it was seen that nobody can connect to its frontend.

        Raises :class:`PreflightFailed` where somebody can, or where that can't be found out.
        """
        spots = self.spots(balancer)
        shown = ", ".join(f"{host}:{port}" for host, port in spots)
        way_out = "stop it, or say --allow-loss"
        if not spots:
            raise PreflightFailed(
                f"nothing was changed: {balancer.id} can't be asked and nobody knows on which port"
                " it serves, so it can't be shown that it does not: say --allow-loss"
            )
        there, silent = self.seen_from(spots)
        open_from = [name for name, is_open in there.items() if is_open]
        if open_from:
            raise PreflightFailed(
                f"nothing was changed: {balancer.id} can't be asked, but its frontend ({shown})"
                f" still answers {', '.join(open_from)}: {way_out}"
            )
        if not set(there) - {HERE}:
            raise PreflightFailed(
                f"nothing was changed: {balancer.id} can't be asked, and no application host could"
                f" try its frontend ({shown}; {', '.join(silent) or 'none was asked'}): {way_out}"
            )
        return f"nobody can connect to its frontend ({shown}; tried from {', '.join(there)})"

    def seen_from(self, spots: Sequence[Address]) -> tuple[dict[str, bool], list[str]]:
        """Who could try, and whether any of ``spots`` let it connect; who could not try."""
        with ThreadPoolExecutor(len(spots)) as workers:
            mine = list(workers.map(_connects, spots))
        there = {HERE: any(mine)}
        lines = " ".join(f"{_bracketed(host)}:{port}" for host, port in spots)
        text = script(SHELL / "connects.sh", spots=lines, wait=CONNECT_TIMEOUT)
        asked = dict.fromkeys(self.witnesses[:WITNESSES], text)
        silent = []
        for name, result in everywhere(self.remotes, asked, "try it", LOOK_TIMEOUT).items():
            if result.ok and result.stdout.strip() in ("open", "closed"):
                there[name] = result.stdout.strip() == "open"
            else:
                silent.append(f"{name}: {result.tail(1) or result.stdout.strip() or 'no answer'}")
        return there, silent

    def spots(self, balancer: Balancer) -> tuple[Address, ...]:
        """Where its frontend would be: what its own configuration says, else its siblings'."""
        entry = self.inventory.hosts[balancer.host]
        addresses = list(dict.fromkeys([entry.internal, entry.address]))
        if len(addresses) > 1:
            # A loopback address is a tunnel of ours, and not where users reach it.
            addresses = [a for a in addresses if not _is_loopback(a)]
        own = self._configuration([balancer.host], balancer)
        binds = frontends(own, balancer.spec.backend) if own else ()
        ports = {port for _, port in binds}
        fixed = {(host, port) for host, port in binds if host and not _is_loopback(host)}
        if not binds:
            others = self._siblings(balancer)
            text = self._configuration([b.host for b in others], balancer)
            ports |= {port for _, port in frontends(text, balancer.spec.backend)}
        if balancer.spec.template is not None:
            ports |= {port for _, port in frontends(_ours(balancer), balancer.spec.backend)}
        for url in map(urlsplit, self.service.urls):
            if url.hostname in addresses:
                ports.add(url.port or (443 if url.scheme == "https" else 80))
        return tuple(sorted({(a, port) for a in addresses for port in ports} | fixed))

    def _siblings(self, balancer: Balancer) -> list[Balancer]:
        every = all_balancers(self.service).values()
        return [b for b in every if b.spec == balancer.spec and b.id != balancer.id]

    def _configuration(self, hosts: Iterable[str], balancer: Balancer) -> str:
        """The first HAProxy configuration that can be read on any of ``hosts``."""
        path, box = q(balancer.spec.config), balancer.spec.container
        text = f"cat {path} 2>/dev/null"
        if box:
            text += f" || docker exec {q(box)} cat {path} 2>/dev/null"
        found: Iterable[Result] = everywhere(
            self.remotes, dict.fromkeys(hosts, text), "read its configuration", LOOK_TIMEOUT
        ).values()
        return next((r.stdout for r in found if r.ok and r.stdout.strip()), "")


HERE = "here"
SHELL = Path(__file__).parent / "shell"


def _ours(balancer: Balancer) -> str:
    """The frontend as `fab provision` writes it."""
    return f"frontend x\n bind {balancer.spec.bind}\n default_backend {balancer.spec.backend}\n"


def _connects(spot: Address) -> bool:
    try:
        socket.create_connection(spot, CONNECT_TIMEOUT).close()
    except OSError:
        return False
    return True


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
