"""Hosts as Fabric's per-host tasks meet them: a context for each name of ``-H``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from fabric import Config, Connection
from invoke.context import Context

from fabfile.inventory import loader
from fabfile.inventory.model import Host, Inventory
from fabfile.inventory.selection import select_hosts
from fabfile.remote.dialer import Dialer, host_at, is_address
from fabfile.remote.hostkeys import HostKeyPolicy, known_hosts_files


class Doors:
    """Contexts of hosts, connected on first use; one for each host of a run.

    ``config`` is what ``fab`` made of its flags.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._inventory: Inventory | None = None
        self._dialer = Dialer(self._known, config)
        self._made: dict[str, Context] = {}

    def contexts(self, hosts: Iterable[str | Mapping[str, Any]]) -> list[Callable[[], Context]]:
        """One maker of a context for each host. Every name is judged before the first is made.

        Raises :class:`fabfile.errors.BadInput` for names that are neither in the inventory nor
        ``user@host``.
        """
        makers: list[Callable[[], Context]] = []
        for host in hosts:
            if isinstance(host, str):
                makers += [partial(self._named, name) for name in self._resolve(host)]
            else:
                makers.append(partial(self._described, host))
        return makers

    def close(self) -> None:
        """Close what was opened, gateways last."""
        for context in self._made.values():
            if isinstance(context, Connection):
                context.close()
        self._dialer.close_gateways()

    def _resolve(self, name: str) -> tuple[str, ...]:
        return (name,) if is_address(name) else select_hosts(self._loaded(), None, [name])

    def _loaded(self) -> Inventory:
        if self._inventory is None:
            self._inventory = loader.load(loader.here())
        return self._inventory

    def _known(self, name: str) -> Host | None:
        return None if self._inventory is None else self._inventory.hosts.get(name)

    def _named(self, name: str) -> Context:
        if name not in self._made:
            entry = self._known(name) or host_at(name)
            local = entry.connection == "local"
            made = Context(self._config) if local else self._dialer.connection(entry)
            self._made[name] = made
        return self._made[name]

    def _described(self, kwargs: Mapping[str, Any]) -> Context:
        """``@task(hosts=[{…}])``: Fabric's own arguments, but with the host's key checked."""
        connection = Connection(**{**kwargs, "config": self._config})
        files = known_hosts_files(None, connection.ssh_config.get("userknownhostsfile"))
        connection.client.set_missing_host_key_policy(
            HostKeyPolicy(connection.host, connection.host, connection.port, "strict", files)
        )
        return self._made.setdefault(f"described {len(self._made)}", connection)
