"""A fleet of two hosts behind two balancers where all is well, and ways to break it."""

from dataclasses import replace
from pathlib import Path

from fabfile.balancers.model import BackendReading, ServerReading
from fabfile.checks.fleet.facts import (
    Certificate,
    Container,
    Disk,
    Fleet,
    HostFacts,
    Lock,
    Project,
    Rollout,
)
from fabfile.checks.fleet.judge import judge
from fabfile.inventory.model import BalancerSpec, Host, Inventory, Service
from fabfile.remote.state import Held

NOW = 1_800_000_000.0
DIGEST = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32
IMAGE = "registry.lab:5000/shop"
EDGE = BalancerSpec("haproxy", ("lb1", "lb2"), "shop", container="haproxy", template=Path("/x.j2"))
SHOP = Service(
    name="shop",
    group="web",
    hosts=("web1", "web2"),
    image=IMAGE,
    template=None,
    project_dir="/srv/shop",
    instances=2,
    port=3000,
    publish=3001,
    balancers=(EDGE,),
)
HOSTS = ("web1", "web2", "lb1", "lb2")
SERVERS = tuple(f"{host}_app_{n}" for host in SHOP.hosts for n in (1, 2))


def inventory(*services):
    hosts = {name: Host(name, name, f"10.0.0.{n}") for n, name in enumerate(HOSTS, 1)}
    known = {service.name: service for service in services or (SHOP,)}
    return Inventory(Path("/etc/hosts.yaml"), hosts, {"web": SHOP.hosts}, known)


def container(n, **changes):
    made = Container(
        name=f"shop-app_{n}-1",
        project="shop",
        service=f"app_{n}",
        release=f"r{n}",
        version="1.0",
        image=f"{IMAGE}@{DIGEST}",
        started=NOW - 9000,
    )
    return replace(made, **changes)


def database():
    return Container("shop-database-1", "shop", "database", image="valkey:8", started=NOW - 9000)


def web(*containers, **changes):
    made = HostFacts(
        now=NOW,
        containers=containers or (container(1), container(2), database()),
        projects={"shop": Project({"app_1": "r1", "app_2": "r2"})},
        disks=(Disk("/", 40, 9_000_000),),
    )
    return replace(made, **changes)


def edge(**changes):
    return replace(HostFacts(now=NOW, disks=(Disk("/", 40, 9_000_000),)), **changes)


def server(name, **changes):
    made = ServerReading(
        name, "10.0.0.1:3001", True, True, "ready", 100, 100, 100, 1, 0, 5, 0, 0
    )  # fmt: skip
    return replace(made, **changes)


def reading(balancer, without=(), **changes):
    """``web1_app_1={…}`` changes that server."""
    servers = {
        name: server(name, **changes.get(name, {})) for name in SERVERS if name not in without
    }
    return BackendReading(balancer, 7, servers)


def fleet(*, services=(SHOP,), unreachable=None, readings=None, selected=None, **hosts):
    """All is well, but for what is given: hosts by name, readings by balancer."""
    facts = {"web1": web(), "web2": web(), "lb1": edge(), "lb2": edge(), **hosts}
    gone = unreachable or {}
    return Fleet(
        inventory(*services),
        (SHOP,),
        {name: found for name, found in facts.items() if name not in gone},
        gone,
        {"shop": {"lb1": reading("lb1"), "lb2": reading("lb2"), **(readings or {})}},
        selected or {"shop": SHOP.hosts},
        0.5,
    )


def found(name, **changes):
    """The verdicts of that name, of a fleet where all is well but for ``changes``."""
    return [verdict for verdict in judge(fleet(**changes)).verdicts if verdict.name == name]


def names(**changes):
    """Of all verdicts."""
    return sorted({verdict.name for verdict in judge(fleet(**changes)).verdicts})


def lock(owner, age, key="project.srv.shop", service="shop", **facts):
    facts = facts or {"by": "anna@laptop", "reason": "because"}
    return Lock(Held(key, age, owner, facts, "2026-11-20T10:00:00Z"), service)


def unfinished(*undo, identity="r-1"):
    hosts = SHOP.hosts
    return Rollout(identity, False, "shop", "2.0", False, hosts, "", tuple(undo))


def ended(identity="r-1", version="2.0", *, chosen=False, hosts=("web1",), verdict="done"):
    return Rollout(identity, True, "shop", version, chosen, hosts, verdict)


def certificate(days):
    return Certificate("/etc/haproxy/shop.pem", NOW + days * 86400)
