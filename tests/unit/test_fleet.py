"""The real `fab` and `inv` programs over tasks of ours. If these fail, a command line lies."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

TASKS = """
import time
from fabric import task as fabric_task
from invoke import task
from fabfile.errors import Held, PreflightFailed
from fabfile.fleet import exit_on_error, fleet_task, hosts_of, run_remainder

@fleet_task
def deploy(c, version, serial="1"):
    print("deploy", version, serial, hosts_of(c))

@fleet_task
def fails(c):
    raise PreflightFailed("web1: disk full", detail="/dev/sda1 100%")

@fleet_task
def bug(c):
    {}["missing"]

@fleet_task
def sleeps(c):
    print("asleep", flush=True)
    time.sleep(20)

@fleet_task(pre=[deploy.__class__(lambda c: print("before", hosts_of(c)), name="before")])
def after(c):
    print("after", hosts_of(c))

@task
def each(c):
    print("each", getattr(c, "host", "local"), getattr(c, "user", ""), getattr(c, "port", ""))

@fabric_task(hosts=["ops@10.0.0.9:2209"])
def fixed(c):
    print("fixed", c.host, c.port)

@task
def connects(c):
    c.run("true")

@task
@exit_on_error
def held(c):
    raise Held("mixed versions")

@fleet_task
def run(c):
    run_remainder(c)
"""

HOSTS = """
version: 1
defaults: {ssh: {user: deploy}}
hosts:
  web1: {address: 10.0.0.11, ssh: {port: 2201}}
  web2: {address: 10.0.0.12}
  here: {address: localhost, connection: local}
  shut: {address: 127.0.0.1, ssh: {port: 1}}
groups: {web: {hosts: [web1, web2]}}
"""


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code with tasks made for these tests."""
    folder = tmp_path_factory.mktemp("project")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "fabfile", folder / "fabfile", ignore=ignore)
    shutil.copy(ROOT / "fabric.yaml", folder)
    (folder / "fabfile/__init__.py").write_text(TASKS)
    (folder / "tasks.py").write_text("from fabfile import held\n")
    (folder / "hosts.yaml").write_text(HOSTS)
    return folder


def run(
    project: Path, *argv: str, program: str = "fab", cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("EVENKEEL", "INVOKE"))}
    clean |= {"HOME": str(project), **env}
    return subprocess.run(
        [BIN / program, *argv],
        cwd=cwd or project,
        env=clean,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_fleet_task_is_called_once_and_sees_every_host(project: Path) -> None:
    done = run(project, "-H", "web1, web2,web1", "deploy", "--version", "0.0.2", "--serial", "50%")
    assert done.stdout == "deploy 0.0.2 50% ('web1', 'web2')\n"
    assert (done.returncode, done.stderr) == (0, "")


def test_without_hosts_it_is_called_once_with_none(project: Path) -> None:
    assert run(project, "deploy", "--version", "1").stdout == "deploy 1 1 ()\n"


def test_a_task_that_runs_before_a_fleet_task_sees_the_same_hosts(project: Path) -> None:
    done = run(project, "-H", "web1,web2", "after")
    assert done.stdout == "before ('web1', 'web2')\nafter ('web1', 'web2')\n"


def test_it_works_from_any_folder(project: Path, tmp_path: Path) -> None:
    done = run(project, "-r", str(project), "-H", "web1", "deploy", "--version", "1", cwd=tmp_path)
    assert done.stdout == "deploy 1 1 ('web1',)\n"
    (project / "deeper").mkdir(exist_ok=True)
    done = run(project, "-H", "web1", "deploy", "--version", "1", cwd=project / "deeper")
    assert done.stdout == "deploy 1 1 ('web1',)\n"


def test_without_fabric_yaml_it_says_so_and_does_nothing(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project / "fabfile", tmp_path / "fabfile")
    done = run(tmp_path, "-H", "web1,web2", "deploy", "--version", "1")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "fabric.yaml" in done.stderr
    assert "executor_class" in done.stderr


@pytest.mark.parametrize("hosts", ["web1,web2", "web", "web1,web"])
def test_tasks_for_each_host_get_it_as_the_inventory_says(project: Path, hosts: str) -> None:
    done = run(project, "-H", hosts, "each")
    lines = done.stdout.splitlines()
    assert lines[0] == "each 10.0.0.11 deploy 2201"
    assert lines[-1] == "each 10.0.0.12 deploy 22"
    assert done.returncode == 0


def test_an_address_needs_no_inventory(project: Path, tmp_path: Path) -> None:
    done = run(project, "-H", "me@10.9.9.9:2222", "each", EVENKEEL_INVENTORY=str(tmp_path / "none"))
    assert done.stdout == "each 10.9.9.9 me 2222\n"


def test_hosts_that_a_task_names_itself_are_used_unless_others_are_given(project: Path) -> None:
    assert run(project, "fixed").stdout == "fixed 10.0.0.9 2209\n"
    assert run(project, "-H", "a@b:1", "fixed").stdout == "fixed b 1\n"


def test_a_mistyped_host_stops_everything_before_it_began(project: Path) -> None:
    done = run(project, "-H", "web1,wbe2", "each")
    assert (done.returncode, done.stdout) == (2, "")
    assert "wbe2" in done.stderr
    assert "web2" in done.stderr


def test_a_local_host_runs_commands_here_and_their_exit_code_is_ours(project: Path) -> None:
    done = run(project, "-H", "here", "run", "--", "echo hi; exit 7")
    assert (done.returncode, done.stdout) == (7, "hi\n")


def test_run_without_a_command_or_without_hosts_says_what_is_missing(project: Path) -> None:
    for argv in (["-H", "web1", "run"], ["run"], ["run", "--", "uptime"]):
        done = run(project, *argv)
        assert (done.returncode, done.stdout) == (2, "")
        assert "fab -H web1,web2 run -- uptime" in done.stderr


def test_an_unreachable_host_is_one_clear_line(project: Path) -> None:
    done = run(project, "-H", "shut", "connects")
    assert done.returncode == 1
    assert done.stderr == "shut: connection refused at 127.0.0.1:1: is sshd running there?\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["nosuch"], "nosuch"),
        (["deploy"], "version"),
        (["deploy", "--version"], "version"),
        (["deploy", "--version", "1", "--wait"], "--wait"),
        (["--help", "nosuch"], "nosuch"),
    ],
)
def test_a_command_line_that_cannot_be_read_exits_2(
    project: Path, argv: list[str], said: str
) -> None:
    done = run(project, *argv)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_inv_exits_the_same_way(project: Path) -> None:
    done = run(project, "held", program="inv")
    assert (done.returncode, done.stderr) == (3, "mixed versions\n")
    assert run(project, "nosuch", program="inv").returncode == 2


