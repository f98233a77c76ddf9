"""Which connection leads to which host: names, ``user@host:port``, gateways shared by many."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import paramiko
from fabric import Config

from fabfile.errors import BadInput, Unreachable
from fabfile.inventory.model import Host, Ssh
from fabfile.remote.connection import HostConnection

_ADDRESS = re.compile(
    r"(?:(?P<user>[^@\s]+)@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[^@:\s\[\]]+)"
    r"(?::(?P<port>\d{1,5}))?"
)


def is_address(name: str) -> bool:
    """Whether ``name`` says more than a name: ``user@host``, ``host:22``, ``user@host:22``."""
    return ("@" in name or ":" in name) and _ADDRESS.fullmatch(name) is not None


def host_at(address: str, *, like: Ssh | None = None) -> Host:
    """A host that is not in the inventory, from ``[user@]host[:port]`` (IPv6 in brackets).

    What the address does not say comes from ``like`` (never its user, port and gateway: they
    belong to another machine). Raises :class:`BadInput` when it cannot be read.
    """
    match = _ADDRESS.fullmatch(address)
    port = int(match["port"]) if match and match["port"] else None
    if match is None or not (port is None or 0 < port < 65536):
        raise BadInput(f"{address!r} is no host: write user@host or user@host:port")
    bare = match["host"].strip("[]")
    ssh = replace(like or Ssh(), user=match["user"], port=port, gateway=None)
    return Host(name=address, address=bare, internal=bare, ssh=ssh)


class Dialer:
    """Builds connections: one for each call, and one for each gateway, shared by all behind it.

    ``known`` finds a host of the inventory, or ``None``. ``config`` is Fabric's; under ``fab`` it
    carries ``-i`` and ``-t``. Thread-safe.
    """

    def __init__(self, known: Callable[[str], Host | None], config: Config | None = None) -> None:
        self._known = known
        self._config_given = config
        self._configs: dict[Path | None, Config] = {}
        self._gateways: dict[tuple[str, str, Ssh], HostConnection] = {}
        self._lock = threading.RLock()

    def connection(self, entry: Host) -> HostConnection:
        """A connection to ``entry``, not opened yet, its gateway attached.

        Raises :class:`Unreachable` when gateways lead in a circle.
        """
        with self._lock:
            return self._build(entry, ())

    def close_gateways(self) -> None:
        """Close every gateway; the connections behind them should be closed by then."""
        with self._lock:
            # A gateway behind another one was finished after it.
            gateways = list(self._gateways.values())[::-1]
        for gateway in gateways:
            gateway.close()

    def _build(self, entry: Host, behind: tuple[str, ...]) -> HostConnection:
        config = self._config(entry)
        spec = entry.ssh.gateway or _proxy_jump(config, entry.address)
        gateway = self._gateway(spec, entry, (*behind, entry.name)) if spec else None
        return HostConnection(entry, config, gateway)

    def _gateway(self, spec: str, target: Host, behind: tuple[str, ...]) -> HostConnection:
        # ssh's ProxyJump a,b goes through a to b: b stands next to the target.
        earlier, _, last = spec.rpartition(",")
        if last in behind:
            circle = " -> ".join((*behind, last))
            raise Unreachable(behind[0], f"its gateways lead in a circle: {circle}")
        entry = self._known(last) or host_at(last, like=target.ssh)
        if earlier:
            entry = replace(entry, ssh=replace(entry.ssh, gateway=earlier))
        key = (entry.name, entry.address, entry.ssh)
        if key not in self._gateways:
            self._gateways[key] = self._build(entry, behind)
        return self._gateways[key]

    def _config(self, entry: Host) -> Config:
        file = entry.ssh.config_file
        if file not in self._configs:
            # User and system files of ssh are read by Config itself.
            config = self._config_given or Config()
            if file is not None:
                config = config.clone()
                try:
                    config._set(base_ssh_config=paramiko.SSHConfig.from_path(str(file)))
                except (OSError, paramiko.SSHException) as error:
                    raise Unreachable(entry.name, f"cannot read {file}: {error}") from error
            self._configs[file] = config
        return self._configs[file]


def _proxy_jump(config: Config, address: str) -> str | None:
    setting = str(config.base_ssh_config.lookup(address).get("proxyjump") or "none")
    if setting.lower() == "none":
        return None
    # "Host *" with a ProxyJump speaks of the jump host too, which ssh reaches directly.
    hops = [host_at(hop).address for hop in setting.split(",")]
    return None if address in hops else setting
