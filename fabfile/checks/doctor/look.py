"""One script for each host that brings all ``fab doctor`` wants to know of it.

Its output has sections that start with a line ``== …``. It changes nothing and takes no lock.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fabfile.balancers.haproxy.preflight import preflight_script
from fabfile.checks.doctor.facts import Container, HostFacts, Project, Proxy
from fabfile.checks.fleet.facts import Disk
from fabfile.inventory.model import Balancer, Host, Service
from fabfile.remote import state
from fabfile.remote.quoting import lines
from fabfile.remote.scripts import script
from fabfile.runtimes.facts import docker_problems
from fabfile.runtimes.registry import familiar, registry_of

SHELL = Path(__file__).parent / "shell"
_FORM = (
    '{"instance":{{json (index .Config.Labels "com.docker.compose.service")}},'
    '"image":{{json .Config.Image}},"checked":{{if .Config.Healthcheck}}true{{else}}false{{end}}}'
)
APP_TOOLS = ("curl", "flock", "tar", "timeout")
EVERY_TOOL = ("flock", "timeout")


@dataclass(frozen=True)
class Question:
    """What one host is asked."""

    services: tuple[Service, ...]
    """Those that run on it."""
    proxies: tuple[tuple[Service, Balancer], ...]
    """The HAProxies on it, as each service sees them."""

    def script(self) -> str:
        """The whole script, for one command."""
        return lines(
            script(
                SHELL / "host.sh",
                root=state.ROOT,
                tools=" ".join(APP_TOOLS if self.services else EVERY_TOOL),
                docker="yes" if self.services else "",
                folders=" ".join([*(s.project_dir for s in self.services), state.ROOT]),
                registries=" ".join(dict.fromkeys(map(registry_of, self.services))),
            ),
            *map(_project, self.services),
            *(_proxy(number, balancer) for number, (_, balancer) in enumerate(self.proxies)),
            "true",
        )


def questions(
    services: Sequence[Service], selected: Mapping[str, Sequence[str]], named: Iterable[str] = ()
) -> dict[str, Question]:
    """What to ask each host: those selected, the balancers before them, and those ``named``."""
    runs: dict[str, list[Service]] = {}
    serves: dict[str, dict[str, tuple[Service, Balancer]]] = {}
    for service in services:
        for host in selected[service.name]:
            runs.setdefault(host, []).append(service)
        behind = selected[service.name] or service.hosts
        for balancer in (b for host in behind for b in service.balancers_of(host)):
            wanted = bool(selected[service.name]) or balancer.host in named
            if balancer.spec.kind == "haproxy" and wanted:
                found = serves.setdefault(balancer.host, {})
                found[f"{service.name} {balancer.id}"] = (service, balancer)
    return {
        host: Question(tuple(runs.get(host, ())), tuple(serves.get(host, {}).values()))
        for host in dict.fromkeys([*runs, *serves, *named])
    }


def _project(service: Service) -> str:
    return script(
        SHELL / "project.sh",
        folder=service.project_dir,
        project=service.project,
        service=service.name,
        image=familiar(service.image),
        form=_FORM,
    )


def _proxy(number: int, balancer: Balancer) -> str:
    spec = balancer.spec
    config = script(SHELL / "config.sh", config=spec.config, container=spec.container or "")
    # In shells of their own: they exit where HAProxy can't be asked, which is an answer, too.
    return (
        f"say 'asked {number}'\n(\n{preflight_script(spec)}) </dev/null 2>&1"
        " || printf '\\n@evenkeel failed %s\\n' \"$?\"\n"
        f"say 'config {number}'\n(\n{config}) || printf '\\n@evenkeel unread\\n'"
    )


def read_host(text: str, question: Question, between: tuple[float, float]) -> HostFacts:
    """The facts of one host; ``between`` is when it was asked by our clock, from and to."""
    parts = _sections(text)
    return HostFacts(
        user=_first(parts, "user"),
        skew=_skew(_first(parts, "now"), between),
        tools=tuple(_said(parts, "missing")),
        state=_first(parts, "state") or "unknown",
        max_sessions=next((int(w) for w in _said(parts, "sessions") if w.isdecimal()), None),
        disks=tuple(_disks(_said(parts, "disk"))),
        docker=docker_problems({name: _said(parts, name) for name in parts})
        if question.services
        else (),
        versions=(
            *(f"Docker {line}" for line in _said(parts, "docker")[-1:]),
            *(f"Compose {line}" for line in _said(parts, "compose")[-1:]),
        ),
        registries={
            name.removeprefix("registry "): _first(parts, name)
            for name in parts
            if name.startswith("registry ")
        },
        projects={service.name: _read_project(parts, service) for service in question.services},
    )


def read_proxies(
    text: str,
    question: Question,
    ours: Mapping[str, Sequence[str]],
    hosts: Mapping[str, Host],
) -> list[Proxy]:
    """Every HAProxy of one host; ``ours``: the selected hosts of each service."""
    parts = _sections(text)
    found = []
    for number, (service, balancer) in enumerate(question.proxies):
        said = "\n".join((*parts.get(f"asked {number}", ()), ""))
        config = "\n".join(parts.get(f"config {number}", ["@evenkeel unread"]))
        unread = "@evenkeel unread" in config
        failed = "@evenkeel failed" in said or not said.strip()
        found.append(
            Proxy(
                service,
                balancer,
                servers_of(service, balancer, ours[service.name] or service.hosts),
                said="" if failed else said,
                why=_why(said) if failed else "",
                config=None if unread or not config.strip() else config,
                spots=spots_of(service, balancer, hosts),
            )
        )
    return found


def servers_of(service: Service, balancer: Balancer, hosts: Sequence[str]) -> tuple[str, ...]:
    """What ``balancer`` calls the instances on ``hosts`` that it stands in front of."""
    return tuple(
        service.server_name(balancer.spec, instance)
        for host in hosts
        if any(other.id == balancer.id for other in service.balancers_of(host))
        for instance in service.instances_on(host)
    )


def spots_of(service: Service, balancer: Balancer, hosts: Mapping[str, Host]) -> dict[str, str]:
    """Where each server of the service ought to be reached, as far as its ports are published."""
    own = balancer.spec.hosts == "self"
    found = {}
    for name in (balancer.host,) if own else service.hosts:
        address = "127.0.0.1" if own else hosts[name].internal
        shown = f"[{address}]" if ":" in address else address
        for instance in service.instances_on(name):
            if instance.port:
                server = service.server_name(balancer.spec, instance)
                found[server] = f"{shown}:{instance.port}"
    return found


def _why(said: str) -> str:
    ours = [line for line in said.splitlines() if line.startswith("evenkeel: ")]
    plain = [line for line in said.splitlines() if line.strip() and "@evenkeel" not in line]
    return (ours or plain or ["it gave no answer"])[-1].removeprefix("evenkeel: ").rstrip(": ")


def _sections(text: str) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.split("\n"):
        if line.startswith("== "):
            current = parts.setdefault(line[3:].strip(), [])
        else:
            current.append(line)
    # Each section ends with the empty line in front of the next one's head.
    return {name: body[:-1] if body[-1:] == [""] else body for name, body in parts.items()}


def _said(parts: Mapping[str, Sequence[str]], name: str) -> list[str]:
    return [line.strip() for line in parts.get(name, ()) if line.strip()]


def _first(parts: Mapping[str, Sequence[str]], name: str) -> str:
    return "".join(_said(parts, name)[:1])


def _skew(said: str, between: tuple[float, float]) -> float:
    """Where a ``date`` knows no nanoseconds, it is right to the second only."""
    whole, _, rest = said.partition(".")
    if not whole.isdecimal():
        return 0.0
    now = float(f"{whole}.{rest}" if rest.isdecimal() else whole)
    low, high = between[0] - (0 if rest.isdecimal() else 1), between[1]
    return now - min(max(now, low), high)


def _disks(said: Iterable[str]) -> Iterable[Disk]:
    found: dict[str, Disk] = {}
    for line in said:
        fields = line.split(None, 5)
        if len(fields) == 6 and fields[3].isdecimal() and fields[4].rstrip("%").isdecimal():
            found[fields[5]] = Disk(fields[5], int(fields[4].rstrip("%")), int(fields[3]))
    return found.values()


def _read_project(parts: Mapping[str, Sequence[str]], service: Service) -> Project:
    said = _said(parts, f"project {service.name}")
    instances = {instance.name for instance in service.instances_on("")}
    return Project(
        folder=said[0] if said else "unknown",
        provisioned="provisioned" in said,
        containers=tuple(
            container
            for line in _said(parts, f"containers {service.name}")
            if (container := _container(line)) and container.instance in instances
        ),
        digests=frozenset(
            line for line in _said(parts, f"digests {service.name}") if line.startswith("sha256:")
        ),
    )


def _container(line: str) -> Container | None:
    try:
        raw = json.loads(line)
        return Container(str(raw["instance"]), str(raw["image"]), raw["checked"] is True)
    except (ValueError, KeyError, TypeError):
        return None
