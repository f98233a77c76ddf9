"""What a compose template makes of the instances, whoever wrote it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fabfile.checks.doctor.facts import HostFacts, Rendered, Setup
from fabfile.checks.doctor.findings import Finding, found
from fabfile.checks.doctor.kinds import Severity
from fabfile.checks.fleet.verdict import several
from fabfile.errors import BadInput
from fabfile.inventory.values import parse_duration

Blocks = Mapping[str, Mapping[str, Any]]


def _found(
    one: Rendered, code: str, text: str, mend: str, word: str, severity: Severity | None = None
) -> Finding:
    line = _line_of(one.source, word) if word else 0
    return found(code, one.host, text, mend, severity=severity, file=one.path, line=line)


def _line_of(source: str, word: str) -> int:
    """The first line of the template that has ``word``; 0: none has."""
    lines = source.splitlines()
    return next((n for n, line in enumerate(lines, 1) if word in line), 0)


def _blocks(one: Rendered) -> Blocks:
    services = one.project.get("services")
    known = services.items() if isinstance(services, dict) else ()
    return {str(name): block for name, block in known if isinstance(block, dict)}


def _ours(one: Rendered) -> Blocks:
    names = {instance.name for instance in one.service.instances_on(one.host)}
    return {name: block for name, block in _blocks(one).items() if name in names}


def _others(one: Rendered) -> Blocks:
    return {n: b for n, b in _blocks(one).items() if n not in _ours(one)}


def _with(blocks: Blocks, key: str) -> list[str]:
    return [name for name, block in blocks.items() if block.get(key)]


def renders(one: Rendered) -> Iterator[Finding]:
    """What a deploy would refuse."""
    if one.why:
        # The message begins with the place.
        text = one.why.removeprefix(f"{one.path}: ").removeprefix(f"{one.path}:")
        yield _found(one, "template", text, "docs/templates.md", "")


def ports(one: Rendered) -> Iterator[Finding]:
    """Ports on the host: one for each instance, the one hosts.yaml says."""
    taken: dict[int, str] = {}
    for name, block in _blocks(one).items():
        for low, high, _ in _published(block):
            for port in range(low, min(high, low + 999) + 1):
                other = taken.setdefault(port, name)
                if other != name:
                    text = f"{other} and {name} both publish port {port}"
                    yield _found(one, "port-shared", text, "a port of its own for each", "ports:")
                    return
    for instance in one.service.instances_on(one.host):
        known = list(_published(_ours(one).get(instance.name, {})))
        ranges = [f"{low}-{high}" for low, high, _ in known if high > low]
        if ranges:
            text = f"{instance.name} takes any free port of {ranges[0]}: its server stays with one"
            mend = f'ports: ["{{{{ instance.publish }}}}:{one.service.port}"]'
            yield _found(one, "port-range", text, mend, "ports:")
        elif instance.port and known and instance.port not in {low for low, _, _ in known}:
            text = (
                f"{instance.name} publishes {known[0][0]}, hosts.yaml says {instance.port}: it is"
                " asked for its health there, and served elsewhere"
            )
            mend = f"hosts.yaml: publish: {known[0][0] - instance.number + 1}"
            yield _found(one, "port-differs", text, mend, "ports:")
            return


def _published(block: Mapping[str, Any]) -> Iterator[tuple[int, int, str]]:
    """First and last host port, and what stands behind it, of each of ``ports``."""
    entries = block.get("ports")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict):
            text = f"{entry.get('published', '')}:{entry.get('target', '')}"
        else:
            text = str(entry)
        match = re.fullmatch(
            r"(?:.*:)?(?P<low>\d+)(?:-(?P<high>\d+))?:(?P<to>[\d-]+)(?:/\w+)?", text
        )
        if match:
            low = int(match["low"])
            yield low, int(match["high"] or low), match["to"]


def replicas(one: Rendered) -> Iterator[Finding]:
    """Several containers behind one name."""
    for name, block in _ours(one).items():
        deploy = block.get("deploy")
        count = block.get("scale") or (deploy.get("replicas") if isinstance(deploy, dict) else None)
        if isinstance(count, int) and count > 1:
            text = f"{name} is scaled to {count}: one server, {count} containers"
            mend = f"hosts.yaml: instances: {count}"
            yield _found(one, "replicas", text, mend, "replicas:" if deploy else "scale:")


def container_name(one: Rendered) -> Iterator[Finding]:
    """Names that let no second container be made."""
    names = _with(_ours(one), "container_name")
    if names:
        text = (
            f"{several(names)}: what a killed `docker compose` left behind would keep the new"
            " container from starting"
        )
        yield _found(one, "container-name", text, "no container_name", "container_name")


def build(one: Rendered) -> Iterator[Finding]:
    """Images made on the spot."""
    ours, others = _with(_ours(one), "build"), _with(_others(one), "build")
    if ours:
        text = f"{several(ours)}: a deploy never builds, and `up` by hand would replace what it did"
        yield _found(one, "build", text, "image: {{ instance.image }} (alone)", "build:")
    elif others:
        text = f"{several(others)}: built where it runs; provisioning pulls images only"
        yield _found(one, "build", text, "image:", "build:", "hint")


def depends_on(one: Rendered) -> Iterator[Finding]:
    """Services that instances wait for, which no deploy starts."""
    ours = _ours(one)
    for name, block in ours.items():
        needs = [str(each) for each in block.get("depends_on") or ()]
        inner = [each for each in needs if each in ours]
        if inner:
            text = f"{name} depends on {several(inner)}, which is upgraded on its own"
            yield _found(one, "depends-on", text, "no depends_on between instances", "depends_on")
            return
        if needs:
            text = (
                f"{name} depends on {several(needs)}: a deploy starts {name} alone (--no-deps) and"
                " does not look after it"
            )
            mend = "an application that waits for what it needs"
            yield _found(one, "depends-on", text, mend, "depends_on", "hint")
            return


def stop_grace(one: Rendered) -> Iterator[Finding]:
    """How long an instance may take to stop: the template and hosts.yaml have to agree."""
    ours = _ours(one)
    known = {_seconds(block.get("stop_grace_period")) for block in ours.values()}
    if not ours or None in known:
        return
    longest = max(known)  # type: ignore[type-var]
    wanted, patience = one.service.stop_grace, one.service.drain.timeout
    mend = "stop_grace_period: {{ stop_grace }}s (and stop_grace in hosts.yaml)"
    if longest is not None and longest > wanted:
        text = (
            f"stop_grace_period is {longest:g} s, stop_grace in hosts.yaml {wanted:g} s: a slow"
            " stop would be taken for one that hangs"
        )
        yield _found(one, "stop-grace", text, mend, "stop_grace_period")
    elif longest is not None and longest < wanted:
        text = (
            f"containers get {longest:g} s to stop, stop_grace in hosts.yaml says {wanted:g} s:"
            " they are killed earlier than you meant"
        )
        yield _found(one, "stop-grace", text, mend, "stop_grace_period", "hint")
    elif longest is not None and longest > patience:
        text = (
            f"an application that does not end on SIGTERM holds each instance up for {longest:g} s,"
            f" longer than a drain waits for requests ({patience:g} s)"
        )
        yield _found(one, "stop-grace", text, "a shorter stop_grace", "stop_grace_period", "hint")


def _seconds(value: object) -> float | None:
    """Compose's ``1m30s``; Docker's 10 s where none is given; ``None``: it can't be read."""
    if value is None:
        return 10.0
    parts = re.findall(r"[\d.]+(?:ms|us|s|m|h)", str(value))
    if "".join(parts) != str(value) or not parts:
        return None
    try:
        return sum(parse_duration(part, "") for part in parts)
    except BadInput:
        return None


