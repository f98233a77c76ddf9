"""Images and releases on their way to the hosts, before anything that serves is touched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fabfile.drivers.preflight import everywhere, failed, refuse
from fabfile.inventory.model import Service
from fabfile.remote.base import Result
from fabfile.remote.pool import Remotes
from fabfile.rollout.events import Event, Notice, PhaseFinished, PhaseStarted
from fabfile.runtimes import compose, registry
from fabfile.runtimes import secrets as secret_sources
from fabfile.runtimes.render import StagedRelease

PULL_TIMEOUT = 900.0
STAGE_TIMEOUT = 60.0
LOOK_TIMEOUT = 30.0
"""Deadlines in seconds."""
EXIT_NO_SUCH_IMAGE = 68


class Images:
    """The images of one service on some hosts."""

    def __init__(
        self,
        service: Service,
        hosts: Sequence[str],
        remotes: Remotes,
        emit: Callable[[Event], None],
    ) -> None:
        self._service = service
        self._hosts = tuple(hosts)
        self._remotes = remotes
        self._emit = emit

    def local(self, version: str) -> str:
        """The digest some host already knows for ``version``; ``""``: none does."""
        script = registry.local_digest_script(f"{self._service.image}:{version}")
        scripts = dict.fromkeys(self._hosts, script)
        results = everywhere(self._remotes, scripts, "look for the image", LOOK_TIMEOUT)
        digests = (registry.read_digest(result.stdout)[0] for result in results.values())
        return next(filter(None, digests), "")

    def pull(self, version: str) -> str:
        """Pull ``version`` everywhere at once; returns the one digest that all hosts then hold.

        Where hosts get different digests for the tag, the first host's is pulled by the others.
        Raises :class:`PreflightFailed` naming each host that has no way to it.
        """
        reference = f"{self._service.image}:{version}"
        self._emit(PhaseStarted("pull"))
        found = self._pull(reference, self._hosts)
        digest = next((d for d, fresh in found.values() if fresh), next(iter(found.values()))[0])
        others = [host for host, (own, _) in found.items() if own != digest]
        if others:
            again = self._pull(f"{self._service.image}@{digest}", others)
            wrong = [f"{host} gets {own}" for host, (own, _) in again.items() if own != digest]
            refuse(wrong, f"nothing was changed: {reference} is {digest} elsewhere, but")
        if not all(fresh for _, fresh in found.values()):
            self._emit(Notice("the registry can't be asked; every host holds this image already"))
        self._emit(PhaseFinished("pull", f"{reference} is {digest[:19]}"))
        return digest

    def have(self, reference: str) -> None:
        """Make sure that some other image is on every host; one that is there is not renewed."""
        look = dict.fromkeys(self._hosts, registry.local_digest_script(reference))
        results = everywhere(self._remotes, look, "look for the image", LOOK_TIMEOUT)
        lacking = [host for host, r in results.items() if not registry.read_digest(r.stdout)[0]]
        if lacking:
            self._pull(reference, lacking)

    def _pull(self, reference: str, hosts: Sequence[str]) -> dict[str, tuple[str, bool]]:
        """Digest by host, and whether the registry itself was asked."""
        script = registry.pull_script(self._service, reference)
        password = secret_sources.registry_password(self._service)
        scripts = dict.fromkeys(hosts, script)
        results = everywhere(self._remotes, scripts, "docker pull", PULL_TIMEOUT, password)
        problems = [text for r in results.values() if (text := _no_image(r, reference))]
        refuse(problems)
        return {host: registry.read_digest(result.stdout) for host, result in results.items()}


def _no_image(result: Result, reference: str) -> str:
    why = result.tail(1) or "no answer"
    if result.exit_code == EXIT_NO_SUCH_IMAGE:
        return f"{result.host}: the registry has no {reference} ({why})"
    if not registry.read_digest(result.stdout)[0]:
        if result.ok:
            why = "Docker names no digest for it"
        return f"{result.host}: could not pull {reference}: {why}"
    return ""


def stage(
    service: Service, staged: Mapping[str, Sequence[StagedRelease]], remotes: Remotes
) -> None:
    """Lay the releases down on their hosts, checked by Compose there.

    Raises :class:`PreflightFailed` naming each host where that did not work.
    """
    scripts = {host: compose.stage_script(service, found) for host, found in staged.items()}
    archives = {host: compose.stage_archive(found) for host, found in staged.items()}
    results = everywhere(remotes, scripts, "stage releases", STAGE_TIMEOUT, archives)
    refuse([failed(result) for result in results.values() if not result.ok])
