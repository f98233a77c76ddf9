"""Where a rollback goes: each instance's own earlier release, as the hosts know it."""

from dataclasses import replace

from fabfile.drivers.rollback import before, kept
from fabfile.inventory.model import Instance
from fabfile.remote import state
from fabfile.rollout.plan import Release
from fabfile.runtimes.compose import Container
from fabfile.runtimes.facts import HostFacts

APP = Instance("shop", "web1", 1, 3001)
OLD, NEW = Release("aaa", "1.0", "sha256:1"), Release("bbb", "2.0", "sha256:2")


def facts(*releases, runs="bbb"):
    known = {
        r.id: {"release": r.id, "version": r.version, "digest": r.digest, "instance": "app_1"}
        for r in releases
    }
    container = Container("c1", "app_1", runs, "", "", "running")
    return HostFacts((), containers=(container,), kept=known)


def ended(verdict="done", wanted="bbb", earlier=OLD):
    record = {"wanted": {"id": wanted}, "earlier": None}
    if earlier:
        record["earlier"] = {"id": earlier.id, "version": earlier.version, "digest": earlier.digest}
    return state.Ended("r1", {"verdict": verdict}, {"instance.shop.app_1": record})


def test_it_goes_to_what_was_there_before_the_rollout_that_made_it_so():
    assert before(NEW, APP, [ended()], facts(OLD, NEW)) == OLD


def test_a_rollout_that_failed_or_made_something_else_says_nothing():
    for other in (ended("rolled-back"), ended(wanted="ccc"), ended(earlier=None)):
        assert before(NEW, APP, [other], facts(OLD, NEW)) is None
        assert before(NEW, APP, [other, ended()], facts(OLD, NEW)) == OLD


def test_a_restart_says_nothing_of_what_was_before():
    restarted = ended(wanted="bbb", earlier=NEW)
    assert before(NEW, APP, [restarted, ended()], facts(OLD, NEW)) == OLD


def test_a_release_that_was_pruned_is_nothing_to_go_back_to():
    assert before(NEW, APP, [ended()], facts(NEW)) is None


def test_to_a_version_means_a_release_that_lies_on_the_host():
    assert kept(facts(OLD, NEW), APP, "1.0") == OLD
    assert kept(facts(OLD, NEW), APP, "2.0") == NEW
    assert kept(facts(OLD, NEW), APP, "3.0") is None


def test_another_instances_release_is_not_its_own():
    other = Instance("shop", "web1", 2, 3002)
    assert kept(facts(OLD, NEW), other, "1.0") is None


def test_a_history_that_is_cut_short_loses_its_torn_end_only():
    text = (
        '== ended r2\n{"verdict": "done"}\n== done instance.shop.app_1\n{"earlier": {"id": "aaa"}}\n'
        '== ended r1\n{"verdict": "do'
    )
    newest, torn = state.parse_history(text)
    assert (newest.rollout, newest.facts) == ("r2", {"verdict": "done"})
    assert newest.instances == {"instance.shop.app_1": {"earlier": {"id": "aaa"}}}
    assert (torn.rollout, torn.facts) == ("r1", {})


def test_it_goes_back_to_the_image_of_that_time():
    release = {
        "release": "aaa",
        "version": "1.0",
        "digest": "sha256:1",
        "image": "old/shop@sha256:1",
    }
    known = facts(OLD, NEW)
    known = replace(known, kept={**known.kept, "aaa": release | {"instance": "app_1"}})
    assert before(NEW, APP, [ended()], known).image == "old/shop@sha256:1"
    assert kept(known, APP, "1.0").image == "old/shop@sha256:1"
