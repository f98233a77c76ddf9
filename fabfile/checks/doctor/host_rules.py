"""What hosts lack: reach, tools, folders, disks, clocks, Docker, images."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator

from fabfile.checks.doctor.facts import HostFacts, Project, Setup, Unreached
from fabfile.checks.doctor.findings import Finding, found
from fabfile.checks.fleet.host_rules import DISK_FREE, DISK_WARNING
from fabfile.inventory.model import Service
from fabfile.remote import state

CLOCK_HINT, CLOCK_RISK = 5.0, 60.0
"""Seconds."""
SESSIONS = 9
"""What one connection uses at most; see docs/hosts.md."""
FOLDER = f"install -d -g evenkeel -m 2775 {state.ROOT} # as root, see docs/hosts.md"


def reach(setup: Setup) -> Iterator[Finding]:
    """Hosts that could not be looked at, and why."""
    for host, facts in setup.hosts.items():
        if isinstance(facts, Unreached):
            text = facts.why
            mend = f"see `address`, `ssh.user` and the key in {setup.inventory.path.name}"
            if facts.code == "host-key":
                text, mend = _key(facts.why)
            elif facts.code == "no-answer":
                mend = f"fab -H {host} run -- true"
            yield found(facts.code, host, text, mend)
        known = setup.inventory.hosts[host]
        if known.ssh.host_keys == "off" and known.connection != "local":
            text = "host_keys is off: anybody in between may pose as this host"
            yield found("host-keys-off", host, text, "ssh: {host_keys: strict}")


def _key(why: str) -> tuple[str, str]:
    """What is wrong with a host's key, and the command that the refusal ends with."""
    parts = re.fullmatch(r"(.*?); (if .*\(.* there\))[^:]*: (ssh-key.*)", why)
    if parts is None:
        return why, "compare the fingerprint with the host's own (docs/hosts.md)"
    return parts[1], f"{parts[3]} # {parts[2]}"


def tools(setup: Setup) -> Iterator[Finding]:
    """Tools that locks, fences and checks need."""
    for host, facts in setup.reached.items():
        for tool in facts.tools:
            text = f"{tool} is not installed"
            yield found("tools-missing", host, text, "apt-get install util-linux coreutils curl")


def state_folder(setup: Setup) -> Iterator[Finding]:
    """Evenkeel's own folder: there, ours to write, and the group's, too."""
    for host, facts in setup.reached.items():
        ready = re.fullmatch(r"ready ([0-7]+) (\S+)", facts.state)
        if ready is None:
            text = f"{state.ROOT} is {facts.state}"
            yield found("state-folder", host, text, FOLDER)
        elif not int(ready[1], 8) & 0o20:
            text = (
                f"{state.ROOT} has mode {ready[1]}: only {facts.user} can hold locks there, and"
                " nobody else can take up a rollout that died"
            )
            mend = f"chgrp -R evenkeel {state.ROOT} && chmod -R g+w {state.ROOT}"
            yield found("state-folder-private", host, text, f"{mend} && chmod g+s {state.ROOT}")


def disk(setup: Setup) -> Iterator[Finding]:
    """Disks that a pull would fill."""
    for host, facts in setup.reached.items():
        for each in facts.disks:
            full = each.free < DISK_FREE
            if full or each.used >= DISK_WARNING:
                text = f"{each.mount} is {each.used}% full, {each.free // 1024} MiB are left"
                mend = "docker image prune -f; docker builder prune -f"
                yield found("disk", host, text, mend, severity="problem" if full else "risk")


def clock(setup: Setup) -> Iterator[Finding]:
    """Clocks away from ours, and so from each other."""
    for host, facts in setup.reached.items():
        if abs(facts.skew) > CLOCK_HINT:
            way = "ahead of" if facts.skew > 0 else "behind"
            text = f"its clock is {abs(facts.skew):.0f} s {way} this machine's"
            bad = abs(facts.skew) > CLOCK_RISK
            mend = "apt-get install chrony"
            yield found("clock", host, text, mend, severity="risk" if bad else "hint")


def sessions(setup: Setup) -> Iterator[Finding]:
    """Fewer sessions in a connection than are used."""
    for host, facts in setup.reached.items():
        if facts.max_sessions is not None and facts.max_sessions < SESSIONS:
            text = (
                f"sshd allows {facts.max_sessions} sessions in a connection, up to {SESSIONS} are"
                " used: commands wait for each other"
            )
            yield found("max-sessions", host, text, "MaxSessions 10", file="/etc/ssh/sshd_config")


def docker(setup: Setup) -> Iterator[Finding]:
    """Docker and Compose, and whether this user may use them."""
    for host, facts in setup.reached.items():
        for problem in facts.docker:
            group = "group docker" in problem
            mend = f"usermod -aG docker {facts.user}" if group else "docs/hosts.md: Software"
            yield found("docker", host, problem, mend)


def projects(setup: Setup) -> Iterator[Finding]:
    """The service's folder, and whether it holds a compose project."""
    for service, host, project in _projects(setup):
        if project.folder not in ("ok", "absent"):
            text = f"{service.project_dir} is {project.folder}"
            mend = f"install -d -g evenkeel -m 2775 {service.project_dir} # as root"
            yield found("project-folder", host, text, mend)
        elif not project.provisioned:
            text = f"{service.project_dir} holds no compose project yet"
            yield found("not-provisioned", host, text, "fab provision --version VERSION")


def registry(setup: Setup) -> Iterator[Finding]:
    """Whether new images can come."""
    for host, facts in setup.reached.items():
        for name, code in facts.registries.items():
            if code == "000" and "curl" not in facts.tools:
                text = (
                    f"{name} does not answer this host (where Docker has a proxy of its own, it may"
                    " answer Docker all the same)"
                )
                yield found("registry", host, text, f"curl -v https://{name}/v2/")


def digests(setup: Setup) -> Iterator[Finding]:
    """Whether every host holds what most instances run."""
    for service in setup.services:
        on = {h: p for s, h, p in _projects(setup) if s is service}
        running = Counter(c.digest for p in on.values() for c in p.containers if c.digest)
        if not running:
            continue
        digest = running.most_common(1)[0][0]
        for host, project in on.items():
            if digest not in project.digests:
                text = f"it does not hold {service.image}@{digest[:19]}…, which most instances run"
                mend = f"docker pull {service.image}@{digest}"
                yield found("digest-missing", host, text, mend)


def latest(setup: Setup) -> Iterator[Finding]:
    """Instances under a tag that moves."""
    for service, host, project in _projects(setup):
        if any(_moves(c.image) for c in project.containers):
            text = f"{service.name} runs the tag latest: nobody can say which version that is"
            yield found("image-latest", host, text, "fab deploy --version 1.2.3")


def _moves(image: str) -> bool:
    return "@" not in image and image.rpartition("/")[2].partition(":")[2] in ("", "latest")


def _projects(setup: Setup) -> Iterator[tuple[Service, str, Project]]:
    for service in setup.services:
        for host in setup.selected[service.name]:
            facts = setup.hosts.get(host)
            if isinstance(facts, HostFacts) and service.name in facts.projects:
                yield service, host, facts.projects[service.name]


HOST_RULES: tuple[Callable[[Setup], Iterator[Finding]], ...] = (
    reach,
    tools,
    state_folder,
    disk,
    clock,
    sessions,
    docker,
    projects,
    registry,
    digests,
    latest,
)
