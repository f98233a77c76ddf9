"""A rollout on paper must say what the engine would do, for real inventories and for huge ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fabfile.drivers.simulated import Timing
from fabfile.drivers.simulated.forecast import forecast, learned
from fabfile.drivers.simulated.wish import Wish, run
from fabfile.errors import BadInput
from fabfile.reports.forecast_view import plot
from fabfile.reports.story import Span, Story, Way
from tests.unit.rollout import fleets

INVENTORY = """
version: 1
hosts:
  web1: {address: 127.0.0.1}
  web2: {address: 127.0.0.2}
  lb1: {address: 127.0.0.3}
groups:
  web: {hosts: [web1, web2]}
  edge: {hosts: [lb1]}
services:
  app:
    group: web
    image: registry.lab:5000/app
    instances: 2
    balancers: [{kind: haproxy, hosts: edge, backend: app}]
"""


@pytest.fixture
def inventory(tmp_path):
    path = tmp_path / "hosts.yaml"
    path.write_text(INVENTORY)
    return str(path)


def test_what_cannot_fail_always_gets_through_and_what_always_fails_never_does():
    plan = fleets.plan(3, 2)
    good = forecast(plan, Timing(), runs=5)
    assert good.verdicts == {"done": 5}
    bad = forecast(plan, replace(Timing(), health_timeout=1.0), fail=1.0, runs=5)
    assert bad.verdicts == {"rolled-back": 5}


def test_the_odds_lie_between_and_the_same_seed_gives_the_same():
    plan = fleets.plan(5, 2)
    timing = replace(Timing(), health_timeout=1.0)
    ends = forecast(plan, timing, fail=0.1, runs=40, seed=3)
    assert 0 < ends.verdicts["done"] < 40
    assert ends == forecast(plan, timing, fail=0.1, runs=40, seed=3)


def test_capacity_never_goes_below_what_the_policy_keeps():
    plan = fleets.plan(10, 1, serial=5, min_capacity=70)
    ends = forecast(plan, Timing(), runs=3)
    for left, total in ends.lowest.values():
        assert left * 100 >= 70 * total


def test_step_times_are_those_of_earlier_upgrades():
    spans = [Span("a", "drain", 0, 2), Span("a", "recreate", 2, 5), Span("a", "return", 5, 9)]
    story = Story(ways={"a": Way("a", spans, "upgraded"), "b": Way("b", [], "restored")})
    timing, count = learned([story], Timing())
    assert count == 1
    assert (timing.recreate, timing.admit, timing.drain) == (3, 4, 1)
    assert learned([], Timing()) == (Timing(), 0)


def test_it_says_how_long_how_low_and_what_odds(inventory):
    text = run(Wish(inventory=inventory, fail="20%", runs="20"))
    assert "4 instances on 2 hosts, 2 batches of 1, 1 hosts" in text
    assert "lowest capacity: lb1:app 75% (300 of 400)" in text
    assert "odds with 20% of instances failing, in 20 runs: " in text


def test_a_fleet_that_does_not_exist_is_as_large_as_asked(inventory):
    text = run(Wish(inventory=inventory, hosts="200", instances="3", serial="10%"))
    assert "600 instances on 200 hosts, 10 batches of 20, 20, 20, 20, 20, 20, … hosts" in text


def test_it_is_drawn_where_asked(inventory, tmp_path):
    page = tmp_path / "plan.html"
    run(Wish(inventory=inventory, html=str(page)))
    assert page.read_text().count('class="recreate"') >= 4
    with pytest.raises(BadInput, match="can't be written"):
        run(Wish(inventory=inventory, html=str(tmp_path / "no" / "x.html")))
    with pytest.raises(BadInput, match="draws 2000"):
        run(Wish(inventory=inventory, hosts="2000", instances="3", html=str(page)))


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("hosts", "x"),
        ("hosts", "0"),
        ("runs", "-1"),
        ("fail", "2"),
        ("fail", "101%"),
        ("serial", "x"),
    ],
)
def test_a_mistake_is_one_line_that_names_its_flag(inventory, flag, value):
    with pytest.raises(BadInput, match=f"--{flag}"):
        run(Wish(**{"inventory": inventory, flag: value}))


def test_the_plot_shows_the_lowest_of_each_moment():
    rows = plot([(0.0, 100), (5.0, 50), (6.0, 100), (10.0, 100)], 40)
    assert len({len(row) for row in rows}) == 1
    assert " " in rows[1][5:]
    assert rows[3][5:] == "█" * len(rows[3][5:])
