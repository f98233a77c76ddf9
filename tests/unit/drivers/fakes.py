"""A service of two hosts, its hosts as fakes, and balancers that answer what a test says."""

from dataclasses import replace

from fabfile.balancers.haproxy.shell import Unusable
from fabfile.balancers.model import BackendReading, ServerReading, ServerRecord, ServerRef
from fabfile.errors import EvenkeelError
from fabfile.inventory.model import BalancerSpec, Host, Instance, Inventory, Service
from fabfile.remote.fake import FakeTransport
from fabfile.remote.pool import Remotes
from fabfile.rollout.plan import Plan, Release, Target

DIGEST = "sha256:" + "ab" * 32
EDGE = BalancerSpec("haproxy", ("lb1", "lb2"), "shop")
SELF = BalancerSpec("haproxy", "self", "shop")

SHOP = Service(
    name="shop",
    group="web",
    hosts=("web1", "web2"),
    image="registry.lab:5000/shop",
    template=None,
    project_dir="/srv/shop",
    instances=1,
    port=3000,
    publish=3001,
    balancers=(EDGE,),
    stop_grace=0.0,
)
OLD, NEW = Release("old", "1.0", DIGEST), Release("new", "2.0", DIGEST)


def inventory(tmp_path, service=SHOP, hosts=("web1", "web2", "lb1", "lb2")):
    return Inventory(
        tmp_path / "hosts.yaml",
        {name: Host(name, name, name) for name in hosts},
        {"web": service.hosts},
        {service.name: service},
    )


class Fleet:
    """Fake hosts by name, made as they are asked for."""

    def __init__(self, found):
        self.hosts = {name: FakeTransport(name) for name in found.hosts}
        self.remotes = Remotes(found, make=lambda host: self.hosts[host.name])

    def __getitem__(self, name):
        return self.hosts[name]

    def on(self, *args, **kwargs):
        for host in self.hosts.values():
            host.on(*args, **kwargs)


def server(**changes):
    return replace(
        ServerReading(
            "web1_app_1", "10.0.0.1:3001", True, True, "ready", 100, 100, 100, 0, 0, 5, 0, 0
        ),
        **changes,
    )


def ref(balancer="lb1"):
    return ServerRef(balancer, "shop", "web1_app_1")


def record(balancer="lb1", uweight=100, admin="ready", check_port=None):
    return ServerRecord(ref(balancer), uweight, admin, 7, check_port)


def target(*records, instance=None):
    return Target(instance or Instance("shop", "web1", 1, 3001), NEW, OLD, records or (record(),))


def plan(*targets, **changes):
    wanted = Plan("r1", "shop", "2.0", DIGEST, "anna", "", (("web1",),), targets or (target(),), ())
    return replace(wanted, **changes)


class FakePool:
    """Each reading is the next of ``shows`` (the last one stays); changes are remembered."""

    def __init__(self, service=SHOP, *, pins=True, parks=False, **shows):
        self.shows = {name: list(states) for name, states in shows.items()}
        self.changes = []
        self.opened = []
        self.changed = set()
        self.findings = []
        self.closed = False
        self.reads = 0
        self.hands = {
            b.id: type("Hand", (), {"balancer": b, "pins": pins, "parks": parks})()
            for host in service.hosts
            for b in service.balancers_of(host)
        }

    def _show(self, name):
        """A state is a server, several in a list, either with a process id, or an error."""
        states = self.shows[name]
        now = states.pop(0) if len(states) > 1 else states[0]
        if isinstance(now, EvenkeelError):
            return now
        now, process = now if isinstance(now, tuple) else (now, 7)
        servers = now if isinstance(now, list) else [now]
        return BackendReading(name, process, {server.name: server for server in servers})

    @property
    def balancers(self):
        return tuple(hand.balancer for hand in self.hands.values())

    def preflight(self, refs, ids):
        self.asked = (list(refs), list(ids))
        return dict.fromkeys(ids, self.findings)

    def close(self):
        self.closed = True

    def read(self, ids=None, servers=None):
        self.reads += 1
        return {name: self._show(name) for name in (self.shows if ids is None else ids)}

    def change(self, wanted):
        """``changed``: balancers where a server is not as somebody left it, once."""
        sent = {n: one for n, one in wanted.items() if not self._is_changed(n, one.only_if)}
        self.opened.append({name: one.opens for name, one in wanted.items() if one.opens})
        self.changes.append({name: list(one.commands) for name, one in sent.items()})
        answers = {name: self._show(name) for name in sent}
        refused = {n: Unusable(f"{n}: changed", "changed") for n in wanted if n not in sent}
        return answers | refused

    def _is_changed(self, name, only_if):
        if not only_if or name not in self.changed:
            return False
        self.changed.remove(name)
        return True

    def who(self, refs):
        return [f"192.0.2.7:5 for 95 s on {ref.balancer}" for ref in refs]
