"""A damaged journal: what counts instead, what is refused, and that nothing is passed over."""

import json
from dataclasses import asdict, replace

import pytest

from fabfile.drivers.journals import believed, damaged, service_of
from fabfile.errors import NeedsRepair, PreflightFailed
from fabfile.remote import state
from fabfile.rollout.recovery import replan
from tests.unit.drivers.fakes import plan, record, target
from tests.unit.rollout import fleets

PLAN = plan()
TEXT = PLAN.to_json()
EDITED = TEXT.replace('"uweight": 100', '"uweight": 1')
NEWER = TEXT.replace('"format": 2', '"format": 7')
SERVER = {"kind": "server", "instance": "web1/app_1", **asdict(record())}
INSTANCE = {
    "kind": "instance",
    "service": "shop",
    "earlier": {"id": "old"},
    "wanted": {"id": "new"},
}
EXPECTED = {
    "lb1": {"server.shop.web1_app_1": SERVER},
    "web1": {"instance.shop.app_1": INSTANCE},
}


def hosts(**texts):
    """By host: its plans, the first one's number being 1."""
    return {
        host: state.Unfinished(
            "r1", dict(enumerate(plans if isinstance(plans, tuple) else (plans,), 1))
        )
        for host, plans in texts.items()
    }


def refused(known, error=PreflightFailed):
    with pytest.raises(error) as caught:
        believed("r1", known)
    return caught.value


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is empty"),
        (TEXT[:100], "is cut short"),
        ("[]", "can't be used"),
        ("{}", "can't be used"),
        (TEXT + "}", "is no longer JSON"),
        (TEXT.replace('"uweight": 100', '"uweight": 1000'), "has the weight 1000"),
        (TEXT.replace('"uweight": 100', '"uweight": "all"'), "has the weight 'all'"),
        (TEXT.replace('"format": 2', '"format": "x"'), "can't be used"),
        (replace(PLAN, id="r0").to_json(), "is of another rollout, r0"),
    ],
)
def test_one_host_with_a_plan_that_can_be_read_is_enough(text, what):
    found = believed("r1", hosts(web1=text, lb1=TEXT))
    assert (found.plan, found.number) == (PLAN, 1)
    (damage,) = found.damage
    assert (damage.host, damage.file) == ("web1", "plan-0001.json")
    assert what in str(damage)
    assert str(damage).endswith("kept aside; plan 1 of lb1 counts")


def test_a_newer_plan_that_is_torn_everywhere_leaves_the_one_before_it():
    found = believed("r1", hosts(web1=(TEXT, TEXT[:9]), lb1=TEXT))
    assert (found.plan, found.number) == (PLAN, 2), "the next one is written as number 3"
    assert [damage.file for damage in found.damage] == ["plan-0002.json"]


def test_the_highest_number_wins():
    later = replace(PLAN, id="r1b", of="r1", mode="abort")
    found = believed("r1", hosts(web1=TEXT, lb1=(TEXT, later.to_json())))
    assert (found.plan, found.number, found.damage) == (later, 2, ())


def test_a_plan_that_was_edited_on_one_host_is_outvoted():
    found = believed("r1", hosts(web1=TEXT, web2=EDITED, lb1=TEXT))
    assert found.plan == PLAN
    assert [(one.host, one.what) for one in found.damage] == [
        ("web2", "says something else than the others")
    ]


def test_plans_that_contradict_each_other_are_for_a_person_to_settle():
    error = refused(hosts(web1=TEXT, web2=EDITED))
    assert error.exit_code == 5
    for host in ("web1", "web2"):
        assert f"{host}: {state.ROOT}/rollouts/r1/plan-0001.json" in str(error)


def test_of_two_recoveries_that_did_not_see_each_other_the_later_counts():
    one, two = (replace(PLAN, id=i, of="r1", mode="abort") for i in ("r1b", "r1c"))
    found = believed(
        "r1",
        hosts(web1=(TEXT, two.to_json()), web2=(TEXT, one.to_json()), lb1=(TEXT, one.to_json())),
    )
    assert (found.plan, found.damage) == (two, ())


def test_a_newer_evenkeels_plan_is_refused_whatever_the_others_hold():
    error = refused(hosts(web1=TEXT, lb1=(TEXT, NEWER)))
    assert error.exit_code == 5
    assert "lb1" in str(error)
    assert "plan-0002.json was made by a newer Evenkeel (format 7); use that one" in str(error)


def test_without_any_plan_and_nothing_open_nothing_is_out_of_rotation():
    error = refused(hosts(web1="", lb1=TEXT[:5]))
    assert error.exit_code == 5
    assert "web1: /var/lib/evenkeel/rollouts/r1/plan-0001.json is empty" in str(error)
    assert "lb1: /var/lib/evenkeel/rollouts/r1/plan-0001.json is cut short" in str(error)


