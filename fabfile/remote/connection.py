"""How a connection is made: ssh_config, gateway, host key, login; failures in plain words.

:class:`HostConnection` is a Fabric ``Connection``, so per-host tasks can be given one; the
transport in ``ssh`` uses it for connecting only.
"""

from __future__ import annotations

import errno
import logging
import math
import random
import socket
import threading
import time
from pathlib import Path
from typing import Any, Literal

import paramiko
from fabric import Config, Connection
from paramiko.ssh_exception import NoValidConnectionsError

from fabfile.errors import RemoteError, Unreachable
from fabfile.inventory.model import Host
from fabfile.remote.hostkeys import HostKeyPolicy, known_hosts_files, preferred_key_types
from fabfile.remote.inorder import in_order

HANDSHAKES = 10
"""Connections being made to one sshd at the same time: it begins to drop at 10 (MaxStartups
10:30:100)."""
AT_ONCE = 64
"""Connections being made at the same time, to whomever: waiting for hosts that are far away, or
gone, costs nothing."""
ATTEMPTS = 6
"""Tries when the server hangs up before it has said who it is, which MaxStartups does."""
LOGINS = 2
"""Tries of a login that broke off."""
TORN = "sshd hung up: it was restarted, or offered more keys than its MaxAuthTries"
KEEPALIVE = 15
"""Seconds."""
IDLE = 1.0
"""Seconds after which a connection that is silent is looked at. Paramiko does that ten times a
second: with 500 hosts a quarter of a rollout's processor time."""
REKEY_BYTES = 1 << 40
"""After which Paramiko wants new keys, and may wait for them in the thread that reads, until the
connection is given up. Where sshd asks (see its ``RekeyLimit``), and it does, that goes well."""
SILENCE = 30
"""Seconds a peer may leave sent data unacknowledged before the kernel gives the connection up."""

