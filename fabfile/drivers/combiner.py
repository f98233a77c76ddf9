"""Many callers, one trip: requests that arrive while a trip is under way share the next one.

A balancer is asked by every lane at once. Each wants an answer from after its own request; none
cares whose trip brought it. The first caller that finds nobody under way goes for all who wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class Combiner(Generic[Request, Answer]):
    """Runs ``trip`` for one batch of requests at a time; thread-safe.

    What ``trip`` raises reaches every caller of its batch.
    """

    def __init__(self, trip: Callable[[Sequence[Request]], Answer]) -> None:
        self._trip = trip
        self._turn = threading.Condition()
        self._waiting: list[Request] = []
        self._ticket = 0
        """Number of the trip that waiting requests will be on."""
        self._under_way = False
        self._answers: dict[int, tuple[Answer | None, BaseException | None, int]] = {}

    def ask(self, request: Request) -> Answer:
        """Hand ``request`` in and return the answer of the trip that carried it."""
        with self._turn:
            ticket = self._ticket
            self._waiting.append(request)
            while self._under_way and ticket not in self._answers:
                self._turn.wait()
            if ticket in self._answers:
                return self._collect(ticket)
            batch, self._waiting = self._waiting, []
            self._ticket += 1
            self._under_way = True
        answer: Answer | None = None
        problem: BaseException | None = None
        try:
            answer = self._trip(batch)
        except BaseException as error:
            problem = error
        with self._turn:
            self._under_way = False
            self._answers[ticket] = (answer, problem, len(batch))
            self._turn.notify_all()
            return self._collect(ticket)

    def _collect(self, ticket: int) -> Answer:
        answer, problem, left = self._answers.pop(ticket)
        if left > 1:
            self._answers[ticket] = (answer, problem, left - 1)
        if problem is not None:
            raise problem
        return answer  # type: ignore[return-value]
