"""What one application host is like before anything is changed there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fabfile.inventory.model import Instance, Service
from fabfile.remote import state
from fabfile.remote.scripts import script
from fabfile.runtimes.compose import (
    SHELL,
    Container,
    defining_containers,
    read_containers,
    release_record,
    sections,
)


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


def facts_script(service: Service, *, again: bool = False) -> str:
    """One script that finds out all of :class:`HostFacts`; it touches our own folder alone.

    ``again``: what it was looked at for a moment ago (Docker, tools, disks) is passed over.
    """
    head = defining_containers(service)
    facts = script(
        SHELL / "facts.sh",
        folder=service.project_dir,
        project=service.project,
        again="again" if again else "",
    )
    ours = f"say state\n{state.ready()}say unfinished\n{state.unfinished()}"
    return f"{head}{facts}{ours}say locks\n{state.locks()}true\n"


MIN_FREE_KB = 100 * 1024
"""Less free space than this on Docker's or the project's disk stops a rollout before it starts."""


def read_facts(text: str, service: Service, *, again: bool = False) -> HostFacts:
    """Read what :func:`facts_script` printed."""
    parts = sections(text)
    problems = [*_state_problems(parts), *_disk_problems(parts)]
    if not again:
        problems += _docker_problems(parts)
    project = parts.get("project", [])
    if project and project[0] not in ("ok", "absent"):
        problems.append(f"{service.project_dir}: {project[0]} for this user")
    kept = [found for line in parts.get("kept", []) if (found := release_record(line))]
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
