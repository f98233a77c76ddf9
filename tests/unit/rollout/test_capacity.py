"""No drain may take what users need: the floor, the last server, balancers that say nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile.balancers.model import ServerRef
from fabfile.drivers.simulated import Fleet
from fabfile.rollout import capacity
from fabfile.rollout.plan import Plan
from tests.unit.rollout import fleets


def takes(server) -> int:
    return server.weight if server.takes_new else 0


def readings(fleet: Fleet, *silent: str) -> capacity.Readings:
    return {key: fleet.read(key) for key in fleet.of_backend if key[0] not in silent}


def refused(plan: Plan, name: str, fleet: Fleet, *silent: str, reserved=(), floor=50, **more):
    (target,) = (t for t in plan.targets if t.instance.id == name)
    found = capacity.refusal(
        target.refs,
        capacity.pools(plan.baseline, plan.summed),
        readings(fleet, *silent),
        reserved,
        floor,
        **more,
    )
    return found and str(found)


def test_one_of_two_hosts_with_one_instance_may_leave_but_not_both():
    plan = fleets.plan(2, 1, ["lb1"])
    fleet = Fleet.of_plan(plan)
    assert refused(plan, "web1/app_1", fleet) is None
    gone = plan.targets[0].refs
    assert "last server" in refused(plan, "web2/app_1", fleet, reserved=gone)


def test_the_floor_is_rounded_up_so_two_of_three_have_to_stay():
    plan = fleets.plan(3, 1, ["lb1"])
    fleet = Fleet.of_plan(plan)
    assert refused(plan, "web1/app_1", fleet) is None
    assert refused(plan, "web2/app_1", fleet, reserved=plan.targets[0].refs) == (
        "lb1:app: 100 of 300 (33%) would stay in rotation, 150 are needed"
    )


def test_a_server_that_is_down_may_always_be_upgraded():
    plan = fleets.plan(2, 1, ["lb1"])
    fleet = Fleet.of_plan(plan)
    for name in ("web1_app_1", "web2_app_1"):
        fleet.mark(fleet.servers[ServerRef("lb1", "app", name)], up=False)
    assert refused(plan, "web1/app_1", fleet) is None


def test_two_down_of_four_leave_nothing_to_spare():
    plan = fleets.plan(4, 1, ["lb1"])
    fleet = Fleet.of_plan(plan)
    for name in ("web3_app_1", "web4_app_1"):
        fleet.mark(fleet.servers[ServerRef("lb1", "app", name)], up=False)
    assert "would stay in rotation" in refused(plan, "web1/app_1", fleet)
    assert refused(plan, "web1/app_1", fleet, allow_outage=True) is None
    assert refused(plan, "web3/app_1", fleet) is None


def test_one_balancer_that_sees_less_is_enough_to_refuse():
    plan = fleets.plan(2, 1, ["lb1", "lb2"])
    fleet = Fleet.of_plan(plan)
    fleet.mark(fleet.servers[ServerRef("lb2", "app", "web2_app_1")], up=False)
    assert refused(plan, "web1/app_1", fleet) == "lb2:app: that would take its last server"


def test_what_an_operator_had_in_maint_is_no_part_of_the_whole():
    plan = fleets.plan(4, 1, ["lb1"])
    asleep = plan.baseline[3]
    plan = replace(plan, baseline=(*plan.baseline[:3], replace(asleep, admin="maint")))
    fleet = Fleet.of_plan(plan)
    fleet.set(asleep.ref, admin="maint")
    (pool,) = capacity.pools(plan.baseline)
    assert pool.total == 300
    assert refused(plan, "web1/app_1", fleet) is None


def test_a_backup_server_is_no_reason_to_drain_the_last_real_one():
    plan = fleets.plan(2, 1, ["lb1"])
    fleet = Fleet.of_plan(plan)
    fleet.servers[ServerRef("lb1", "app", "web2_app_1")].backup = True
    assert "last server" in refused(plan, "web1/app_1", fleet, floor=0)


def test_with_a_balancer_on_each_host_the_floor_holds_for_all_hosts_together():
    plan = fleets.plan(4, 2, "self")
    fleet = Fleet.of_plan(plan)
    gone = [ref for t in plan.targets if t.instance.number == 1 for ref in t.refs]
    assert refused(plan, "web1/app_2", fleet, floor=0, reserved=gone[:1]) == (
        "web1:app: that would take its last server"
    )
    assert refused(plan, "web4/app_1", fleet, floor=75, reserved=gone[:2]) == (
        "web4:app: 100 of 200 (50%) would stay in rotation, 150 are needed"
    )
    names = {pool.name for pool in capacity.pools(plan.baseline, plan.summed)}
    assert names == {"web1:app", "web2:app", "web3:app", "web4:app", "all hosts together"}


def test_a_balancer_that_cannot_be_asked_is_assumed_to_serve():
    plan = fleets.plan(3, 1, ["lb1", "lb2"])
    fleet = Fleet.of_plan(plan)
    assert refused(plan, "web1/app_1", fleet, "lb2") == (
        "lb2:app: cannot be asked, so it is assumed to serve"
    )


def test_an_instance_that_no_balancer_knows_is_never_held_up():
    plan = fleets.plan(1, 1, ())
    assert refused(plan, "web1/app_1", Fleet.of_plan(plan)) is None


@given(fleets.plans(), st.data())
def test_counting_as_it_changes_gives_what_counting_afresh_gives(plan, data):
    fleet = Fleet.of_plan(plan)
    pools = capacity.pools(plan.baseline, plan.summed)
    ledger = capacity.Ledger(pools, 50)
    ledger.see(readings(fleet))
    taken: set[ServerRef] = set()
    refs = sorted(fleet.servers, key=str)
    for _ in range(data.draw(st.integers(0, 12)) if refs else 0):
        ref = data.draw(st.sampled_from(refs))
        match data.draw(st.sampled_from(["take", "give", "down", "weight"])):
            case "take":
                ledger.take([ref])
                taken.add(ref)
            case "give":
                ledger.give([ref])
                taken.discard(ref)
            case "down":
                fleet.mark(fleet.servers[ref], up=not fleet.servers[ref].up)
            case "weight":
                fleet.set(ref, uweight=data.draw(st.integers(0, 256)))
        key = (ref.balancer, ref.backend)
        ledger.see({key: fleet.read(key, [fleet.servers[ref]])}, partial=True)
    for ref in refs:
        expected = capacity.refusal([ref], pools, readings(fleet), taken, 50)
        if ref not in taken:
            assert ledger.refusal([ref]) == expected
    for pool in pools:
        left = sum(takes(fleet.servers[r]) for r in set(pool.baseline) - taken)
        assert (pool.name, left, pool.total) in ledger.left(pool.baseline)


def test_a_ledger_that_sees_nothing_grants_nothing():
    plan = fleets.plan(2)
    ledger = capacity.Ledger(capacity.pools(plan.baseline), 0)
    assert ledger.refusal(plan.targets[0].refs).silent


@pytest.mark.parametrize(("percent", "floor"), [(0, 0), (1, 3), (50, 150), (51, 153), (100, 300)])
def test_the_floor_in_weights(percent, floor):
    (pool,) = capacity.pools(fleets.plan(3, 1, ["lb1"]).baseline)
    assert pool.floor(percent) == floor
