"""A person decides by this text whether to go ahead: it must not leave anything out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabfile.drivers.simulated import Fleet, simulate
from fabfile.inventory.model import Drain, Hooks
from fabfile.reports.plan_view import NARROWEST, duration, plan_view
from fabfile.rollout.plan import Plan
from tests.unit.rollout import fleets


def view(plan: Plan, width: int = 100, bad: tuple[str, ...] = ()) -> str:
    fleet = Fleet.of_plan(plan, dict.fromkeys(bad, fleets.BAD))
    return plan_view(plan, simulate(plan, fleet).events, width=width)


def test_two_hosts_as_a_person_reads_them():
    assert view(fleets.plan(2, drain=Drain(timeout=20))) == (
        """\
app to 2: 2 instances of 2 on 2 hosts
rolling, stop-first, serial 1 in 2 batches; at least 50% of every balancer's capacity stays; on
  failure rollback (above 0% of a batch)
a drain lasts until idle, 20 s at most, then cut; pinned clients are sent elsewhere after 5 s

Batch 1 of 2: web1
  web1/app_1  1 -> 2  at 0.0 s
    leaves lb1:app 50% (100 of 200), lb2:app 50% (100 of 200)
    record, weight 0, wait until idle, maint, wait until idle, recreate, wait until healthy,
      recorded weight and state back, wait until let in, record done

Batch 2 of 2: web2
  web2/app_1  1 -> 2  at 1.2 s
    leaves lb1:app 50% (100 of 200), lb2:app 50% (100 of 200)
    record, weight 0, wait until idle, maint, wait until idle, recreate, wait until healthy,
      recorded weight and state back, wait until let in, record done

Lowest capacity: lb1:app 50% (100 of 200) at web1/app_1; lb2:app 50% (100 of 200) at web1/app_1
Expected to take 2.4 s while nobody holds a server; each of the 2 drains may add up to 20 s.
"""
    )


def test_an_instance_whose_record_is_written_ahead_is_told_when_its_turn_comes():
    text = view(fleets.plan(2, 2, "self", drain=Drain(sticky_grace=0.0)), width=200)
    told = [line.strip() for line in text.splitlines() if " -> " in line]
    assert [line.split("  ")[0] for line in told] == [
        f"web{host}/app_{number}" for host in (1, 2) for number in (1, 2)
    ]
    moments = [float(line.split(" at ")[1].split()[0]) for line in told]
    assert moments == sorted(set(moments))
    assert text.count("record, weight 0, maint, wait until idle, recreate") == 4
    assert "ask for capacity again" not in text


def test_a_rollout_that_would_be_refused_says_so_instead_of_how_long_it_takes():
    text = view(fleets.plan(1))
    assert "It would not get through: rolled-back: web1/app_1: no capacity to spare" in text
    assert "waits for capacity: lb1:app: that would take its last server" in text
    assert "Expected" not in text


def test_what_is_current_is_named_and_a_first_deploy_comes_from_nothing():
    plan = fleets.plan(2, earlier=None)
    plan = replace(plan, targets=(replace(plan.targets[0], change=False), plan.targets[1]))
    text = view(plan)
    assert "1 instance of 2 on 2 hosts" in text
    assert "web2/app_1  nothing -> 2" in text
    assert "Already as wanted, not touched: web1/app_1" in text


def test_nothing_to_do_says_just_that():
    plan = fleets.plan(1)
    plan = replace(plan, targets=(replace(plan.targets[0], change=False),))
    assert view(plan).endswith("Nothing to do.\n")


def test_the_same_version_with_other_settings_is_no_change_of_version():
    plan = fleets.plan(2)
    plan = replace(
        plan, targets=tuple(replace(t, wanted=replace(t.wanted, version="1")) for t in plan.targets)
    )
    assert "web1/app_1  1 (its settings change)" in view(plan)


def test_the_way_back_is_shown_as_such():
    text = view(fleets.plan(3, serial=1), bad=("2-web2/app_1",))
    assert "Batch 1 of 1 (back): web1" in text
    assert "web1/app_1  2 -> 1" in text
    assert "ends restored: not healthy after 60 s" in text


def test_with_allow_outage_nobody_reads_of_a_floor_that_is_not_kept():
    text = view(replace(fleets.plan(1), allow_outage=True))
    assert "no capacity is kept (--allow-outage)" in text
    assert "leaves lb1:app 0% (0 of 100)" in text


def test_many_balancers_do_not_fill_the_summary():
    text = view(fleets.plan(9, 2, "self", min_capacity=0))
    assert "4 more pools no lower" in text


def test_drain_mode_and_patience_are_those_of_the_plan():
    text = view(fleets.plan(2, drain=Drain("drain", timeout=30, on_timeout="wait")))
    assert "record, state drain, wait until idle" in text
    assert "may add up to 5 min." in text


@settings(max_examples=40, deadline=None)
@given(fleets.plans(), st.integers(1, 140))
def test_no_line_is_wider_than_asked_for_and_every_instance_is_named(plan, width):
    text = view(plan, width)
    assert max(map(len, text.splitlines())) <= max(width, NARROWEST)
    for target in plan.targets:
        assert target.instance.id in text or "It would not get through" in text.replace("\n  ", " ")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.84, "0.8 s"), (3, "3 s"), (59.6, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_read_like_a_person_says_them(seconds, text):
    assert duration(seconds) == text


def test_hooks_are_told_where_they_run():
    hooks = Hooks("./migrate", "./warn", "./smoke", "./tell")
    text = view(fleets.plan(2, hooks=hooks))
    assert "before all of it, once on web1: hook before_rollout" in text
    assert "when all of it is done, once on web1: hook after_rollout" in text
    lane = " ".join(text.partition("web1/app_1")[2].partition("Batch 2")[0].split())
    assert "hook before_drain, ask for capacity again, record, weight 0" in lane
    assert "wait until healthy, hook after_healthy, recorded weight and state back" in lane
    assert lane.endswith("record done")
    assert "hook" not in view(fleets.plan(2))
