"""The steps of a rollout's lane that concern balancers alone, carried out without an engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TypeVar

from fabfile.drivers.rotation import Rotation
from fabfile.errors import EvenkeelError
from fabfile.rollout.events import Event, StepFinished, StepStarted
from fabfile.rollout.steps import (
    Admit,
    AwaitAdmitted,
    AwaitIdle,
    Busy,
    Cut,
    Failed,
    Idle,
    Outcome,
    Restore,
    Reverted,
    Shut,
    Step,
    TakeOut,
    told,
)

SLICE = 0.5
"""Seconds after which whatever waits looks whether it was told to stop."""

T = TypeVar("T")


class Carrier:
    """Carries parts of lanes out; as thread-safe as its rotation."""

    def __init__(
        self, rotation: Rotation, emit: Callable[[Event], None], stopped: threading.Event
    ) -> None:
        """Once ``stopped`` is set, what waits has failed."""
        self._rotation = rotation
        self._emit = emit
        self._stopped = stopped

    def carry(self, part: Generator[Step, Outcome, T]) -> T:
        """Do what a part of a rollout's lane asks for, step by step."""
        try:
            step = next(part)
            while True:
                step = part.send(self._told(step))
        except StopIteration as stop:
            value: T = stop.value
            return value

    def _told(self, step: Step) -> Outcome:
        name = step.target.instance.id
        self._emit(StepStarted(name, step.name))
        outcome = self.do(step)
        note, detail = told(outcome)
        self._emit(StepFinished(name, step.name, not isinstance(outcome, Failed), note, detail))
        return outcome

    def do(self, step: Step) -> Outcome:
        """One step; what a balancer refused becomes ``Failed``."""
        try:
            match step:
                case AwaitIdle():
                    return self._in_slices(step, self._rotation.await_idle)
                case AwaitAdmitted():
                    return self._in_slices(step, self._rotation.await_admitted)
                case TakeOut():
                    return self._rotation.take_out(step)
                case Shut():
                    return self._rotation.shut(step)
                case Cut():
                    return self._rotation.cut(step)
                case Admit():
                    return self._rotation.admit(step)
                case Restore():
                    return self._rotation.restore(step)
            raise TypeError(f"no hand for {step.name}")
        except EvenkeelError as error:
            return Failed(str(error), error.detail)

    def _in_slices(
        self,
        step: AwaitIdle | AwaitAdmitted,
        wait: Callable[[AwaitIdle], Outcome] | Callable[[AwaitAdmitted], Outcome],
    ) -> Outcome:
        """Wait a little at a time, so that a Ctrl-C is heard."""
        began = time.monotonic()
        while True:
            left = step.deadline - (time.monotonic() - began)
            part = replace(step, deadline=max(min(left, SLICE), 0.0))
            outcome = wait(part)  # type: ignore[arg-type]
            over = left <= SLICE or not isinstance(outcome, Busy | Failed)
            if over or self._stopped.is_set():
                if self._stopped.is_set() and isinstance(outcome, Busy | Failed):
                    return Failed("it was told to stop")
                if isinstance(outcome, Idle | Busy | Reverted):
                    return replace(outcome, waited=time.monotonic() - began)
                return outcome
