"""Each verdict: what brings it about, and what does not."""

from dataclasses import replace

import pytest

from fabfile.checks.fleet.facts import Container, Disk, Project, Silent
from fabfile.checks.fleet.judge import NAMES, judge
from fabfile.checks.fleet.verdict import Verdict, exit_code
from fabfile.inventory.model import Service
from fabfile.remote.drained import Drained
from tests.unit.checks.fleet.standing import (
    DIGEST,
    EDGE,
    IMAGE,
    NOW,
    OTHER,
    SHOP,
    certificate,
    container,
    database,
    edge,
    ended,
    fleet,
    found,
    lock,
    names,
    reading,
    unfinished,
    web,
)


def one(name, **changes):
    """The only verdict of that name."""
    (verdict,) = found(name, **changes)
    assert verdict.mend.startswith("fab "), "it names the command that mends it"
    assert "\n" not in verdict.text + verdict.mend + verdict.subject
    assert verdict.name in NAMES
    return verdict


def test_nothing_is_wrong_where_nothing_is_wrong():
    report = judge(fleet())
    assert (report.verdicts, report.notes, report.exit_code) == ((), (), 0)
    assert report.headline == "OK: 4 instances on 2 hosts run 1.0, behind 2 balancers"
    assert all(row.healthy for row in report.rows)


# hosts


def test_a_host_out_of_reach_is_unknown_and_the_rest_is_judged():
    changes = {"unreachable": {"web2": "connection refused"}, "readings": {
        "lb1": reading("lb1", web1_app_1={"uweight": 0, "weight": 0})}}  # fmt: skip
    assert one("unreachable", **changes).severity == "UNKNOWN"
    assert names(**changes) == ["balancers-disagree", "stuck-weight", "unreachable"]
    alone = judge(fleet(unreachable={"web2": "x"}))
    assert alone.exit_code == 3
    assert [row.container for row in alone.rows] == ["running", "running", "?", "?"]


def test_a_balancers_host_out_of_reach_says_nothing_about_servers():
    changes = {"unreachable": {"lb2": "timed out"}, "readings": {"lb2": None}}
    report = judge(fleet(**changes))
    assert [v.name for v in report.verdicts] == ["unreachable"]
    assert {cell.state for row in report.rows for cell in row.cells} == {"up", "?"}


def test_a_docker_that_does_not_answer_hides_its_containers():
    verdict = one("docker", web1=web(containers=(), docker="Cannot connect to the daemon"))
    assert (verdict.severity, verdict.subject) == ("CRITICAL", "web1")
    assert names(web1=web(containers=(), docker="x")) == ["docker"], "and nothing is made up"


def test_a_folder_that_cannot_be_read_is_told():
    assert "missing" in one("state-folder", lb1=edge(state="missing")).text


@pytest.mark.parametrize(
    ("disk", "severity"),
    [
        (Disk("/", 89, 9_000_000), None),
        (Disk("/", 90, 9_000_000), "WARNING"),
        (Disk("/", 95, 9_000_000), "CRITICAL"),
        (Disk("/", 50, 100 * 1024 - 1), "CRITICAL"),
    ],
)
def test_a_disk_close_to_the_end(disk, severity):
    verdicts = found("disk", web1=web(disks=(disk,)))
    assert [v.severity for v in verdicts] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("days", "severity", "text"),
    [
        (22, None, ""),
        (20.5, "WARNING", "ends in 20 days"),
        (2, "CRITICAL", "ends in 2 days"),
        (-1, "CRITICAL", "has expired"),
    ],
)
def test_a_certificate_close_to_the_end(days, severity, text):
    verdicts = found("certificate", lb1=edge(certificates=(certificate(days),)))
    assert [v.severity for v in verdicts] == ([severity] if severity else [])
    assert all(text in v.text for v in verdicts)


# locks and rollouts


def test_a_lock_is_stale_when_its_holder_is_silent_and_left_no_rollout():
    verdict = one("stale-lock", web1=web(locks=(lock("provision-x", 95),)))
    assert verdict.mend == "fab lock.release --force"
    assert "95 s" in verdict.text
    assert "anna@laptop: because" in verdict.text
    assert names(web1=web(locks=(lock("provision-x", 14),))) == []
    assert names(web1=web(locks=(lock("freeze-x", 9999),))) == [], "a freeze lasts"


