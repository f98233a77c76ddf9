"""Make hosts ready: compose projects from templates, HAProxy's configuration from its own.

Run again it changes only what differs, and never replaces a running instance: that is what a
rollout is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fabfile.balancers.haproxy import shell
from fabfile.balancers.haproxy.config import render
from fabfile.balancers.haproxy.provision import outcome, provision_script
from fabfile.drivers.balancers import process_key
from fabfile.drivers.identity import new_id, whoami
from fabfile.drivers.locks import Claim, Locks, check_fence
from fabfile.drivers.preflight import connect, facts_of, failed, refuse
from fabfile.drivers.stage import Images, stage
from fabfile.errors import BadInput, EvenkeelError, PreflightFailed
from fabfile.inventory.model import Balancer, Inventory, Service
from fabfile.remote.base import Command, Result
from fabfile.remote.pool import Remotes
from fabfile.rollout.events import Event, Notice, PhaseFinished
from fabfile.runtimes import compose
from fabfile.runtimes import secrets as secret_sources
from fabfile.runtimes.facts import HostFacts
from fabfile.runtimes.render import StagedRelease, project

UP_TIMEOUT = 300.0
PROVISION_TIMEOUT = 120.0
"""Deadlines in seconds: of starting a project, of a balancer's new configuration."""


