"""What this checkout knows of a lab: ``.lab/``. Every file is written whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from fabfile.lab.model import Lab

KEY = "id_ed25519"
KNOWN_HOSTS = "known_hosts"
PASSWORD = "registry-password"  # noqa: S105 - the name of a file
API_KEY = "api-key"


def prepare(lab: Lab) -> str:
    """Make what is missing of the state folder; return the public key as one line."""
    for folder in (lab.state, lab.logs):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    private = lab.state / KEY
    if not private.exists():
        make_key(private)
    if not (lab.state / API_KEY).exists():
        write(lab.state / API_KEY, secrets.token_urlsafe(24) + "\n")
    kind, text = private.with_suffix(".pub").read_text().split()[:2]
    return f"{kind} {text} {lab.checkout}"


def make_key(private: Path) -> None:
    """An SSH key pair without a passphrase."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    write(private.with_suffix(".pub"), public.decode() + "\n", mode=0o644)
    write(private, text.decode())


def password(lab: Lab) -> str:
    """The registry's password as this checkout last knew it; made up where it knew none."""
    file = lab.state / PASSWORD
    if file.exists() and file.read_text().strip():
        return file.read_text().strip()
    return secrets.token_urlsafe(24)


@dataclass(frozen=True)
class Memory:
    """What the lab was like when this checkout last brought it up."""

    prefix: str | None = None
    web: int = 0
    edge: int = 0


def recall(folder: Path) -> Memory:
    """Read the memory; a missing or spoilt one is empty."""
    try:
        found = json.loads((folder / "lab.json").read_text())
        return Memory(str(found["prefix"]), int(found["web"]), int(found["edge"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Memory()


def remember(lab: Lab) -> None:
    """Keep what a later ``lab.up`` should do the same way."""
    text = json.dumps({"name": lab.name, "prefix": lab.prefix, "web": lab.web, "edge": lab.edge})
    write(lab.state / "lab.json", text + "\n", mode=0o644)


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace ``path`` unless it says just that; nobody ever reads half of it."""
    if path.exists() and path.read_text() == text:
        return
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
    fresh.replace(path)
