"""Who upgrades the nine instances, and how each is told to."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .measure import Cost, Finished, measured
from .scene import NEW, OLD, PEERS, Scene, program
from .venvs import venv


class Contender(Protocol):
    """Upgrades every instance of a scene, or of one host, from the old version to the new one."""

    @property
    def name(self) -> str:
        """In figures."""
        ...

    @property
    def title(self) -> str:
        """For people."""
        ...

    def begin(self, scene: Scene) -> None:
        """Put every instance to the old version."""
        ...

    def run(self, scene: Scene, host: str = "") -> Finished:
        """Upgrade all, or the instances of ``host`` alone."""
        ...


@dataclass(frozen=True)
class Ours:
    """`fab deploy`."""

    inventory: Path
    name: str = "ours"
    title: str = "Evenkeel"

    def begin(self, scene: Scene) -> None:
        """As the protocol has it."""
        scene.begin_ours(self.inventory)

    def run(self, scene: Scene, host: str = "") -> Finished:
        """As the protocol has it."""
        only = ["-H", host] if host else []
        argv = [program("fab"), *only, "deploy", "--version", NEW, "--json"]
        env = clean() | {"EVENKEEL_INVENTORY": str(self.inventory)}
        return measured(argv, env=env).check("fab deploy")


@dataclass(frozen=True)
class Ansible:
    """A playbook of peers/."""

    name: str
    title: str

    def begin(self, scene: Scene) -> None:
        """As the protocol has it."""
        scene.begin_theirs()

    def run(self, scene: Scene, host: str = "") -> Finished:
        """As the protocol has it."""
        folder = scene.ansible(self.name)
        limit = ["--limit", host] if host else []
        argv = [str(venv("ansible") / "ansible-playbook"), "playbook.yml", "-e", f"version={NEW}"]
        env = clean() | {"ANSIBLE_HOME": str(folder / "home"), "ANSIBLE_NOCOLOR": "1"}
        env |= {"PATH": f"{venv('ansible')}:{os.environ['PATH']}"}
        return measured([*argv, *limit], env=env, cwd=folder).check(self.name)


@dataclass(frozen=True)
class Pyinfra:
    """The deploy of peers/pyinfra."""

    name: str = "pyinfra"
    title: str = "pyinfra"

    def begin(self, scene: Scene) -> None:
        """As the protocol has it."""
        scene.begin_theirs()

    def run(self, scene: Scene, host: str = "") -> Finished:
        """As the protocol has it."""
        folder = scene.pyinfra()
        limit = ["--limit", host] if host else []
        argv = [str(venv("pyinfra") / "pyinfra"), "-y", "--serial", *limit]
        argv += ["--data", f"version={NEW}", "inventory.py", "deploy.py"]
        return measured(argv, env=clean(), cwd=folder).check(self.name)


@dataclass(frozen=True)
class Limit:
    """A shell loop on each host itself, the hosts one after the other."""

    name: str = "limit"
    title: str = "the limit"
    each: list[float] = field(default_factory=list)
    """Seconds of each instance, once it ran."""

    def begin(self, scene: Scene) -> None:
        """As the protocol has it."""
        scene.begin_theirs()

    def run(self, scene: Scene, host: str = "") -> Finished:
        """As the protocol has it; what it costs is unknown, for it runs elsewhere."""
        script = (PEERS / "limit/loop.sh").read_text()
        self.each.clear()
        for node in scene.web:
            if host in ("", node.name):
                said = scene.on(node, script, NEW)
                self.each.extend(int(line) / 1000 for line in said.split())
        return Finished(0, "", "", 0.0, Cost(sum(self.each), 0.0, 0.0))


@dataclass(frozen=True)
class DockerRollout:
    """docker-rollout's procedure, on one host."""

    name: str = "docker-rollout"
    title: str = "docker-rollout's procedure"

    def begin(self, scene: Scene) -> None:
        """Make room on the host and start its project at the old version."""
        node = scene.web[0]
        for path in (PEERS / "docker-rollout").iterdir():
            scene.put(node, path, f"/srv/rollout/{path.name}")
        script = (
            "docker stop haproxy challenge-app_1-1 challenge-app_2-1 challenge-app_3-1 >/dev/null\n"
            f"cd /srv/rollout && export VERSION={OLD}\n"
            "docker compose up -d --scale app=3 --wait 2>&1"
        )
        scene.on(node, script)
        scene.settled_on(node)

    def run(self, scene: Scene, host: str = "") -> Finished:
        """Upgrade the host."""
        node = next(n for n in scene.web if host in ("", n.name))
        argv = ["docker", "exec", "-u", "deploy", scene.lab.container(node.name), "sh"]
        return measured([*argv, "/srv/rollout/rollout.sh", NEW]).check(self.name)

    def end(self, scene: Scene) -> None:
        """Give the host back."""
        script = (
            "cd /srv/rollout && VERSION=x docker compose down -t 0 2>&1\n"
            "docker start haproxy challenge-app_1-1 challenge-app_2-1 challenge-app_3-1"
        )
        scene.on(scene.web[0], script)


def clean() -> dict[str, str]:
    """The environment without what leads our programs elsewhere."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("EVENKEEL", "ANSIBLE"))}


def prepare(names: Sequence[str] = ("ansible", "pyinfra")) -> Mapping[str, Path]:
    """Make the peers' environments, side by side."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(venv, names), strict=True))
