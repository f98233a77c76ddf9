"""Which releases and journals go: never one that somebody could still need."""

import json
from dataclasses import replace

import pytest

from fabfile.drivers.locks import Locks
from fabfile.drivers.prepare import Prepared
from fabfile.drivers.prune import prune, surplus
from fabfile.inventory.model import RolloutPolicy
from fabfile.remote import state
from fabfile.rollout.events import Notice
from fabfile.runtimes.compose import Kept, Shelf
from tests.unit.drivers import fakes
from tests.unit.drivers.fakes import FakePool, Fleet


def shelf(*ids, in_use=(), service="shop", instance="app_1"):
    """Releases, the one used longest ago first."""
    kept = tuple(Kept(one, number, service, instance) for number, one in enumerate(ids))
    return Shelf(kept, frozenset(in_use))


def past(rollout, wanted="", earlier="", verdict="done", **changes):
    record = {"wanted": {"id": wanted}, "earlier": {"id": earlier}}
    facts = {"verdict": verdict, "service": "shop"}
    return state.Ended(rollout, facts, {"instance.shop.app_1": record} if wanted else {}, **changes)


def gone(found):
    return sorted(release.id for release in found.releases)


def test_the_newest_stay_beside_the_one_that_runs():
    found = surplus(shelf("a", "b", "c", "d", in_use="d"), [], "shop", 2)
    assert gone(found) == ["a"]


def test_what_is_in_use_stays_however_old_and_counts_for_nothing():
    assert gone(surplus(shelf("a", "b", "c", "d", in_use="ab"), [], "shop", 1)) == ["c"]


def test_each_instance_keeps_its_own():
    one, two = shelf("a", "b", "c"), shelf("x", "y", instance="app_2")
    both = Shelf(one.releases + two.releases, frozenset())
    assert gone(surplus(both, [], "shop", 1)) == ["a", "b", "x"]


def test_another_services_releases_are_none_of_ours():
    assert gone(surplus(shelf("a", "b", service="other"), [], "shop", 1)) == []


def test_what_a_rollback_goes_to_stays_even_if_others_were_staged_since():
    history = [past("r3", "d", "a")]
    assert gone(surplus(shelf("a", "b", "c", "d", in_use="d"), history, "shop", 1)) == ["b", "c"]


def test_a_rollout_that_failed_says_nothing_of_what_a_rollback_goes_to():
    history = [past("r4", "d", "b", "rolled-back"), past("r3", "d", "a")]
    assert "b" in gone(surplus(shelf("a", "b", "c", "d", in_use="d"), history, "shop", 1))


def test_a_restart_does_not_hide_what_a_rollback_goes_to():
    history = [past("r4", "d", "d"), past("r3", "d", "a")]
    assert gone(surplus(shelf("a", "b", "c", "d", in_use="d"), history, "shop", 1)) == ["b", "c"]


def test_old_journals_go_and_those_that_kept_releases_need_stay():
    history = [past(f"r{n}") for n in range(9, 3, -1)] + [
        past("r3", "d", "c"),
        past("r2", "c", "b"),
    ]
    found = surplus(shelf("c", "d", in_use="d"), history, "shop", 5, journals=4)
    assert found.journals == ("r5", "r4", "r2")


@pytest.mark.parametrize(
    "odd",
    [
        replace(past("r0"), ended=False),
        replace(past("r0"), facts={}),
        replace(past("r0"), facts={"verdict": "done", "service": "other"}),
        replace(past("r0"), facts={"verdict": "done"}),
    ],
)
def test_a_journal_that_is_open_damaged_or_not_ours_is_never_forgotten(odd):
    assert surplus(shelf(), [past("r2"), past("r1"), odd], "shop", 5, journals=1).journals == (
        "r1",
    )


# on hosts


@pytest.fixture
def fleet(tmp_path):
    return Fleet(fakes.inventory(tmp_path))


def prepared(fleet, mode="deploy"):
    locks = Locks(fleet.remotes, "r1", [], {})
    keys = ("project.srv.shop", "backend.run.haproxy.admin.sock.shop")
    locks._tokens = {host: dict.fromkeys(keys, "r1 1") for host in fleet.hosts}
    plan = fakes.plan(mode=mode, policy=RolloutPolicy(keep_releases=1))
    return Prepared(plan, fakes.SHOP, fleet.remotes, FakePool(lb1=[]), locks, {})


def on_disk(*names):
    lines = [
        f"{name} {number} "
        + json.dumps(
            {"release": name, "version": "1", "digest": "d", "service": "shop", "instance": "app_1"}
        )
        for number, name in enumerate(names)
    ]
    return "\n== releases\n" + "\n".join(lines) + "\n\n== current\napp_1 ccc\n\n== history\n"


def notices(prep):
    found = []
    prune(prep, found.append)
    return [event for event in found if isinstance(event, Notice)]


def test_what_was_looked_at_is_removed_under_the_hosts_own_locks(fleet):
    fleet.on("is_known")
    fleet.on("say releases", on_disk("aaa", "bbb", "ccc"))
    fleet["web1"].on("docker image rm", "pruned aaa\n")
    (said,) = notices(prepared(fleet))
    assert said.text == "removed 1 old releases on 1 hosts"
    effect = fleet["web1"].scripts[-1]
    assert "project.srv.shop.lock" in effect
    assert "pairs='aaa 0'" in effect
    assert [len(fleet[name].scripts) for name in ("lb1", "lb2", "web2")] == [1, 1, 0]


@pytest.mark.parametrize("exit_code", [state.EXIT_FENCED, 71, None])
def test_what_cannot_be_removed_is_said_and_fails_nothing(fleet, exit_code):
    fleet.on("is_known")
    fleet.on("say releases", on_disk("aaa", "bbb", "ccc"))
    lose = "after" if exit_code is None else None
    fleet["web1"].on("docker image rm", exit_code=exit_code or 0, stderr="no", lose=lose)
    (said,) = notices(prepared(fleet))
    assert said.text.startswith("old releases stay for now: web1: ")


def test_a_host_that_is_gone_is_said_and_fails_nothing(fleet):
    fleet.on("is_known")
    fleet["web1"].down = True
    assert any("web1" in said.text for said in notices(prepared(fleet)))


@pytest.mark.parametrize("mode", ["abort", "repair"])
def test_a_way_back_removes_nothing(fleet, mode):
    assert notices(prepared(fleet, mode)) == []
    assert fleet["web1"].scripts == []
