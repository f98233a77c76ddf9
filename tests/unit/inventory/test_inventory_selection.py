"""-H and --service reach the hosts a person meant, or nothing at all."""

from pathlib import Path

import pytest

from fabfile.errors import BadInput
from fabfile.inventory.loader import find
from fabfile.inventory.model import Inventory
from fabfile.inventory.selection import direct_host, select_hosts, select_service


@pytest.fixture
def inventory(load_text) -> Inventory:
    return load_text("""
        version: 1
        hosts: {web1: {address: a}, web2: {address: b}, lb1: {address: c}, db1: {address: d}}
        groups:
          web: {hosts: [web1, web2]}
          zone-a: {hosts: [lb1, web2]}
          data: {hosts: [db1]}
        services:
          shop: {group: web, image: shop}
          cart: {group: data, image: cart}
    """)


def test_without_names_a_service_means_its_group(inventory: Inventory) -> None:
    assert select_hosts(inventory, inventory.services["shop"], []) == ("web1", "web2")
    assert select_hosts(inventory, None, []) == ("web1", "web2", "lb1", "db1")


def test_names_keep_their_order_and_count_once(inventory: Inventory) -> None:
    shop = inventory.services["shop"]
    assert select_hosts(inventory, shop, ["web2", " web1", "web2"]) == ("web2", "web1")


def test_a_group_stands_for_its_hosts_of_the_service(inventory: Inventory) -> None:
    shop = inventory.services["shop"]
    assert select_hosts(inventory, shop, ["zone-a"]) == ("web2",)
    assert select_hosts(inventory, shop, ["all"]) == ("web1", "web2")
    assert select_hosts(inventory, None, ["zone-a", "db1"]) == ("web2", "lb1", "db1")
    with pytest.raises(BadInput, match=r"^-H: no host of group data runs shop$"):
        select_hosts(inventory, shop, ["data"])


def test_every_wrong_name_is_said_and_none_is_let_through(inventory: Inventory) -> None:
    with pytest.raises(BadInput) as caught:
        select_hosts(inventory, inventory.services["shop"], ["web1", "wbe2", "db1", "me@x:22"])
    assert str(caught.value).splitlines() == [
        "-H: no host 'wbe2' in hosts.yaml (did you mean web2?)",
        "-H: db1 is not one of the hosts of shop (there are web1, web2)",
        "-H: me@x:22 is not one of the hosts of shop: use a name of the inventory",
    ]


def test_an_empty_choice_is_not_all_hosts(inventory: Inventory) -> None:
    for names in ([""], [" ", ""]):
        with pytest.raises(BadInput, match=r"^-H: names no host$"):
            select_hosts(inventory, inventory.services["shop"], names)


def test_an_address_is_taken_as_it_is_where_no_service_is_meant(inventory: Inventory) -> None:
    assert select_hosts(inventory, None, ["me@10.0.0.5:2222"]) == ("me@10.0.0.5:2222",)
    host = direct_host("me@10.0.0.5:2222")
    assert host is not None
    assert (host.address, host.ssh.user, host.ssh.port) == ("10.0.0.5", "me", 2222)
    assert host.ssh.host_keys == "strict"
    assert direct_host("web1") is None


def test_the_service_is_named_only_where_there_is_a_choice(inventory: Inventory, load_text) -> None:
    with pytest.raises(BadInput, match=r"^--service is needed, there are 2: shop, cart$"):
        select_service(inventory, None)
    assert select_service(inventory, "cart").name == "cart"
    with pytest.raises(BadInput, match=r"^--service: no service 'shpo' \(did you mean shop\?\)"):
        select_service(inventory, "shpo")
    single = load_text("""
        version: 1
        hosts: {a: {address: a}}
        groups: {g: {hosts: [a]}}
        services: {only: {group: g, image: i}}
    """)
    assert select_service(single, None).name == "only"
    with pytest.raises(BadInput, match=r"describes no service"):
        select_service(load_text("version: 1\nhosts: {a: {address: a}}"), None)


@pytest.fixture
def places(tmp_path: Path) -> Path:
    for folder in ("flag", "variable", "project/deep/er", "shipped", "empty"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("flag", "variable", "project", "shipped"):
        (tmp_path / folder / "hosts.yaml").touch()
    return tmp_path


def test_the_flag_wins_then_the_variable_then_the_folders_then_ours(places: Path) -> None:
    deep, shipped = places / "project/deep/er", places / "shipped/hosts.yaml"
    environ = {"EVENKEEL_INVENTORY": str(places / "variable/hosts.yaml")}
    flag = places / "flag/hosts.yaml"
    assert find(str(flag), environ, deep, shipped) == flag
    assert find(None, environ, deep, shipped) == places / "variable/hosts.yaml"
    assert find(None, {"EVENKEEL_INVENTORY": ""}, deep, shipped) == places / "project/hosts.yaml"
    assert find(None, {}, places / "empty", shipped) == shipped


def test_a_folder_may_be_named_and_names_start_at_the_working_folder(places: Path) -> None:
    found = find("flag", {}, places, places / "shipped")
    assert found == places / "flag/hosts.yaml"
    assert find(None, {}, places / "empty", places / "shipped") == places / "shipped/hosts.yaml"


def test_a_mistyped_inventory_never_falls_through_to_other_hosts(places: Path) -> None:
    with pytest.raises(BadInput, match=r"^--inventory: .*/nope\.yaml does not exist$"):
        find("nope.yaml", {}, places / "project", places / "shipped")
    with pytest.raises(BadInput, match=r"^EVENKEEL_INVENTORY: .*/nope does not exist$"):
        find(None, {"EVENKEEL_INVENTORY": "nope"}, places / "project", places / "shipped")
    with pytest.raises(BadInput, match=r"^--inventory: '~nobody-here/x': there is no such user"):
        find("~nobody-here/x", {}, places, places / "shipped")
    with pytest.raises(BadInput, match=r"^no hosts\.yaml in .*: name another one"):
        find(None, {}, places / "empty", places / "none")


def test_a_folder_above_that_may_not_be_entered_is_passed_over(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Path.is_file

    def denied(self: Path) -> bool:
        if self.parent == places / "project":
            raise PermissionError(13, "Permission denied")
        return plain(self)

    monkeypatch.setattr(Path, "is_file", denied)
    shipped = places / "shipped/hosts.yaml"
    assert find(None, {}, places / "project/deep", shipped) == shipped


def test_a_name_too_long_for_a_file_is_a_mistake_and_no_traceback(places: Path) -> None:
    with pytest.raises(BadInput, match=r"^--inventory: .*File name too long$"):
        find("x" * 300, {}, places, places / "shipped")
