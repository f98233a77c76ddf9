"""The door to the lab's hosts: what a user's own fleet would look like to it."""

import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabfile.inventory import loader
from fabfile.inventory.model import Inventory
from fabfile.remote.base import Command
from fabfile.remote.pool import Remotes
from fabfile.remote.quoting import answer_lines

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def inventory(edge_inventory: Path) -> Inventory:
    return loader.load(edge_inventory)


@pytest.fixture
def remotes(inventory: Inventory) -> Iterator[Remotes]:
    with Remotes(inventory) as made:
        assert made.connect(inventory.hosts) == {}
        yield made


def test_every_host_of_the_lab_lets_its_user_run_docker(
    remotes: Remotes, inventory: Inventory
) -> None:
    asked = Command("id -un; docker version --format '{{.Server.Version}}'", label="docker version")
    running = {name: remotes.get(name).start(asked) for name in inventory.hosts}
    results = [one.wait() for one in running.values()]
    assert {(one.exit_code, one.stderr) for one in results} == {(0, "")}
    assert {one.stdout.splitlines()[0] for one in results} == {"deploy"}


def test_a_command_costs_little_more_than_a_process_on_the_host(remotes: Remotes) -> None:
    host = remotes.get("web1")
    median = statistics.median(host.run(Command("true")).elapsed for _ in range(21))
    assert median < 0.05  # seconds; about 5 ms on an idle machine
    lines = host.converse(Command(answer_lines("echo x", "END")), marker="END")
    assert {lines.ask("", timeout=5) for _ in range(100)} == {"x\n"}


def test_plain_fab_reaches_hosts_by_their_inventory_names(edge_inventory: Path) -> None:
    fab = Path(sys.executable).with_name("fab")
    done = subprocess.run(
        [fab, "-H", "web1,lb1", "run", "--", "hostname"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "EVENKEEL_INVENTORY": edge_inventory},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2
