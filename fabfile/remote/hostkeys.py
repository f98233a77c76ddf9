"""Host keys: is the machine that answered the one we know?

``strict`` refuses unknown and changed keys, ``accept-new`` writes unknown ones down and refuses
changed ones, ``off`` looks at nothing. The files are read as OpenSSH reads them: patterns, hashed
names, ``[host]:port``, ``@revoked``. Certificates (``@cert-authority``) are not supported.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import paramiko

from fabfile.errors import HostKeyRefused
from fabfile.inventory.model import HostKeys
from fabfile.remote.quoting import join, q

USER_FILES = (Path("~/.ssh/known_hosts"), Path("~/.ssh/known_hosts2"))
SYSTEM_FILES = (Path("/etc/ssh/ssh_known_hosts"), Path("/etc/ssh/ssh_known_hosts2"))
_writing = threading.Lock()


@dataclass(frozen=True)
class Entry:
    """One line of a known_hosts file."""

    file: Path
    number: int
    marker: str
    names: str
    key_type: str
    blob: bytes

    def speaks_of(self, name: str) -> bool:
        """Whether the line is about ``name`` (``web1`` or ``[web1]:2222``)."""
        if self.names.startswith("|1|"):
            return _hashed_match(self.names, name)
        found = False
        for pattern in self.names.lower().split(","):
            if fnmatch.fnmatchcase(name.lower(), _literal_brackets(pattern.removeprefix("!"))):
                if pattern.startswith("!"):
                    return False
                found = True
        return found


def _literal_brackets(pattern: str) -> str:
    # OpenSSH knows * and ? only; to fnmatch "[web1]:2222" would be a set of letters.
    return pattern.replace("[", "[[]")


def _hashed_match(field: str, name: str) -> bool:
    try:
        _, _, salt, digest = field.split("|")
        expected = base64.b64decode(digest)
        made = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(made, expected)


class _File:
    """One known_hosts file, so that hundreds of hosts do not each go through all of its lines."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._by_name: dict[str, list[Entry]] = {}
        self._others: list[Entry] = []
        """With patterns or hashed names: to be asked one by one."""
        for entry in entries:
            if entry.names.startswith("|1|") or any(sign in entry.names for sign in "*?!"):
                self._others.append(entry)
            else:
                for name in dict.fromkeys(entry.names.lower().split(",")):
                    self._by_name.setdefault(name, []).append(entry)

    def about(self, name: str) -> list[Entry]:
        """The lines that speak of ``name``, in their order."""
        found = [entry for entry in self._others if entry.speaks_of(name)]
        found += self._by_name.get(name.lower(), [])
        return sorted(found, key=lambda entry: entry.number)


_files: dict[Path, tuple[tuple[int, int, int], _File]] = {}
"""What was read last of each file, and when that file was written."""


def entries_about(name: str, files: Iterable[Path]) -> Iterator[Entry]:
    """The lines about ``name`` in all ``files``; one that can't be read is empty, as for ssh."""
    for file in files:
        try:
            found = file.stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            known = _files.get(file)
            if known is None or known[0] != stamp:
                known = _files[file] = stamp, _File(_read(file))
        except OSError:
            continue
        yield from known[1].about(name)


def _read(file: Path) -> Iterator[Entry]:
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        marker = fields.pop(0) if fields[0].startswith("@") else ""
        if len(fields) < 3:
            continue
        try:
            blob = base64.b64decode(fields[2], validate=True)
        except binascii.Error:
            continue
        yield Entry(file, number, marker, fields[0], fields[1], blob)


def fingerprint(blob: bytes) -> str:
    """As ``ssh-keygen -l`` prints it: ``SHA256:…``."""
    digest = hashlib.sha256(blob).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


