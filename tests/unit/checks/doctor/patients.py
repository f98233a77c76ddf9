"""A set-up in which all is well, and ways to make it ill."""

from dataclasses import replace
from pathlib import Path

from ruamel.yaml import YAML

from fabfile.checks.doctor.facts import Container, HostFacts, Project, Proxy, Rendered, Setup
from fabfile.checks.fleet.facts import Disk
from fabfile.inventory.model import BalancerSpec, Host, Inventory, Ssh
from tests.unit.checks.fleet import standing
from tests.unit.checks.fleet.standing import DIGEST, IMAGE

REPLIES = Path(__file__).parents[2] / "balancers" / "replies"
EDGE = BalancerSpec(
    "haproxy",
    ("lb1",),
    "shop",
    master_socket="/run/haproxy/master.sock",
    state_file="/run/haproxy/state",
)
SHOP = replace(standing.SHOP, balancers=(EDGE,))
OURS = ("web1_app_1", "web1_app_2", "web2_app_1", "web2_app_2")
SPOTS = {f"web{host}_app_{n}": f"10.0.0.{host}:{3000 + n}" for host in (1, 2) for n in (1, 2)}
CONFIG = """\
global
    stats socket /run/haproxy/admin.sock mode 660 level admin expose-fd listeners
    server-state-file /run/haproxy/state
    hard-stop-after 10m

defaults
    mode http
    load-server-state-from-file global
    timeout connect 5s
    timeout server 20s

frontend in
    bind *:80
    default_backend shop

backend shop
    balance roundrobin
    option redispatch
    default-server check inter 2s fastinter 200ms downinter 500ms rise 2 fall 3 weight 100
    server web1_app_1 10.0.0.1:3001
    server web1_app_2 10.0.0.1:3002
    server web2_app_1 10.0.0.2:3001
    server web2_app_2 10.0.0.2:3002
"""
TEMPLATE = """\
services:
  app_1:
    image: shop
    restart: unless-stopped
    mem_limit: 256m
    healthcheck: {test: ["CMD", "true"]}
    ports: ["3001:3000"]
  app_2:
    image: shop
    restart: unless-stopped
    mem_limit: 256m
    healthcheck: {test: ["CMD", "true"]}
    ports: ["3002:3000"]
  database:
    image: postgres:16.3
"""


def containers():
    return tuple(Container(f"app_{n}", f"{IMAGE}@{DIGEST}", True) for n in (1, 2))


def project(**changes):
    return replace(Project(containers=containers(), digests=frozenset({DIGEST})), **changes)


def host(**changes):
    made = HostFacts(
        max_sessions=10,
        disks=(Disk("/", 40, 50_000_000),),
        versions=("Docker 26.1.5", "Compose 2.26.1"),
        registries={"registry.lab:5000": "401"},
        projects={"shop": project()},
    )
    return replace(made, **changes)


def proxy(text=CONFIG, *, said="", service=SHOP, **spec):
    """A HAProxy with this configuration; not asked unless ``said``."""
    own = replace(service, balancers=(replace(service.balancers[0], **spec),))
    balancer = own.balancers_of("web1")[0]
    return Proxy(own, balancer, OURS, said=said, why="nobody answers", config=text, spots=SPOTS)


def rendered(text=TEMPLATE, service=SHOP, why=""):
    data = {} if why else YAML(typ="safe", pure=True).load(text)
    return Rendered(service, "web1", "shop.yml.j2", text, data, why)


def setup(*, service=SHOP, hosts=None, proxies=(), templates=None, **changes):
    """All is well, but for what is given."""
    names = ("web1", "web2", "lb1")
    known = {name: Host(name, name, f"10.0.0.{n}") for n, name in enumerate(names, 1)}
    inventory = Inventory(Path("/etc/hosts.yaml"), known, {"web": SHOP.hosts}, {"shop": service})
    facts = {"web1": host(), "web2": host(), "lb1": HostFacts()} | (hosts or {})
    made = Setup(
        inventory,
        (service,),
        {"shop": service.hosts},
        facts,
        tuple(proxies),
        (rendered(service=service),) if templates is None else tuple(templates),
    )
    return replace(made, **changes)


def with_ssh(made, name, **ssh):
    hosts = dict(made.inventory.hosts)
    hosts[name] = replace(hosts[name], ssh=Ssh(**ssh))
    return replace(made, inventory=replace(made.inventory, hosts=hosts))


def reply(name):
    """What a real HAProxy 3.0 answered to the preflight."""
    return (REPLIES / f"preflight_{name}.txt").read_text()