def restart(one: Rendered) -> Iterator[Finding]:
    """Instances that stay away after a reboot."""
    lacking = [n for n, b in _ours(one).items() if b.get("restart", "no") in ("no", False)]
    if lacking:
        text = f"{several(lacking)}: no restart policy, so it stays away after a crash or a reboot"
        yield _found(one, "restart-missing", text, "restart: unless-stopped", "restart:")


def memory(one: Rendered) -> Iterator[Finding]:
    """Instances that may take all of the host's memory."""
    lacking = [name for name, block in _ours(one).items() if not _limit(block)]
    if lacking:
        text = f"{several(lacking)}: no memory limit; a leak takes the neighbours along"
        mend = "hosts.yaml: resources: {memory: 512m}; mem_limit: {{ resources.memory }}"
        yield _found(one, "memory-missing", text, mend, "")


def _limit(block: Mapping[str, Any]) -> object:
    limits: Any = block.get("deploy")
    for key in ("resources", "limits", "memory"):
        limits = limits.get(key) if isinstance(limits, dict) else None
    return block.get("mem_limit") or limits


def moving_tags(one: Rendered) -> Iterator[Finding]:
    """Services beside the instances that are another version some day."""
    moving = []
    for name, block in _others(one).items():
        image = str(block.get("image", ""))
        tag = image.rpartition("/")[2].partition(":")[2]
        if image and "@" not in image and tag in ("", "latest"):
            moving.append(name)
    if moving:
        text = f"{several(moving)} has no tag, or latest: another host may run another version"
        yield _found(one, "image-latest", text, "a tag that never moves", "image:", "hint")


COMPOSE_RULES: tuple[Callable[[Rendered], Iterator[Finding]], ...] = (
    renders,
    ports,
    replicas,
    container_name,
    build,
    depends_on,
    stop_grace,
    restart,
    memory,
    moving_tags,
)


def health(setup: Setup) -> Iterator[Finding]:
    """Services none of whose instances looks after its own health."""
    for service in setup.services:
        mine = [one for one in setup.rendered if one.service is service and not one.why]
        blocks = [block for one in mine for block in _ours(one).values()]
        running = [
            container.checked
            for host in setup.selected[service.name]
            if isinstance(facts := setup.hosts.get(host), HostFacts)
            for container in facts.projects[service.name].containers
            if service.name in facts.projects
        ]
        if blocks and not any("healthcheck" in block for block in blocks) and not any(running):
            text = (
                "no container has a health check of its own; Docker (and"
                " `docker ps`) call one that hangs running"
            )
            mend = f'healthcheck: {{test: ["CMD", …, "http://localhost:{service.port}'
            file = next(iter(mine)).path
            told = f'{mend}{service.health.path}"]}} (or HEALTHCHECK in the image)'
            yield found("health-missing", service.name, text, told, file=file)
