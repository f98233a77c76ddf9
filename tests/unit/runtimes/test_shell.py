"""The shell that changes a compose project, run for real beside a Docker on paper."""

import os
import re
import stat
import subprocess
from dataclasses import replace

import pytest
from ruamel.yaml import YAML

from fabfile.inventory.model import Health, Instance, Secret
from fabfile.runtimes import compose, registry
from fabfile.runtimes import render as r
from fabfile.runtimes.facts import facts_script, read_facts
from tests.unit.runtimes.services import DIGEST, WEB1, with_template

TEMPLATE = """\
services:
  app_1: {image: "registry.lab:5000/shop:{{ version }}"}
  app_2: {image: "registry.lab:5000/shop:{{ version }}"}
  database: {image: "{{ db }}"}
"""


@pytest.fixture
def service(tmp_path):
    folder = tmp_path / "srv" / "sh op"
    folder.mkdir(parents=True)
    return with_template(tmp_path, TEMPLATE, project_dir=str(folder), variables={"db": "valkey:8"})


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "srv" / "sh op"


def made(service, version="1.0", secrets=None):
    return r.project(service, WEB1, version).releases(DIGEST, secrets or {"KEY": "s3cret"}, "salt")


def staged(sh, service, releases):
    return sh(compose.stage_script(service, releases), compose.stage_archive(releases))


def ids(releases):
    return {release.instance.name: release.id for release in releases}


# staging


def test_releases_are_laid_down_and_nothing_live_changes(sh, docker, service, folder):
    releases = made(service)
    done = staged(sh, service, releases)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (folder / "releases").iterdir()) == sorted(ids(releases).values())
    assert not (folder / "docker-compose.yml").exists()
    assert list((folder / "current").iterdir()) == []
    tags = [argv for argv in docker.asked if argv[0] == "tag"]
    assert tags == [
        ["tag", f"registry.lab:5000/shop@{DIGEST}", f"evenkeel/shop:{release.id}"]
        for release in releases
    ]


def test_secrets_are_their_owners_alone_and_in_no_command_line(sh, docker, service, folder):
    releases = made(service)
    script = compose.stage_script(service, releases)
    staged(sh, service, releases)
    env = folder / "releases" / releases[0].id / "env"
    assert env.read_text() == "KEY='s3cret'\n"
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    assert "s3cret" not in script
    assert all("s3cret" not in word for argv in docker.asked for word in argv)


def test_what_compose_refuses_is_not_kept(sh, docker, service, folder):
    docker.on("config -q", err="services.app_1 is nonsense", code=1)
    done = staged(sh, service, made(service))
    assert done.returncode == 65
    assert b"nonsense" in done.stderr
    assert list((folder / "releases").iterdir()) == []
    assert sorted(p.name for p in folder.iterdir()) == ["current", "releases"]


def test_compose_checks_the_file_where_it_is_going_to_lie(sh, docker, service, folder):
    docker.on("config -q", copy="checked")
    releases = made(service)
    staged(sh, service, releases)
    assert (docker.home / "checked.dir").read_text() == str(folder), "relative paths, .env"
    project = YAML(typ="safe").load((docker.home / "checked").read_text())
    assert sorted(project["services"]) == ["app_1", "app_2", "database"]
    (file,) = project["services"]["app_1"]["env_file"]
    assert re.fullmatch(rf"releases/\.new\.\w+/{releases[0].id}/env", file)


def test_a_release_that_is_there_already_stays(sh, service, folder):
    releases = made(service)
    staged(sh, service, releases)
    env = folder / "releases" / releases[0].id / "env"
    env.write_text("KEPT=1\n")
    before = env.stat().st_ino
    assert staged(sh, service, releases).returncode == 0
    assert (env.read_text(), env.stat().st_ino) == ("KEPT=1\n", before)


def test_a_changed_database_reaches_the_file_though_no_instance_changes(sh, service, folder):
    staged(sh, service, made(service))
    later = made(replace(service, variables={"db": "valkey:9"}))
    assert ids(later) == ids(made(service))
    staged(sh, service, later)
    sh(compose.assemble(service, ids(later), later[0].id))
    assert "valkey:9" in (folder / "docker-compose.yml").read_text()


def test_half_a_release_is_made_whole(sh, service, folder):
    releases = made(service)
    half = folder / "releases" / releases[0].id
    half.mkdir(parents=True)
    (half / "block.yml").write_text("broken")
    assert staged(sh, service, releases).returncode == 0
    assert (half / "block.yml").read_text() == releases[0].block


