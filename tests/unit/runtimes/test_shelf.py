"""What may leave a host's disk: looked at and removed for real, beside a Docker on paper."""

import json
import os

import pytest

from fabfile.remote import state
from fabfile.runtimes import compose
from tests.unit.runtimes.services import with_template


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    folder = tmp_path / "state"
    (folder / "rollouts").mkdir(parents=True)
    monkeypatch.setattr(state, "ROOT", str(folder))
    return folder


@pytest.fixture
def service(tmp_path):
    return with_template(tmp_path, "services: {}", project_dir=str(tmp_path / "sh op"))


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "sh op"
    (found / "releases").mkdir(parents=True)
    (found / "current").mkdir()
    return found


def lay(folder, name, used, **changes):
    release = folder / "releases" / name
    release.mkdir()
    record = {
        "release": name,
        "version": "1",
        "digest": "d",
        "service": "shop",
        "instance": "app_1",
    }
    (release / "release.json").write_text(json.dumps(record | changes) + "\n")
    (release / "block.yml").write_text("")
    os.utime(release, (used, used))
    return release


def shelf(sh, service):
    return compose.read_shelf(sh(compose.shelf_script(service)).stdout.decode())


def test_what_runs_is_meant_to_run_or_is_in_an_open_journal_is_in_use(
    sh, docker, service, folder, root
):
    for number, name in enumerate(("aaa", "bbb", "ccc", "ddd")):
        lay(folder, name, 1000 + number)
    (folder / "current/app_1").symlink_to("../releases/aaa")
    line = {
        "id": "1",
        "service": "app_2",
        "release": "bbb",
        "version": "",
        "image": "",
        "status": "",
    }
    docker.on("ps -a", json.dumps(line) + "\n")
    for name, release, end in (("r1", "ccc", None), ("r2", "ddd", "{}")):
        journal = root / "rollouts" / name
        journal.mkdir()
        (journal / "plan-0001.json").write_text(
            json.dumps({"targets": [{"wanted": {"id": release}}]})
        )
        if end:
            (journal / "finished.json").write_text(end)
    found = shelf(sh, service)
    assert {"aaa", "bbb", "ccc"} <= found.in_use
    assert "ddd" not in found.in_use
    assert [(kept.id, kept.used, kept.instance) for kept in found.releases] == [
        ("aaa", 1000, "app_1"), ("bbb", 1001, "app_1"), ("ccc", 1002, "app_1"), ("ddd", 1003, "app_1"),
    ]  # fmt: skip


def test_a_release_nobody_can_read_is_left_alone(sh, docker, service, folder):
    lay(folder, "aaa", 1000)
    (lay(folder, "bbb", 1000) / "release.json").write_text('{"release": "b')
    lay(folder, "ccc", 1000, release="other")
    assert [kept.id for kept in shelf(sh, service).releases] == ["aaa"]


def test_a_host_without_any_release_has_an_empty_shelf(sh, docker, service):
    assert shelf(sh, service) == compose.Shelf((), frozenset())


def test_pruning_takes_the_folder_and_our_tag_and_never_by_force(sh, docker, service, folder):
    old, kept = lay(folder, "aaa", 1000), lay(folder, "bbb", 2000)
    done = sh(compose.prune_script(service, [compose.Kept("aaa", 1000, "shop", "app_1")]))
    assert done.stdout == b"pruned aaa\n"
    assert (old.exists(), kept.exists()) == (False, True)
    removals = [argv for argv in docker.asked if argv[:2] != ["image", "inspect"]]
    assert removals == [["image", "rm", "--no-prune", f"evenkeel/{service.name}:aaa"]]


def test_a_tag_that_stays_keeps_its_release_and_the_others_still_go(sh, docker, service, folder):
    lay(folder, "aaa", 1000)
    lay(folder, "bbb", 1000)
    docker.on("rm --no-prune evenkeel/shop:aaa", err="conflict: in use", code=1)
    pairs = [compose.Kept(name, 1000, "shop", "app_1") for name in ("aaa", "bbb")]
    done = sh(compose.prune_script(service, pairs))
    assert (done.returncode, done.stdout) == (0, b"pruned bbb\n")
    assert b"conflict" in done.stderr
    assert (folder / "releases/aaa/release.json").exists()


def test_a_release_that_was_used_since_the_look_stays(sh, docker, service, folder):
    release = lay(folder, "aaa", 1500)
    assert (
        sh(compose.prune_script(service, [compose.Kept("aaa", 1000, "shop", "app_1")])).stdout
        == b""
    )
    assert release.exists()


def test_a_release_counts_as_used_from_the_day_it_stops_running(sh, docker, service, folder):
    for name in ("aaa", "bbb"):
        lay(folder, name, 1000)
        (folder / "releases" / name / "base.yml").write_text("services:\n")
    (folder / "current/app_1").symlink_to("../releases/aaa")
    assert sh(compose.assemble(service, {"app_1": "bbb"}, "bbb")).returncode == 0
    assert min(kept.used for kept in shelf(sh, service).releases) > 1_000_000
