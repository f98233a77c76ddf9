"""A balancer that can't be asked is left out only where it is seen to serve nobody."""

from dataclasses import replace

import pytest

from fabfile.balancers.haproxy.configured import frontends
from fabfile.drivers import without as w
from fabfile.errors import BadInput, PreflightFailed, RemoteError
from tests.unit.drivers import fakes
from tests.unit.drivers.fakes import Fleet

CONFIG = """\
frontend users
    bind *:80,:81
    bind 10.9.9.9:443 ssl crt x.pem
    bind unix@/run/x.sock
    use_backend shop if { path / }
frontend others
    bind :9000
    default_backend other
listen shop
    bind 127.0.0.1:8000-8005
frontend maps
    bind [::]:8443
    use_backend %[str(x),map(/m)]
"""


def test_only_frontends_that_may_lead_to_the_backend_count():
    assert frontends(CONFIG, "shop") == (
        ("", 80), ("", 81), ("10.9.9.9", 443), ("127.0.0.1", 8000), ("", 8443),
    )  # fmt: skip
    assert frontends("", "shop") == ()


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


class World:
    """lb2 is dead; what connects is what a test says."""

    def __init__(self, tmp_path, monkeypatch):
        self.inventory = fakes.inventory(tmp_path)
        self.fleet = Fleet(self.inventory)
        self.fleet["lb2"].down = True
        self.fleet["lb1"].on("^cat ", CONFIG)
        for name in ("web1", "web2"):
            self.fleet[name].on("curl", "closed\n")
        self.tried, self.told, self.open_here = [], [], False
        monkeypatch.setattr(w, "_connects", self._connects)
        monkeypatch.setattr(w, "BalancerHand", self._hand)
        self.alive = set()

    def _connects(self, spot):
        self.tried.append(spot)
        return self.open_here

    def _hand(self, balancer, *_):
        return Hand(balancer.id in self.alive)

    def check(self, service=fakes.SHOP, **kwargs):
        outside = w.Outside(
            self.inventory, service, self.fleet.remotes,
            lambda event: self.told.append(event.text), ("web1", "web2"),
        )  # fmt: skip
        wanted = {"flag": "--without-balancer", "allow_loss": False} | kwargs
        outside.check(["lb2"], **wanted)


class Hand:
    def __init__(self, alive):
        self.alive = alive

    def read(self):
        if not self.alive:
            raise RemoteError("lb2", "gone")

    def close(self):
        pass


def test_a_closed_frontend_is_shown_from_here_and_from_the_application_hosts(world):
    world.check()
    (said,) = world.told
    assert said.startswith("goes on without lb2: nobody can connect to its frontend (")
    assert "tried from here, web1, web2" in said
    assert ("lb2", 80) in world.tried
    assert ("10.9.9.9", 443) not in world.tried, "its sibling's own address is not its own"
    assert ("lb2", 443) in world.tried
    assert "lb2:80" in world.fleet["web1"].scripts[0]


def test_a_frontend_that_answers_anybody_is_refused(world):
    world.fleet["web2"].on("curl", "open\n")
    with pytest.raises(PreflightFailed, match=r"lb2 can't be asked, .*still answers web2: stop it"):
        world.check()
    world.fleet["web2"].on("curl", "closed\n")
    world.open_here = True
    with pytest.raises(PreflightFailed, match="still answers here"):
        world.check()
    assert world.told == []


def test_where_no_host_could_try_nothing_is_shown(world):
    for name in ("web1", "web2"):
        world.fleet[name].on("curl", "curl is not installed\n", exit_code=1)
    with pytest.raises(PreflightFailed, match="no application host could try its frontend"):
        world.check()


def test_a_balancer_that_can_be_asked_is_not_left_out(world):
    world.alive.add("lb2")
    with pytest.raises(BadInput, match="--without-balancer: lb2 can be asked"):
        world.check(allow_loss=True)


def test_loss_that_is_accepted_needs_no_probe(world):
    world.open_here = True
    world.check(allow_loss=True)
    assert world.told == ["goes on without lb2: requests through it may be lost (--allow-loss)"]
    assert world.tried == []


def test_its_own_configuration_tells_where_it_would_listen(world):
    world.fleet["lb2"].down = False
    world.fleet["lb2"].on("^cat ", "frontend f\n bind 10.0.0.7:8080\n default_backend shop\n")
    world.check()
    assert set(world.tried) == {("lb2", 8080), ("10.0.0.7", 8080)}


def test_a_port_that_nobody_knows_is_not_guessed(world):
    world.fleet["lb1"].on("^cat ", exit_code=1)
    with pytest.raises(PreflightFailed, match="nobody knows on which port"):
        world.check()


def test_what_we_provision_says_where_it_listens(world, tmp_path):
    world.fleet["lb1"].on("^cat ", exit_code=1)
    ours = replace(fakes.EDGE, template=tmp_path / "x", bind="*:8081")
    world.check(replace(fakes.SHOP, balancers=(ours,)))
    assert world.tried == [("lb2", 8081)]


def test_names_may_be_repeated_or_listed():
    assert w.split(["lb1, lb2", "lb1", ""]) == ("lb1", "lb2")


def test_a_name_keeps_its_meaning_when_another_one_is_left_out():
    two = (fakes.EDGE, replace(fakes.EDGE, backend="api"))
    service = replace(fakes.SHOP, balancers=two, without=("lb2/shop",))
    assert {b.id for b in service.balancers_of("web1")} == {"lb1/shop", "lb1/api", "lb2/api"}
    assert w.named(service, ["lb2"]) == ("lb2/shop", "lb2/api")
