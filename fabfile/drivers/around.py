"""The hooks of a whole rollout: before its first drain, and after its end; each at most once."""

from __future__ import annotations

import threading
from collections.abc import Callable

from fabfile.drivers.hooks import HookHand
from fabfile.drivers.identity import whoami
from fabfile.drivers.prepare import Prepared
from fabfile.errors import PreflightFailed
from fabfile.rollout.events import Event, Notice, PhaseFinished, PhaseStarted, RolloutFinished
from fabfile.rollout.steps import Done, Failed, Outcome, told


class Around:
    """Both hooks of one rollout."""

    def __init__(self, prepared: Prepared, hooks: HookHand, emit: Callable[[Event], None]) -> None:
        self._prepared = prepared
        self._hooks = hooks
        self._emit = emit

    def begin(self, heard: Callable[[Outcome], None]) -> bool:
        """Start ``before_rollout`` where it is due: then ``heard`` hears how it ended."""
        plan, due = self._prepared.plan, self._prepared.dues.before
        if plan.hooks.before_rollout is None or due == "skip":
            return False
        if due == "as done":
            self._hooks.as_done("before_rollout", whoami())
            return False
        self._emit(PhaseStarted("before_rollout"))

        def work() -> None:
            try:
                outcome = self._hooks.whole("before_rollout", again=due == "again")
            except Exception as error:
                outcome = Failed(f"unexpected: {type(error).__name__}: {error}")
            heard(outcome)

        threading.Thread(target=work, name="before_rollout", daemon=True).start()
        return True

    def judge(self, outcome: Outcome) -> RolloutFinished | None:
        """What ``before_rollout`` came to; the end of a rollout that so never began.

        Raises :class:`PreflightFailed` where it failed and only a person can end the rollout: an
        earlier run of it may still be at work, or something was begun already.
        """
        plan = self._prepared.plan
        if not isinstance(outcome, Failed):
            self._emit(PhaseFinished("before_rollout", f"done on {plan.first_host}"))
            return None
        if plan.way_back:
            self._emit(Notice(f"{outcome.reason}: it stops no way back"))
            return None
        unsure = self._prepared.dues.before == "again"
        if unsure or any(target.change and target.task != "roll" for target in plan.targets):
            said = f"the rollout stays unfinished, `fab abort` ends it: {outcome.reason}"
            raise PreflightFailed(said, detail=outcome.detail)
        count = len(plan.targets)
        return RolloutFinished(plan.id, "held", plan.version, 0, 0, 0, count, (), outcome.reason)

    def after(self, ended: RolloutFinished) -> bool:
        """Run ``after_rollout`` where it is due; whether it failed."""
        plan, due = self._prepared.plan, self._prepared.dues.after
        wanted = plan.mode in ("deploy", "rollback", "resume") and ended.verdict == "done"
        if not wanted or plan.hooks.after_rollout is None or due == "skip":
            return False
        outcome: Outcome = Failed("after_rollout had begun before: it is not run again")
        if due == "run":
            outcome = self._hooks.whole("after_rollout")
        if isinstance(outcome, Done):
            self._emit(Notice("after_rollout is done", plan.first_host))
            return False
        self._emit(Notice(f"the rollout is done, but {told(outcome)[0]}", plan.first_host))
        return True
