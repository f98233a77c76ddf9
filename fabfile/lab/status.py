"""``lab.status``: what of the lab runs, and where it is reached."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fabfile.lab import engine, hosts, model, network
from fabfile.lab.engine import Docker
from fabfile.lab.model import Lab, Node
from fabfile.lab.shell import LabError, answer


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    host: str
    state: str
    ssh: str
    engine: str
    frontend: str
    well: bool


def look() -> list[Row]:
    """Ask every host of the lab. Raises :class:`LabError` where there is no lab."""
    name = model.lab_name()
    docker = engine.find()
    found = hosts.present(docker, name) if docker else {}
    if not docker or not found:
        raise LabError(f"no lab called {name} here; `inv lab.up` builds one")
    roles = [container.role for container in found.values()]
    prefix = network.existing_prefix(docker, name) or model.DEFAULT_PREFIX
    folder, ports = model.state_folder(name), model.lab_ports(name)
    lab = Lab(name, folder, ports, prefix, roles.count("web"), roles.count("edge"))
    states = {container: there.state for container, there in found.items()}
    with ThreadPoolExecutor(32) as pool:
        rows = list(pool.map(lambda node: look_at(docker, lab, node, states), lab.nodes))
    return [*rows, registry_row(lab, states)]


def look_at(docker: Docker, lab: Lab, node: Node, states: dict[str, str]) -> Row:
    """One host."""
    container = lab.container(node.name)
    state, version = states.get(container, "missing"), ""
    if state == "running":
        ask = (
            "exec",
            container,
            "timeout",
            "5",
            "docker",
            "version",
            "--format",
            "{{.Server.Version}}",
        )
        version = docker(*ask).strip() if docker.works(*ask) else "does not answer"
    well = state == "running" and version[:1].isdigit()
    frontend = f"{lab.url(node)}/ {answer(lab.url(node))}" if state == "running" else ""
    return Row(node.name, state, f"127.0.0.1:{node.ssh_port}", version, frontend, well)


def registry_row(lab: Lab, states: dict[str, str]) -> Row:
    """The registry, which asks for a password when it is well."""
    state = states.get(lab.container("registry"), "missing")
    url = f"http://{lab.registry_here}"
    frontend = f"{url}/ {answer(f'{url}/v2/')}" if state == "running" else ""
    return Row("registry", state, "", "", frontend, state == "running")


def table(rows: list[Row]) -> str:
    """The rows under their headings."""
    head = ("host", "state", "ssh", "engine", "frontend")
    cells = [head, *((r.host, r.state, r.ssh, r.engine, r.frontend) for r in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def closing_words(lab: Lab) -> str:
    """What a person may do with a lab that has just come up."""
    web = [node for node in lab.nodes if node.role == "web"]
    edge = [node for node in lab.nodes if node.role == "edge"]
    inventory = "hosts.yaml" if lab.is_default else str(lab.state / "hosts.yaml")
    own = lab.state / "hosts-self.yaml"
    lines = [
        f"  ssh         deploy@127.0.0.1 -i {lab.state / 'id_ed25519'}, ports "
        + ", ".join(f"{node.name} {node.ssh_port}" for node in lab.nodes),
        "  frontends   " + ", ".join(f"{lab.url(node)}/ ({node.name})" for node in edge),
        "  on each web host  " + ", ".join(f"{lab.url(node)}/ ({node.name})" for node in web),
        f"  registry    {lab.registry_here}, user lab, password in {lab.state}/registry-password",
        f"  inventory   {inventory}; with a HAProxy on each web host: {own}",
    ]
    if not lab.is_default:
        lines.append(f"  This is not the default lab: export EVENKEEL_INVENTORY={inventory}")
    return "\n".join(lines)
