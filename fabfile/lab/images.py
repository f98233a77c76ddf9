"""The lab's images, built from docker/ and known by the hash of what they are made of."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

from fabfile.errors import BadInput
from fabfile.lab import engine
from fabfile.lab.engine import Docker
from fabfile.lab.model import CHECKOUT
from fabfile.lab.shell import Say, run

DEBIAN = "debian:trixie-slim"
OWN_DEBIAN = "evenkeel/debian:trixie"
LABEL = "evenkeel.image"
PULL_TIMEOUT = 40.0
BUILD_TIMEOUT = 900.0
"""Seconds."""


@dataclass
class Images:
    """Finds or builds images; safe to use from several threads.

    A tag holds a hash of the image's folder, so a tag that exists is up to date, and checkouts
    whose folders differ never take each other's images.
    """

    docker: Docker
    logs: Path
    say: Say
    source: Path = CHECKOUT / "docker"
    _have: set[str] = field(default_factory=set)
    _base: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        listing = self.docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}")
        self._have = set(listing.split())

    def tag(self, name: str, version: str = "") -> str:
        """The full name of the image ``name`` as this checkout describes it."""
        digest = hashlib.sha256(folder_hash(self.source / "base").encode())
        digest.update(folder_hash(self.source / name).encode())
        suffix = f"-{version}" if version else ""
        return f"evenkeel/{name}:{digest.hexdigest()[:12]}{suffix}"

    def ensure(self, name: str, version: str = "") -> str:
        """Build the image unless it is there; return its full name. Raises ``LabError``."""
        tag = self.tag(name, version)
        if tag in self._have:
            return tag
        parent = f"BASE={self._ensure_base()}"
        arguments = ["--build-arg", f"VERSION={version}"] if version else []
        self._build(name, tag, "--build-arg", parent, *arguments)
        return tag

    def _ensure_base(self) -> str:
        with self._base:
            tag = self.tag("base")
            if tag not in self._have:
                self._build("base", tag, "--build-arg", f"DEBIAN={self._ensure_debian()}")
            return tag

    def _build(self, name: str, tag: str, *arguments: str) -> None:
        log = self.logs / f"build-{tag.rpartition('/')[2].replace(':', '-')}.log"
        said = f"building the image {name}" + (f" {tag.rpartition('-')[2]}" if "-" in tag else "")
        self.say(said)
        label = f"{LABEL}={name}"
        command = ("build", "--tag", tag, "--label", label, *arguments, str(self.source / name))
        self.docker(*command, what=said, log=log, timeout=BUILD_TIMEOUT)
        self._have.add(tag)

    def _ensure_debian(self) -> str:
        if OWN_DEBIAN in self._have:
            return OWN_DEBIAN
        self.say(f"pulling {DEBIAN}")
        if self.docker.works(
            "pull", "-q", DEBIAN, timeout=PULL_TIMEOUT, log=self.logs / "pull.log"
        ):
            self.docker("tag", DEBIAN, OWN_DEBIAN)
        else:
            self.say(f"{DEBIAN} can't be pulled here: making it with debootstrap (about 25 s)")
            debootstrap(self.docker, self.logs, self.say)
        return OWN_DEBIAN


def folder_hash(folder: Path) -> str:
    """A hash over the names, modes and contents of all files in ``folder``."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            runnable = file.stat().st_mode & 0o100
            digest.update(f"{file.relative_to(folder)}\0{runnable}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def debootstrap(docker: Docker, logs: Path, say: Say) -> None:
    """Make the base image out of Debian packages alone."""
    root = engine.root_prefix()
    if root is None:
        raise BadInput(f"{DEBIAN} can't be pulled, and making it needs root or sudo")
    if not shutil.which("debootstrap", path=engine.search_path()):
        if not engine.is_debian():
            raise BadInput(f"{DEBIAN} can't be pulled: install debootstrap, then run lab.up again")
        say("installing debootstrap")
        engine.apt_install(root, "debootstrap", *engine.optional_packages("debian-archive-keyring"))
    # Not below the checkout, which may lie on a file system without device nodes.
    with tempfile.TemporaryDirectory(prefix="evenkeel-", dir="/var/tmp") as scratch:
        tree, tar = f"{scratch}/root", f"{scratch}/root.tar"
        what = "making Debian 13 with debootstrap"
        command = (*root, "debootstrap", "--variant=minbase", "--include=ca-certificates")
        run((*command, "trixie", tree), what=what, log=logs / "debootstrap.log", timeout=900)
        rubbish = ("doc", "man", "locale")
        left_out = [f"--exclude=./usr/share/{name}/*" for name in rubbish]
        left_out += [
            f"--exclude=./{name}/*"
            for name in ("dev", "var/cache/apt", "var/lib/apt/lists", "var/log")
        ]
        run((*root, "tar", "-C", tree, "-cf", tar, *left_out, "."), what="packing Debian 13")
        run((*root, "rm", "-rf", tree), what=f"removing {tree}")
        docker(
            "import",
            "--change",
            'CMD ["bash"]',
            "--change",
            f"LABEL {LABEL}=debian",
            tar,
            OWN_DEBIAN,
        )


def remove_all(docker: Docker) -> int:
    """Remove every image of any lab that no container uses; return how many went."""
    listing = docker(
        "image", "ls", "--filter", f"label={LABEL}", "--format", "{{.Repository}}:{{.Tag}}"
    )
    tags = [tag for tag in listing.split() if "<none>" not in tag]
    return sum(docker.works("image", "rm", tag) for tag in [*tags, OWN_DEBIAN])