def test_what_concerns_another_service_is_not_told_where_one_was_asked_for():
    other = {"locks": (lock("provision-x", 95, service="twin"),),
             "rollouts": (replace(unfinished(), service="twin"),)}  # fmt: skip
    assert names(web1=web(**other)) == []
    nameless = {"locks": (lock("provision-x", 95, service=""),),
                "rollouts": (replace(unfinished(), service=""),)}  # fmt: skip
    assert names(web1=web(**nameless)) == ["stale-lock", "unfinished-rollout"]


def test_a_provision_at_work_accounts_for_what_is_not_there_yet():
    at_work = {"locks": (lock("provision-x", 2),)}
    assert names(web1=web(container(2), **at_work)) == []
    frozen = {"locks": (lock("freeze-x", 2),)}
    assert names(web1=web(container(2), **frozen)) == ["instance-down"], "a freeze does nothing"


def test_an_instance_that_was_only_recorded_has_nothing_to_be_put_back():
    changes = {
        "web1": web(rollouts=(unfinished("instance.shop.app_1", "instance.shop.app_2"),)),
        "lb1": edge(rollouts=(replace(unfinished(), ahead=("web1/app_2",)),)),
    }
    assert "not put back: app_1 on web1 (" in one("unfinished-rollout", **changes).text
    changes["lb2"] = edge(rollouts=(replace(unfinished(), touched=("web1/app_2",)),))
    assert "app_1 on web1, app_2 on web1 (" in one("unfinished-rollout", **changes).text


def test_a_dead_rollout_is_told_once_with_what_is_not_put_back():
    gone = unfinished("instance.shop.app_1")
    left = unfinished("server.shop.web1_app_1")
    out = reading("lb1", web1_app_1={"admin": "maint", "up": False, "weight": 0})
    changes = {
        "web1": web(rollouts=(gone,), locks=(lock("r-1", 40),)),
        "lb1": edge(rollouts=(left,)),
        "readings": {"lb1": out},
    }
    verdict = one("unfinished-rollout", **changes)
    assert (verdict.severity, verdict.subject) == ("CRITICAL", "r-1")
    assert verdict.mend == "fab resume"
    assert "no sign of life for 40 s" in verdict.text
    assert "app_1 on web1, web1_app_1 on lb1" in verdict.text
    assert names(**changes) == ["unfinished-rollout"], "it explains the lock and the weight"


@pytest.mark.parametrize("owner", ["r-1", "r-1.20270101-000000-aaaa"])
def test_a_rollout_at_work_is_no_trouble_and_explains_what_it_touches(owner):
    out = reading("lb1", web1_app_1={"uweight": 0, "weight": 0})
    report = judge(
        fleet(
            web1=web(
                container(2),
                database(),
                rollouts=(unfinished("instance.shop.app_1"),),
                locks=(lock(owner, 2),),
            ),
            web2=web(container(1, version="2.0"), container(2)),
            lb1=edge(rollouts=(unfinished("server.shop.web1_app_1"),)),
            readings={"lb1": out},
        )
    )
    assert report.verdicts == ()
    assert report.notes == ("rollout r-1 of shop to 2.0 is at work",)


def test_a_server_whose_instance_a_rollout_just_starts_is_not_down():
    starting = reading("lb1", web1_app_1={"up": False, "weight": 0})
    moving = {"rollouts": (unfinished("instance.shop.app_1"),), "locks": (lock("r-1", 2),)}
    assert names(web1=web(**moving), readings={"lb1": starting}) == []
    dead = {**moving, "locks": (lock("r-1", 99),)}
    assert "server-down" in names(web1=web(**dead), readings={"lb1": starting})


def test_a_rollout_at_work_does_not_hide_what_it_does_not_touch():
    changes = {
        "web1": web(rollouts=(unfinished("instance.shop.app_1"),), locks=(lock("r-1", 2),)),
        "web2": web(container(1), container(2, status="exited", exit_code=137)),
        "readings": {"lb1": reading("lb1", web2_app_1={"admin": "drain", "weight": 0})},
    }
    assert names(**changes) == ["balancers-disagree", "instance-down", "stuck-weight"]


def test_a_rollout_that_ended_is_none_that_is_unfinished():
    assert names(web1=web(rollouts=(ended(),))) == []


# containers


def test_an_instance_without_a_container_is_down():
    verdict = one("instance-down", web1=web(container(2), database()))
    assert (verdict.subject, verdict.text) == ("web1/app_1", "has no container")
    assert verdict.mend == "fab -H web1 provision.app --version 1.0"


@pytest.mark.parametrize("status", ["exited", "created", "paused", "dead"])
def test_a_container_that_does_not_run_is_down(status):
    verdict = one("instance-down", web1=web(container(1, status=status), container(2)))
    assert status in verdict.text
    assert ("unpause" in verdict.mend) == (status == "paused")


