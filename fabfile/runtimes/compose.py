"""Docker Compose on one host: the commands that change a project, and the readers of its answers.

Builders return shell text and run nothing. ``project_dir`` on the host looks like this::

    docker-compose.yml        base and current blocks put together; always what is meant to run
    base.yml                  everything that is no instance of ours
    current/app_1             -> ../releases/ID
    releases/ID/              block.yml, base.yml, release.json, env (mode 0600)
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fabfile.inventory.model import Instance, Service
from fabfile.remote import state
from fabfile.remote.scripts import script
from fabfile.runtimes.registry import registry_of
from fabfile.runtimes.render import StagedRelease

UP_MARGIN = 60.0
"""Seconds a recreate may take beyond the service's stop_grace_period."""

SHELL = Path(__file__).parent / "shell"


@dataclass(frozen=True)
class Container:
    """One container of a project, stopped ones included."""

    id: str
    service: str
    release: str
    version: str
    image: str
    status: str

    @property
    def running(self) -> bool:
        """Docker says ``running``."""
        return self.status == "running"


def project_key(service: Service) -> str:
    """Name of the lock of the service's compose project."""
    return state.key("project", service.project_dir)


def defining_containers(service: Service, name: str = "") -> str:
    """Defines ``list_containers`` for the project, or for one of its services."""
    return script(SHELL / "containers.sh", project=service.project, service=name)


def containers_script(service: Service, name: str = "") -> str:
    """One JSON line for each container of the project (of one of its services)."""
    return defining_containers(service, name) + "list_containers\n"


def read_containers(text: str) -> tuple[Container, ...]:
    """Read what :func:`containers_script` printed."""
    found = []
    for line in text.splitlines():
        if line.startswith("{"):
            raw = json.loads(line)
            found.append(Container(**{name: value or "" for name, value in raw.items()}))
    return tuple(found)


def release_record(line: str) -> dict[str, str]:
    """One ``release.json``; empty where it is damaged: such a release can't be gone back to."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    whole = isinstance(record, dict) and {"release", "version", "digest"} <= record.keys()
    return record if whole else {}


def sections(text: str) -> dict[str, list[str]]:
    """The lines of a script's output under each of its ``== WORD`` headings."""
    parts: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("== "):
            lines = parts.setdefault(line[3:], [])
        elif line:
            lines.append(line)
    return parts


def stage_archive(releases: Sequence[StagedRelease]) -> bytes:
    """A tar of ``releases/ID/…`` for the host; env files are readable by their owner alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for release in releases:
            files = {
                "base.yml": (release.base, 0o664),
                "block.yml": (release.block, 0o664),
                "release.json": (json.dumps(release.record, sort_keys=True) + "\n", 0o664),
            }
            if release.env:
                files["env"] = (release.env, 0o600)
            for name, (text, mode) in files.items():
                member = tarfile.TarInfo(f"{release.id}/{name}")
                data = text.encode()
                member.size, member.mode = len(data), mode
                archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def stage_script(service: Service, releases: Sequence[StagedRelease]) -> str:
    """Lay the archive on stdin down under ``releases/``; one that lies there already stays.

    Each new set of blocks is checked by ``docker compose config`` before anything is kept.
    """
    return script(
        SHELL / "stage.sh",
        folder=service.project_dir,
        project=service.project,
        ids=" ".join(release.id for release in releases),
        images=[release.image for release in releases],
        tags=" ".join(kept_tag(service, release.id) for release in releases),
    )


def kept_tag(service: Service, release: str) -> str:
    """The local tag that spares a kept release's image from a prune."""
    return f"evenkeel/{service.name}:{release}"


def assemble(service: Service, instances: Mapping[str, str], base: str) -> str:
    """Point each instance at its release and rewrite the live compose file from the blocks.

    ``instances`` maps names to release ids; the rest of the file comes from release ``base``.
    The file is replaced by a rename, last.
    """
    return script(
        SHELL / "assemble.sh",
        folder=service.project_dir,
        base=base,
        pairs=" ".join(f"{name} {release}" for name, release in instances.items()),
    )


def up_timeout(service: Service) -> float:
    """Deadline of one recreate, in seconds: above what a slow stop may take."""
    return service.stop_grace + UP_MARGIN