_handshakes = threading.BoundedSemaphore(AT_ONCE)
_guard = threading.Lock()
_turns: dict[str, threading.BoundedSemaphore] = {}
"""By address and port: whose turn it is to connect there."""
# Paramiko logs tracebacks of failures that reach a person as one line; without a handler of
# their own, Python would print them.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class HostConnection(Connection):  # type: ignore[misc]  # Fabric has no type hints
    """One SSH connection to one host of the inventory, made on first use. Thread-safe to open."""

    entry: Host
    policy: HostKeyPolicy
    """What is asked of this host's key."""
    transport: Any
    """The connection of now, or none."""

    def __init__(self, entry: Host, config: Config, gateway: HostConnection | None) -> None:
        ssh = entry.ssh
        # Given to Connection, connect_kwargs replace those of the configuration (fab's flags).
        kwargs = {**config.connect_kwargs, "transport_factory": self._new_transport}
        timeout = kwargs.pop("timeout", None) or math.ceil(ssh.connect_timeout)
        kwargs.pop("key_filename", None)  # Fabric merges this one itself
        if ssh.identity_file is not None:
            kwargs |= {"key_filename": [str(ssh.identity_file)], "look_for_keys": False}
        # A Context keeps unknown attributes in its configuration; _set makes real ones.
        self._set(entry=entry, _opening=threading.RLock(), _retired=[])
        super().__init__(
            entry.address,
            user=ssh.user,
            port=ssh.port,
            config=config,
            # Left to itself, Fabric reads ProxyJump and opens a gateway for each target.
            gateway=gateway or _proxy_command(config, entry.address),
            connect_timeout=max(1, timeout),
            connect_kwargs=kwargs,
        )
        self._keep_existing_keys()
        self._set(policy=self._make_policy())
        self.client.set_missing_host_key_policy(self.policy)

    def _make_policy(self) -> HostKeyPolicy:
        files = known_hosts_files(
            self.entry.ssh.known_hosts, self.ssh_config.get("userknownhostsfile")
        )
        return HostKeyPolicy(
            self.entry.name,
            self.host,
            int(self.port),
            self.entry.ssh.host_keys,
            files,
            self.ssh_config.get("hostkeyalias"),
        )

    def open(self) -> None:
        """Connect unless connected.

        Raises :class:`Unreachable` or :class:`HostKeyRefused`, also on behalf of the gateway.
        """
        with self._opening:
            if self.is_connected:
                return
            self._open_gateway_first()
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    with _turn(self.where), _handshakes:
                        super().open()
                    self.transport.set_keepalive(KEEPALIVE)
                    self.transport.sock.settimeout(IDLE)
                    return
                except RemoteError:
                    self.client.close()
                    raise
                except (OSError, EOFError, paramiko.SSHException) as error:
                    why = self._why_no_more(error, attempt)
                    self.client.close()
                    if why:
                        raise Unreachable(self.entry.name, why) from error
                time.sleep(_backoff(attempt))

    def retire(self, transport: paramiko.Transport) -> None:
        """Connect afresh for what is to come. What runs on ``transport`` may yet end well."""
        with self._opening:
            if self.transport is not transport:
                return
            if not isinstance(transport.sock, socket.socket):
                transport.close()  # through a gateway: no kernel tells whether anybody is there
                return
            self._retired.append(transport)
            self.transport = None
            self.client._transport = None  # which a connect that fails would close

    def close(self) -> None:
        """Close the connection, and those that were retired."""
        super().close()
        for transport in self._retired:
            transport.close()

    def open_gateway(self) -> Any:
        """A channel through the shared gateway (or a ProxyCommand), in connect_timeout seconds."""
        if isinstance(self.gateway, str):
            return super().open_gateway()
        try:
            channel = self.gateway.transport.open_channel(
                "direct-tcpip", (self.host, int(self.port)), ("", 0), timeout=self.connect_timeout
            )
            return in_order(channel, self.connect_timeout)
        except paramiko.SSHException as error:
            name = self.gateway.entry.name
            raise Unreachable(
                self.entry.name, f"gateway {name} cannot connect to {self.where}: {_plain(error)}"
            ) from error

    @property
    def where(self) -> str:
        """Address and port."""
        return f"{self.host}:{self.port}"

    def _open_gateway_first(self) -> None:
        # Before a handshake slot is taken: a gateway needs one itself.
        if not isinstance(self.gateway, HostConnection):
            return
        try:
            self.gateway.open()
        except RemoteError as error:
            raise type(error)(self.entry.name, f"gateway {error}") from error

    def _keep_existing_keys(self) -> None:
        # ssh skips an IdentityFile of ssh_config that is missing; Paramiko would fail on it.
        asked_for = str(self.entry.ssh.identity_file)
        keys = self.connect_kwargs.pop("key_filename", [])
        kept = [key for key in keys if key == asked_for or Path(key).expanduser().is_file()]
        if kept:
            self.connect_kwargs["key_filename"] = kept
        if self.ssh_config.get("identitiesonly", "no").lower() == "yes":
            self.connect_kwargs |= {"allow_agent": False, "look_for_keys": False}

    def _new_transport(self, sock: Any, **kwargs: Any) -> paramiko.Transport:
        if isinstance(sock, socket.socket):
            _tune(sock)
        transport = paramiko.Transport(sock, **kwargs)
        transport.packetizer.REKEY_BYTES = REKEY_BYTES
        options = transport.get_security_options()
        options.key_types = preferred_key_types(self.policy.known_types(), options.key_types)
        return transport

    def _why_no_more(self, error: Exception, attempt: int) -> str:
        """In plain words, why there is no connection; empty: it is worth another try."""
        if _broke_off(self.client.get_transport(), error):
            return f"{self._login('broke off')}: {TORN}" if attempt >= LOGINS else ""
        return "" if attempt < ATTEMPTS and _hung_up(error) else self._explain(error)

    def _explain(self, error: Exception) -> str:
        if isinstance(error, paramiko.PasswordRequiredException):
            return f"login refused for user {self.user}: the key has a passphrase; ssh-add it first"
        if isinstance(error, paramiko.AuthenticationException):
            return self._login("refused")
        if isinstance(error, socket.gaierror):
            return f"name unknown: {self.host} ({error.strerror})"
        if isinstance(error, FileNotFoundError | PermissionError) and error.filename:
            return f"cannot read the key {error.filename}: {error.strerror}"
        if isinstance(error, NoValidConnectionsError):
            codes = {getattr(inner, "errno", None) for inner in error.errors.values()}
            why = "connection refused" if codes == {errno.ECONNREFUSED} else "no route"
            return f"{why} at {self.where}" + (": is sshd running there?" if "ref" in why else "")
        if isinstance(error, TimeoutError) or "No existing session" in str(error):
            return f"timed out after {self.connect_timeout} s at {self.where}"
        return f"no SSH connection to {self.where}: {_plain(error)}"

    def _login(self, ended: str) -> str:
        return f"login {ended} for user {self.user} at {self.where}{self._keys_tried()}"

    def _keys_tried(self) -> str:
        keys = self.connect_kwargs.get("key_filename") or []
        return f" with {', '.join(map(str, keys))}" if keys else " with the agent and default keys"


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Keepalives get no answer that Paramiko looks at, but they are data: with this (Linux) a
    # host that fell silent is noticed in KEEPALIVE + SILENCE seconds, not in a quarter of an hour.
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None:
        sock.setsockopt(socket.IPPROTO_TCP, option, SILENCE * 1000)


def _turn(where: str) -> threading.BoundedSemaphore:
    """For one sshd; it may have several names."""
    with _guard:
        return _turns.setdefault(where, threading.BoundedSemaphore(HANDSHAKES))


def _hung_up(error: Exception) -> bool:
    """The server dropped us before the handshake: it is busy, and worth another try."""
    if isinstance(error, ConnectionResetError | BrokenPipeError | EOFError):
        return True
    if isinstance(error, paramiko.AuthenticationException):
        return False
    text = str(error)
    return "Error reading SSH protocol banner" in text or "Connection reset" in text


def _broke_off(transport: paramiko.Transport | None, error: Exception) -> bool:
    """A login that nobody refused: it took too long, or the server went away in the midst of it.

    What Paramiko raises then is about the last of the keys it had, and often says "refused".
    """
    if transport is None or not transport.initial_kex_done or transport.is_authenticated():
        return False
    return not transport.is_active() or "Authentication timeout" in str(error)


def _backoff(attempt: int) -> float:
    """Seconds; jitter keeps a herd from coming back together."""
    return float(0.1 * 2**attempt) * random.uniform(0.5, 1.5)  # noqa: S311


def _plain(error: Exception) -> str:
    if isinstance(error, paramiko.ChannelException):
        return str(error.text).lower()
    return str(error).rstrip(".") or type(error).__name__


def _proxy_command(config: Config, address: str) -> str | Literal[False]:
    return config.base_ssh_config.lookup(address).get("proxycommand") or False