def test_an_unhealthy_container():
    assert one("unhealthy", web1=web(container(1, health="unhealthy"), container(2)))
    for fine in ("healthy", "starting", ""):
        assert names(web1=web(container(1, health=fine), container(2))) == []


def test_a_container_that_ends_again_and_again():
    loop = container(1, status="restarting", restarts=9)
    verdict = one("restarting", web1=web(loop, container(2)))
    assert (verdict.severity, "9 restarts" in verdict.text) == ("CRITICAL", True)
    back = container(1, restarts=1, started=NOW - 12)
    verdict = one("restarting", web1=web(back, container(2)))
    assert (verdict.severity, "12 s ago" in verdict.text) == ("WARNING", True)
    assert names(web1=web(container(1, restarts=3, started=NOW - 301), container(2))) == []
    assert names(web1=web(container(1, started=NOW - 2), container(2))) == [], "it is just new"


def test_a_stray_container_is_one_of_our_image_that_belongs_to_no_server():
    stray = Container("by-hand", image=f"{IMAGE}:0.9")
    verdict = one("stray-container", web1=web(container(1), container(2), stray))
    assert (verdict.subject, "runs 0.9" in verdict.text) == ("web1/by-hand", True)
    assert verdict.mend == "fab -H web1 run -- 'docker rm -f by-hand'"
    for fine in (
        replace(stray, status="exited"),
        replace(stray, image="registry.lab:5000/shopping:1"),
        container(1, name="shop-app_1-run-x", oneoff=True),
        database(),
    ):
        assert names(web1=web(container(1), container(2), fine)) == []


def test_a_twin_that_compose_left_behind_is_a_stray_and_the_running_one_counts():
    twin = container(1, name="abc_shop-app_1-1", status="created")
    assert one("stray-container", web1=web(twin, container(1), container(2))).subject.endswith(
        "abc_shop-app_1-1"
    )
    moving = {"rollouts": (unfinished("instance.shop.app_1"),), "locks": (lock("r-1", 1),)}
    assert names(web1=web(twin, container(1), container(2), **moving)) == []


def test_an_instance_beyond_those_of_the_inventory_is_a_stray():
    assert one("stray-container", web1=web(container(1), container(2), container(3)))


def test_another_service_with_the_same_image_is_no_stray():
    twin = Service("twin", "web", SHOP.hosts, IMAGE, None, "/srv/twin")
    other = container(1, name="twin-app_1-1", project="twin")
    assert names(services=(SHOP, twin), web1=web(container(1), container(2), other)) == []


def test_an_edited_compose_file():
    edited = Project({"app_1": "r1", "app_2": "r2"}, edited=True)
    verdict = one("compose-edited", web1=web(projects={"shop": edited}))
    assert verdict.subject == "web1:/srv/shop/docker-compose.yml"
    moving = {"rollouts": (unfinished("instance.shop.app_1"),), "locks": (lock("r-1", 1),)}
    assert names(web1=web(projects={"shop": edited}, **moving)) == []


def test_a_release_that_is_not_what_the_compose_file_says():
    verdict = one("compose-differs", web1=web(container(1, release="rX"), container(2)))
    assert "runs release rX, but the compose file on its host says r1" in verdict.text
    assert one("compose-differs", web1=web(container(1, release=""), container(2)))
    bare = {"projects": {"shop": Project({})}}
    assert names(web1=web(container(1, release=""), container(2), **bare)) == []


# versions


def upgraded(version="2.0", digest=OTHER, **changes):
    image = f"{IMAGE}@{digest}"
    return web(
        container(1, version=version, image=image),
        container(2, version=version, image=image),
        **changes,
    )


def test_two_versions_that_nobody_chose_are_drift():
    verdict = one("version-drift", web1=upgraded())
    assert verdict.severity == "CRITICAL"
    assert "1.0 on web2 (2 instances); 2.0 on web1 (2 instances)" in verdict.text


def test_a_rollout_of_chosen_hosts_is_partial_by_choice_and_names_it():
    changes = {"web1": upgraded(rollouts=(ended(chosen=True),))}
    verdict = one("partial-by-choice", **changes)
    assert verdict.severity == "WARNING"
    assert "r-1" in verdict.text
    assert verdict.mend == "fab deploy --version 2.0"
    assert names(**changes) == ["partial-by-choice"]


