"""Hooks for real: a service's own commands, run on its hosts at their moments.

A hook changes nothing of ours, so no flock is held while it runs: only that the lock is still ours
is looked at first, on the host. Those of the whole rollout leave a record in its journal, written
by the host itself, since a migration must not run twice because a controller died.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fabfile.drivers.locks import Locks, check_fence
from fabfile.errors import BadInput, EvenkeelError
from fabfile.inventory.model import Service
from fabfile.remote import state
from fabfile.remote.base import Command, Result
from fabfile.remote.pool import Remotes
from fabfile.remote.quoting import lines
from fabfile.rollout.events import Event, HookOutput, Notice
from fabfile.rollout.plan import Plan, Target
from fabfile.rollout.recovery import Recovery
from fabfile.rollout.steps import Done, Failed, Hook, HookName, Outcome
from fabfile.runtimes import compose
from fabfile.runtimes import hooks as runtime
from fabfile.runtimes.hooks import Record

AT_ONCE = 3
"""Hooks of one host at a time: they may be long, and sessions of its connection are few."""
DEADLINE_EXIT = 124

Due = Literal["run", "again", "as done", "skip", "unknown"]
"""What is to become of a hook of the whole rollout.

run: it did not begin yet · again: whatever became of it before · as done: a person says that it
is · skip: it is done, or not wanted · unknown: it had begun, or failed; it is not run again.
"""


@dataclass(frozen=True)
class Dues:
    """Both hooks of the whole rollout."""

    before: Due = "run"
    after: Due = "run"
    warning: str = ""
    """For a person: one of them was left alone in a state that nobody knows."""


def dues(
    plan: Plan, mode: Recovery, host: state.Unfinished | None, choice: str, *, blind: bool
) -> Dues:
    """What a recovery owes the hooks of the rollout that ``plan`` is of.

    ``host``: what the hooks' host knows; with ``blind`` it can't be asked. ``choice``:
    ``--before-rollout``. Raises :class:`BadInput` where only a person can tell.
    """
    if choice and plan.hooks.before_rollout is None:
        raise BadInput("--before-rollout: this rollout has no such hook")
    known = host.hooks if host else {}
    before = runtime.read_record(known.get("before_rollout"))
    if mode != "resume":
        left = before is not None and before.code is None
        return Dues("skip", "skip", f"{_how(before)} on {plan.first_host}" if left else "")
    after = runtime.read_record(known.get("after_rollout"))
    then: Due = "run" if after is None else "skip" if after.code == 0 else "unknown"
    if choice:
        return Dues("again" if choice == "again" else "as done", then)
    if plan.hooks.before_rollout is None or (before is not None and before.code == 0):
        return Dues("skip", then)
    if before is None and not blind:
        return Dues("run", then)
    if plan.way_back:
        return Dues("skip", then, f"{_how(before)} on {plan.first_host}: it stops no way back")
    raise BadInput(
        f"--before-rollout is needed: {_how(before)} on {plan.first_host}. Look there, then"
        " `fab resume --before-rollout again` runs it once more, `--before-rollout done` goes on"
        " without it, and `fab abort` ends the rollout"
    )


def _how(before: Record | None) -> str:
    if before is None:
        return "it can't be asked how far before_rollout is"
    if before.code is not None:
        return f"before_rollout failed (exit code {before.code})"
    when = f" at {before.begun}" if before.begun else ""
    return f"before_rollout had begun{when} and nobody knows how it ended"


def environment(plan: Plan, service: Service, target: Target, hook: HookName) -> dict[str, str]:
    """What a hook is told in environment variables. ``target``: the instance, or the first one."""
    release, instance = target.wanted, target.instance
    whole = hook in ("before_rollout", "after_rollout")
    turned = plan.mode in ("deploy", "resume") and target.returning
    return {
        "EVENKEEL_HOOK": hook,
        "EVENKEEL_MODE": "rollback" if turned else plan.mode,
        "EVENKEEL_ROLLOUT": plan.journal,
        "EVENKEEL_SERVICE": plan.service,
        "EVENKEEL_VERSION": plan.version if whole else release.version,
        "EVENKEEL_EARLIER_VERSION": target.earlier.version if target.earlier else "",
        "EVENKEEL_HOST": instance.host,
        "EVENKEEL_INSTANCE": "" if whole else instance.name,
        "EVENKEEL_PORT": "" if whole or not instance.port else str(instance.port),
        "EVENKEEL_IMAGE": release.image or f"{service.image}@{release.digest}",
        "EVENKEEL_RELEASE": release.id,
    }


class HookHand:
    """Runs the hooks of one rollout; thread-safe. ``emit`` gets what they write."""

    def __init__(
        self,
        plan: Plan,
        service: Service,
        remotes: Remotes,
        locks: Locks,
        emit: Callable[[Event], None],
    ) -> None:
        self._plan = plan
        self._service = service
        self._remotes = remotes
        self._locks = locks
        self._emit = emit
        self._guard = threading.Lock()
        self._turns: dict[str, threading.Semaphore] = {}

    def instance(self, step: Hook) -> Outcome:
        """Run an instance's hook on its host."""
        host = step.target.instance.host
        with self._guard:
            turn = self._turns.setdefault(host, threading.Semaphore(AT_ONCE))
        with turn:
            outcome = self._run(step.target, step.hook)
        if isinstance(outcome, Failed) and step.target.returning:
            self._emit(Notice(f"{step.hook} failed, and stops no way back: it goes on", host))
        return outcome

    def whole(self, hook: HookName, *, again: bool = False) -> Outcome:
        """Run a hook of the whole rollout, once, on the first host."""
        plan = self._plan
        mine = plan.on(plan.first_host)
        first = next((target for target in mine if target.change), mine[0])
        text = f"{hook} runs, for {plan.hooks.timeout:g} s at most"
        self._emit(Notice(text, plan.first_host))
        return self._run(first, hook, runtime.record_path(plan.journal, hook), again=again)

    def as_done(self, hook: HookName, by: str) -> None:
        """Write down that a person takes a hook of the whole rollout for done."""
        plan = self._plan
        script = runtime.taken_as_done(plan.journal, hook, by)
        try:
            command = Command(self._guarded(plan.first_host, script), label="record")
            result = self._remotes.get(plan.first_host).run(command)
            if not result.ok:
                self._emit(Notice(f"{hook} is not recorded as done: {result.tail(1)}", result.host))
        except EvenkeelError as error:
            self._emit(Notice(f"{hook} is not recorded as done: {error}", plan.first_host))

    def _guarded(self, host: str, script: str) -> str:
        """``script``, unless the lock there is no longer ours."""
        check = self._locks.check(host, [compose.project_key(self._service)])
        return lines(f"(\n{check}\n) || exit $?", script)

    def _run(
        self, target: Target, hook: HookName, once: str = "", *, again: bool = False
    ) -> Outcome:
        host, timeout = target.instance.host, self._plan.hooks.timeout
        command = str(getattr(self._plan.hooks, hook))
        env = environment(self._plan, self._service, target, hook)
        try:
            script = runtime.hook_script(
                self._service, command, env, timeout, once=once, again=again
            )
            guarded = self._guarded(host, script)
            result = self._remotes.get(host).run(
                Command(guarded, timeout=timeout + runtime.MARGIN, label=hook)
            )
            if result.exit_code == state.EXIT_BUSY:
                return Failed(f"{hook}: an earlier hook of a rollout is still at work on {host}")
            check_fence(result)
        except EvenkeelError as error:
            return Failed(f"{hook}: {error}", error.detail)
        return self._judge(target, hook, result)

    def _judge(self, target: Target, hook: HookName, result: Result) -> Outcome:
        if result.exit_code in (None, DEADLINE_EXIT):
            why = f"{result.host}: it is not known how {hook} ended; it is not run again"
            return Failed(why, result.tail())
        end = runtime.read_end(result.stdout) if result.ok else None
        if end is None:
            why = result.tail(1) or f"exit code {result.exit_code}"
            return Failed(f"{result.host}: {hook} could not be run: {why}")
        name = "" if hook in ("before_rollout", "after_rollout") else target.instance.id
        for line in end.lines:
            self._emit(HookOutput(result.host, hook, line, name))
        if end.code == 0:
            return Done()
        last = f": {end.lines[-1]}" if end.lines else ""
        how = f"ended with exit code {end.code}"
        if end.late:
            how = f"was ended by its deadline of {self._plan.hooks.timeout:g} s"
        return Failed(f"{hook} {how}{last}")
