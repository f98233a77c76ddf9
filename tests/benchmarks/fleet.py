"""50, 200 and 500 hosts: connecting, a rollout, a status, and five plain commands, beside others.

The hosts are those of stubfleet.py: real sshd and HAProxy, a Docker that only takes its time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import replay
from .contenders import clean, prepare
from .measure import Finished, measured
from .scene import PEERS, ROOT, program
from .show import say
from .stubfleet import Fleet, fleet
from .venvs import venv

SIZES = (50, 200, 500)
QUICK = (20,)
BARE_UP_TO = 200
"""Hosts up to which a rollout is sent again by bare Fabric; the bound is at 200."""
PEERS_UP_TO = 200
SLOW_UP_TO = 50
"""Ansible's modules start a Python for each command: minutes on 200 hosts of a small machine."""
STATUS_RUNS = 2
NOTHING: Mapping[str, Any] = {"inputs": {}}
COMMANDS = (
    "docker version",
    "docker ps --all",
    "cat /srv/shop/docker-compose.yml",
    "df -Pk /srv",
    "id",
)


def run(*, quick: bool) -> dict[str, Any]:
    """All sizes, one after the other."""
    prepare()
    rows: list[dict[str, Any]] = []
    for size in QUICK if quick else SIZES:
        say(f"{size} hosts")
        with fleet(size) as there:
            _write_facts(there)
            rows += rollout(there)
            rows += status(there)
            rows += commands(there)
    return {"rows": rows}


def _row(there: Fleet, task: str, title: str, done: Finished, **more: Any) -> dict[str, Any]:
    found = {"hosts": len(there.hosts), "task": task, "contender": title, **done.cost.as_json()}
    cost = done.cost
    say(f"  {task}, {title}: {cost.wall:.1f} s, {cost.cpu:.1f} s CPU, {cost.memory:.0f} MB")
    return found | more


def ours(there: Fleet, *argv: str) -> Finished:
    """One of our programs, on this fleet."""
    env = clean() | {
        "EVENKEEL_INVENTORY": str(there.inventory),
        "PYTHONPATH": f"{ROOT}:{ROOT}/tests",
    }
    return measured(argv, env=env, cwd=ROOT, timeout=900)


def rollout(there: Fleet) -> list[dict[str, Any]]:
    """`fab deploy` of ours, with what it sent kept, and the same sent again by bare Fabric."""
    ours(there, program("fab"), "provision", "--version", "0.0.1").check("fab provision")
    there.keep("old")
    sent = there.folder / "sent.json"
    again_too = len(there.hosts) <= BARE_UP_TO
    argv = [sys.executable, "-m", "benchmarks.record", str(sent)] if again_too else [program("fab")]
    done = ours(there, *argv, "deploy", "--json", "--version", "0.0.2").check("fab deploy")
    events = [json.loads(line) for line in done.out.splitlines() if line.startswith('{"event"')]
    found = [_row(there, "rollout", "Evenkeel", done, **phases(done, events))]
    if again_too:
        there.keep("new")
        there.restore("old")
        kept, inputs = replay.read(sent.read_text().splitlines())
        stages = replay.stages(kept, events)
        found.append(again(there, "rollout", stages, {"inputs": inputs}))
        there.restore("new")
    return found


def phases(done: Finished, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Seconds of what comes before the first batch, and of the batches."""
    at = {event["event"]: event["at"] for event in events}
    looked = next(e["at"] for e in events if e["event"] == "PhaseFinished")
    return {
        "preflight": round(looked - done.began, 2),
        "before": round(at["RolloutStarted"] - done.began, 2),
        "span": round(at["RolloutFinished"] - at["RolloutStarted"], 2),
    }


def again(
    there: Fleet, task: str, stages: Sequence[Mapping[str, Any]], more: Mapping[str, Any]
) -> dict[str, Any]:
    """Let the bare Fabric script send ``stages``."""
    facts = json.loads((there.folder / "fleet.json").read_text())
    path = there.folder / "replay.json"
    path.write_text(json.dumps(facts | {"stages": stages, **more}))
    bare = str(PEERS / "fabric" / "bare.py")
    done = measured([sys.executable, bare, str(path)], env=clean(), timeout=900).check(
        "bare Fabric"
    )
    said = json.loads(done.out)
    if said["wrong"]:
        # What fails there is not the same work any more.
        say(f"  {len(said['wrong'])} commands went otherwise: {said['wrong'][:3]}")
    count = sum(len(stage["commands"]) for stage in stages)
    return _row(there, task, "bare Fabric", done, commands=count, otherwise=len(said["wrong"]))


def status(there: Fleet) -> list[dict[str, Any]]:
    """`inv status`, and bare Fabric sending the very same scripts; in turns, the best of each."""
    from fabfile.checks.fleet.look import questions
    from fabfile.inventory import loader
    from fabfile.remote.quoting import deadline

    service = loader.load(there.inventory).services["shop"]
    asked = questions([service], {"shop": service.hosts})
    scripts = [
        {"host": host, "label": "status", "script": deadline(question.script(), 20), "stdin": "",
         "code": 0, "after": [], "until_idle": [], "until_up": []}
        for host, question in asked.items()
    ]  # fmt: skip
    found = []
    for _ in range(STATUS_RUNS):
        done = ours(there, program("inv"), "-r", str(ROOT), "status", "--json")
        seen = json.loads(done.out)
        running = sum(row["container"] == "running" for row in seen["instances"])
        assert (seen["unreachable"], running) == ({}, 2 * len(there.hosts)), seen["text"]
        found.append(_row(there, "status", "Evenkeel", done))
        found.append(again(there, "status", [{"commands": scripts}], NOTHING))
    return best(found)


def best(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The quickest of each contender."""
    quickest: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: float(row["wall"])):
        quickest.setdefault(row["contender"], row)
    return list(quickest.values())


