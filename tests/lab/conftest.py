"""One lab for the whole run, left running; and a small one that a test may break."""

import os
import shutil

import pytest
from lab_tools import quiet
from rollouts import fab

from fabfile.errors import EvenkeelError
from fabfile.lab.down import down
from fabfile.lab.engine import ensure
from fabfile.lab.model import lab_name
from fabfile.lab.up import up


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """What a command said that failed stands in our errors' detail, which pytest does not print."""
    report = yield
    error = call.excinfo and call.excinfo.value
    if isinstance(error, EvenkeelError) and error.detail:
        report.sections.append(("what it said", error.detail))
    return report


@pytest.fixture(scope="session")
def lab():
    """The lab that EVENKEEL_LAB names, running, and without what a killed run left unfinished."""
    found = up(quiet)
    for name in ("hosts.yaml", "hosts-self.yaml"):
        fab(found.state / name, "abort", "--force")
    return found


@pytest.fixture(scope="session")
def edge_inventory(lab):
    """Path of the inventory with the HAProxies on lb1 …"""
    return lab.state / "hosts.yaml"


@pytest.fixture(scope="session")
def self_inventory(lab):
    """Path of the inventory with one HAProxy on each web host."""
    return lab.state / "hosts-self.yaml"


@pytest.fixture(scope="session")
def docker():
    return ensure(quiet)


@pytest.fixture(scope="module")
def spare():
    """A lab of one web and one edge host under a name of its own, removed afterwards."""
    before = {key: os.environ.get(key) for key in ("EVENKEEL_LAB", "EVENKEEL_LAB_PORTS")}
    os.environ["EVENKEEL_LAB"] = f"{lab_name()}-spare"
    os.environ.pop("EVENKEEL_LAB_PORTS", None)
    try:
        lab = up(quiet, web=1, edge=1)
        yield lab
        down(quiet)
        shutil.rmtree(lab.state)
    finally:
        for key, value in before.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value
