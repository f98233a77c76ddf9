"""A controller dies at any order of any rollout: nothing is lost, and each way out leads out."""

from __future__ import annotations

import pytest

from fabfile.drivers.simulated import Crash, Traffic
from fabfile.rollout.events import StepStarted
from tests.unit.rollout import crashing, fleets
from tests.unit.rollout.crashing import EFFECTS, MODES, SCENARIOS, Scenario, points


@pytest.fixture(scope="module")
def count(request):
    """Sums up the points that were tried, and prints the sum after the last one."""
    tally: list[int] = []
    yield tally.append
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n{sum(tally)} crash points in {len(tally)} tests")


def _named(scenario: Scenario) -> str:
    return f"{scenario.name}-{scenario.orders() * 3}-points"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=_named)
def test_wherever_the_controller_dies_everything_is_put_back(scenario, mode, count):
    tried = 0
    for crash in points(scenario.orders()):
        fleet = scenario.crash(crash, seed=crash.order)
        if fleet is not None:
            tried += 1
            crashing.put_an_end_to(scenario, fleet, mode, seed=crash.order)
    count(tried)
    assert tried > 50


AHEAD = [scenario for scenario in SCENARIOS if scenario.name.startswith("ahead")]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scenario", AHEAD, ids=_named)
def test_a_change_of_what_was_only_recorded_ahead_is_kept(scenario, mode):
    """Nobody of ours had touched it when the controller died: whoever did was an operator."""
    waiting = 0
    for crash in points(scenario.orders()):
        fleet = scenario.crash(crash, seed=crash.order)
        mine = [s for s in fleet.servers.values() if s.name in fleet.ahead] if fleet else []
        if fleet is None or not mine:
            continue
        waiting += 1
        begun = {s.instance for s in fleet.servers.values() if s.name in fleet.undo}
        for server in mine:
            assert (server.admin, server.uweight) == ("ready", 100), "it was touched"
            fleet.set(server.ref, uweight=7)
        result = crashing.recover(fleet, mode, seed=crash.order)
        assert result.finished is not None
        assert not {server.instance for server in mine} & set(result.finished.broken)
        assert {server.uweight for server in mine} == {7}
        tasks = {t.instance.id: t.task for t in fleet.plans[-1].targets}
        waited = {server.instance for server in mine} - begun
        assert {tasks[name] for name in waited} <= {"none", "roll"}, "as one never touched"
        assert result.finished.broken or fleet.undo == set()
    assert waiting > 10


SIDE_BY_SIDE = Scenario(
    "side-by-side",
    fleets.plan(3, serial=0, min_capacity=0),
    Traffic(3.0, 0.01, 0.5),
    jitter=0.5,
)


def test_every_prefix_of_two_hundred_interleavings_can_be_recovered(count):
    seen: set[tuple[str, ...]] = set()
    tried = seed = 0
    while len(seen) < 200:
        seed += 1
        orders, trail = _interleaving(seed)
        if trail in seen:
            continue
        seen.add(trail)
        for number in range(1, orders + 1):
            crash = Crash(number, EFFECTS[(number + seed) % 3])
            fleet = SIDE_BY_SIDE.crash(crash, seed)
            if fleet is not None:
                tried += 1
                mode = MODES[(number + seed // 3) % 3]
                crashing.put_an_end_to(SIDE_BY_SIDE, fleet, mode, seed)
    count(tried)
    assert tried > 5000


def _interleaving(seed: int) -> tuple[int, tuple[str, ...]]:
    result = SIDE_BY_SIDE.run(crashing.NEVER, seed)
    return result.orders, tuple(
        f"{e.instance} {e.step}" for _, e in result.events if isinstance(e, StepStarted)
    )


TWICE = (
    Scenario("edge", fleets.plan(2)),
    Scenario("failing-rolls-back", fleets.plan(2), bad=("2-web2/app_1",), goes=False),
    Scenario("self", fleets.plan(1, 2, "self")),
    next(scenario for scenario in SCENARIOS if scenario.name == "twice-ahead"),
)


@pytest.mark.parametrize("first", MODES)
@pytest.mark.parametrize("scenario", TWICE, ids=lambda scenario: scenario.name)
def test_a_recovery_may_die_anywhere_too_and_another_one_ends_it(scenario, first, count):
    tried = 0
    for number in range(1, scenario.orders() + 1):
        crash = Crash(number, EFFECTS[number % 3])
        fleet = scenario.crash(crash, seed=number)
        for second in range(1, 1 + (crashing.recover_orders(fleet, first) if fleet else 0)):
            fleet = scenario.crash(crash, seed=number)
            again = Crash(second, EFFECTS[(number + second) % 3])
            if crashing.recover(fleet, first, seed=second, crash=again).finished is None:
                tried += 1
                mode = MODES[(number + second // 3) % 3]
                crashing.put_an_end_to(scenario, fleet, mode, seed=second)
    count(tried)
    assert tried > 50