def test_an_archive_that_is_cut_short_leaves_nothing(sh, service, folder):
    releases = made(service)
    done = sh(compose.stage_script(service, releases), compose.stage_archive(releases)[:700])
    assert done.returncode != 0
    assert list((folder / "releases").iterdir()) == []


# assembling


def test_the_live_file_is_base_and_the_current_block_of_each(sh, service, folder):
    old, new = made(service, "1.0"), made(service, "2.0")
    staged(sh, service, old)
    staged(sh, service, new)
    assert sh(compose.assemble(service, ids(old), old[0].id)).returncode == 0
    assert sh(compose.assemble(service, {"app_2": new[1].id}, new[1].id)).returncode == 0
    project = YAML(typ="safe").load((folder / "docker-compose.yml").read_text())
    versions = {
        name: block["labels"]["evenkeel.version"]
        for name, block in project["services"].items()
        if name != "database"
    }
    assert versions == {"app_1": "1.0", "app_2": "2.0"}
    assert project["services"]["database"] == {"image": "valkey:8"}


def test_a_release_that_is_not_there_leaves_the_live_file_alone(sh, service, folder):
    old = made(service)
    staged(sh, service, old)
    sh(compose.assemble(service, ids(old), old[0].id))
    before = (folder / "docker-compose.yml").read_text()
    done = sh(compose.assemble(service, {"app_1": "gone"}, old[0].id))
    assert done.returncode == 71
    assert b"release gone is not on this host" in done.stderr
    assert (folder / "docker-compose.yml").read_text() == before
    assert (folder / "current/app_1").readlink().name == old[0].id


# containers


def test_a_recreate_names_one_service_and_nothing_else(sh, docker, service):
    releases = made(service)
    staged(sh, service, releases)
    sh(compose.assemble(service, ids(releases), releases[0].id))
    instance = releases[0].instance
    done = sh(compose.recreate_script(service, instance, releases[0].id))
    assert done.returncode == 0, done.stderr
    (up,) = [argv for argv in docker.asked if "up" in argv]
    assert up == ["compose", "-p", "sh op", "-f", "docker-compose.yml", "up", "-d", "--no-deps",
                  "--no-build", "--pull", "never", "app_1"]  # fmt: skip


@pytest.mark.parametrize(("there", "forced"), [("c0ffee\n", True), ("", False), ("other\n", False)])
def test_a_restart_replaces_the_container_it_means_and_no_later_one(
    sh, docker, service, there, forced
):
    releases = made(service)
    staged(sh, service, releases)
    docker.on("inspect --type container", out=there)
    done = sh(compose.recreate_script(service, releases[0].instance, releases[0].id, "c0ffee"))
    assert done.returncode == 0, done.stderr
    (up,) = [argv for argv in docker.asked if "up" in argv]
    assert ("--force-recreate" in up) is forced
    assert up[-1] == "app_1"


def test_what_an_interrupted_compose_left_behind_does_not_stop_the_next_one(sh, docker, service):
    releases = made(service)
    staged(sh, service, releases)
    docker.on("service=app_1 --filter status=created", out="abc\ndef\n")
    docker.on("rm abc def", err="removal is already in progress", code=1)
    docker.on(" up ", err="the name is in use", code=1)
    done = sh(compose.recreate_script(service, releases[0].instance, releases[0].id))
    assert done.returncode == 70, "what fails once more has failed"
    asked = [" ".join(argv) for argv in docker.asked]
    kinds = [line.split()[0] if line.startswith("rm") else "up" for line in asked
             if line.startswith("rm") or " up -d" in line]  # fmt: skip
    assert kinds == ["up", "rm", "up"]


def test_a_compose_that_fails_is_not_run_again_where_nothing_was_left_behind(sh, docker, service):
    releases = made(service)
    staged(sh, service, releases)
    docker.on(" up ", err="port is already allocated", code=1)
    sh(compose.recreate_script(service, releases[0].instance, releases[0].id))
    assert len([argv for argv in docker.asked if "up" in argv]) == 1


TALKER = """\
#!/bin/sh
case "$*" in *" up "*) for n in 1 2 3 4; do echo "line $n" >&2; sleep 0.1; done; : >"$HOME/through" ;; esac
"""


