"""Where secrets come from: read here, as late as possible, and never shown."""

from __future__ import annotations

import os
import subprocess

from fabfile.errors import BadInput
from fabfile.inventory.model import Secret, Service

COMMAND_TIMEOUT = 60.0
"""Seconds a secret's command may take."""


def read(secret: Secret) -> str:
    """The secret's value. Raises :class:`BadInput`, naming the source and never the value."""
    if secret.value is not None:
        return secret.value
    if secret.env is not None:
        value = os.environ.get(secret.env)
        if value is None:
            raise BadInput(
                f"secret {secret.name}: the environment variable {secret.env} is not set"
            )
        return value
    if secret.file is not None:
        try:
            return secret.file.read_text(encoding="utf-8").rstrip("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"secret {secret.name}: {secret.file} can't be read: {error}") from error
    return _from_command(secret)


def _from_command(secret: Secret) -> str:
    try:
        done = subprocess.run(
            ["sh", "-c", secret.command or ""],
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BadInput(f"secret {secret.name}: its command took over 60 s") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise BadInput(f"secret {secret.name}: its command failed ({done.returncode}): {last}")
    return done.stdout.rstrip("\n")


def settings(service: Service) -> dict[str, str]:
    """Every secret of ``service`` by name."""
    return {secret.name: read(secret) for secret in service.secrets}


def registry_password(service: Service) -> bytes:
    """What ``docker login --password-stdin`` is fed; empty where no login is asked for."""
    return b"" if service.registry_login is None else read(service.registry_login[1]).encode()
