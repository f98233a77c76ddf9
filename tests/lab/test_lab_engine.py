"""A bare Debian machine gets its engine, and gets it back; the machine is a container here."""

import json

from lab_tools import quiet

from fabfile.lab.hosts import CAPABILITIES
from fabfile.lab.images import Images
from fabfile.lab.model import CHECKOUT

BARE_MACHINE = """
mount -o remount,bind,rw /sys
while read -r _ where kind _; do
    case $kind in cgroup*) mount -o remount,bind,rw "$where" ;; esac
done </proc/mounts
cd /src && python3 -c "$1"
"""

# The package's own __init__ defines fab's tasks, for which a bare machine has no Invoke.
NO_TASKS = """
import sys, types
sys.modules["fabfile"] = types.ModuleType("fabfile")
sys.modules["fabfile"].__path__ = ["/src/fabfile"]
"""

STORY = """
import json, os, pathlib, signal, time
from fabfile.lab import engine

said = []
first = engine.ensure(said.append)
engine.ensure(said.append)
installed = len(said)

# The engine is killed, and its numbers go to somebody else: to process 1.
for file in engine.PID_FILES.values():
    os.kill(int(file.read_text()), signal.SIGKILL)
time.sleep(0.5)
for file in engine.PID_FILES.values():
    file.write_text("1")
second = engine.ensure(said.append)
version = second("info", "--format", "{{.ServerVersion}}").strip()
print(json.dumps({"said": said, "installed": installed, "version": version}))
"""

REFUSAL = """
from fabfile.errors import EvenkeelError
from fabfile.lab import engine
try:
    engine.ensure(print)
except EvenkeelError as error:
    print(error.exit_code, error)
"""


def machine(docker, lab, *options):
    """The start of a ``docker run`` of a machine with Python and without an engine."""
    image = Images(docker, lab.logs, quiet).ensure("challenge", "0.0.1")
    source = f"{CHECKOUT}/fabfile:/src/fabfile:ro"
    common = ("--rm", "--workdir", "/src", "--env", "PYTHONDONTWRITEBYTECODE=1")
    return ["run", *common, "--volume", source, *options, image]


def test_a_bare_machine_gets_an_engine_and_a_killed_one_comes_back(docker, lab):
    options = [part for name in CAPABILITIES for part in ("--cap-add", name)]
    for option in ("seccomp", "apparmor", "systempaths"):
        options += ["--security-opt", f"{option}=unconfined"]
    options += ["--cgroupns", "private", "--device-cgroup-rule", "a *:* rwm", "--user", "0"]
    command = machine(docker, lab, *options, "--volume", "/var/lib/docker")
    out = docker(*command, "sh", "-c", BARE_MACHINE, "sh", NO_TASKS + STORY, timeout=300)
    story = json.loads(out.splitlines()[-1])
    assert story["said"] == [
        "no dockerd and no docker and no iptables here: installing docker.io and iptables",
        "starting the Docker engine",
        "starting the Docker engine",
    ]
    assert story["installed"] == 2, "a running engine is left alone"
    assert int(story["version"].split(".")[0]) >= 20


def test_who_may_not_install_anything_is_told_what_to_install(docker, lab):
    out = docker(*machine(docker, lab), "python3", "-c", NO_TASKS + REFUSAL)
    assert out.startswith("2 no Docker engine answers (docker info): install Docker 20.10")
    assert len(out.splitlines()) == 1