def test_an_error_for_a_person_is_its_line_its_detail_and_its_exit_code(project: Path) -> None:
    done = run(project, "-H", "web1", "fails")
    assert (done.returncode, done.stderr) == (5, "web1: disk full\n/dev/sda1 100%\n")


def test_a_bug_is_one_line_and_its_traceback_is_there_for_the_asking(project: Path) -> None:
    done = run(project, "bug")
    assert done.returncode == 1
    assert done.stderr.startswith("unexpected: KeyError: 'missing' (run again with --debug")
    assert len(done.stderr.splitlines()) == 1
    for debug in (run(project, "bug", EVENKEEL_DEBUG="1"), run(project, "--debug", "bug")):
        assert debug.returncode == 1
        assert "Traceback (most recent call last)" in debug.stderr


def test_ctrl_c_exits_130(project: Path) -> None:
    process = subprocess.Popen(
        [BIN / "fab", "sleeps"], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"asleep\n"
    process.send_signal(2)
    _, stderr = process.communicate(timeout=10)
    assert (process.returncode, stderr) == (130, b"interrupted\n")


def test_listing_the_tasks_loads_no_heavy_library(project: Path) -> None:
    program = (
        "import sys; sys.argv = ['inv', '--list']\n"
        "from invoke.main import program\n"
        "program.run(exit=False)\n"
        "heavy = {'fabric', 'paramiko', 'pydantic', 'ruamel.yaml', 'requests', 'jinja2', 'rich'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))\n"
    )
    (project / "light").mkdir(exist_ok=True)
    # invoke's own tasks of this project import Fabric; a collection of ours alone does not.
    (project / "light/tasks.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from invoke import task\nfrom fabfile.fleet import exit_on_error\n"
        "@task\n@exit_on_error\ndef status(c):\n    pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=project / "light", capture_output=True, text=True
    )
    assert "status" in done.stdout, done.stderr
    assert "heavy: []" in done.stdout


@pytest.mark.parametrize("argv", [["--help", "deploy"], ["--list"]])
def test_help_that_nobody_reads_to_its_end_is_no_error(project, argv):
    with subprocess.Popen(
        [BIN / "fab", *argv], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0
