"""If these fail, a user could log in to a machine that only pretends to be theirs."""

import base64
import hashlib
import hmac
from pathlib import Path

import paramiko
import pytest

from fabfile.errors import HostKeyRefused
from fabfile.inventory.model import HostKeys
from fabfile.remote.hostkeys import (
    HostKeyPolicy,
    fingerprint,
    known_hosts_files,
    preferred_key_types,
)

KEY = paramiko.ECDSAKey.generate()
OTHER = paramiko.ECDSAKey.generate()
RSA = paramiko.RSAKey.generate(2048)


def line(names: str, key: paramiko.PKey = KEY) -> str:
    return f"{names} {key.get_name()} {key.get_base64()}\n"


def judge(
    file: Path,
    *,
    key: paramiko.PKey = KEY,
    mode: HostKeys = "strict",
    port: int = 22,
    alias: str | None = None,
) -> None:
    policy = HostKeyPolicy("web1", "10.0.0.11", port, mode, (file,), alias)
    policy.missing_host_key(None, "ignored", key)


@pytest.fixture
def known(tmp_path: Path) -> Path:
    return tmp_path / "ssh" / "known_hosts"


@pytest.fixture
def written(known: Path) -> Path:
    known.parent.mkdir()
    return known


def hashed(name: str) -> str:
    salt = b"0123456789abcdefghij"
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize(
    ("names", "port"),
    [
        ("10.0.0.11", 22),
        ("web1,10.0.0.11", 22),
        ("10.0.0.*", 22),
        ("[10.0.0.11]:2222", 2222),
        ("10.0.0.11", 2222),
        (hashed("10.0.0.11"), 22),
        (hashed("[10.0.0.11]:2222"), 2222),
    ],
)
def test_a_key_on_file_is_accepted(written: Path, names: str, port: int) -> None:
    written.write_text("# a comment\n\nnonsense\n" + line(names))
    judge(written, port=port)


@pytest.mark.parametrize("names", ["10.0.0.12", "*,!10.0.0.11", "[10.0.0.11]:2222", "|1|x|y"])
def test_an_unknown_key_is_refused_with_its_fingerprint_and_what_to_do(
    written: Path, names: str
) -> None:
    written.write_text(line(names))
    with pytest.raises(HostKeyRefused) as refused:
        judge(written)
    text = str(refused.value)
    assert text.startswith("web1: host key ECDSA SHA256:")
    assert fingerprint(KEY.asbytes()) in text
    assert f"ssh-keyscan -p 22 10.0.0.11 >> {written}" in text
    assert "\n" not in text


@pytest.mark.parametrize("mode", ["strict", "accept-new"])
def test_a_changed_key_is_refused_and_both_fingerprints_are_named(
    written: Path, mode: HostKeys
) -> None:
    written.write_text("\n" + line("10.0.0.11", OTHER))
    with pytest.raises(HostKeyRefused) as refused:
        judge(written, mode=mode)
    text = str(refused.value)
    assert fingerprint(KEY.asbytes()) in text
    assert f"{fingerprint(OTHER.asbytes())}, {written}:2" in text
    assert f"ssh-keygen -R 10.0.0.11 -f {written}" in text
    assert written.read_text() == "\n" + line("10.0.0.11", OTHER)


def test_a_key_of_another_type_than_the_one_on_file_is_no_new_host(written: Path) -> None:
    written.write_text(line("10.0.0.11", RSA))
    with pytest.raises(HostKeyRefused, match="NOT the one on file"):
        judge(written, mode="accept-new")


def test_a_revoked_key_is_refused_even_where_it_is_also_listed(written: Path) -> None:
    written.write_text(line("10.0.0.11") + "@revoked " + line("*"))
    with pytest.raises(HostKeyRefused, match="@revoked"):
        judge(written)


def test_accept_new_writes_the_key_down_once_and_holds_the_host_to_it(known: Path) -> None:
    judge(known, mode="accept-new", port=2222)
    judge(known, mode="strict", port=2222)
    assert known.read_text() == line("[10.0.0.11]:2222")
    with pytest.raises(HostKeyRefused):
        judge(known, mode="accept-new", port=2222, key=OTHER)


def test_accept_new_does_not_glue_its_line_to_an_unfinished_one(written: Path) -> None:
    written.write_text(line("elsewhere").rstrip("\n"))
    judge(written, mode="accept-new")
    assert written.read_text() == line("elsewhere") + line("10.0.0.11")


def test_off_accepts_anything_and_writes_nothing(known: Path) -> None:
    judge(known, mode="off")
    assert not known.exists()


def test_an_alias_is_looked_up_instead_of_the_address_and_without_a_port(written: Path) -> None:
    written.write_text(line("the-alias"))
    judge(written, port=2222, alias="the-alias")


def test_a_server_is_asked_for_the_type_of_key_that_is_on_file() -> None:
    supported = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256")
    assert preferred_key_types(["ssh-rsa"], supported) == (
        "rsa-sha2-512",
        "rsa-sha2-256",
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
    )
    assert preferred_key_types([], supported) == supported


def test_a_known_hosts_file_of_the_inventory_stands_alone() -> None:
    own = Path("/srv/known_hosts")
    assert known_hosts_files(own, "/else") == (own,)
    assert known_hosts_files(None, "/a /b")[:2] == (Path("/a"), Path("/b"))
    assert known_hosts_files(None, None)[0] == Path("~/.ssh/known_hosts").expanduser()