@pytest.mark.parametrize(
    "rollout",
    [
        ended(chosen=False),
        ended(chosen=True, verdict="held"),
        ended(chosen=True, hosts=("web2",)),
        replace(ended(chosen=True), service="other"),
    ],
)
def test_a_rollout_that_explains_nothing_leaves_it_drift(rollout):
    assert names(web1=upgraded(rollouts=(rollout,))) == ["version-drift"]


def test_two_versions_on_a_chosen_host_are_drift():
    mixed = web(container(1, version="2.0"), container(2), rollouts=(ended(chosen=True),))
    assert names(web1=mixed) == ["version-drift"]


def test_drift_says_how_the_last_rollout_ended():
    held = ended(chosen=False, verdict="held", hosts=("web1", "web2"))
    verdict = one("version-drift", web1=upgraded(rollouts=(held,)), web2=web(rollouts=(held,)))
    assert "rollout r-1 ended: held" in verdict.text


def test_drift_never_asks_for_a_version_that_was_taken_back():
    back = ended(version="2.0", verdict="rolled-back", hosts=("web1", "web2"))
    mixed = web(container(1, version="2.0"), container(2), rollouts=(back,))
    verdict = one("version-drift", web1=mixed, web2=web(rollouts=(back,)))
    assert verdict.mend == "fab deploy --version 1.0"
    assert "ended: rolled-back" in verdict.text
    fine = replace(back, verdict="done")
    verdict = one("version-drift", web1=replace(mixed, rollouts=(fine,)))
    assert verdict.mend == "fab deploy --version 2.0"
    assert "ended" not in verdict.text


def test_one_tag_and_two_images_are_digest_drift():
    verdict = one("digest-drift", web1=upgraded("1.0"))
    assert verdict.severity == "CRITICAL"
    assert DIGEST[:19] in verdict.text
    assert OTHER[:19] in verdict.text
    tagged = web(container(1, image=f"{IMAGE}:1.0"), container(2, image=f"{IMAGE}:1.0"))
    assert names(web1=tagged) == [], "a tag says nothing of its digest"


# balancers


@pytest.mark.parametrize(("dead", "severity"), [(True, "CRITICAL"), (False, "UNKNOWN")])
def test_a_balancer_that_gives_no_answer(dead, severity):
    changes = {"readings": {"lb2": Silent("lb2: nobody answers", dead)}}
    verdict = one("balancer-silent", **changes)
    assert (verdict.severity, verdict.text) == (severity, "nobody answers")
    assert verdict.mend == "fab -H lb2 run -- 'docker start haproxy'"
    assert names(**changes) == ["balancer-silent"]


@pytest.mark.parametrize(
    ("change", "severity", "text"),
    [
        ({"uweight": 10, "weight": 10}, "WARNING", "stands at weight 10"),
        ({"uweight": 0, "weight": 0}, "CRITICAL", "stands at weight 0"),
        ({"admin": "maint", "weight": 0, "up": False}, "CRITICAL", "in maintenance"),
        ({"admin": "drain", "weight": 0}, "CRITICAL", "in state drain"),
    ],
)
def test_a_stuck_weight(change, severity, text):
    both = {name: reading(name, web1_app_1=change) for name in ("lb1", "lb2")}
    verdict = one("stuck-weight", readings=both)
    assert (verdict.severity, verdict.subject) == (severity, "web1/app_1")
    assert f"{text} instead of weight 100 on lb1, lb2" in verdict.text
    assert verdict.mend == "fab -H web1 enable --instance app_1"
    assert names(readings=both) == ["stuck-weight"], "they agree, and it is not down"


def test_a_freeze_accounts_for_a_weight():
    out = reading("lb1", web1_app_1={"uweight": 0, "weight": 0})
    frozen = edge(locks=(lock("freeze-1", 999, by="anna", reason="new disks"),))
    report = judge(fleet(readings={"lb1": out}, lb1=frozen))
    assert report.verdicts == ()
    assert "new disks" in report.notes[0]
    elsewhere = replace(frozen, locks=(replace(frozen.locks[0], service="other"),))
    assert "stuck-weight" in names(readings={"lb1": out}, lb1=elsewhere)


def drained(**changes):
    key = "backend.run.haproxy.admin.sock.shop"
    made = Drained(key, "shop", "web1_app_1", "web1/app_1", "shop", 100, "anna", "new disks", "T")
    return edge(drained=(replace(made, **changes),))


