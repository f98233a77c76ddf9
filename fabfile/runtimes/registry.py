"""Where images come from: pulled on the hosts themselves, logged in for just that long."""

from __future__ import annotations

from pathlib import Path

from fabfile.inventory.model import Service
from fabfile.remote.scripts import script

SHELL = Path(__file__).parent / "shell"


def pull_script(service: Service, reference: str) -> str:
    """Pull ``repository:tag`` or ``repository@digest``; prints ``digest sha256:…``.

    Where the registry asks for a login, the password comes on stdin and is kept for this one
    pull in a folder of its own. Exit 68: the registry does not have it; 67: it could not be
    asked (then ``local sha256:…`` is printed if the host holds it already).
    """
    return _digest(reference) + script(
        SHELL / "pull.sh",
        reference=reference,
        user=service.registry_login[0] if service.registry_login else "",
        registry=registry_of(service),
    )


def local_digest_script(reference: str) -> str:
    """``local sha256:…`` where the host holds ``reference``; asks no registry."""
    return _digest(reference) + script(SHELL / "local-digest.sh")


def _digest(reference: str) -> str:
    """Defines ``digest``."""
    name = familiar(repository(reference))
    return script(SHELL / "digest.sh", reference=reference, repository=name)


def read_digest(text: str) -> tuple[str, bool]:
    """The digest that :func:`pull_script` printed (``""``: none) and whether it was pulled now."""
    for line in text.splitlines():
        word, _, digest = line.partition(" ")
        if word in ("digest", "local") and digest.startswith("sha256:"):
            return digest, word == "digest"
    return "", False


def repository(reference: str) -> str:
    """``registry:5000/name`` of ``registry:5000/name:tag`` or ``…@sha256:…``."""
    name = reference.partition("@")[0]
    head, _, tail = name.rpartition("/")
    return f"{head}/{tail.partition(':')[0]}" if head else tail.partition(":")[0]


def familiar(name: str) -> str:
    """A repository as Docker itself calls it: ``nginx`` for ``docker.io/library/nginx``."""
    short = name.removeprefix("index.").removeprefix("docker.io/")
    return short if short == name else short.removeprefix("library/")


def registry_of(service: Service) -> str:
    """The registry's name as ``docker login`` wants it; Docker Hub's where none is named."""
    first, slash, _ = service.image.partition("/")
    named = slash and ("." in first or ":" in first or first == "localhost")
    return first if named else "docker.io"
