"""Locks that no journal speaks of, on hosts of paper."""

import pytest

from fabfile.drivers import leftovers
from fabfile.drivers.freeze import claims
from fabfile.errors import Locked
from fabfile.remote import state
from tests.unit.drivers import fakes
from tests.unit.drivers.fakes import SHOP, Fleet

CLAIMS = claims(SHOP, SHOP.hosts)
LOOK = r"held \$\{name"
KEYS = {claim.host: claim.key for claim in CLAIMS}


def held(key, owner, age=700):
    facts = '{"by": "anna@laptop:1", "reason": "deploy 1.9"}'
    return f"held {key} {age}\n{owner} 3\n{facts}\n2026-01-31T14:25:30Z\n"


@pytest.fixture
def fleet(tmp_path):
    found = Fleet(fakes.inventory(tmp_path))
    for host in found.hosts.values():
        host.on(LOOK, "")
        host.on("taken=", f"got {KEYS.get(host.name)} 4\n")
        host.on("head -n 1|read -r line")
    return found


def left_on(fleet, host, text):
    fleet[host].on(LOOK, text)


def give_back(fleet, **options):
    said = []
    leftovers.give_back(SHOP, fleet.remotes, "r2", said.append, **options)
    return said


def taken(fleet):
    return {h.name: s for h in fleet.hosts.values() for s in h.scripts if "taken=" in s}


def test_a_lock_whose_rollout_never_wrote_a_plan_is_taken_over_and_given_back(fleet):
    left_on(fleet, "lb1", held(KEYS["lb1"], "r1"))
    said = give_back(fleet)
    assert [event.host for event in said] == ["lb1"]
    assert "r1" in said[0].text
    assert list(taken(fleet)) == ["lb1"], "nothing is asked of hosts without one"
    assert "over=r1\n" in taken(fleet)["lb1"]
    assert f"stale={state.STALE_AFTER}\n" in taken(fleet)["lb1"]
    assert any("rm -f" in s and "r2 4" in s for s in fleet["lb1"].scripts)


def test_a_freeze_and_the_lock_of_another_service_stay(fleet):
    left_on(fleet, "web1", held(KEYS["web1"], "freeze-1"))
    left_on(fleet, "web2", held("project.srv.another", "r1"))
    assert give_back(fleet) == []
    assert taken(fleet) == {}


def test_a_holder_that_lives_keeps_its_lock(fleet, monkeypatch):
    monkeypatch.setattr(leftovers, "PATIENCE", 0.0)
    text = held(KEYS["lb1"], "r1", 2)
    left_on(fleet, "lb1", text)
    fleet["lb1"].on("taken=", text, exit_code=state.EXIT_HELD)
    with pytest.raises(Locked, match="last sign of life 2 s ago"):
        give_back(fleet)


def test_with_force_it_is_not_waited_for(fleet):
    left_on(fleet, "lb1", held(KEYS["lb1"], "r1", 2))
    give_back(fleet, force=True)
    assert "stale=0\n" in taken(fleet)["lb1"]


def test_a_host_out_of_reach_is_passed_over(fleet):
    fleet["web1"].down = True
    left_on(fleet, "lb1", held(KEYS["lb1"], "r1"))
    assert [event.host for event in give_back(fleet)] == ["lb1"]