def test_who_drained_a_server_accounts_for_it_and_for_no_other():
    out = {"admin": "maint", "weight": 0, "up": False}
    both = {name: reading(name, web1_app_1=out) for name in ("lb1", "lb2")}
    report = judge(fleet(readings=both, lb1=drained(), lb2=drained()))
    assert report.verdicts == ()
    assert report.notes == (
        "web1/app_1: drained by anna since T: new disks, on lb1, lb2"
        " (`fab -H web1 enable --instance app_1` ends it)",
    )
    assert "stuck-weight" in names(readings=both, lb1=drained(), lb2=drained(server="web2_app_1"))
    other = {name: reading(name, web1_app_2=out) for name in ("lb1", "lb2")}
    assert "stuck-weight" in names(readings=other, lb1=drained(), lb2=drained())


def test_a_server_that_is_back_needs_nobody_to_account_for_it():
    assert judge(fleet(lb1=drained(), lb2=drained())).notes == ()
    changed = reading("lb1", web1_app_1={"uweight": 10, "weight": 10})
    assert "stuck-weight" in names(readings={"lb1": changed}, lb1=drained())


def test_a_maintenance_page_is_told_with_who_wanted_it():
    page = drained(
        key="backend.run.haproxy.admin.sock.shop_maintenance", server="on", reason="moving"
    )
    known = replace(fleet(lb1=page), maintained={"shop": frozenset({"lb1"})})
    assert judge(known).notes == (
        "shop: everybody gets the maintenance page from lb1, by anna since T: moving"
        " (`fab maintenance off` ends it)",
    )


def test_slowstart_is_not_stuck():
    assert names(readings={"lb1": reading("lb1", web1_app_1={"weight": 13})}) == []


def test_a_server_that_its_checks_find_down():
    both = {name: reading(name, web1_app_1={"up": False, "weight": 0}) for name in ("lb1", "lb2")}
    verdict = one("server-down", readings=both)
    assert "down on lb1, lb2" in verdict.text
    assert "curl" in verdict.mend
    assert names(readings=both) == ["server-down"]


def test_a_server_that_a_balancer_lacks():
    lacking = {"lb1": reading("lb1", without=("web1_app_1",))}
    verdict = one("server-missing", readings=lacking)
    assert verdict.text == "lb1 has no server web1_app_1 in backend shop"
    assert verdict.mend == "fab provision.balancers"
    assert names(readings=lacking) == ["server-missing"]


def test_balancers_that_disagree():
    lone = {"lb2": reading("lb2", web1_app_1={"up": False, "weight": 0})}
    verdict = one("balancers-disagree", readings=lone)
    assert "lb1: up, weight 100; lb2: down" in verdict.text
    assert verdict.mend.startswith("fab -H lb2 run -- 'curl"), "lb2 is the one to ask"
    assert "http://10.0.0.1:3001/" in verdict.mend


def test_weights_that_are_configured_unlike_are_no_disagreement():
    light = {name: {"weight": 10, "uweight": 10, "iweight": 10} for name in ("web1_app_1",)}
    assert names(readings={"lb1": reading("lb1", **light)}) == []


def test_a_backend_that_serves_nobody():
    down = {name: {"up": False, "weight": 0} for name in
            ("web1_app_1", "web1_app_2", "web2_app_1", "web2_app_2")}  # fmt: skip
    verdict = one("no-capacity", readings={"lb1": reading("lb1", **down)})
    assert (verdict.severity, verdict.subject) == ("CRITICAL", "lb1")
    backup = {**down, "web1_app_1": {"backup": True}}
    assert found("no-capacity", readings={"lb1": reading("lb1", **backup)}) == []


# together


def test_services_are_named_in_commands_where_there_are_several():
    twin = Service("twin", "web", SHOP.hosts, "x/twin", None, "/srv/twin", balancers=(EDGE,))
    verdict = one("version-drift", services=(SHOP, twin), web1=upgraded())
    assert verdict.mend.endswith(" --service shop")


def test_chosen_hosts_alone_are_judged():
    broken = web(container(1, status="exited"), container(2))
    assert names(selected={"shop": ("web2",)}, web1=broken) == []


@pytest.mark.parametrize(
    ("severities", "code"),
    [
        ([], 0),
        (["WARNING"], 1),
        (["WARNING", "UNKNOWN"], 3),
        (["WARNING", "UNKNOWN", "CRITICAL"], 2),
    ],
)
def test_the_worst_decides(severities, code):
    assert exit_code([Verdict("x", severity, "s", "t", "m") for severity in severities]) == code


def test_every_name_has_a_test_here_and_a_row_in_the_page():
    from pathlib import Path

    here = Path(__file__).read_text(encoding="utf-8")
    page = (Path(__file__).parents[4] / "docs/status.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f'"{name}"' in here, name
        assert f"| `{name}` |" in page, name
