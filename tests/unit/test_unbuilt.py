from dataclasses import replace
from pathlib import Path

import pytest

from fabfile.errors import BadInput
from fabfile.inventory.model import BalancerSpec, Inventory, RolloutPolicy, Service
from fabfile.jobs.asked import refuse_unbuilt

SHOP = Service("shop", "web", ("web1",), "shop", None, "/srv/shop")
FLEET = Inventory(Path("/ops/hosts.yaml"), {}, {}, {"shop": SHOP})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rollout": RolloutPolicy(strategy="canary")}, "rollout.strategy: canary"),
        ({"rollout": RolloutPolicy(order="start-first")}, "rollout.order: start-first"),
        ({"balancers": (BalancerSpec("nginx", "self", "shop"),)}, "balancers: nginx"),
    ],
)
def test_a_strategy_that_would_not_run_is_refused_and_not_passed_over(change, says):
    refuse_unbuilt(FLEET, SHOP)
    with pytest.raises(BadInput, match=f"services.shop: not built yet: {says}"):
        refuse_unbuilt(FLEET, replace(SHOP, **change))