class Provision:
    """One run over some hosts of one service."""

    def __init__(
        self,
        inventory: Inventory,
        service: Service,
        hosts: Sequence[str],
        remotes: Remotes,
        emit: Callable[[Event], None],
    ) -> None:
        self._inventory = inventory
        self._service = service
        self._hosts = tuple(hosts)
        self._remotes = remotes
        self._emit = emit
        self._facts = {
            "by": whoami(),
            "reason": f"provision {service.name}",
        }

    def application(self, version: str | None) -> None:
        """The compose project on every host; missing containers are started and awaited.

        Without ``version`` the one that runs already is taken. Raises :class:`PreflightFailed`
        before anything changed, :class:`EvenkeelError` when a host could not be brought up.
        """
        service = self._service
        connect(self._remotes, self._hosts)
        facts, problems = facts_of(service, self._hosts, self._remotes)
        refuse(problems)
        version = version or self._running_version(facts)
        settings = secret_sources.settings(service)
        images = Images(service, self._hosts, self._remotes, self._emit)
        digest = images.pull(version)
        staged = {
            host: project(service, self._inventory.hosts[host], version).releases(
                digest, settings, facts[host].salt
            )
            for host in self._hosts
        }
        key = compose.project_key(service)
        with self._locked([Claim(host, key) for host in self._hosts]) as locks:
            stage(service, staged, self._remotes)
            self._up(locks, facts, staged)
        self._await_healthy(facts, staged)

    def _running_version(self, facts: Mapping[str, HostFacts]) -> str:
        versions = {c.version for f in facts.values() for c in f.containers if c.version}
        if len(versions) == 1:
            return versions.pop()
        found = ", ".join(sorted(versions)) or "none"
        raise BadInput(f"which version? --version is needed here (running now: {found})")

    def _up(
        self,
        locks: Locks,
        facts: Mapping[str, HostFacts],
        staged: Mapping[str, Sequence[StagedRelease]],
    ) -> None:
        password = secret_sources.registry_password(self._service)
        running = {}
        for host, found in staged.items():
            new = {r.instance.name: r.id for r in found if _is_new(facts[host], r)}
            lost = {r.instance.name: r.id for r in found if _is_lost(facts[host], r)}
            effect = compose.up_missing_script(self._service, new, found[0].id, lost=lost)
            script = locks.fence(host, [compose.project_key(self._service)], effect)
            command = Command(script, password, UP_TIMEOUT, "docker compose up")
            running[host] = self._remotes.start(host, command)
        results = [waiting.wait() for waiting in running.values()]
        self._raise_failed(results)
        for host, found in staged.items():
            self._tell(host, facts[host], found)

    def _tell(self, host: str, facts: HostFacts, found: Sequence[StagedRelease]) -> None:
        new = [r.instance.name for r in found if _is_new(facts, r)]
        old = [r.instance.name for r in found if not _is_new(facts, r) and _meant(facts, r) != r.id]
        said = [f"started {', '.join(new)}"] if new else []
        if old:
            said.append(f"{', '.join(old)} differ from the template: `fab deploy` rolls that out")
        self._emit(Notice("; ".join(said) or "unchanged", host))

    def _await_healthy(
        self,
        facts: Mapping[str, HostFacts],
        staged: Mapping[str, Sequence[StagedRelease]],
    ) -> None:
        timeout = self._service.health.timeout + self._service.health.min_healthy + 15
        running = [
            self._remotes.start(
                host,
                Command(
                    compose.health_script(self._service, release.instance, release.id),
                    timeout=timeout,
                    label=f"health check of {release.instance.name}",
                ),
            )
            for host, found in staged.items()
            for release in found
            if _is_new(facts[host], release)
        ]
        self._raise_failed([waiting.wait() for waiting in running])
        if running:
            self._emit(PhaseFinished("healthy", f"{len(running)} instances"))

    def balancers(self, *, drop: bool = False) -> None:
        """HAProxy's configuration on every balancer that has a template: checked, then reloaded.

        ``drop``: also where the file there has backends that ours has not. Raises
        :class:`PreflightFailed` for a template that does not render, :class:`EvenkeelError` where
        HAProxy refuses the file; the old one then stays in force.
        """
        found = self._rendered()
        if not found:
            self._emit(Notice("no balancer of this service has a template: nothing to do"))
            return
        connect(self._remotes, [balancer.host for balancer, _ in found])
        self._pull_balancer_images([balancer for balancer, _ in found])
        claims = [Claim(b.host, process_key(b)) for b, _ in found]
        with self._locked(claims) as locks:
            running = []
            for balancer, text in found:
                built = provision_script(balancer.spec, text, drop=drop)
                script = locks.fence(balancer.host, [process_key(balancer)], built.script)
                command = Command(script, built.stdin, PROVISION_TIMEOUT, "configure HAProxy")
                running.append(self._remotes.start(balancer.host, command))
            results = [waiting.wait() for waiting in running]
        for result in results:
            problem = shell.problem(result.host, result)
            if problem is not None and problem.kind == "config":
                raise PreflightFailed(str(problem), detail=problem.detail)
            if problem is not None:
                raise problem
        self._raise_failed(results)
        for result in results:
            self._emit(Notice(f"HAProxy {outcome(result.stdout)}", result.host))

    def _rendered(self) -> list[tuple[Balancer, str]]:
        balancers = {
            (b.host, b.spec.config): b
            for host in self._hosts
            for b in self._service.balancers_of(host)
            if b.spec.template is not None
        }
        return [
            (balancer, render(self._inventory, host)[config])
            for (host, config), balancer in balancers.items()
        ]

    def _pull_balancer_images(self, balancers: Sequence[Balancer]) -> None:
        by_image: dict[str, list[str]] = {}
        for balancer in balancers:
            if balancer.spec.container and balancer.spec.image:
                by_image.setdefault(balancer.spec.image, []).append(balancer.host)
        for image, hosts in by_image.items():
            Images(self._service, hosts, self._remotes, self._emit).have(image)

    def _locked(self, claims: Sequence[Claim]) -> Locks:
        return Locks(
            self._remotes,
            f"provision-{new_id()}",
            claims,
            self._facts,
            notice=lambda host, text: self._emit(Notice(text, host)),
        )

    @staticmethod
    def _raise_failed(results: Sequence[Result]) -> None:
        for result in results:
            check_fence(result)
        wrong = [failed(result) for result in results if not result.ok]
        if wrong:
            raise EvenkeelError("\n".join(wrong))


def _is_new(facts: HostFacts, release: StagedRelease) -> bool:
    """The instance has no container at all, so there is nothing a rollout could protect."""
    return facts.container(release.instance) is None


def _is_lost(facts: HostFacts, release: StagedRelease) -> bool:
    """It runs, but its files are gone: somebody emptied the project's folder."""
    current = facts.current.get(release.instance.name, "")
    return not _is_new(facts, release) and current not in facts.kept


def _meant(facts: HostFacts, release: StagedRelease) -> str:
    """The id of the release that the instance is of: as its files say, or else its container."""
    container = facts.container(release.instance)
    return facts.current.get(release.instance.name) or (container.release if container else "")
