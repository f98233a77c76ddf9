"""``lab.up``: whatever is there, the lab runs afterwards."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fabfile.lab import engine, hosts, inventories, model, network, registry, state
from fabfile.lab.engine import Docker
from fabfile.lab.hosts import Enrolled, Found
from fabfile.lab.images import Images
from fabfile.lab.model import Lab, Node
from fabfile.lab.shell import Say


@dataclass
class Up:
    """One run of ``lab.up``: what its steps share."""

    docker: Docker
    lab: Lab
    images: Images
    found: Mapping[str, Found]
    public_key: str
    say: Say

    def run(self) -> list[Enrolled]:
        """Everything side by side; the first failure is raised once all have ended."""
        with ThreadPoolExecutor(max_workers=48) as pool:
            pushing = pool.submit(self.fill_registry, pool)
            image = pool.submit(self.images.ensure, "host")
            starting = [pool.submit(self.start_host, node, image) for node in self.lab.nodes]
            registry.wait([pushing])
            return [future.result() for future in starting]

    def start_host(self, node: Node, image: Future[str]) -> Enrolled:
        """One host, from nothing to ready."""
        arguments = hosts.run_arguments(self.lab, node, image.result())
        hosts.ensure_container(
            self.docker, self.lab, node.name, node.role, arguments, self.found, self.say
        )
        enrolled = hosts.enrol(self.docker, self.lab, node, self.public_key)
        if self.lab.container(node.name) not in self.found:
            self.say(f"{node.name} is up, with Docker {enrolled.engine}")
        return enrolled

    def fill_registry(self, pool: ThreadPoolExecutor) -> None:
        """The registry, and in it what the hosts will ask for."""
        # All packages are fetched side by side; the registry is not needed for that.
        building = [pool.submit(self.images.ensure, name) for name in ("haproxy", "valkey")]
        building.append(pool.submit(self.images.ensure, "challenge", model.APP_VERSIONS[0]))
        arguments = registry.run_arguments(self.lab, self.images.ensure("registry"))
        hosts.ensure_container(
            self.docker, self.lab, "registry", "registry", arguments, self.found, self.say
        )
        pushed = registry.enrol(self.docker, self.lab)
        for future in building:
            future.result()
        registry.Pusher(self.docker, self.lab, self.images, self.say, pushed).push_all(pool)


def up(say: Say, *, web: int | None = None, edge: int | None = None) -> Lab:
    """Bring the lab up; a number that is ``None`` stays as it is (3 and 2 for a new lab).

    Raises :class:`fabfile.errors.BadInput` for what a person has to mend first, and
    :class:`fabfile.lab.shell.LabError` for a step that failed.
    """
    name = model.lab_name()
    ports = model.lab_ports(name)
    with alone(name, say):
        docker = engine.ensure(say)
        found = hosts.present(docker, name)
        lab = settle(docker, name, ports, found, web, edge)
        public_key = state.prepare(lab)
        images = Images(docker, lab.logs, say)
        enrolled = Up(docker, lab, images, found, public_key, say).run()
        report_take_over(lab, enrolled, say)
        remove_surplus(docker, lab, found, say)
        state.write(lab.state / state.KNOWN_HOSTS, hosts.known_hosts(enrolled), mode=0o644)
        inventories.write_all(lab)
        state.remember(lab)
    return lab


def settle(
    docker: Docker,
    name: str,
    ports: model.Ports,
    found: Mapping[str, Found],
    web: int | None,
    edge: int | None,
) -> Lab:
    """Decide on size and addresses, and make sure of the network."""
    folder = model.state_folder(name)
    memory = state.recall(folder)
    roles = [container.role for container in found.values()]
    if roles:  # a lab that is there keeps its size, hosts that somebody removed included
        web = web or max(roles.count("web"), memory.web)
        edge = edge or max(roles.count("edge"), memory.edge)
    web, edge = web or model.DEFAULT_WEB, edge or model.DEFAULT_EDGE
    prefix = network.existing_prefix(docker, name)
    if prefix:
        return Lab(name, folder, ports, prefix, web, edge)
    prefix = network.choose_prefix(name, memory.prefix, network.taken(docker))
    lab = Lab(name, folder, ports, prefix, web, edge)
    network.create(docker, lab)
    return lab


def report_take_over(lab: Lab, enrolled: list[Enrolled], say: Say) -> None:
    """Say whose lab this was, if it was somebody else's."""
    owners = {host.owner_before for host in enrolled} - {"", str(lab.checkout)}
    if owners:
        say(f"taken over from {', '.join(sorted(owners))}, whose key still opens the hosts")


def remove_surplus(docker: Docker, lab: Lab, found: Mapping[str, Found], say: Say) -> None:
    """Remove the hosts that a smaller lab no longer has."""
    wanted = {lab.container(node.name) for node in lab.nodes} | {lab.container("registry")}
    for container in sorted(set(found) - wanted):
        say(f"removing {container}: the lab is {lab.web} web and {lab.edge} edge hosts now")
        hosts.remove(docker, container)


@contextmanager
def alone(name: str, say: Say) -> Iterator[None]:
    """Keep two runs for one lab apart, from whatever checkout they come."""
    path = Path(tempfile.gettempdir()) / f"evenkeel-{name}.lock"
    path.touch(mode=0o666)
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another command is at work on {name}: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
