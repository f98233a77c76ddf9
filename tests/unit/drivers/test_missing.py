"""An unfinished rollout ends without what is gone, and without that alone."""

from dataclasses import replace

import pytest

from fabfile.balancers.model import BackendReading, ServerRecord, ServerRef
from fabfile.drivers import missing as m
from fabfile.drivers.dropping import Dropping
from fabfile.errors import BadInput, PreflightFailed
from fabfile.inventory.model import Instance
from fabfile.rollout.plan import Plan
from fabfile.rollout.recovery import FoundServer
from tests.unit.drivers import fakes
from tests.unit.drivers.fakes import FakePool, Fleet, server, target


def ref(host, balancer):
    return ServerRef(balancer, "shop", f"{host}_app_1")


def plan(*hosts, balancers=("lb1", "lb2"), **changes):
    hosts = hosts or ("web1", "web2")
    targets = [
        target(
            *(ServerRecord(ref(h, b), 100, "ready", 7) for b in balancers),
            instance=Instance("shop", h, 1, 3001),
        )
        for h in hosts
    ]
    return fakes.plan(
        *targets,
        batches=tuple((h,) for h in hosts),
        baseline=tuple(r for t in targets for r in t.servers),
        policy=fakes.SHOP.rollout,
        **changes,
    )


class Outside:
    """Balancers in ``alive`` can be asked."""

    def __init__(self, *alive):
        self.alive, self.checked, self.told = alive, [], []

    def check(self, ids, *, flag, allow_loss):
        self.checked += [(name, flag, allow_loss) for name in ids]
        for name in ids:
            if name in self.alive:
                raise BadInput(f"{flag}: {name} can be asked")

    def answers(self, balancer):
        return balancer.id in self.alive

    def emit(self, event):
        self.told.append(event.text)


def missing(the_plan, *drop, without=(), unreachable=(), outside=None, service=fakes.SHOP):
    gone = m.Gone(drop, without)
    return m.missing(the_plan, service, gone, unreachable, outside or Outside())


def test_nothing_is_missing_where_all_of_it_is_there():
    assert missing(plan()) == m.Missing()


def test_a_name_that_nobody_knows_is_told_with_those_that_are():
    with pytest.raises(BadInput) as caught:
        missing(plan(), "web9")
    assert str(caught.value) == (
        "--drop: web9 is neither in the rollout nor in the inventory: web1, web2, lb1, lb2"
    )
    with pytest.raises(BadInput, match="--without-balancer: web1 is neither"):
        missing(plan(), without=("web1",))


def test_what_vanished_from_the_inventory_is_dropped_by_name_only():
    found = plan("web1", "web2", "web7", balancers=("lb1", "lb9"))
    with pytest.raises(BadInput) as caught:
        missing(found)
    assert "web7, lb9" in str(caught.value)
    assert "--drop web7 --drop lb9" in str(caught.value)
    outside = Outside("lb1", "lb2")
    assert missing(found, "web7", "lb9", outside=outside) == m.Missing(("web7",), ("lb9",))
    assert outside.checked == [], "nobody knows where it was"


def test_a_host_that_can_be_reached_is_not_given_up():
    with pytest.raises(BadInput, match="--drop: web2 can be reached"):
        missing(plan(), "web2")
    assert missing(plan(), "web2", unreachable=["web2"]).hosts == ("web2",)


def test_a_balancer_is_given_up_only_where_it_serves_nobody():
    outside = Outside("lb1")
    assert missing(plan(), "lb2", outside=outside) == m.Missing((), ("lb2",))
    assert outside.checked == [("lb2", "--drop", False)]
    with pytest.raises(BadInput, match="lb1 can be asked"):
        missing(plan(), "lb1", outside=outside)


def test_one_that_was_left_out_stays_so_until_it_answers():
    left_out = plan(balancers=("lb1",), without=("lb2",))
    outside = Outside("lb1")
    assert missing(left_out, outside=outside) == m.Missing((), (), ("lb2",))
    assert outside.checked == [("lb2", "--drop", False)]
    assert missing(left_out, outside=Outside("lb1", "lb2")) == m.Missing()


def test_the_rest_of_the_plan_knows_nothing_of_what_is_gone():
    rest = m.reduced(plan(), m.Missing(("web2",), ("lb2",)))
    assert [t.instance.id for t in rest.targets] == ["web1/app_1"]
    assert rest.batches == (("web1",),)
    assert {r.ref for r in rest.baseline} == {ref("web1", "lb1")}
    assert {r.ref for t in rest.targets for r in t.servers} == {ref("web1", "lb1")}
    assert rest.dropped == ("web2", "lb2")
    assert Plan.from_json(rest.to_json()) == rest


