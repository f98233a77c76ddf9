"""Recovery reads nothing but the plan: it has to come back exactly, or be refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from fabfile.rollout.plan import FORMAT, Plan, Release
from tests.unit.rollout import fleets


@given(fleets.plans())
def test_a_plan_comes_back_from_its_hosts_as_it_was(plan):
    assert Plan.from_json(plan.to_json()) == plan


def test_a_plan_of_a_later_version_is_refused_and_not_guessed_at():
    raw = json.loads(fleets.plan().to_json())
    with pytest.raises(ValueError, match=r"newer Evenkeel \(format 3\)"):
        Plan.from_json(json.dumps({**raw, "format": FORMAT + 1}))


def test_a_plan_from_before_there_were_hooks_is_read():
    raw = json.loads(fleets.plan().to_json())
    del raw["hooks"]
    for target in raw["targets"]:
        del target["returning"], target["wanted"]["image"], target["earlier"]["image"]
    assert Plan.from_json(json.dumps(raw)) == fleets.plan()


def test_where_an_image_is_does_not_make_another_release_of_it():
    one = Release("a", "1", "sha256:1", "lab/shop@sha256:1")
    assert one == Release("a", "1", "sha256:1")


@pytest.mark.parametrize(
    "text", ["", "{", "null", "3", "[]", '"x"', "{}", '{"format": 1}', '{"format": 1, "id": "x"}']
)
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011 (each says it in its own words)
        Plan.from_json(text)


@pytest.mark.parametrize("key", ["wanted", "instance", "servers"])
def test_a_plan_with_a_hole_in_it_is_refused(key):
    raw = json.loads(fleets.plan().to_json())
    raw["targets"][0][key] = None
    with pytest.raises(ValueError, match="not a plan"):
        Plan.from_json(json.dumps(raw))


def test_a_plan_with_something_unknown_in_it_is_refused():
    raw = json.loads(fleets.plan().to_json())
    with pytest.raises(ValueError, match="not a plan"):
        Plan.from_json(json.dumps({**raw, "surprise": 1}))


def test_the_way_back_wants_the_earlier_release():
    target = fleets.plan().targets[0]
    back = target.back()
    assert (back.wanted, back.earlier) == (target.earlier, target.wanted)
    assert back.servers == target.servers


def test_a_plan_from_before_checks_were_recorded_is_read():
    raw = json.loads(fleets.plan().to_json()) | {"format": 1}
    for record in [*raw["baseline"], *(r for t in raw["targets"] for r in t["servers"])]:
        del record["check_port"]
    assert Plan.from_json(json.dumps(raw)) == fleets.plan()
