"""The lab's image registry, and what is pushed to it."""

from __future__ import annotations

import base64
import json
import time
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

from fabfile.lab import state
from fabfile.lab.engine import Docker
from fabfile.lab.images import Images
from fabfile.lab.model import APP_VERSIONS, Lab
from fabfile.lab.shell import LabError, Say, answer, run

USER = "lab"
PUSHED = "/var/lib/registry/pushed"
"""In the registry's volume: a line ``name:tag source-image`` for each finished push."""

# The password lives with the registry, so a checkout that takes the lab over learns it and
# logins made earlier stay good. First line of the answer: the password; then what was pushed.
ENROL = f"""
set -e
umask 077
read -r wanted
read -r entry
[ -s /etc/lab/password ] || {{
    echo "$wanted" >/etc/lab/password
    echo "$entry" >/etc/lab/htpasswd
}}
cat /etc/lab/password
cat {PUSHED} 2>/dev/null || true
"""


def run_arguments(lab: Lab, image: str) -> list[str]:
    """What ``docker run`` needs for the registry."""
    return [
        *("--hostname", "registry", "--network", lab.network, "--ip", lab.registry_ip),
        *("--network-alias", "registry.lab", "--publish", f"{lab.registry_here}:5000"),
        *("--volume", f"{lab.container('registry')}:/var/lib/registry"),
        image,
    ]


def enrol(docker: Docker, lab: Lab) -> dict[str, str]:
    """Agree with the registry on a password; return what was pushed: name -> source image."""
    import bcrypt

    wanted = state.password(lab)
    entry = f"{USER}:{bcrypt.hashpw(wanted.encode(), bcrypt.gensalt(rounds=5)).decode()}"
    command = ("exec", "--interactive", lab.container("registry"), "sh", "-c", ENROL)
    out = docker(*command, what="preparing the registry", stdin=f"{wanted}\n{entry}\n")
    await_answer(lab)
    password, *pushed = out.strip().splitlines()
    state.write(lab.state / state.PASSWORD, password + "\n")
    token = base64.b64encode(f"{USER}:{password}".encode()).decode()
    login = {"auths": {lab.registry_here: {"auth": token}}}
    folder = lab.state / "docker"
    folder.mkdir(mode=0o700, exist_ok=True)
    state.write(folder / "config.json", json.dumps(login) + "\n")
    return dict(line.split(" ", 1) for line in pushed if " " in line)


def await_answer(lab: Lab, seconds: float = 15.0) -> None:
    """Wait until the registry listens. Raises :class:`LabError`."""
    deadline = time.monotonic() + seconds
    while answer(f"http://{lab.registry_here}/v2/") == "closed":
        if time.monotonic() > deadline:
            name = lab.container("registry")
            raise LabError(f"the registry does not answer after {seconds:g} s: docker logs {name}")
        time.sleep(0.05)


@dataclass
class Pusher:
    """Pushes what the registry lacks."""

    docker: Docker
    lab: Lab
    images: Images
    say: Say
    done: dict[str, str]
    engine_address: str = field(init=False)

    def __post_init__(self) -> None:
        # --config, for our login, also hides which engine the user's own configuration names.
        form = "{{.Endpoints.docker.Host}}"
        self.engine_address = self.docker("context", "inspect", "--format", form).strip()

    def push_all(self, pool: Executor) -> None:
        """Push everything; the shared base goes first, so that nothing uploads it twice."""
        plan = wanted(self.images)
        if all(self.done.get(name) == source for name, source in plan.items()):
            return
        self.images.ensure("base")
        self.push("base:trixie", plan["base:trixie"])
        self.images.ensure("challenge", APP_VERSIONS[0])
        names = ["haproxy:3.0", "valkey:8", f"challenge:{APP_VERSIONS[0]}"]
        first = [pool.submit(self.provide, name, plan[name]) for name in names]
        wait(first)
        rest = [(f"challenge:{v}", plan[f"challenge:{v}"]) for v in APP_VERSIONS[1:]]
        wait([pool.submit(self.provide, *pair) for pair in rest])

    def provide(self, name: str, source: str) -> None:
        """Build the image if need be and push it as ``name``."""
        image, _, version = name.partition(":")
        self.images.ensure(image, version if image == "challenge" else "")
        self.push(name, source)

    def push(self, name: str, source: str) -> None:
        """Push ``source`` as ``name``, unless that was done."""
        if self.done.get(name) == source:
            return
        target = f"{self.lab.registry_here}/{name}"
        self.docker("tag", source, target)
        log = self.lab.logs / f"push-{name.replace(':', '-')}.log"
        options = ("--config", str(self.lab.state / "docker"), "--host", self.engine_address)
        command = (*self.docker.prefix, *options, "push", target)
        run(command, what=f"pushing {name}", log=log, timeout=300)
        self.docker("image", "rm", target)
        note = f"echo '{name} {source}' >>{PUSHED}"
        self.docker("exec", self.lab.container("registry"), "sh", "-c", note)
        self.say(f"pushed {name}")


def wanted(images: Images) -> dict[str, str]:
    """What the registry is to hold: name -> source image."""
    plan = {"base:trixie": images.tag("base"), "haproxy:3.0": images.tag("haproxy")}
    plan["valkey:8"] = images.tag("valkey")
    return plan | {f"challenge:{v}": images.tag("challenge", v) for v in APP_VERSIONS}


def wait(futures: list[Future[None]]) -> None:
    """Wait for all, then raise the first failure."""
    for future in futures:
        future.exception()
    for future in futures:
        future.result()
