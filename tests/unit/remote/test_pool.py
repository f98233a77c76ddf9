"""If these fail, a failed host hides others, or connections multiply."""

import threading
from pathlib import Path

import pytest

from fabfile.errors import BadInput, Unreachable
from fabfile.inventory.model import Host, Inventory
from fabfile.remote.base import Command
from fabfile.remote.fake import FakeTransport
from fabfile.remote.pool import Remotes

NAMES = tuple(f"web{n}" for n in range(1, 31))
INVENTORY = Inventory(
    Path("/srv/hosts.yaml"), {name: Host(name, "10.0.0.1", "10.0.0.1") for name in NAMES}, {}, {}
)


class Fleet:
    """Makes fakes and counts how many connect at the same time."""

    def __init__(self, *down: str) -> None:
        self.down = down
        self.made: dict[str, FakeTransport] = {}
        self.entries: list[Host] = []
        self.most = self._now = 0
        self._lock = threading.Lock()

    def make(self, entry: Host) -> FakeTransport:
        fleet = self

        class Counted(FakeTransport):
            def connect(self) -> None:
                with fleet._lock:
                    fleet._now += 1
                    fleet.most = max(fleet.most, fleet._now)
                try:
                    threading.Event().wait(0.01)
                    super().connect()
                finally:
                    with fleet._lock:
                        fleet._now -= 1

        assert entry.name not in self.made, "a second connection to one host"
        self.entries.append(entry)
        self.made[entry.name] = Counted(entry.name)
        self.made[entry.name].on("true")
        self.made[entry.name].down = entry.name in self.down
        return self.made[entry.name]


def test_every_host_that_cannot_be_reached_is_named_and_the_others_are_connected() -> None:
    fleet = Fleet("web7", "web3")
    remotes = Remotes(INVENTORY, make=fleet.make)
    failed = remotes.connect(NAMES)
    assert list(failed) == ["web3", "web7"]
    assert all(isinstance(error, Unreachable) for error in failed.values())
    assert set(fleet.made) == set(remotes.names) == set(NAMES)
    assert fleet.most > 10


def test_who_starts_many_waits_for_none_and_hears_of_each_that_can_not_be_reached() -> None:
    fleet = Fleet("web1")
    remotes = Remotes(INVENTORY, make=fleet.make)
    fleet_of = [remotes.start(name, Command("true", label="look")) for name in ("web1", "web2")]
    refused, other = (running.wait() for running in fleet_of)
    assert (refused.host, refused.exit_code, refused.label) == ("web1", None, "look")
    assert "connection refused" in refused.stderr
    assert other.ok
    with pytest.raises(BadInput, match="web99"):
        remotes.start("web99", Command("true"))


def test_two_names_for_one_address_are_two_hosts() -> None:
    remotes = Remotes(INVENTORY, make=Fleet().make)
    assert remotes.get("web1") is remotes.get("web1")
    assert remotes.get("web1") is not remotes.get("web2")


def test_many_threads_share_one_connection_to_a_host() -> None:
    remotes = Remotes(INVENTORY, make=Fleet().make)
    got: list[object] = []
    threads = [threading.Thread(target=lambda: got.append(remotes.get("web1"))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 20
    assert len(set(map(id, got))) == 1


def test_a_host_that_was_down_is_tried_again_when_it_is_asked_for_again() -> None:
    fleet = Fleet("web1")
    remotes = Remotes(INVENTORY, make=fleet.make)
    assert remotes.connect(["web1"])
    fleet.made["web1"].down = False
    assert remotes.get("web1").name == "web1"


def test_an_unknown_name_is_refused_before_anything_is_contacted() -> None:
    fleet = Fleet()
    with pytest.raises(BadInput, match="web99"):
        Remotes(INVENTORY, make=fleet.make).connect(["web1", "web99"])
    assert not fleet.made


def test_a_host_outside_the_inventory_can_be_given_by_address() -> None:
    fleet = Fleet()
    Remotes(INVENTORY, make=fleet.make).get("root@10.9.9.9:2222")
    (entry,) = fleet.entries
    assert (entry.name, entry.address) == ("root@10.9.9.9:2222", "10.9.9.9")
    assert (entry.ssh.user, entry.ssh.port, entry.ssh.host_keys) == ("root", 2222, "strict")


def test_closing_closes_every_connection_and_never_raises() -> None:
    fleet = Fleet()
    with Remotes(INVENTORY, make=fleet.make) as remotes:
        remotes.connect(["web1", "web2"])
        fleet.made["web1"].close = lambda: 1 / 0  # type: ignore[assignment,method-assign,return-value]
    assert fleet.made["web2"].closed
