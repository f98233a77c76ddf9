"""A damaged journal taken up: said first, replaced only after the new plan lies everywhere."""

import json
from dataclasses import asdict, replace

import pytest

from fabfile.drivers import recover as r
from fabfile.drivers.heart import Heart
from fabfile.errors import PreflightFailed
from fabfile.inventory.model import Instance
from fabfile.rollout.events import Notice
from tests.unit.drivers import fakes
from tests.unit.drivers.fakes import DIGEST, FakePool, Fleet, record, server, target
from tests.unit.drivers.test_prepare import FACTS, LOCK, World, facts

JOURNAL, WRITE, ASIDE = "== rollout", "plan-0002", "mkdir -p kept-aside"
FORGET = "rm -f /var/lib/evenkeel/rollouts/r1/undo/instance.shop.app_1.json"
TARGET = target(record("lb1"), record("lb2"), instance=Instance("shop", "web1", 1, 3001))
PLAN = fakes.plan(TARGET, baseline=TARGET.servers)
RECORD = "server.shop.web1_app_1"
WRITTEN = {"kind": "server", "instance": "web1/app_1", **asdict(record("lb1"))}


def journal(plan="", rollout="r1", **undo):
    text = f"== rollout {rollout}\n== plan plan-0001\n{plan or PLAN.to_json()}\n"
    return text + "".join(f"== undo {name}\n{body}\n" for name, body in undo.items())


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    found = Fleet(inventory := fakes.inventory(tmp_path))
    found.inventory = inventory
    found.on("rm -f|head -n 1|read -r line")
    found.on(f"{WRITE}|{ASIDE}|{FORGET}")
    found.on(FACTS, facts(kept=json.dumps({"release": "old", "version": "1.0", "digest": DIGEST})))
    found.on(LOCK, World._lock)
    found.on(JOURNAL)
    for name in ("web1", "lb1", "lb2"):
        found[name].on(JOURNAL, journal())
    pool = FakePool(lb1=[server()], lb2=[server()])
    monkeypatch.setattr(r, "Pool", lambda *_: pool)
    monkeypatch.setattr(Heart, "start", lambda _: None)
    monkeypatch.setattr(Heart, "join", lambda *_: True)
    return found


def taker(fleet):
    said = []
    made = r.Taker(fakes.SHOP, fleet.remotes, said.append, "r2", fleet.inventory)
    made.said = lambda: [f"{e.host}: {e.text}" for e in said if isinstance(e, Notice)]
    return made


def changes(fleet, name):
    words = {WRITE: "plan", ASIDE: "aside", FORGET: "forget", "taken=": "lock"}
    return [
        what for script in fleet[name].scripts for word, what in words.items() if word in script
    ]


def test_the_new_plan_lies_everywhere_before_the_damaged_one_leaves(fleet):
    fleet["web1"].on(JOURNAL, journal(plan=PLAN.to_json()[:50]))
    taken = taker(fleet)
    found = taken.find()
    taken.take(found, "repair").close()
    assert changes(fleet, "web1") == ["lock", "plan", "aside"]
    assert changes(fleet, "lb1") == ["lock", "plan"]
    assert any(
        "plan-0001.json is cut short: kept aside; plan 1 of lb1, lb2" in s for s in taken.said()
    )


def test_a_damaged_record_is_written_anew_under_the_lock_of_its_balancer(fleet):
    fleet["lb1"].on(JOURNAL, journal(**{RECORD: '{"uwei'}))
    taken = taker(fleet)
    taken.take(taken.find(), "repair").close()
    aside = next(s for s in fleet["lb1"].scripts if ASIDE in s)
    assert '"uweight": 100' in aside
    assert "backend.run.haproxy.admin.sock.shop.lock" in aside


def test_what_was_only_recorded_ahead_is_forgotten_with_the_new_plan(fleet):
    waits = journal() + f"== ahead {RECORD}\n{json.dumps(WRITTEN)}\n"
    own = f"== undo instance.shop.app_1\n{json.dumps({'kind': 'instance'})}\n"
    for name in ("lb1", "lb2"):
        fleet[name].on(JOURNAL, waits)
    fleet["web1"].on(JOURNAL, journal() + own)
    taken = taker(fleet)
    prepared = taken.take(taken.find(), "repair")
    prepared.close()
    assert [target.task for target in prepared.plan.targets] == ["none"]
    assert changes(fleet, "web1") == ["lock", "plan", "aside", "forget"]
    fleet["lb2"].on(JOURNAL, journal(**{RECORD: json.dumps(WRITTEN)}))
    prepared = (taken := taker(fleet)).take(taken.find(), "repair")
    assert [target.task for target in prepared.plan.targets] == ["close"], "it was begun on lb2"
    assert changes(fleet, "web1")[4:] == ["lock", "plan", "aside"]


def test_a_dry_run_says_it_and_touches_nothing(fleet):
    fleet["lb1"].on(JOURNAL, journal(**{RECORD: "{"}))
    taken = taker(fleet)
    taken.take(taken.find(), "repair", dry=True)
    assert any(
        f"lb1: /var/lib/evenkeel/rollouts/r1/undo/{RECORD}.json is cut short" in s
        for s in taken.said()
    )
    assert changes(fleet, "lb1") == []


def test_a_whole_journal_is_no_news(fleet):
    fleet["lb1"].on(JOURNAL, journal(**{RECORD: json.dumps(WRITTEN)}))
    taken = taker(fleet)
    prepared = taken.take(taken.find(), "repair")
    prepared.close()
    assert prepared.plan.reason == "begun by anna", "the history says whose rollout it was"
    assert "aside" not in changes(fleet, "lb1")
    assert not any("kept aside" in line for line in taken.said())


def test_another_services_damaged_journal_is_not_in_the_way(fleet):
    other = replace(PLAN, id="r0", service="other").to_json()
    fleet["web1"].on(JOURNAL, journal(plan=other[:-5], rollout="r0"))
    fleet["web2"].on(JOURNAL, journal(plan=other, rollout="r0"))
    for name in ("lb1", "lb2"):
        fleet[name].on(JOURNAL)
    assert taker(fleet).find() is None


def test_a_damaged_journal_nobody_can_tell_the_service_of_is_said(fleet):
    fleet.on(JOURNAL)
    fleet["web1"].on(JOURNAL, journal(plan="{"))
    with pytest.raises(PreflightFailed, match="r1 has no plan that can be read .web1: "):
        taker(fleet).find()
