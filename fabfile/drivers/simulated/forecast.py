"""What a rollout would be like, run on paper as often as asked: how long, how low, what odds."""

from __future__ import annotations

import gc
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median

from fabfile.drivers.simulated.fleet import Behaviour, Fleet
from fabfile.drivers.simulated.run import simulate
from fabfile.drivers.simulated.timing import Timing
from fabfile.reports.story import Kind, Story
from fabfile.rollout.events import CapacityLeft, CapacitySeen, Event, Verdict
from fabfile.rollout.plan import Plan, Target

ILL = Behaviour(healthy=False)


@dataclass(frozen=True)
class Forecast:
    """All runs together."""

    verdicts: Mapping[str, int]
    """How many runs ended with each."""
    seconds: tuple[float, ...]
    """How long each run took, the shortest first."""
    lowest: Mapping[str, tuple[int, int]]
    """By pool: the least weight that was left in any run, and 100%."""
    curve: tuple[tuple[float, int], ...]
    """The first run's lowest pool: seconds from the start, percent left."""


def forecast(
    plan: Plan,
    timing: Timing,
    *,
    fail: float = 0.0,
    runs: int = 1,
    seed: int = 0,
    on_event: Callable[[float, Event], None] | None = None,
) -> Forecast:
    """Run ``plan`` on paper ``runs`` times; the same arguments give the same result.

    ``fail``: the share (0 to 1) of instances whose new release does not get healthy, drawn anew
    for each run. ``on_event`` hears the first run.
    """
    # Nobody asks anything of a simulated fleet: there is nothing to judge releases by.
    policy = replace(plan.policy, max_error_rate=100)
    targets = tuple(map(_its_own, plan.targets)) if fail else plan.targets
    plan = replace(plan, policy=policy, targets=targets)
    verdicts: Counter[str] = Counter()
    seconds, lowest = [], dict[str, tuple[int, int]]()
    first = _Capacity(on_event or (lambda *_: None))
    for number in range(runs):
        rng = random.Random(f"{seed} {number}")  # noqa: S311 (not for secrets)
        ill = {t.wanted.id: ILL for t in plan.changing if rng.random() < fail}
        capacity = _Capacity() if number else first
        verdict, took = _once(plan, ill, timing, number, capacity, rough=on_event is None)
        verdicts[verdict] += 1
        seconds.append(took)
        for name, (left, total) in capacity.lowest.items():
            lowest[name] = min(lowest.get(name, (left, total)), (left, total))
    return Forecast(verdicts, tuple(sorted(seconds)), lowest, first.curve(seconds[0]))


def _once(
    plan: Plan,
    ill: Mapping[str, Behaviour],
    timing: Timing,
    seed: int,
    on_event: Callable[[float, Event], None],
    *,
    rough: bool,
) -> tuple[Verdict, float]:
    fleet = Fleet.of_plan(plan, ill, timing)
    result = simulate(plan, fleet, timing, seed=seed, on_event=on_event, rough=rough)
    assert result.finished is not None
    return result.finished.verdict, result.seconds


def _its_own(target: Target) -> Target:
    """Each instance gets a release of its own, so that each may fail for itself."""
    wanted = replace(target.wanted, id=f"{target.wanted.id} {target.instance.id}")
    return replace(target, wanted=wanted)


@contextmanager
def no_collector() -> Iterator[None]:
    """A large fleet is a million objects that all stay: looking for garbage doubles the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


class _Capacity:
    """Follows what is left of every pool."""

    def __init__(self, on_event: Callable[[float, Event], None] = lambda *_: None) -> None:
        self._on_event = on_event
        self.lowest: dict[str, tuple[int, int]] = {}
        self._seen: dict[str, list[tuple[float, int]]] = {}

    def __call__(self, at: float, event: Event) -> None:
        self._on_event(at, event)
        if isinstance(event, CapacityLeft | CapacitySeen):
            for name, left, total in event.pools:
                if left < self.lowest.get(name, (left + 1, total))[0]:
                    self.lowest[name] = (left, total)
                self._seen.setdefault(name, []).append((at, 100 * left // max(total, 1)))

    def curve(self, end: float) -> tuple[tuple[float, int], ...]:
        """Its lowest pool, to the run's end."""
        if not self.lowest:
            return ()
        name = min(self.lowest, key=lambda one: self.lowest[one][0] / max(self.lowest[one][1], 1))
        seen = self._seen[name]
        return (*seen, (end, seen[-1][1]))


def learned(stories: Sequence[Story], usual: Timing) -> tuple[Timing, int]:
    """Step times as earlier rollouts had them, and of how many instances that is the median."""
    times: dict[Kind, list[float]] = {}
    ways = [way for story in stories for way in story.ways.values() if way.fate == "upgraded"]
    for way in ways:
        for kind in ("drain", "recreate", "health", "return"):
            spent = sum(span.seconds for span in way.spans if span.kind == kind)
            times.setdefault(kind, []).append(spent)
    if not ways:
        return usual, 0
    took = {kind: median(values) for kind, values in times.items()}
    timing = replace(
        usual,
        drain=took["drain"] / 2,  # out of rotation is two orders: weight 0, and maint
        poll=0.0,
        recreate=took["recreate"],
        healthy=took["health"],
        admit=took["return"],
    )
    return timing, len(ways)
