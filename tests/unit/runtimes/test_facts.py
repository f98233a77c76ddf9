"""What an application host says of itself, and every reason why it can't take part."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile.runtimes import compose
from fabfile.runtimes.facts import facts_script, read_facts
from tests.unit.runtimes.services import SHOP

FINE = {
    "docker": "26.1.5",
    "compose": "2.26.1-4",
    "tools": "",
    "disk": "/dev/sda 100 50 9999999 50% /",
    "project": "ok\nprovisioned",
    "current": "app_1 aaa\napp_2 bbb",
    "kept": '{"release": "aaa", "version": "1.0", "digest": "sha256:1"}',
    "containers": "",
    "state": "ready 5a17",
    "unfinished": "",
}


def read(**changes):
    parts = {**FINE, **changes}
    text = "".join(f"\n== {name}\n{body}\n" for name, body in parts.items() if body is not None)
    return read_facts(text, SHOP)


def test_a_host_in_order_has_no_problems():
    facts = read()
    assert facts.problems == ()
    assert facts.salt == "5a17"
    assert facts.provisioned
    assert facts.current == {"app_1": "aaa", "app_2": "bbb"}
    assert facts.kept["aaa"]["version"] == "1.0"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"docker": "sh: 1: docker: not found"}, "Docker is not installed"),
        ({"docker": "bash: line 3: docker: command not found"}, "Docker is not installed"),
        (
            {"docker": "permission denied while trying to connect to the Docker daemon socket"},
            "this user may not use Docker: add it to the group docker",
        ),
        (
            {"docker": "Cannot connect to the Docker daemon at unix:///var/run/docker.sock."},
            "Docker does not answer: Cannot connect",
        ),
        ({"docker": ""}, "Docker does not answer: no answer"),
        ({"docker": None}, "Docker does not answer: no answer"),
        ({"compose": "docker: 'compose' is not a docker command."}, "Compose v2 is missing"),
        ({"compose": ""}, "Compose v2 is missing"),
        ({"compose": "1.29.2"}, "Docker Compose 1.29.2 is too old: v2 is needed"),
        ({"tools": "curl"}, "curl is not installed"),
        ({"disk": "/dev/sda 100 50 1024 99% /var"}, "disk full: 1 MiB left on /var"),
        ({"project": "not writable"}, "/srv/shop: not writable for this user"),
        ({"project": "absent, and /srv is not writable"}, "/srv/shop: absent, and /srv is not"),
        ({"state": "missing"}, "/var/lib/evenkeel is missing"),
        ({"state": "not writable for anna"}, "/var/lib/evenkeel is not writable for anna"),
        ({"state": "without a salt that anna can read"}, "is without a salt that anna can read"),
        ({"state": "ready "}, "/var/lib/evenkeel is ready"),
        ({"state": ""}, "/var/lib/evenkeel is unknown"),
        ({"state": None}, "/var/lib/evenkeel is unknown"),
    ],
)
def test_each_obstacle_is_named_once(changes, problem):
    (found,) = read(**changes).problems
    assert problem in found


def test_all_obstacles_are_named_together():
    problems = read(
        docker="sh: docker: not found", state="missing", project="not writable"
    ).problems
    assert len(problems) == 3


@pytest.mark.parametrize("version", ["2.26.1", "v2.26.1", "2.40.0-desktop.1", "2ubuntu1", "10.0.0"])
def test_compose_of_any_later_version_will_do(version):
    assert read(compose=version).problems == ()


def test_a_warning_beside_a_version_is_no_obstacle():
    warning = "WARNING: Error loading config file: permission denied"
    assert read(docker=f"{warning}\n26.1.5", compose=f"{warning}\n2.26.1").problems == ()


@pytest.mark.parametrize("damaged", ["{", '{"release": "bbb"}', "[]", "x", '{"release":"a"}{"r'])
def test_a_damaged_release_is_none_to_go_back_to_and_no_crash(damaged):
    assert set(read(kept=f"{FINE['kept']}\n{damaged}").kept) == {"aaa"}


def container(**changes):
    raw = {"id": "1", "service": "app_1", "release": "aaa", "version": "1.0", "image": "x",
           "status": "running"}  # fmt: skip
    return json.dumps(raw | changes)


def test_a_container_that_is_not_ours_has_no_release():
    facts = read(containers=container(release=None, version=None))
    assert facts.container(SHOP.instances_on("web1")[0]).release == ""


def test_of_twins_the_one_that_runs_counts():
    twins = "\n".join([container(id="2", status="created"), container(id="1")])
    assert read(containers=twins).container(SHOP.instances_on("web1")[0]).id == "1"


def test_an_instance_that_is_not_there_has_no_container():
    assert read().container(SHOP.instances_on("web1")[0]) is None


def test_unfinished_rollouts_are_seen():
    assert read(unfinished="r1\nr2 shop").unfinished == ("r1", "r2")


def test_what_another_service_left_unfinished_is_none_of_ours():
    assert read(unfinished="r1 blog\nr2 ").unfinished == ("r2",)


@given(
    st.text(st.sampled_from("= \nadockertes/{}[]:5ry")),
    st.sampled_from(["state", "docker", "compose", "disk", "kept", "current", "project"]),
)
def test_no_answer_of_a_host_can_break_the_reader(text, part):
    read(**{part: text})


def test_env_files_travel_for_their_owner_alone():
    import io
    import tarfile

    from fabfile.runtimes.render import StagedRelease

    release = StagedRelease("id1", "1", "d", SHOP.instances_on("w")[0], "b", "k", "A='x'\n", "i@d")
    with tarfile.open(fileobj=io.BytesIO(compose.stage_archive([release]))) as archive:
        modes = {member.name: member.mode for member in archive.getmembers()}
    assert modes["id1/env"] == 0o600


def test_a_second_look_asks_only_what_somebody_else_may_have_changed():
    script = facts_script(SHOP, again=True)
    assert "again=again" in script
    text = "== state\nready abc\n== containers\n" + container() + "\n"
    again = read_facts(text, SHOP, again=True)
    assert (again.problems, len(again.containers)) == ((), 1)
    assert read_facts(text, SHOP).problems != ()
