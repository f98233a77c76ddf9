"""`inv init`: what it writes loads, and what it cannot write is one clear line and no file."""

import io
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fabfile.errors import BadInput
from fabfile.inventory import asking, foreign, starter
from fabfile.inventory.asking import Flags, Terminal
from fabfile.inventory.loader import load
from fabfile.inventory.model import Inventory
from fabfile.inventory.starter import SELF, Machine, Start, renamed, write

HOSTS = "web1=10.0.0.11,web2=deploy@10.0.0.12:2222"
IMAGE = "registry.example.com/shop"

NAMES = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,12}", fullmatch=True).filter(
    lambda name: name != "self"
)
WORDS = st.sampled_from(["null", "true", "no", "1e3", "0x16", "1.10", "22", "on", "y", "all", "~"])
ADDRESSES = st.one_of(
    st.ip_addresses().map(str),
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,30}", fullmatch=True),
)
MACHINES = st.builds(
    Machine,
    st.one_of(st.text(max_size=40), NAMES, WORDS),
    ADDRESSES,
    internal=st.one_of(st.just(""), ADDRESSES),
    port=st.one_of(st.none(), st.integers(1, 65535)),
    user=st.one_of(st.just(""), st.from_regex(r"[a-z0-9_][a-z0-9_.@$-]{0,8}", fullmatch=True)),
)


def apart(machines: list[Machine]) -> tuple[Machine, ...]:
    seen: dict[object, Machine] = {}
    for each in machines:
        seen.setdefault((starter.fields.address(each.address), each.port or 22), each)
    return renamed(seen.values())


@st.composite
def starts(draw: st.DrawFn) -> Start:
    found = apart(draw(st.lists(MACHINES, min_size=1, max_size=6)))
    cut = draw(st.integers(1, len(found)))
    balancers = draw(st.sampled_from([SELF, found[cut:], found[:1], ()]))
    instances = draw(st.integers(1, 1000))
    return Start(
        hosts=found[:cut],
        balancers=balancers,
        image=draw(st.sampled_from([IMAGE, "shop", "localhost:5000/a/b", "[::1]:5000/x", "1e3"])),
        service=draw(st.one_of(NAMES, st.sampled_from(["null", "1.10", "true"]))),
        group=draw(st.one_of(NAMES, st.just("web"))),
        edge=draw(st.one_of(NAMES, st.just("edge"))),
        instances=instances,
        publish=draw(st.integers(1, 65536 - instances)),
        port=draw(st.integers(1, 65535)),
        path=draw(st.from_regex(r"/[!-~]{0,9}", fullmatch=True)),
        user=draw(st.sampled_from(["", "deploy", "0", "null", "a@b"])),
        template=draw(st.booleans()),
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=starts())
def test_whatever_is_written_loads_and_says_what_was_asked_for(
    tmp_path: Path, start: Start
) -> None:
    inventory = load(write(start, tmp_path / "hosts.yaml", force=True))
    (service,) = inventory.services.values()
    assert service.name == start.service
    assert (service.image, service.instances) == (start.image, start.instances)
    assert (service.port, service.publish) == (start.port, start.publish)
    assert service.health.path == start.path
    assert set(service.hosts) == {each.name for each in start.hosts}
    for each in start.machines:
        host = inventory.hosts[each.name]
        assert host.address == starter.fields.address(each.address)
        assert host.ssh.port == each.port
        assert host.ssh.user == (each.user or start.user or None)
    if start.balancers:
        (spec,) = service.balancers
        names = {each.name for each in start.balancers if start.balancers != SELF}
        assert spec.hosts == SELF if start.balancers == SELF else set(spec.hosts) == names
        assert (spec.template is not None) == start.template


def init(tmp_path: Path, **flags: object) -> Inventory:
    said = {"hosts": HOSTS, "image": IMAGE, "output": str(tmp_path / "hosts.yaml"), **flags}
    return load(asking.init(Flags(**said), quiet()))  # type: ignore[arg-type]


def quiet(answers: str | None = None) -> Terminal:
    return Terminal(io.StringIO(answers or ""), io.StringIO(), answers is not None)


