"""One script for each host that brings everything ``inv status`` wants to know of it.

Its output has sections that start with a line ``== …``; :mod:`read` takes them apart. It changes
nothing on the host and takes no lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fabfile.balancers.haproxy.observe import poll_body
from fabfile.balancers.haproxy.shell import on_balancer
from fabfile.balancers.haproxy.switch import maintenance_of
from fabfile.inventory.model import Balancer, BalancerSpec, Service
from fabfile.remote import drained, state
from fabfile.remote.quoting import lines
from fabfile.remote.scripts import script

SHELL = Path(__file__).parent / "shell"

_LABELS = {
    "project": "com.docker.compose.project",
    "service": "com.docker.compose.service",
    "oneoff": "com.docker.compose.oneoff",
    "release": "evenkeel.release",
    "version": "evenkeel.version",
}
_FIELDS = {
    "name": "{{json .Name}}",
    "ports": "{{json .NetworkSettings.Ports}}",
    "image": "{{json .Config.Image}}",
    "status": "{{json .State.Status}}",
    "started": "{{json .State.StartedAt}}",
    "exit_code": "{{json .State.ExitCode}}",
    "restarts": "{{json .RestartCount}}",
    "health": '{{if .State.Health}}{{json .State.Health.Status}}{{else}}""{{end}}',
    **{name: f'{{{{json (index .Config.Labels "{label}")}}}}' for name, label in _LABELS.items()},
}
CONTAINER_FORMAT = "{" + ",".join(f'"{name}":{form}' for name, form in _FIELDS.items()) + "}"
"""``docker inspect`` prints one JSON object a line with it."""


@dataclass(frozen=True)
class Process:
    """One HAProxy process on a host, and the backends of it that somebody wants to know of."""

    spec: BalancerSpec
    """Of any of its balancers: they share socket and container."""
    balancers: tuple[tuple[Service, Balancer], ...]

    @property
    def backends(self) -> tuple[str, ...]:
        """Each once."""
        return tuple(dict.fromkeys(balancer.spec.backend for _, balancer in self.balancers))


@dataclass(frozen=True)
class Question:
    """What one host is asked."""

    host: str
    services: tuple[Service, ...]
    """Those that run on it."""
    processes: tuple[Process, ...]
    """The HAProxies on it."""

    def script(self) -> str:
        """The whole script, for one command."""
        folders = [*(service.project_dir for service in self.services), state.ROOT]
        return lines(
            script(
                SHELL / "host.sh",
                folders=" ".join(folders),
                docker="yes" if self.services else "",
                form=CONTAINER_FORMAT,
            ),
            *map(_project, self.services),
            *(_process(number, process) for number, process in enumerate(self.processes)),
            state.journal_is(),
            script(
                SHELL / "rollouts.sh",
                root=state.ROOT,
                services=" ".join(service.name for service in self.services),
                own=self.host.replace(".", "[.]"),
            ),
            "say locks",
            state.locks(),
            "say drained",
            drained.show(),
            "true",
        )


def containers_script() -> str:
    """A script that tells of a host's clock, Docker and containers alone: ``read.containers``."""
    return script(SHELL / "host.sh", folders="", docker="yes", form=CONTAINER_FORMAT)


def questions(
    services: Sequence[Service], selected: Mapping[str, Sequence[str]]
) -> dict[str, Question]:
    """What to ask each host that has to do with the selected hosts of ``services``."""
    runs: dict[str, list[Service]] = {}
    serves: dict[str, dict[tuple[str, str | None], dict[str, tuple[Service, Balancer]]]] = {}
    for service in services:
        for host in selected[service.name]:
            runs.setdefault(host, []).append(service)
            for balancer in service.balancers_of(host):
                if balancer.spec.kind != "haproxy":
                    continue
                place = (balancer.spec.socket, balancer.spec.container)
                found = serves.setdefault(balancer.host, {}).setdefault(place, {})
                found[f"{service.name} {balancer.id}"] = (service, balancer)
    return {
        host: Question(
            host,
            tuple(runs.get(host, ())),
            tuple(
                Process(next(iter(found.values()))[1].spec, tuple(found.values()))
                for found in serves.get(host, {}).values()
            ),
        )
        for host in dict.fromkeys([*runs, *serves])
    }


def _project(service: Service) -> str:
    return script(SHELL / "project.sh", folder=service.project_dir, service=service.name)


def _process(number: int, process: Process) -> str:
    backends = [name for each in process.backends for name in (each, maintenance_of(each))]
    body = lines(poll_body(backends), script(SHELL / "certs.sh"))
    poll = on_balancer(process.spec, body)
    # In a shell of its own: it exits where HAProxy can't be asked, which is an answer, too.
    return (
        f"say 'balancer {number}'\n(\n{poll}) </dev/null 2>&1"
        " || printf '\\n@evenkeel failed %s\\n' \"$?\""
    )
