"""If these fail, connections go to the wrong place, or jump hosts are flooded."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from fabfile.errors import BadInput, Unreachable
from fabfile.inventory.model import Host, Ssh
from fabfile.remote.connection import HostConnection
from fabfile.remote.dialer import Dialer, host_at, is_address


@pytest.fixture
def ssh_config(tmp_path: Path) -> Path:
    return tmp_path / "ssh_config"


def host(name: str, address: str | None = None, **ssh: object) -> Host:
    settings = Ssh(**ssh)  # type: ignore[arg-type]
    return Host(name, address or name, address or name, settings)


def dial(entry: Host, *others: Host) -> HostConnection:
    known: Mapping[str, Host] = {one.name: one for one in (entry, *others)}
    return Dialer(known.get).connection(entry)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("deploy@10.0.0.1", ("deploy", "10.0.0.1", None)),
        ("10.0.0.1:2222", (None, "10.0.0.1", 2222)),
        ("deploy@web1.example:22", ("deploy", "web1.example", 22)),
        ("deploy@[fe80::1%eth0]:22", ("deploy", "fe80::1%eth0", 22)),
    ],
)
def test_addresses_are_read_as_ssh_users_write_them(
    text: str, parts: tuple[str | None, str, int | None]
) -> None:
    assert is_address(text)
    entry = host_at(text)
    assert (entry.ssh.user, entry.address, entry.ssh.port) == parts


@pytest.mark.parametrize("text", ["a b@c", "@x", "x:", "x:99999", "x:0", "a@b@c", "::1:22", "x:y"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="no host"):
        host_at(text)


def test_settings_of_the_inventory_reach_the_connection(tmp_path: Path) -> None:
    key = tmp_path / "key"
    made = dial(host("web1", "10.0.0.11", user="deploy", port=2222, identity_file=key))
    assert (made.host, made.user, made.port) == ("10.0.0.11", "deploy", 2222)
    assert made.connect_kwargs["key_filename"] == [str(key)]
    assert made.policy.known_as == "[10.0.0.11]:2222"


def test_ssh_config_is_honoured_and_the_inventory_wins(ssh_config: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch()
    ssh_config.write_text(
        f"Host web*\n HostName 10.1.1.1\n User ops\n Port 2200\n HostKeyAlias fleet\n"
        f" IdentityFile {key}\n IdentityFile {tmp_path}/missing\n"
    )
    made = dial(host("one", "web1", config_file=ssh_config))
    assert (made.host, made.user, made.port) == ("10.1.1.1", "ops", 2200)
    assert made.connect_kwargs["key_filename"] == [str(key)]
    assert made.policy.known_as == "fleet"
    assert dial(host("one", "web1", config_file=ssh_config, user="me")).user == "me"


def test_an_ssh_config_that_is_missing_is_named(ssh_config: Path) -> None:
    with pytest.raises(Unreachable, match=f"web1: cannot read {ssh_config}"):
        dial(host("web1", config_file=ssh_config))


def test_hosts_behind_one_gateway_share_one_connection_to_it() -> None:
    bastion = host("bastion", "10.0.0.1", user="jump", port=2222)
    hosts = [host(f"web{n}", f"10.0.1.{n}", gateway="bastion") for n in range(3)]
    dialer = Dialer({"bastion": bastion}.get)
    gateways = {id(dialer.connection(one).gateway) for one in hosts}
    assert len(gateways) == 1
    gateway = dialer.connection(hosts[0]).gateway
    assert (gateway.host, gateway.user, gateway.port) == ("10.0.0.1", "jump", 2222)


def test_a_gateway_given_by_address_takes_key_and_files_but_not_the_user_from_its_target(
    tmp_path: Path,
) -> None:
    own = tmp_path / "known_hosts"
    target = host("web1", user="deploy", port=2200, gateway="jump@gw:2222", known_hosts=own)
    gateway = dial(target).gateway
    assert (gateway.user, gateway.host, gateway.port) == ("jump", "gw", 2222)
    assert gateway.policy.files == (own,)
    assert gateway.gateway is False


def test_proxyjump_of_ssh_config_is_a_shared_gateway_too(ssh_config: Path) -> None:
    ssh_config.write_text("Host *\n ProxyJump outer,ops@inner:2200\n")
    dialer = Dialer(lambda _: None)
    one, two = (dialer.connection(host(n, config_file=ssh_config)) for n in ("web1", "web2"))
    assert one.gateway is two.gateway
    assert (one.gateway.host, one.gateway.user, one.gateway.port) == ("inner", "ops", 2200)
    # "Host *" speaks of the jump hosts too; they are reached as the chain says.
    assert one.gateway.gateway.host == "outer"
    assert one.gateway.gateway.gateway is False


def test_proxyjump_none_means_none(ssh_config: Path) -> None:
    ssh_config.write_text("Host *\n ProxyJump none\n")
    assert dial(host("web1", config_file=ssh_config)).gateway is False


def test_gateways_in_a_circle_are_named() -> None:
    one, two = host("one", gateway="two"), host("two", gateway="one")
    with pytest.raises(Unreachable, match=r"one: .*circle: one -> two -> one"):
        dial(one, two)
