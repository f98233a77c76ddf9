"""The inventories of a lab, from one template: the shipped hosts.yaml is a rendering of it too."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fabfile.lab import state
from fabfile.lab.model import APP_VERSIONS, Lab

Topology = Literal["edge", "self"]
TEMPLATE = Path(__file__).with_name("hosts.yaml.j2")
FILES: dict[Topology, str] = {"edge": "hosts.yaml", "self": "hosts-self.yaml"}


def render(lab: Lab, topology: Topology = "edge", folder: str = "") -> str:
    """The text of an inventory; ``folder`` is the way from it to the lab's state folder."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(  # noqa: S701 - YAML, made of our own words alone
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    template = environment.from_string(TEMPLATE.read_text())
    return template.render(lab=lab, topology=topology, folder=folder, versions=APP_VERSIONS)


def write_inventory(lab: Lab, topology: Topology = "edge") -> Path:
    """Write one inventory into the lab's state folder; return its path.

    ``edge``: the HAProxies on lb1 … in front of all instances. ``self``: one HAProxy on each web
    host, in front of that host's own instances.
    """
    path = lab.state / FILES[topology]
    state.write(path, render(lab, topology), mode=0o644)
    return path


def write_all(lab: Lab) -> None:
    """Write the inventories of both topologies."""
    write_inventory(lab, "edge")
    write_inventory(lab, "self")