def test_without_any_plan_what_is_open_is_told_with_its_weight():
    known = hosts(web1="", lb1="")
    known["lb1"].undo["server.shop.web1_app_1"] = json.dumps(SERVER)
    known["lb1"].undo["server.shop.web2_app_1"] = "{"
    known["web1"].undo["instance.shop.app_1"] = json.dumps(INSTANCE)
    error = refused(known, NeedsRepair)
    assert error.exit_code == 6
    assert "server.shop.web1_app_1.json: weight 100, ready" in error.detail
    assert "server.shop.web2_app_1.json: can't be read" in error.detail
    assert "instance.shop.app_1.json: release old" in error.detail


# records


def found_of(host, name, text, folder="undo"):
    entry = state.Unfinished("r1", {1: TEXT})
    getattr(entry, folder)[name] = text
    return damaged("r1", {host: entry}, [PLAN], EXPECTED)


def test_records_as_they_were_written_are_no_damage():
    assert found_of("lb1", "server.shop.web1_app_1", json.dumps(SERVER)) == []
    assert found_of("web1", "instance.shop.app_1", json.dumps(INSTANCE)) == []
    back = {**INSTANCE, "earlier": INSTANCE["wanted"], "wanted": INSTANCE["earlier"]}
    assert found_of("web1", "instance.shop.app_1", json.dumps(back)) == [], "on its way back"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is empty"),
        ('{"uweight": ', "is cut short"),
        ("[1]", "can't be used"),
        (json.dumps({**SERVER, "uweight": 7}), "was changed: weight 7, ready"),
        (json.dumps({**SERVER, "admin": "maint"}), "was changed: weight 100, maint"),
        (json.dumps({**SERVER, "uweight": [1]}), "was changed"),
    ],
)
def test_a_damaged_record_gives_way_to_what_the_plan_says(text, what):
    (damage,) = found_of("lb1", "server.shop.web1_app_1", text)
    assert what in str(damage)
    assert str(damage).endswith("kept aside; the plan says weight 100, ready")
    assert json.loads(damage.text) == SERVER


def test_what_an_operator_was_seen_to_change_is_no_damage():
    theirs = {**SERVER, "uweight": 7, "changed": True}
    assert found_of("lb1", "server.shop.web1_app_1", json.dumps(theirs)) == []
    (damage,) = found_of("lb1", "server.shop.web1_app_1", json.dumps({**theirs, "uweight": 700}))
    assert "was changed" in damage.what


def test_an_instances_record_goes_back_to_the_release_of_the_plan():
    (damage,) = found_of("web1", "instance.shop.app_1", "{", folder="done")
    assert (damage.file, json.loads(damage.text)) == ("done/instance.shop.app_1.json", INSTANCE)
    changed = json.dumps({**INSTANCE, "earlier": {"id": "other"}})
    (damage,) = found_of("web1", "instance.shop.app_1", changed)
    assert str(damage).endswith("was changed: kept aside; the plan says release old")


def test_a_record_that_nobody_wrote_is_kept_aside_and_not_written_anew():
    (damage,) = found_of("lb1", "server.shop.copy", json.dumps(SERVER))
    assert (damage.what, damage.text) == ("belongs to nothing in the plan", None)


def test_a_newer_evenkeels_record_is_refused():
    with pytest.raises(PreflightFailed, match="made by a newer Evenkeel"):
        found_of("lb1", "server.shop.web1_app_1", json.dumps({**SERVER, "format": 3}))


def test_an_end_that_cannot_be_believed_is_said():
    entry = state.Unfinished("r1", {1: TEXT}, finished="{")
    (damage,) = damaged("r1", {"lb1": entry}, [PLAN], EXPECTED)
    assert damage.file == "finished.json"


def test_what_a_recovery_wrote_is_no_damage():
    """An operator's weight is kept by a recovery's plan, and so by the records it writes."""
    other = replan_with(weight=42)
    text = json.dumps({**SERVER, "uweight": 42})
    entry = state.Unfinished("r1", {1: TEXT}, undo={"server.shop.web1_app_1": text})
    assert damaged("r1", {"lb1": entry}, [PLAN, other], EXPECTED) == []


def replan_with(weight):
    return replace(PLAN, targets=(target(replace(record(), uweight=weight)),))


# whose it is


def test_the_service_is_told_by_any_host_or_by_the_records_names():
    torn = state.Unfinished("r1", {1: "{"})
    assert service_of([torn]) == ""
    assert service_of([torn, state.Unfinished("r1", {1: NEWER})]) == "shop"
    assert service_of([state.Unfinished("r1", done={"instance.my.shop.app_1": ""})]) == "my.shop"


def test_every_plan_that_recovery_makes_is_believed_again():
    first = fleets.plan(2)
    fleet = fleets_found(first)
    again = replan(fleet, "abort", "r9")
    known = {"web1": state.Unfinished(first.id, {1: first.to_json(), 2: again.to_json()})}
    assert believed(first.id, known).plan == again


def fleets_found(first):
    from fabfile.drivers.simulated import Fleet

    fleet = Fleet.of_plan(first, {}, fleets.QUICK)
    fleet.plans.append(first)
    return fleet.found()
