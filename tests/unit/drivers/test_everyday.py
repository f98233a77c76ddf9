"""Logs and commands over a fleet of fakes: what is said, in which order, and what is not lost."""

import pytest

from fabfile.drivers.everyday import inside, logs, picking
from fabfile.drivers.everyday import streams as streams_module
from fabfile.errors import BadInput
from fabfile.remote.fake import FakeStream
from tests.unit.drivers import fakes
from tests.unit.drivers.fakes import SHOP, Fleet

ON = [instance for host in SHOP.hosts for instance in SHOP.instances_on(host)]


@pytest.fixture
def fleet(tmp_path):
    return Fleet(fakes.inventory(tmp_path))


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(streams_module, "AGAIN", 0.01)


def stamp(second):
    return f"2026-11-20T10:00:{second:02}.000000000Z"


def test_logs_of_several_hosts_are_merged_by_time_and_what_failed_is_told(fleet):
    fleet["web1"].on("docker logs", f"app_1 {stamp(1)} a\napp_1  at x\napp_1 {stamp(4)} d\n")
    fleet["web2"].on("docker logs", f"app_1 {stamp(2)} c\n", stderr="app_2 has no container\n")
    lines, problems = logs.read(SHOP, ON, fleet.remotes, logs.Wanted())
    assert [line.text for line in lines] == ["a", " at x", "c", "d"]
    assert problems == ["web2: app_2 has no container"]


def test_a_host_out_of_reach_leaves_the_others_logs_readable(fleet):
    fleet["web1"].on("docker logs", f"app_1 {stamp(1)} a\n")
    fleet["web2"].down = True
    lines, problems = logs.read(SHOP, ON, fleet.remotes, logs.Wanted())
    assert [line.text for line in lines] == ["a"]
    assert len(problems) == 1
    assert problems[0].startswith("web2: ")


def test_a_connection_that_breaks_loses_no_line_and_repeats_none(fleet):
    fleet["web1"].streams = [
        FakeStream([f"app_1 {stamp(1)} a\napp_1 {stamp(2)} b", "\n", None]),
        FakeStream([f"app_1 {stamp(2)} b\napp_1 {stamp(3)} c\n"]),
    ]
    said = list(logs.follow(SHOP, ON[:1], fleet.remotes, logs.Wanted(tail="5")))
    texts = [one if isinstance(one, str) else one.text for one in said]
    assert texts[:2] == ["a", "b"]
    assert "the connection broke" in texts[2]
    assert texts[3:] == ["web1: answers again", "c"]
    first, second = fleet["web1"].scripts
    assert "tail=5" in first
    assert f"since={stamp(2)}" in second


@pytest.mark.parametrize(
    ("since", "tail", "wanted"),
    [
        ("", "", ("", "100")),
        ("10m", "", ("600.000s", "all")),
        ("2026-01-31T14:00:00Z", "7", ("2026-01-31T14:00:00Z", "7")),
        ("", "all", ("", "all")),
    ],
)
def test_how_much_of_the_logs(since, tail, wanted):
    found = logs.wanted(since, tail)
    assert (found.since, found.tail) == wanted


def test_each_containers_end_is_told_and_a_host_that_breaks_off_is_no_success(fleet):
    ended = FakeStream(["app_1 hello\n"])
    ended.read = (lambda pieces: lambda _seconds: next(pieces))(
        iter([(b"app_1 hello\n", b""), (b"", b"exit app_1 3\n"), None])
    )
    fleet["web1"].streams = [ended]
    fleet["web2"].streams = [FakeStream(["app_1 half\n", None])]
    said = list(inside.run(SHOP, ON, fleet.remotes, "true"))
    codes = {one.host: one.code for one in said if isinstance(one, inside.Ended)}
    assert codes == {"web1": 3, "web2": inside.NOT_RUN}
    lost = next(one for one in said if isinstance(one, inside.Ended) and one.host == "web2")
    assert "nothing is known of app_1" in lost.why


def test_instances_are_named_by_themselves_their_host_or_their_server():
    def ids(*names, servers=()):
        return [i.id for i in picking.instances(SHOP, SHOP.hosts, names, servers)]

    assert ids() == ["web1/app_1", "web2/app_1"]
    assert ids("app_1") == ["web1/app_1", "web2/app_1"]
    assert ids("web2/app_1") == ["web2/app_1"]
    assert ids(servers=["shop/web1_app_1"]) == ids(servers=["web1_app_1"]) == ["web1/app_1"]
    with pytest.raises(BadInput, match="--instance: no instance 'app_7'(.|\n)*--server: no server"):
        ids("app_1,app_7", servers=["x"])