def test_a_compose_whose_listener_is_gone_still_goes_through(tmp_path, sh, docker, service):
    releases = made(service)
    staged(sh, service, releases)
    talker = tmp_path / "talker" / "docker"
    talker.parent.mkdir()
    talker.write_text(TALKER)
    talker.chmod(0o755)
    env = {"PATH": f"{talker.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    script = compose.recreate_script(service, releases[0].instance, releases[0].id)
    with subprocess.Popen(
        ["sh", "-c", script], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr.readline() == b"line 1\n"
        process.stderr.close()
        process.stdout.close()
    assert (tmp_path / "through").exists()


def test_a_recreate_that_fails_says_why(sh, docker, service):
    releases = made(service)
    staged(sh, service, releases)
    docker.on(" up ", err="port is already allocated", code=1)
    done = sh(compose.recreate_script(service, releases[0].instance, releases[0].id))
    assert done.returncode == 70
    assert b"port is already allocated" in done.stderr


def test_starting_what_is_missing_replaces_no_instance(sh, docker, service):
    releases = made(service)
    staged(sh, service, releases)
    docker.on("config --services", out="app_1\napp_2\ndatabase\n")
    docker.on("config --images database", out="valkey:8\n")
    docker.on("image inspect valkey:8", code=1)
    done = sh(compose.up_missing_script(service, ids(releases[1:]), releases[0].id))
    assert done.returncode == 0, done.stderr
    ups = [argv[argv.index("up") :] for argv in docker.asked if "up" in argv]
    assert [up[-1] for up in ups] == ["database", "app_2"]
    assert "--no-recreate" in ups[1]
    assert any(argv[2:] == ["pull", "-q", "valkey:8"] for argv in docker.asked)


def test_instances_whose_files_were_lost_are_in_the_compose_file_and_not_started(
    sh, docker, service, folder
):
    """Somebody emptied the project's folder; the containers run on."""
    releases = made(service)
    staged(sh, service, releases)
    script = compose.up_missing_script(service, {}, releases[0].id, lost=ids(releases))
    done = sh(script)
    assert done.returncode == 0, done.stderr
    assert not any("up" in argv for argv in docker.asked)
    assert all(r.id in (folder / "docker-compose.yml").read_text() for r in releases)


def test_containers_are_read_back(sh, docker, service):
    docker.on("ps -a", out='{"id":"abc","service":"app_1","release":"r","version":null,'
              '"image":"x","status":"running"}\n')  # fmt: skip
    (found,) = compose.read_containers(sh(compose.containers_script(service)).stdout.decode())
    assert (found.service, found.release, found.version) == ("app_1", "r", "")


def test_a_host_without_containers_is_asked_no_further(sh, docker, service):
    assert sh(compose.containers_script(service)).returncode == 0
    assert not any("inspect" in argv for argv in docker.asked)


def test_a_host_tells_its_facts(sh, docker, service, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(compose.state, "ROOT", str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    docker.on("version --format", out="26.1.5\n")
    docker.on("compose version", out="2.26.1\n")
    releases = made(service)
    staged(sh, service, releases)
    sh(compose.assemble(service, ids(releases), releases[0].id))
    done = sh(facts_script(service))
    facts = read_facts(done.stdout.decode(), service)
    assert facts.problems == ()
    assert facts.provisioned
    assert facts.current == ids(releases)
    assert set(facts.kept) == set(ids(releases).values())
    assert len(facts.salt) == 64


def test_a_new_host_is_no_problem_and_not_provisioned(
    sh, docker, service, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(compose.state, "ROOT", str(tmp_path / "state"))
    docker.on("version --format", out="26.1.5\n")
    docker.on("compose version", out="2.26.1\n")
    folder.rmdir()
    facts = read_facts(sh(facts_script(service)).stdout.decode(), service)
    assert not facts.provisioned
    (problem,) = facts.problems
    assert "is missing" in problem


def test_an_instance_that_never_answers_is_given_up_in_any_shell(sh, docker, service):
    docker.on("ps -q", out="abc\n")
    docker.on("inspect", out="exited none 0 rel 3\n")
    service = replace(service, health=Health(timeout=0.2, interval=0.01, min_healthy=0.1))
    done = sh(compose.health_script(service, Instance("shop", "web1", 1, 1), "rel"))
    assert (done.returncode, done.stderr) == (69, b"")
    assert done.stdout == b"the container is exited (exit code 3)\n"


# images


LOGIN = {"registry_login": ("anna", Secret("password", env="P"))}
REFERENCE = "registry.lab:5000/shop:1.0"
KNOWN = f"other.lab/registry.lab:5000/shop@sha256:{'0' * 64}\nregistry.lab:5000/shop@{DIGEST}\n"


def test_a_pull_tells_the_digest_that_was_pulled_now(sh, docker, service):
    docker.on("pull", out=f"1.0: Pulling from shop\nDigest: {DIGEST}\nStatus: Downloaded\n")
    done = sh(registry.pull_script(service, REFERENCE))
    assert registry.read_digest(done.stdout.decode()) == (DIGEST, True)


def test_an_older_docker_names_the_digest_only_afterwards(sh, docker, service):
    docker.on("image inspect", out=KNOWN)
    done = sh(registry.pull_script(service, REFERENCE))
    assert registry.read_digest(done.stdout.decode()) == (DIGEST, True)


def test_a_password_goes_in_by_stdin_and_is_kept_nowhere(sh, docker, service, tmp_path):
    service = replace(service, **LOGIN)
    docker.on("pull", out=f"Digest: {DIGEST}\n")
    done = sh(registry.pull_script(service, REFERENCE), b"hunter2")
    assert done.returncode == 0, done.stderr
    login = docker.asked[0]
    assert login[2:] == ["login", "-u", "anna", "--password-stdin", "registry.lab:5000"]
    assert "hunter2" not in str(docker.asked)
    assert not compose.Path(login[1]).exists()


@pytest.mark.parametrize(
    ("why", "code"),
    [
        ("manifest for shop:1.0 not found: manifest unknown", 68),
        ("pull access denied, repository does not exist or may require 'docker login'", 68),
        ("dial tcp 10.0.0.1:5000: connect: connection refused", 67),
        ("net/http: request canceled (Client.Timeout exceeded)", 67),
    ],
)
def test_a_registry_that_lacks_it_is_told_from_one_that_does_not_answer(
    sh, docker, service, why, code
):
    docker.on("pull", err=why, code=1)
    done = sh(registry.pull_script(service, REFERENCE))
    assert done.returncode == code
    assert why in done.stderr.decode()


def test_with_the_registry_down_what_the_host_holds_is_told(sh, docker, service):
    docker.on("image inspect", out=KNOWN)
    docker.on("pull", err="connection refused", code=1)
    done = sh(registry.pull_script(service, REFERENCE))
    assert done.returncode == 67
    assert registry.read_digest(done.stdout.decode()) == (DIGEST, False)


def test_a_refused_login_does_not_hide_what_the_host_holds(sh, docker, service):
    docker.on("image inspect", out=KNOWN)
    docker.on("login", err="unauthorized", code=1)
    done = sh(registry.pull_script(replace(service, **LOGIN), REFERENCE), b"x")
    assert done.returncode == 67
    assert b"unauthorized" in done.stderr
    assert registry.read_digest(done.stdout.decode()) == (DIGEST, False)


def test_a_digest_that_is_asked_for_is_the_one_that_is_told(sh, docker):
    docker.on("image inspect", out=KNOWN)
    asked = f"registry.lab:5000/shop@sha256:{'9' * 64}"
    told = registry.read_digest(sh(registry.local_digest_script(asked)).stdout.decode())
    assert told == ("sha256:" + "9" * 64, False)


@pytest.mark.parametrize(
    "image", ["docker.io/library/nginx:1", "nginx:1", "index.docker.io/library/nginx:1"]
)
def test_docker_hubs_images_are_known_under_their_short_names(sh, docker, image):
    docker.on("image inspect", out=f"nginx@{DIGEST}\n")
    done = sh(registry.local_digest_script(image))
    assert registry.read_digest(done.stdout.decode()) == (DIGEST, False)


@pytest.mark.parametrize(
    ("reference", "repository", "short"),
    [
        ("registry.lab:5000/a/b:1", "registry.lab:5000/a/b", "registry.lab:5000/a/b"),
        ("registry.lab:5000/b@sha256:1", "registry.lab:5000/b", "registry.lab:5000/b"),
        ("b:1", "b", "b"),
        ("b", "b", "b"),
        ("library/b", "library/b", "library/b"),
        ("docker.io/a/b:1", "docker.io/a/b", "a/b"),
    ],
)
def test_names_of_images(reference, repository, short):
    assert registry.repository(reference) == repository
    assert registry.familiar(repository) == short