@dataclass(frozen=True)
class HostKeyPolicy:
    """What is asked of the key of one host; a missing-host-key policy for Paramiko.

    No known_hosts file is ever loaded into Paramiko itself, so every key of every connection
    comes by here.
    """

    host: str
    """Inventory name, for messages."""
    address: str
    port: int
    mode: HostKeys
    files: tuple[Path, ...]
    """The first one is written to by ``accept-new``."""
    alias: str | None = None
    """ssh_config's HostKeyAlias, which is looked up without a port."""

    @property
    def known_as(self) -> str:
        """The name in known_hosts."""
        if self.alias:
            return self.alias
        return self.address if self.port == 22 else f"[{self.address}]:{self.port}"

    def known_types(self) -> list[str]:
        """Key types on file for this host: the server is asked for one of these first."""
        return [entry.key_type for entry in self._mine() if not entry.marker]

    def missing_host_key(
        self, client: object, hostname: str, key: paramiko.PKey
    ) -> None:  # Paramiko's name for "judge this key"
        """Return if the key is acceptable; raise :class:`HostKeyRefused` if not."""
        del client, hostname
        if self.mode == "off":
            return
        blob = key.asbytes()
        mine = list(self._mine())
        for entry in mine:
            if entry.marker == "@revoked" and entry.blob == blob:
                raise self._refusal(key, f"is marked @revoked in {entry.file}:{entry.number}")
        known = [entry for entry in mine if not entry.marker]
        if any(entry.blob == blob for entry in known) or self._known_without_port(blob):
            return
        if known:
            raise self._changed(key, known[0])
        if self.mode == "accept-new":
            self._remember(key)
            return
        raise self._unknown(key)

    def _mine(self) -> Iterator[Entry]:
        return entries_about(self.known_as, self.files)

    def _known_without_port(self, blob: bytes) -> bool:
        # OpenSSH accepts a key that is on file for the bare name, on any port of that name.
        if self.alias or self.port == 22:
            return False
        return any(
            entry.blob == blob and not entry.marker
            for entry in entries_about(self.address, self.files)
        )

    def _remember(self, key: paramiko.PKey) -> None:
        file = self.files[0]
        line = f"{self.known_as} {key.get_name()} {key.get_base64()}\n"
        with _writing:
            try:
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with file.open("a+b") as stream:
                    if stream.tell() and not file.read_bytes().endswith(b"\n"):
                        line = "\n" + line
                    stream.write(line.encode())
            except OSError as error:
                raise self._refusal(
                    key, f"is new and cannot be written to {file}: {error}"
                ) from None

    def _unknown(self, key: paramiko.PKey) -> HostKeyRefused:
        return self._refusal(
            key,
            f"is not in {self.files[0]}; if that fingerprint is the one the host itself shows "
            f"({self._own_fingerprint(key)} there), add it with: {self._keyscan()}",
        )

    def _changed(self, key: paramiko.PKey, entry: Entry) -> HostKeyRefused:
        forget = join(["ssh-keygen", "-R", self.known_as, "-f", str(entry.file)])
        return self._refusal(
            key,
            f"is NOT the one on file ({fingerprint(entry.blob)}, {entry.file}:{entry.number}): "
            "the host was reinstalled, or somebody is in between; if the host itself shows the "
            f"new one ({self._own_fingerprint(key)} there): {forget} && {self._keyscan()}",
        )

    def _refusal(self, key: paramiko.PKey, why: str) -> HostKeyRefused:
        shown = f"{_short_type(key)} {fingerprint(key.asbytes())}"
        return HostKeyRefused(self.host, f"host key {shown} of {self.known_as} {why}")

    def _keyscan(self) -> str:
        scan = join(["ssh-keyscan", "-p", str(self.port), self.address])
        return f"{scan} >> {q(self.files[0])}"

    @staticmethod
    def _own_fingerprint(key: paramiko.PKey) -> str:
        return f"ssh-keygen -lf /etc/ssh/ssh_host_{_short_type(key).lower()}_key.pub"


def _short_type(key: paramiko.PKey) -> str:
    name = key.get_name()
    return "ECDSA" if name.startswith("ecdsa") else name.removeprefix("ssh-").upper()


def preferred_key_types(known: Iterable[str], supported: Iterable[str]) -> tuple[str, ...]:
    """``supported`` with the types of ``known`` keys first.

    Without it a server that has several keys may show one we never wrote down.
    """
    wanted: list[str] = []
    for key_type in known:
        rsa = key_type == "ssh-rsa"
        wanted += ["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"] if rsa else [key_type]
    rest = tuple(supported)
    first = [name for name in dict.fromkeys(wanted) if name in rest]
    return (*first, *(name for name in rest if name not in first))


def known_hosts_files(own: Path | None, user_setting: str | None) -> tuple[Path, ...]:
    """Where keys are looked up: the inventory's file alone, else what ssh would read.

    ``user_setting`` is ssh_config's UserKnownHostsFile (several, separated by blanks).
    """
    if own is not None:
        return (own,)
    user = tuple(Path(name) for name in user_setting.split()) if user_setting else USER_FILES
    return tuple(path.expanduser() for path in (*user, *SYSTEM_FILES))
