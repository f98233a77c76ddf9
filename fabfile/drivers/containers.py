"""Containers: what replaces them, and what asks until they are healthy, for real."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fabfile.drivers.locks import Locks, check_fence
from fabfile.drivers.rotation import Rotation
from fabfile.errors import EvenkeelError
from fabfile.inventory.model import Instance, Service
from fabfile.remote.base import Command, Result
from fabfile.remote.pool import Remotes, Urgent
from fabfile.rollout.events import StepProgress
from fabfile.rollout.plan import Release, Target
from fabfile.rollout.steps import AwaitHealthy, Done, Failed, Outcome, ReadLogs, Recreate
from fabfile.runtimes import compose

DEADLINE_EXIT = 124
"""What ``timeout`` on the host exits with; the engine there goes on without the command."""
FIRST_PEEK, PEEK = 4.0, 9.0
"""Seconds until somebody is told why an instance is not healthy yet, and between two such looks."""
SETTLE = 5.0
"""Seconds beyond stop_grace_period after which an engine left alone has come to rest."""


class Containers:
    """The containers of one service; thread-safe, one thread for each instance.

    ``project`` is the lock of a host's project: lanes wait for each other here, not on the host.
    """

    def __init__(
        self,
        service: Service,
        remotes: Remotes | Urgent,
        locks: Locks,
        rotation: Rotation,
        project: Callable[[str], threading.Lock],
        notice: Callable[[str, str], None],
        progress: Callable[[StepProgress], None],
    ) -> None:
        self._service = service
        self._remotes = remotes
        self._locks = locks
        self._rotation = rotation
        self._project = project
        self._notice = notice
        self._progress = progress
        self._beginning: dict[str, threading.Thread] = {}
        """By instance: who tells its balancers to look for it."""
        self.put: dict[str, Release] = {}
        """By instance: what its container was last made of here."""

    def recreate(self, step: Recreate) -> Outcome:
        """Replace the container; a broken connection is followed by a look and the same again."""
        instance, release = step.target.instance, step.release
        self.put[instance.id] = release
        script = self._locks.fence(
            instance.host,
            [compose.project_key(self._service)],
            compose.recreate_script(self._service, instance, release.id, step.target.container),
        )
        command = Command(
            script,
            timeout=compose.up_timeout(self._service),
            label=f"docker compose up {instance.name}",
        )
        with self._project(instance.host):
            result = self._up(step, command)
        check_fence(result)
        if not result.ok:
            return Failed(f"{instance.host}: could not recreate {instance.name}", result.tail(50))
        outcome = _judge(result, release, step.target.container)
        if isinstance(outcome, Done):
            self._let_checks_begin(step.target)
        return outcome

    def _up(self, step: Recreate, command: Command) -> Result:
        host = step.target.instance.host
        result = self._remotes.get(host).run(command)
        if result.exit_code in (None, DEADLINE_EXIT):
            self._notice(host, f"it is not known what became of: {command.label}; asking again")
            # The engine goes on by itself: let it come to rest, then ask for the same again;
            # where it is done already, Compose changes nothing.
            time.sleep(self._service.stop_grace + SETTLE)
            result = self._remotes.get(host).run(command)
        return result

    def _let_checks_begin(self, target: Target) -> None:
        """Its balancers may begin to look, beside the start of what is in the container.

        No sooner: a check that meets a container whose network is not up yet hangs for a second,
        until TCP says again what was lost. It only makes the wait shorter: that it failed is no
        reason to stop.
        """

        def begin() -> None:
            try:
                self._rotation.check_anew(target)
            except EvenkeelError as error:
                self._notice(target.instance.host, f"checks begin later: {error}")

        if self._rotation.may_check_early(target):
            self._beginning[target.instance.id] = thread = threading.Thread(target=begin)
            thread.start()

    def await_healthy(self, step: AwaitHealthy) -> Outcome:
        """Ask on the host until it is steadily healthy; a failure comes with its last log lines."""
        name = step.target.instance.id
        try:
            with self._peeking(step):
                result = self._ask_for_health(step)
        finally:  # nothing may change the balancers behind the next step's back
            beginning = self._beginning.pop(name, None)
            if beginning is not None:
                beginning.join()
        if result.ok:
            return Done(result.stdout.strip())
        return Failed(f"not healthy: {_last_word(result)}", self._logs(step.target.instance))

    def settle(self, seconds: float) -> None:
        """Wait until no balancer is being told to look any more, at most that long."""
        ends = time.monotonic() + seconds
        for beginning in list(self._beginning.values()):
            beginning.join(max(0.0, ends - time.monotonic()))

    def _ask_for_health(self, step: AwaitHealthy) -> Result:
        instance, health = step.target.instance, self._service.health
        script = compose.health_script(self._service, instance, step.release.id)
        patience = health.timeout + health.min_healthy + 15
        command = Command(script, timeout=patience, label="health check")
        host = self._remotes.get(instance.host)
        result = host.run(command)
        return result if result.exit_code is not None else host.run(command)

    @contextmanager
    def _peeking(self, step: AwaitHealthy) -> Iterator[None]:
        """Meanwhile say every now and then what is wrong with it still: one look, beside."""
        instance = step.target.instance
        over = threading.Event()
        limit = self._service.health.timeout
        script = compose.health_script(self._service, instance, step.release.id, once=True)

        def look() -> None:
            pause = FIRST_PEEK
            while not over.wait(pause):
                pause = PEEK
                with contextlib.suppress(EvenkeelError):
                    result = self._remotes.get(instance.host).run(Command(script, label="peek"))
                    if not over.is_set() and not result.ok and result.exit_code is not None:
                        text = _last_word(result)
                        self._progress(StepProgress(instance.id, step.name, text, limit=limit))

        threading.Thread(target=look, name="peek", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def read_logs(self, step: ReadLogs) -> Outcome:
        """The container's last lines."""
        return Done(detail=self._logs(step.target.instance))

    def _logs(self, instance: Instance) -> str:
        script = compose.logs_script(self._service, instance)
        host = self._remotes.get(instance.host)
        return host.run(Command(script, label="logs")).stdout.strip()


def _judge(result: Result, release: Release, was: str) -> Outcome:
    containers = compose.read_containers(result.stdout)
    if was and any(c.id == was for c in containers):
        return Failed("Compose ended well, but the container is the old one", result.tail(20))
    if not any(c.release == release.id for c in containers):
        return Failed("Compose ended well, but the wanted release does not run", result.tail(20))
    return Done()


def _last_word(result: Result) -> str:
    return (result.stdout.strip().splitlines()[-1:] or [result.tail(1) or "no answer"])[0]