def test_one_that_is_back_counts_and_is_drained_like_the_others():
    readings = {
        name: BackendReading(name, 7, {f"{h}_app_1": server(uweight=40) for h in ("web1", "web2")})
        for name in ("lb1", "lb2")
    }
    found, new = m.joined(plan(balancers=("lb1",)), fakes.SHOP, readings)
    assert new == ["lb2"]
    for one, host in zip(found.targets, ("web1", "web2"), strict=True):
        assert one.refs == (ref(host, "lb1"), ref(host, "lb2"))
        assert one.servers[1].uweight == 40
    assert len(found.baseline) == 4
    assert m.joined(plan(), fakes.SHOP, readings) == (plan(), [])


def test_what_hosts_yaml_says_otherwise_today_is_listed():
    today = replace(
        fakes.SHOP,
        instances=2,
        rollout=replace(fakes.SHOP.rollout, min_capacity=80),
        drain=replace(fakes.SHOP.drain, timeout=99.0),
    )
    lines = m.differences(plan("web1"), today)
    assert any("web2: in hosts.yaml, but not in this rollout" in line for line in lines)
    assert any("1 instances in this rollout, 2 in hosts.yaml" in line for line in lines)
    assert any("rollout.min_capacity: 50 in this rollout, 80 in hosts.yaml" in x for x in lines)
    assert any(line.startswith("drain.timeout: ") for line in lines)
    assert m.differences(plan(), fakes.SHOP) == []


# what a dropped host leaves behind


def give_up(tmp_path, shown, record="open", *, dry=False, undo=None):
    fleet = Fleet(fakes.inventory(tmp_path))
    fleet.on("")
    pool = FakePool(lb1=[shown, server()], lb2=[shown, server()])
    pool.shows = {n: [server(name="web2_app_1")] for n in ("lb1", "lb2")}
    said = []
    servers = {ref("web2", b): FoundServer(record, shown, undo) for b in ("lb1", "lb2")}
    work = Dropping(
        plan(), pool, fleet.remotes, lambda _host, _keys, effect: effect, servers, said.append
    )
    work.give_up(("web2",), ("lb2",), dry=dry)
    return pool, said, fleet


OUT = server(name="web2_app_1", admin="maint", uweight=0, weight=0, up=False)


def test_its_servers_get_their_weight_back_and_checks_keep_them_out(tmp_path):
    pool, said, fleet = give_up(tmp_path, OUT)
    (change,) = pool.changes
    assert list(change) == ["lb1"], "lb2 is gone itself"
    assert change["lb1"] == [
        "set server shop/web2_app_1 state drain",
        "set server shop/web2_app_1 health down",
        "set server shop/web2_app_1 weight 100",
        "set server shop/web2_app_1 state ready",
    ]
    assert any("done/server.shop.web2_app_1.json" in script for script in fleet["lb1"].scripts)
    assert "web2/app_1: given up, whatever it runs when its host is back" in said
    assert said[-1] == (
        "lb1:shop/web2_app_1: weight 100 again; its checks keep it out until it answers"
    )
    assert said[0] == "lb2: 2 servers of this rollout stay there as they are"


def test_a_server_without_checks_stays_in_maint_and_recorded(tmp_path):
    pool, said, fleet = give_up(tmp_path, replace(OUT, checked=False))
    assert pool.changes == [{"lb1": ["set server shop/web2_app_1 state maint"]}]
    assert fleet["lb1"].scripts == []
    assert "stays in maint, because HAProxy does not check it" in said[-1]


def test_what_was_never_taken_out_is_left_alone(tmp_path):
    for record in ("absent", "done"):
        assert give_up(tmp_path, OUT, record)[0].changes == []
    assert give_up(tmp_path, OUT, dry=True)[0].changes == []


def test_a_balancer_that_does_not_answer_has_to_be_dropped_too(tmp_path):
    work = Dropping(
        plan(), FakePool(lb1=[OUT]), None, None, {ref("web2", "lb1"): FoundServer("open", None)},
        lambda _: None,
    )  # fmt: skip
    with pytest.raises(PreflightFailed, match="lb1 can't be asked: .*--drop lb1"):
        work.give_up(("web2",), (), dry=False)
