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
import re
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class HostFacts:
    """What one application host is like before anything is changed."""

    problems: tuple[str, ...]
    """What makes a rollout impossible here, each in one line with what to do."""
    salt: str = ""
    containers: tuple[Container, ...] = ()
    kept: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Releases that lie on the host: ``release.json`` by id."""
    current: Mapping[str, str] = field(default_factory=dict)
    """Release id the live compose file holds, by instance name."""
    unfinished: tuple[str, ...] = ()
    """Ids of rollouts that never ended."""
    locks: tuple[state.Held, ...] = ()
    """Every lock that is held on the host."""
    provisioned: bool = False
    """The project's folder and compose file exist."""

    def container(self, instance: Instance) -> Container | None:
        """The container of ``instance``: the running one where a twin was left behind."""
        mine = [c for c in self.containers if c.service == instance.name]
        return next((c for c in mine if c.running), mine[0] if mine else None)


def project_key(service: Service) -> str:
    """Name of the lock of the service's compose project."""
    return state.key("project", service.project_dir)


def _containers(service: Service, name: str = "") -> str:
    """Defines ``list_containers`` for the project, or for one of its services."""
    return script(SHELL / "containers.sh", project=service.project, service=name)


def containers_script(service: Service, name: str = "") -> str:
    """One JSON line for each container of the project (of one of its services)."""
    return _containers(service, name) + "list_containers\n"


def read_containers(text: str) -> tuple[Container, ...]:
    """Read what :func:`containers_script` printed."""
    found = []
    for line in text.splitlines():
        if line.startswith("{"):
            raw = json.loads(line)
            found.append(Container(**{name: value or "" for name, value in raw.items()}))
    return tuple(found)


def facts_script(service: Service) -> str:
    """One script that finds out all of :class:`HostFacts`; it touches our own folder alone."""
    head = _containers(service)
    facts = script(SHELL / "facts.sh", folder=service.project_dir, project=service.project)
    ours = f"say state\n{state.ready()}say unfinished\n{state.unfinished()}"
    return f"{head}{facts}{ours}say locks\n{state.locks()}true\n"


MIN_FREE_KB = 100 * 1024
"""Less free space than this on Docker's or the project's disk stops a rollout before it starts."""


def read_facts(text: str, service: Service) -> HostFacts:
    """Read what :func:`facts_script` printed."""
    parts = _sections(text)
    problems = [*_state_problems(parts), *_docker_problems(parts), *_disk_problems(parts)]
    project = parts.get("project", [])
    if project and project[0] not in ("ok", "absent"):
        problems.append(f"{service.project_dir}: {project[0]} for this user")
    kept = [found for line in parts.get("kept", []) if (found := _release_record(line))]
    return HostFacts(
        problems=tuple(problems),
        salt="".join(parts.get("state", [])[:1]).removeprefix("ready "),
        containers=read_containers("\n".join(parts.get("containers", []))),
        kept={release["release"]: release for release in kept},
        current=dict(line.split(" ", 1) for line in parts.get("current", []) if " " in line),
        unfinished=_unfinished(parts.get("unfinished", []), service),
        locks=tuple(state.parse_locks("\n".join(parts.get("locks", [])))),
        provisioned="provisioned" in project,
    )


def _unfinished(lines: Iterable[str], service: Service) -> tuple[str, ...]:
    """Rollouts of ``service``; one that nobody can tell the service of counts as well."""
    found = (line.partition(" ") for line in lines)
    return tuple(name for name, _, of in found if of.strip() in ("", service.name))


def _release_record(line: str) -> dict[str, str]:
    """One ``release.json``; empty where it is damaged: such a release can't be gone back to."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    whole = isinstance(record, dict) and {"release", "version", "digest"} <= record.keys()
    return record if whole else {}


def _sections(text: str) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("== "):
            lines = parts.setdefault(line[3:], [])
        elif line:
            lines.append(line)
    return parts


def _state_problems(parts: Mapping[str, list[str]]) -> Iterable[str]:
    said = parts.get("state", [])
    if not said or not re.fullmatch(r"ready \S+", said[0]):
        what = said[0] if said else "unknown"
        yield (
            f"{state.ROOT} is {what}: make it once, as root, group-writable for whoever deploys"
            " (docs/hosts.md has the two commands)"
        )


def docker_problems(parts: Mapping[str, list[str]]) -> tuple[str, ...]:
    """What speaks against Docker and Compose, from the sections ``docker`` and ``compose``."""
    return tuple(_docker_problems(parts))


def _docker_problems(parts: Mapping[str, list[str]]) -> Iterable[str]:
    said = parts.get("docker", [])
    docker = " ".join(said) or "no answer"
    if not any(line[:1].isdigit() for line in said):  # a warning may stand beside the version
        if "not found" in docker:
            yield "Docker is not installed"
        elif "permission denied" in docker.lower():
            yield "this user may not use Docker: add it to the group docker"
        else:
            yield f"Docker does not answer: {docker}"
        return
    answers = (line.removeprefix("v") for line in parts.get("compose", []))
    version = next((line for line in answers if line[:1].isdigit()), "")
    if not version:
        yield (
            "Docker Compose v2 is missing (docker-compose 1.x will not do):"
            " install docker-compose-plugin"
        )
    elif version.startswith(("0.", "1.")):
        yield f"Docker Compose {version} is too old: v2 is needed"
    for tool in parts.get("tools", []):
        yield f"{tool} is not installed"


def _disk_problems(parts: Mapping[str, list[str]]) -> Iterable[str]:
    for line in parts.get("disk", []):
        fields = line.split()
        if len(fields) >= 6 and fields[3].isdecimal() and int(fields[3]) < MIN_FREE_KB:
            yield f"disk full: {int(fields[3]) // 1024} MiB left on {fields[5]}, 100 are needed"


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
        + _containers(service, instance.name)
        + script(SHELL / "recreate.sh", project=service.project, service=instance.name, was=was)
    )


def up_missing_script(service: Service, instances: Mapping[str, str], base: str) -> str:
    """Start what is not there yet; ``instances`` are new, with the release each begins with.

    No container of an instance is ever replaced. The rest of the project (a database) is brought
    to what the template says. A registry password comes on stdin.
    """
    user = service.registry_login[0] if service.registry_login else ""
    return assemble(service, instances, base) + script(
        SHELL / "up-missing.sh",
        project=service.project,
        user=user,
        registry=registry_of(service),
        instances=" ".join(instances),
        ours=" ".join(i.name for i in service.instances_on("")),
    )


def gone_script(service: Service, instance: Instance, release: str, was: str = "") -> str:
    """Block until what runs before ``release`` has stopped; start it beside a recreate.

    ``was``: as for :func:`recreate_script`.

    Exit 0: it has; anything else: it can't be said.
    """
    return script(
        SHELL / "gone.sh",
        project=service.project,
        service=instance.name,
        release=release,
        was=was,
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
    return _containers(service) + state.journal_is() + looks


def read_shelf(text: str) -> Shelf:
    """Read what :func:`shelf_script` printed. A damaged ``release.json`` is left alone."""
    parts = _sections(text)
    found = []
    for line in parts.get("releases", []):
        identity, _, rest = line.partition(" ")
        used, _, record = rest.partition(" ")
        facts = _release_record(record)
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