def commands(there: Fleet) -> list[dict[str, Any]]:
    """Connect and five commands, by everybody."""
    here = PEERS / "commands"
    folder = there.folder
    size = len(there.hosts)
    ansible = str(venv("ansible") / "ansible-playbook")
    settings = json.dumps({"commands": COMMANDS})
    playbook = [ansible, "-i", str(folder / "inventory.ini"), "-e", settings]
    contenders: dict[str, tuple[int, Callable[[], Finished]]] = {
        "Evenkeel": (
            1000,
            lambda: ours(there, sys.executable, str(here / "ours.py"), str(there.inventory), *COMMANDS),
        ),
        "bare Fabric": (1000, lambda: _peer(there, sys.executable, str(here / "fabric_bare.py"),
                                            str(folder / "fleet.json"), *COMMANDS)),
        "OpenSSH, ControlMaster": (PEERS_UP_TO, lambda: _peer(
            there, "sh", str(here / "openssh.sh"), str(folder / "ssh_config"),
            str(folder / "names"), *COMMANDS)),
        "pyinfra": (PEERS_UP_TO, lambda: _peer(
            there, str(venv("pyinfra") / "pyinfra"), "-y", "--parallel", "32",
            str(folder / "inventory.py"), str(here / "pyinfra_deploy.py"))),
        "Ansible, raw": (PEERS_UP_TO, lambda: _peer(there, *playbook, str(here / "raw.yml"))),
        "Ansible, command": (SLOW_UP_TO, lambda: _peer(there, *playbook, str(here / "module.yml"))),
    }  # fmt: skip
    return [
        _row(there, "five commands", title, go().check(title))
        for title, (most, go) in contenders.items()
        if size <= most
    ]


def _peer(there: Fleet, *argv: str) -> Finished:
    settings = {
        "ANSIBLE_HOME": str(there.folder / "ansible"),
        "ANSIBLE_FORKS": "32",
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
    }
    return measured(argv, env=clean() | settings, cwd=there.folder, timeout=900)


def _write_facts(there: Fleet) -> None:
    """What the peers need to know of the fleet, each in its own words."""
    folder, key, known = there.folder, str(there.folder / "key"), str(there.folder / "known_hosts")
    facts = {"hosts": there.hosts, "port": there.port, "key": key, "known_hosts": known}
    everybody = {**there.hosts, "lb1": there.balancer}
    (folder / "fleet.json").write_text(json.dumps(facts | {"hosts": everybody}))
    (folder / "names").write_text("".join(f"{name}\n" for name in there.hosts))
    (folder / "cm").mkdir()
    hosts = "".join(f"Host {name}\n    HostName {at}\n" for name, at in there.hosts.items())
    common = (
        f"Host *\n    User deploy\n    Port {there.port}\n    IdentityFile {key}\n"
        f"    IdentitiesOnly yes\n    UserKnownHostsFile {known}\n    BatchMode yes\n"
        f"    ControlMaster auto\n    ControlPath {folder}/cm/%n\n    ControlPersist 60\n"
    )
    (folder / "ssh_config").write_text(hosts + common)
    rows = "".join(f"{name} ansible_host={at}\n" for name, at in there.hosts.items())
    arguments = f"-F none -o UserKnownHostsFile={known} -o IdentitiesOnly=yes"
    shared = (
        f"[all:vars]\nansible_user=deploy\nansible_port={there.port}\n"
        f"ansible_ssh_private_key_file={key}\nansible_ssh_common_args={arguments}\n"
    )
    (folder / "inventory.ini").write_text(f"[web]\n{rows}{shared}")
    data = {"ssh_user": "deploy", "ssh_port": there.port, "ssh_key": key,
            "ssh_known_hosts_file": known, "commands": COMMANDS}  # fmt: skip
    web = [(name, {"ssh_hostname": at}) for name, at in there.hosts.items()]
    (folder / "inventory.py").write_text(f"web = ({web!r}, {data!r})\n")
