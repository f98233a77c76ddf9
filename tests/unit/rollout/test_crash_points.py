"""A controller dies at any order of any rollout: nothing is lost, and each way out leads out."""

from __future__ import annotations

import pytest

from tests.unit.rollout import crashing
from tests.unit.rollout.crashing import MODES, SCENARIOS, Scenario, points


def _named(scenario: Scenario) -> str:
    return f"{scenario.name}-{scenario.orders() * 3}-points"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=_named)
def test_wherever_the_controller_dies_everything_is_put_back(scenario, mode, record_property):
    tried = 0
    for crash in points(scenario.orders()):
        fleet = scenario.crash(crash, seed=crash.order)
        if fleet is not None:
            tried += 1
            crashing.put_an_end_to(scenario, fleet, mode, seed=crash.order)
    record_property("crash points", tried)
    assert tried > 50