def refused(tmp_path: Path, **flags: object) -> list[str]:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BadInput) as caught:
        init(tmp_path, **flags)
    assert sorted(tmp_path.iterdir()) == before
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()


def test_two_hosts_and_a_balancer_are_a_whole_inventory(tmp_path: Path) -> None:
    inventory = init(tmp_path, balancers="lb1=10.0.0.21", service="shop")
    shop = inventory.services["shop"]
    assert shop.hosts == ("web1", "web2")
    assert shop.project_dir == "/srv/shop"
    assert inventory.hosts["web2"].ssh.user == "deploy"
    assert inventory.hosts["web2"].ssh.port == 2222
    (spec,) = shop.balancers
    assert (spec.hosts, spec.backend, spec.template) == (("lb1",), "shop", None)
    assert shop.rollout.min_capacity == 50


def test_what_is_written_explains_itself(tmp_path: Path) -> None:
    init(tmp_path, balancers="self", template=True)
    text = (tmp_path / "hosts.yaml").read_text()
    for word in ("# docker", "registry:", "secrets:", "min_capacity", "gateway", "haproxy.cfg.j2"):
        assert word.removeprefix("# docker") in text
    assert all(line == line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"hosts": ""}, "--hosts missing"),
        ({"hosts": "", "image": ""}, "--hosts and --image missing"),
        ({"image": "shop:1.0"}, "--image: leave the tag to --version"),
        ({"hosts": "10.0.0.1"}, "--hosts: 10.0.0.1: give it a name: web1=10.0.0.1"),
        ({"hosts": "web1=10.0.0.1:99999"}, "--hosts: the address holds a port"),
        ({"hosts": "Web=10.0.0.1"}, "--hosts: 'Web': not a good name"),
        ({"hosts": "=10.0.0.1"}, "--hosts: ''"),
        ({"hosts": "self=10.0.0.1"}, "--hosts: 'self'"),
        ({"hosts": "a=10.0.0.1,a=10.0.0.2"}, "--hosts: a is named twice"),
        ({"hosts": "a=10.0.0.1,b=10.0.0.1"}, "--hosts: a and b are the same machine"),
        ({"hosts": ","}, "--hosts: names no host"),
        ({"balancers": "lb1=10.0.0.11"}, "--balancers: web1 and lb1 are the same machine"),
        ({"instances": "0"}, "--instances: expected a whole number from 1 to 1000"),
        ({"instances": "x"}, "--instances: "),
        ({"port": "65536"}, "--port: "),
        ({"publish": "65535"}, "--publish: expected a whole number from 1 to 65534"),
        ({"service": "Shop!"}, "--service: 'Shop!': not a good name"),
        ({"user": "a b"}, "--user: "),
        ({"source": "/nowhere"}, "--from: /nowhere: No such file"),
        ({"output": "/nowhere/hosts.yaml"}, "--output: /nowhere/hosts.yaml: No such file"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_flag(
    tmp_path: Path, flags: dict[str, str], says: str
) -> None:
    (line,) = refused(tmp_path, **flags)
    assert line.startswith(says)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    assert len(refused(tmp_path, image="shop:1", port="x", service="S")) == 3


def test_a_file_that_is_there_is_kept_unless_forced(tmp_path: Path) -> None:
    place = tmp_path / "hosts.yaml"
    place.write_text("mine")
    (line,) = refused(tmp_path)
    assert "is there already" in line
    assert refused(tmp_path, output=str(tmp_path)) == [line], "the folder stands for its file"
    assert place.read_text() == "mine"
    assert init(tmp_path, force=True).services


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    place = tmp_path / "hosts.yaml"
    monkeypatch.setattr(starter, "_check", lambda _: place.write_text("somebody else's"))
    with pytest.raises(BadInput, match="is there already"):
        asking.init(Flags(hosts=HOSTS, image=IMAGE, output=str(place)), quiet())
    assert place.read_text() == "somebody else's"
    assert list(tmp_path.iterdir()) == [place]


def test_a_file_is_written_with_the_modes_of_others(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        init(tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / "hosts.yaml").stat().st_mode & 0o777 == 0o640


# Questions


def asked(tmp_path: Path, *answers: str, **flags: object) -> tuple[Inventory, str]:
    terminal = quiet("".join(f"{answer}\n" for answer in answers))
    output = str(tmp_path / "hosts.yaml")
    place = asking.init(Flags(output=output, **flags), terminal)  # type: ignore[arg-type]
    return load(place), terminal.screen.getvalue()  # type: ignore[attr-defined]


def test_on_a_terminal_everything_is_asked_for_with_a_default(tmp_path: Path) -> None:
    inventory, shown = asked(
        tmp_path, "", IMAGE, HOSTS, "self", "3", "", "", "deploy", "maybe", "yes"
    )
    service = inventory.services["app"]
    assert (service.instances, service.port, service.publish) == (3, 8080, 3001)
    assert service.balancers[0].hosts == "self"
    assert inventory.hosts["web1"].ssh.user == "deploy"
    assert service.balancers[0].template is not None
    assert "say yes or no" in shown
    assert "Instances on each host [2]: " in shown
    assert "fab" in shown.splitlines()[-1]


def test_a_wrong_answer_is_told_at_once_and_asked_for_again(tmp_path: Path) -> None:
    inventory, shown = asked(
        tmp_path, "shop", "", "shop:1", IMAGE, "10.0.0.1", HOSTS, "", "x", "2", "", "", ""
    )
    assert inventory.services["shop"].instances == 2
    assert inventory.hosts["web1"].ssh.user is None
    assert "leave the tag" in shown
    assert "give it a name" in shown


def test_only_what_is_missing_is_asked_for_beside_flags(tmp_path: Path) -> None:
    inventory, shown = asked(tmp_path, HOSTS, image=IMAGE)
    assert shown.count("]: ") + shown.count("): ") == 1
    assert inventory.services["app"].balancers == ()


def test_a_terminal_that_goes_away_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing was written"):
        asked(tmp_path, "shop")
    assert list(tmp_path.iterdir()) == []


# Hosts that are written down elsewhere

INI = """\
# a comment
bastion ansible_connection=local
[web]
web[01:02].example.com  ansible_user=www
Web3 ansible_host=10.0.0.13 ansible_port=2222  # a comment
[lb]
lb1:2022 ansible_host=10.0.0.21
[app:children]
web
[web:vars]
ansible_user=deploy
[all:vars]
ansible_user=root
ansible_ssh_private_key_file=~/.ssh/fleet
"""
YAML = """\
all:
  vars: {ansible_user: root, secret: !vault "x"}
  children:
    web:
      vars: {ansible_user: deploy}
      hosts:
        web1: {ansible_host: 10.0.0.11, ansible_port: 2222}
        web2:
    lb:
      hosts:
        lb[1:2].example.com:
"""
SSH = """\
Host *
    User root
Host web1 web2
    HostName %h.internal
    Port 2222
host = lb1
    hostname 10.0.0.21
Host web1
    HostName ignored
Host db-* !db-1
    HostName 10.9.9.9
Match host x
    HostName 10.8.8.8
"""


def known(tmp_path: Path, name: str, text: str) -> foreign.Foreign:
    path = tmp_path / name
    path.write_text(text)
    return foreign.read(path)


def test_an_ini_inventory_gives_hosts_groups_ports_and_users(tmp_path: Path) -> None:
    found = known(tmp_path, "hosts.ini", INI)
    by_name = {each.name: each for each in found.machines}
    assert list(by_name) == ["bastion", "web01.example.com", "web02.example.com", "web3", "lb1"]
    assert found.groups["app"] == ("web01.example.com", "web02.example.com", "web3")
    assert by_name["web01.example.com"].user == "www", "a host's own word counts most"
    assert by_name["web3"].user == "deploy", "then its group's"
    assert by_name["lb1"].user == "root", "then everybody's"
    assert (by_name["web3"].address, by_name["web3"].port) == ("10.0.0.13", 2222)
    assert by_name["lb1"].port == 2022
    assert by_name["lb1"].identity_file == "~/.ssh/fleet"
    assert by_name["bastion"].local


def test_a_yaml_inventory_gives_the_same(tmp_path: Path) -> None:
    found = known(tmp_path, "hosts.yml", YAML)
    by_name = {each.name: each for each in found.machines}
    assert (by_name["web1"].address, by_name["web1"].port) == ("10.0.0.11", 2222)
    assert by_name["web2"] == Machine("web2", "web2", user="deploy")
    assert found.groups == {
        "web": ("web1", "web2"),
        "lb": ("lb1.example.com", "lb2.example.com"),
    }


def test_an_ssh_config_gives_its_names_and_stays_in_charge(tmp_path: Path) -> None:
    found = known(tmp_path, "config", SSH)
    assert found.machines == (
        Machine("web1", "web1", internal="web1.internal"),
        Machine("web2", "web2", internal="web2.internal"),
        Machine("lb1", "lb1", internal="10.0.0.21"),
    )
    assert found.config_file == str(tmp_path / "config")


@pytest.mark.parametrize(("name", "text"), [("a.ini", INI), ("a.yml", YAML), ("config", SSH)])
def test_what_is_read_elsewhere_makes_a_file_that_loads(
    tmp_path: Path, name: str, text: str
) -> None:
    source = tmp_path / name
    source.write_text(text)
    grouped = name != "config"
    inventory = init(
        tmp_path,
        source=str(source),
        hosts="web" if grouped else "web1,web2",
        balancers="lb" if grouped else "lb1",
    )
    (service,) = inventory.services.values()
    assert service.hosts
    assert inventory.groups["lb" if grouped else "edge"]
    assert service.balancers[0].hosts
    assert service.group == "web"


def test_groups_of_a_file_are_proposed_and_never_taken_unasked(tmp_path: Path) -> None:
    source = tmp_path / "a.ini"
    source.write_text(INI)
    said = init(tmp_path, source=str(source), hosts="app")
    assert said.services["app"].balancers == ()
    (tmp_path / "hosts.yaml").unlink()
    inventory, shown = asked(tmp_path, "", IMAGE, "", *[""] * 6, source=str(source))
    assert "the groups web, lb, app" in shown
    (service,) = inventory.services.values()
    assert len(service.hosts) == 3
    assert service.balancers[0].hosts == ("lb1",)
    assert set(inventory.groups) == {"all", "web", "lb"}


def test_hosts_beside_those_of_a_file_need_an_address(tmp_path: Path) -> None:
    source = tmp_path / "a.ini"
    source.write_text(INI)
    assert "web9" in init(tmp_path, source=str(source), hosts="web,web9=10.0.0.19").hosts
    (line,) = refused(tmp_path, source=str(source), hosts="wep", force=True)
    assert line == "--hosts: --from knows no host or group 'wep' (did you mean web?)"
    (line,) = refused(tmp_path, source=str(source), hosts="", force=True)
    assert "the groups web, lb, app" in line


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.ini", "", "no host is named in it"),
        ("a.ini", "[web:nonsense]\n", "means nothing to Ansible"),
        ("a.ini", "this is prose\n", "a.ini:1: expected NAME KEY=VALUE"),
        ("a.ini", "web1 ansible_port=http\n", "is no port"),
        ("a.ini", "web1 ansible_host={{x}}\n", "web1: expected a host name"),
        ("a.ini", "web[1:99999]\n", "more than 10000 hosts"),
        ("a.ini", "web[a:10]\n", "is no range"),
        ("a.yml", "- a\n", "this is no Ansible inventory"),
        ("a.yml", "all: [\n", "broken YAML"),
        ("a.yml", "all: {hosts: [a]}\n", "all.hosts: expected a mapping"),
        ("config", "Host *\n  User x\n", "no host is named in it"),
    ],
)
def test_a_file_that_is_none_of_these_is_one_line(
    tmp_path: Path, name: str, text: str, says: str
) -> None:
    with pytest.raises(BadInput) as caught:
        known(tmp_path, name, text)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.sampled_from(["a.ini", "a.yml", "config"]))
def test_no_file_can_break_the_reader(tmp_path: Path, text: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode(errors="surrogatepass"))
    try:
        found = foreign.read(path)
    except BadInput as error:
        assert str(error).startswith("--from: ")
    else:
        assert found.machines
