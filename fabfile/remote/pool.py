"""All the hosts of a run: one connection each, made side by side, gateways shared."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

from fabfile.errors import BadInput, RemoteError
from fabfile.inventory.model import Host, Inventory
from fabfile.remote.base import Command, Lines, Result, Running, Stream, Transport
from fabfile.remote.connection import AT_ONCE
from fabfile.remote.dialer import Dialer, host_at, is_address
from fabfile.remote.local import LocalTransport
from fabfile.remote.ssh import SshTransport

M_ARENA_MAX, ARENAS = -8, 2
"""glibc's name for how many heaps there may be (malloc.h), and how many our threads share."""


def _share_heaps() -> None:
    """Hundreds of threads that mostly wait share few heaps, since each keeps what it once had.

    With a hundred hosts that is a fifth of all memory. Where there is no glibc nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)


class Connectable(Transport, Protocol):
    """A transport that can be told to connect before it is needed."""

    def connect(self) -> None:
        """Raises :class:`RemoteError` when there is no connection to be had."""
        ...


class Remotes:
    """Transports by inventory name (or ``user@host:port``). Thread-safe.

    ``make`` replaces the way a transport is made; tests hand in fakes with it.
    """

    def __init__(
        self, inventory: Inventory, *, make: Callable[[Host], Connectable] | None = None
    ) -> None:
        _share_heaps()
        self._inventory = inventory
        self._dialer = Dialer(inventory.hosts.get)
        self._make = make or self._transport
        self._transports: dict[str, Connectable] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """Every host that was asked for so far, in that order."""
        with self._lock:
            return tuple(self._transports)

    def connect(self, names: Iterable[str]) -> dict[str, RemoteError]:
        """Connect to all of ``names``, many at a time; return what failed, by host.

        Raises :class:`BadInput`, before anything is contacted, for a name nobody knows.
        """
        failed: dict[str, RemoteError] = {}
        wanted = {name: self._host(name) for name in names}

        def one(name: str) -> None:
            try:
                self.get(name)
            except RemoteError as error:
                failed[name] = error

        if wanted:
            with ThreadPoolExecutor(min(AT_ONCE, len(wanted))) as workers:
                list(workers.map(one, wanted))
        return {name: failed[name] for name in wanted if name in failed}

    def get(self, name: str) -> Transport:
        """The transport of ``name``, connected.

        Raises :class:`RemoteError` when it cannot be reached, :class:`BadInput` when it is unknown.
        """
        transport = self._known(name)
        transport.connect()  # outside the lock: others need not wait for this host
        return transport

    def start(self, name: str, command: Command) -> Running:
        """Start ``command`` on ``name``; whoever starts many does not wait for any of them here.

        A host that can't be reached says so in the result, which has no exit code then. Raises
        :class:`BadInput` when it is unknown.
        """
        try:
            return self._known(name).start(command)
        except RemoteError as error:
            return _Refused(Result(name, command.label, None, "", str(error), 0.0))

    def _known(self, name: str) -> Connectable:
        with self._lock:
            transport = self._transports.get(name)
            if transport is None:
                transport = self._transports[name] = self._make(self._host(name))
        return transport

    def close(self) -> None:
        """Close everything side by side, gateways last. Never raises; ``get`` opens again."""
        with self._lock:
            transports = list(self._transports.values())
            self._transports.clear()
        if transports:
            with ThreadPoolExecutor(min(32, len(transports))) as workers:
                list(workers.map(_close, transports))
        with contextlib.suppress(Exception):
            self._dialer.close_gateways()

    def __enter__(self) -> Remotes:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _host(self, name: str) -> Host:
        known = self._inventory.hosts.get(name)
        if known is not None:
            return known
        if is_address(name):
            return host_at(name)
        raise BadInput(f"{name}: no such host in {self._inventory.path} (or write user@host)")

    def _transport(self, entry: Host) -> Connectable:
        if entry.connection == "local":
            return LocalTransport(entry.name)
        return SshTransport(entry.name, self._dialer.connection(entry))


@dataclass(frozen=True)
class _Refused:
    """A command that nobody took."""

    result: Result

    def wait(self) -> Result:
        return self.result


class Urgent:
    """The same hosts, for commands that never wait behind others; see ``base.Command.urgent``."""

    def __init__(self, remotes: Remotes) -> None:
        self._remotes = remotes

    def get(self, name: str) -> Transport:
        """As :meth:`Remotes.get`."""
        return _UrgentTransport(self._remotes.get(name))

    def start(self, name: str, command: Command) -> Running:
        """As :meth:`Remotes.start`."""
        return self._remotes.start(name, replace(command, urgent=True))


class _UrgentTransport:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def name(self) -> str:
        return self._transport.name

    def start(self, command: Command) -> Running:
        return self._transport.start(replace(command, urgent=True))

    def run(self, command: Command) -> Result:
        return self._transport.run(replace(command, urgent=True))

    def converse(self, command: Command, *, marker: str) -> Lines:
        return self._transport.converse(command, marker=marker)

    def follow(self, command: Command) -> Stream:
        return self._transport.follow(command)

    def close(self) -> None:
        """It is not ours to close."""


def _close(transport: Transport) -> None:
    with contextlib.suppress(Exception):  # one that cannot be closed must not keep others open
        transport.close()