def recreate_script(service: Service, instance: Instance, release: str, was: str = "") -> str:
    """Replace the container of ``instance``; prints what runs afterwards.

    Nothing else in the project is touched. It may be run again: where the release runs already,
    Compose does nothing. But the container with the id ``was`` is replaced in any case.
    """
    return (
        assemble(service, {instance.name: release}, release)
        + defining_containers(service, instance.name)
        + script(SHELL / "recreate.sh", project=service.project, service=instance.name, was=was)
    )


def up_missing_script(
    service: Service, instances: Mapping[str, str], base: str, *, lost: Mapping[str, str] = {}
) -> str:
    """Start what is not there yet; ``instances`` are new, with the release each begins with.

    ``lost``: instances that run although nothing on the host says what they are made of (any more);
    the compose file gets these releases for them. No container of an instance is ever replaced. The
    rest of the project (a database) is brought to what the template says. A registry password comes
    on stdin.
    """
    user = service.registry_login[0] if service.registry_login else ""
    return assemble(service, {**lost, **instances}, base) + script(
        SHELL / "up-missing.sh",
        project=service.project,
        user=user,
        registry=registry_of(service),
        instances=" ".join(instances),
        ours=" ".join(i.name for i in service.instances_on("")),
    )


def logs_script(service: Service, instance: Instance, lines: int = 50) -> str:
    """The container's last lines, whatever state it is in."""
    return script(SHELL / "logs.sh", project=service.project, service=instance.name, lines=lines)


def health_script(service: Service, instance: Instance, release: str, *, once: bool = False) -> str:
    """Wait until the instance is healthy, asked from its own host.

    Healthy: a container of ``release`` runs, its own health check (where it has one) passes, and
    ``health.path`` answers as it should for ``min_healthy`` seconds without a break. Exit 0;
    otherwise exit 69 and the last thing that was wrong. ``once``: one look, and no wait.
    """
    health = service.health
    return script(
        SHELL / "healthy.sh",
        project=service.project,
        service=instance.name,
        release=release,
        publish=instance.port,
        port=service.port,
        path=health.path,
        status=health.status,
        contains=health.contains or "",
        interval=health.interval,
        patience=0 if once else round(health.timeout * 100),
        steady_for=0 if once else round(health.min_healthy * 100),
    )


@dataclass(frozen=True)
class Kept:
    """One release that lies on a host."""

    id: str
    used: int
    """When it was staged or last ran, in seconds since 1970, by its host's clock."""
    service: str
    instance: str


@dataclass(frozen=True)
class Shelf:
    """The releases on one host, and those of them that have to stay."""

    releases: tuple[Kept, ...]
    in_use: frozenset[str]
    """In the live compose file, in a container, or named by an unfinished rollout."""


def shelf_script(service: Service) -> str:
    """Find out what lies under ``releases/`` and what of it is in use; changes nothing."""
    looks = script(SHELL / "kept.sh", folder=service.project_dir, root=state.ROOT)
    return defining_containers(service) + state.journal_is() + looks


def read_shelf(text: str) -> Shelf:
    """Read what :func:`shelf_script` printed. A damaged ``release.json`` is left alone."""
    parts = sections(text)
    found = []
    for line in parts.get("releases", []):
        identity, _, rest = line.partition(" ")
        used, _, record = rest.partition(" ")
        facts = release_record(record)
        if facts.get("release") == identity and identity.isalnum() and used.isdigit():
            owner = facts.get("service", ""), facts.get("instance", "")
            found.append(Kept(identity, int(used), *owner))
    in_use = {line.rpartition(" ")[2] for line in parts.get("current", [])}
    in_use |= set(parts.get("open", []))
    in_use |= {c.release for c in read_containers("\n".join(parts.get("containers", [])))}
    return Shelf(tuple(found), frozenset(in_use))


def prune_script(service: Service, releases: Iterable[Kept]) -> str:
    """Remove these releases and their images' local tags; prints ``pruned ID`` for each.

    One that was used since it was looked at stays.
    """
    return script(
        SHELL / "prune.sh",
        folder=service.project_dir,
        tag=kept_tag(service, "").rstrip(":"),
        pairs=" ".join(f"{release.id} {release.used}" for release in releases),
    )
