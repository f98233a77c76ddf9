"""What can be wrong with the containers of a service, and with what they were made of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from fabfile.checks.fleet.facts import Container, Rollout
from fabfile.checks.fleet.sight import Sight, on_host
from fabfile.checks.fleet.verdict import Severity, Verdict, several
from fabfile.inventory.model import Instance

RECENT = 300.0
"""Seconds after which a restart is history."""


def instance_down(sight: Sight) -> Iterator[Verdict]:
    """Instances without a container, or with one that does not run."""
    for instance in _still(sight):
        container = sight.container(instance)
        if container is None:
            version = usual_version(sight)
            task = "provision.app" + (f" --version {version}" if version else "")
            mend = sight.fab(task, instance.host)
            yield _of(sight, "instance-down", "CRITICAL", instance, "has no container", mend)
        elif not container.running and container.status != "restarting":
            code = f" ({container.exit_code})" if container.status == "exited" else ""
            text = f"its container is {container.status}{code}"
            mend = on_host(instance.host, _start(sight, instance, container))
            yield _of(sight, "instance-down", "CRITICAL", instance, text, mend)


def _start(sight: Sight, instance: Instance, container: Container) -> str:
    if container.status == "paused":
        return f"docker unpause {container.name}"
    return f"cd {sight.service.project_dir} && docker compose up -d --no-deps {instance.name}"


def unhealthy(sight: Sight) -> Iterator[Verdict]:
    """Containers whose own health check fails."""
    for instance in _still(sight):
        container = sight.container(instance)
        if container is not None and container.running and container.health == "unhealthy":
            text = f"its container {container.name} is unhealthy"
            yield _of(sight, "unhealthy", "CRITICAL", instance, text, _logs(instance, container))


def restarting(sight: Sight) -> Iterator[Verdict]:
    """Containers that Docker had to start again a moment ago, or is about to."""
    for instance in _still(sight):
        container, facts = sight.container(instance), sight.facts(instance.host)
        if container is None or facts is None:
            continue
        mend = _logs(instance, container)
        if container.status == "restarting":
            text = f"its container ends again and again ({container.restarts} restarts)"
            yield _of(sight, "restarting", "CRITICAL", instance, text, mend)
        elif container.running and container.restarts and facts.now - container.started < RECENT:
            ago = max(0, round(facts.now - container.started))
            times = "once" if container.restarts == 1 else f"{container.restarts} times"
            text = f"its container ended and was restarted {times}, last {ago} s ago"
            yield _of(sight, "restarting", "WARNING", instance, text, mend)


def stray_container(sight: Sight) -> Iterator[Verdict]:
    """Containers of this service that belong to no server: nobody upgrades or drains them."""
    for host in sight.asked:
        kept = {
            container.name
            for instance in sight.service.instances_on(host)
            for container in sight.containers(instance)[: None if sight.touched(instance) else 1]
        }
        facts = sight.facts(host)
        for container in facts.containers if facts else ():
            if container.name not in kept and _stray(sight, host, container):
                text = f"runs {container.shown_version} of {sight.service.name}"
                if not container.running:
                    text = f"a leftover of {sight.service.name} ({container.status})"
                yield Verdict(
                    "stray-container",
                    "WARNING",
                    f"{host}/{container.name}",
                    f"{text} and belongs to no server of any balancer",
                    on_host(host, f"docker rm -f {container.name}"),
                    sight.service.name,
                )


def _stray(sight: Sight, host: str, container: Container) -> bool:
    if container.oneoff:
        return False
    if container.project == sight.service.project:
        return bool(re.fullmatch(r"app_\d+", container.service))
    others = {
        service.project
        for service in sight.fleet.inventory.services.values()
        if host in service.hosts
    }
    repository = re.sub(r":[^/:]*$", "", container.image.partition("@")[0])
    mine = repository == sight.service.image
    return mine and container.project not in others and container.running


def compose_edited(sight: Sight) -> Iterator[Verdict]:
    """Compose files that somebody edited: the next rollout writes them anew."""
    for host in sight.asked:
        if sight.project(host).edited and not _busy(sight, host):
            file = f"{sight.service.project_dir}/docker-compose.yml"
            version = next((v for i, v in sight.versions.items() if i.host == host), "")
            task = "provision.app" + (f" --version {version}" if version else "")
            yield Verdict(
                "compose-edited",
                "WARNING",
                f"{host}:{file}",
                "is not what the releases there are made of: it was edited by hand",
                sight.fab(task, host),
                sight.service.name,
            )


def compose_differs(sight: Sight) -> Iterator[Verdict]:
    """Instances that do not run the release their compose file holds."""
    for instance in _still(sight):
        container = sight.container(instance)
        meant = sight.project(instance.host).current.get(instance.name)
        if container is None or not meant or container.release == meant:
            continue
        runs = f"release {container.release}" if container.release else "no release of ours"
        text = f"runs {runs}, but the compose file on its host says {meant}"
        known = container.shown_version != "?"
        version = container.shown_version if known else usual_version(sight)
        mend = sight.fab(f"deploy --version {version}", instance.host)
        yield _of(sight, "compose-differs", "WARNING", instance, text, mend)


def version_drift(sight: Sight) -> Iterator[Verdict]:
    """More than one version: by choice where rollouts of a subset explain it, else drift."""
    by_version: dict[str, list[Instance]] = {}
    for instance, version in sight.versions.items():
        by_version.setdefault(version, []).append(instance)
    if len(by_version) < 2 or sight.rolling:
        return
    shares = "; ".join(f"{v} on {_where(found)}" for v, found in sorted(by_version.items()))
    newest = max(_newest(sight).values(), key=lambda r: r.id, default=None)
    went_well = newest is not None and newest.verdict == "done" and newest.version in by_version
    version = newest.version if newest and went_well else usual_version(sight)
    mend = sight.fab(f"deploy --version {version}")
    service = sight.service.name
    chosen = partial_by_choice(sight)
    if chosen:
        text = f"partial by choice: {shares} (rollout {several(chosen)} was of some hosts only)"
        yield Verdict("partial-by-choice", "WARNING", service, text, mend, service)
        return
    last = f"; rollout {newest.id} ended: {newest.verdict}" if newest and not went_well else ""
    yield Verdict("version-drift", "CRITICAL", service, f"{shares}{last}", mend, service)


def partial_by_choice(sight: Sight) -> list[str]:
    """The rollouts of chosen hosts that explain all differences; none: they do not.

    They do where every host whose newest rollout was of a choice of hosts, and went well, runs one
    version, and all the other hosts together run one, too.
    """
    newest = _newest(sight)
    rest: set[str] = set()
    chosen: set[str] = set()
    for host in sight.asked:
        versions = {v for i, v in sight.versions.items() if i.host == host}
        rollout = newest.get(host)
        if rollout and rollout.chosen and rollout.verdict in ("done", "rolled-back"):
            if len(versions) > 1:
                return []
            chosen.add(rollout.id)
        else:
            rest |= versions
    return sorted(chosen) if len(rest) <= 1 else []


def _newest(sight: Sight) -> Mapping[str, Rollout]:
    """The newest rollout of the service that ended on each host and upgraded it."""
    found: dict[str, Rollout] = {}
    for host in sight.asked:
        facts = sight.facts(host)
        for rollout in facts.rollouts if facts else ():
            if rollout.finished and rollout.service == sight.service.name and host in rollout.hosts:
                found[host] = rollout
    return found


def digest_drift(sight: Sight) -> Iterator[Verdict]:
    """One version that is not one image."""
    digests: dict[str, dict[str, list[Instance]]] = {}
    for instance, version in sight.versions.items():
        container = sight.container(instance)
        if container and container.digest:
            digests.setdefault(version, {}).setdefault(container.digest, []).append(instance)
    for version, found in digests.items():
        if len(found) > 1 and not sight.rolling:
            shares = "; ".join(f"{digest[:19]} on {_where(on)}" for digest, on in found.items())
            mend = sight.fab(f"deploy --version {version}")
            text = f"{version} is not one image everywhere: {shares}"
            service = sight.service.name
            yield Verdict("digest-drift", "CRITICAL", service, text, mend, service)


def usual_version(sight: Sight) -> str:
    """What most instances run; empty where none does."""
    counted = Counter(version for version in sight.versions.values() if version != "?")
    return counted.most_common(1)[0][0] if counted else ""


def _still(sight: Sight) -> Iterator[Instance]:
    """Instances of hosts that answered, but for those a rollout has in its hands now."""
    return (i for i in sight.instances if sight.known(i) and not sight.touched(i))


def _busy(sight: Sight, host: str) -> bool:
    return any(sight.touched(i) for i in sight.instances if i.host == host)


def _of(
    sight: Sight, name: str, severity: Severity, instance: Instance, text: str, mend: str
) -> Verdict:
    return Verdict(name, severity, instance.id, text, mend, sight.service.name)


def _logs(instance: Instance, container: Container) -> str:
    return on_host(instance.host, f"docker logs --tail 50 {container.name}")


def _where(instances: list[Instance]) -> str:
    hosts = several(instance.host for instance in instances)
    count = len(instances)
    return f"{hosts} ({count} instance{'s' if count > 1 else ''})"


INSTANCE_RULES: tuple[Callable[[Sight], Iterator[Verdict]], ...] = (
    instance_down,
    unhealthy,
    restarting,
    version_drift,
    digest_drift,
    compose_differs,
    compose_edited,
    stray_container,
)
