"""Names, addresses and ports of labs."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile.errors import BadInput
from fabfile.lab import hosts, inventories, model
from fabfile.lab.model import Lab, Ports

DEFAULT = Lab(model.DEFAULT_NAME, Path("/x/.lab"), Ports(), model.DEFAULT_PREFIX)


@given(
    st.integers(1, model.MOST_WEB),
    st.integers(1, model.MOST_EDGE),
    st.sampled_from([Ports(), Ports(23000, 23000, 23000)]),
)
def test_no_two_things_of_a_lab_want_the_same_port_or_address(web, edge, ports):
    lab = Lab("x", Path("/x"), ports, "10.213.4", web, edge)
    published = [
        p for node in lab.nodes for p in (node.ssh_port, node.http_port, node.metrics_port)
    ]
    published.append(ports.registry)
    addresses = [node.ip for node in lab.nodes] + [lab.registry_ip, "10.213.4.1"]
    assert len(set(published)) == len(published)
    assert len(set(addresses)) == len(addresses)
    assert len(lab.nodes) == web + edge


def test_a_named_lab_stays_within_its_200_ports_and_below_ephemeral_ones():
    bases = sorted({model.lab_ports(f"lab-{n}", {}).ssh for n in range(500)})
    assert all(b - a >= 200 for a, b in pairwise(bases))
    assert bases[-1] + 200 < 32768
    top = Lab("x", Path("/x"), Ports(0, 0, 0), "10.213.4", model.MOST_WEB, model.MOST_EDGE)
    assert max(max(node.ssh_port, node.metrics_port) for node in top.nodes) < 200


def test_the_default_ports_are_those_of_the_shipped_inventory():
    ports = {node.name: (node.ssh_port, node.http_port) for node in DEFAULT.nodes}
    assert ports == {
        "web1": (22011, 18091),
        "web2": (22012, 18092),
        "web3": (22013, 18093),
        "lb1": (22031, 18081),
        "lb2": (22032, 18082),
    }
    assert DEFAULT.registry_here == "127.0.0.1:15000"


def test_the_environment_names_another_lab_and_its_ports():
    assert model.lab_name({}) == "evenkeel-lab"
    assert model.lab_name({"EVENKEEL_LAB": "lab-dev"}) == "lab-dev"
    assert model.lab_ports("evenkeel-lab", {}) == Ports(22000, 18000, 15000)
    assert model.lab_ports("evenkeel-lab", {"EVENKEEL_LAB_PORTS": "40000"}) == Ports(*[40000] * 3)


@pytest.mark.parametrize("name", ["Lab", "a b", "$(id)", "-x", "x" * 60, "a_b"])
def test_a_lab_name_docker_or_a_shell_would_choke_on_is_refused(name):
    with pytest.raises(BadInput, match="EVENKEEL_LAB"):
        model.lab_name({"EVENKEEL_LAB": name})


@pytest.mark.parametrize("base", ["80", "65500", "abc", "-1", "1e4"])
def test_a_port_base_that_cannot_work_is_refused(base):
    with pytest.raises(BadInput, match="EVENKEEL_LAB_PORTS"):
        model.lab_ports("x", {"EVENKEEL_LAB_PORTS": base})


@pytest.mark.parametrize("text", ["0", "-1", "20", "abc", "1.5", "1000"])
def test_a_number_of_hosts_that_cannot_work_is_refused(text):
    with pytest.raises(BadInput, match="--web"):
        model.parse_count("--web", text, model.MOST_WEB)


def test_a_number_of_hosts_is_read():
    assert model.parse_count("--web", "4", 19) == 4
    assert model.parse_count("--web", "", 19) is None


def test_everything_is_published_on_this_machine_alone():
    arguments = hosts.run_arguments(DEFAULT, DEFAULT.nodes[0], "image")
    published = [arguments[i + 1] for i, word in enumerate(arguments) if word == "--publish"]
    assert published == ["127.0.0.1:22011:22", "127.0.0.1:18091:80", "127.0.0.1:18131:8404"]
    assert "--privileged" not in arguments


def test_the_shipped_inventory_describes_the_default_lab():
    shipped = (model.CHECKOUT / "hosts.yaml").read_text()
    assert shipped == inventories.render(DEFAULT, folder=".lab/")


@pytest.mark.parametrize("topology", ["edge", "self"])
def test_a_generated_inventory_says_what_the_shipped_one_says(topology):
    from ruamel.yaml import YAML

    def read(text):
        return YAML(typ="safe").load(text)

    shipped = read((model.CHECKOUT / "hosts.yaml").read_text().replace(".lab/", ""))
    made = read(inventories.render(DEFAULT, topology))
    if topology == "self":
        service = made["services"]["challenge"]
        assert service["balancers"][0].pop("hosts") == "self"
        assert service.pop("urls") == [f"http://127.0.0.1:1809{n}/" for n in (1, 2, 3)]
        shipped["services"]["challenge"]["balancers"][0].pop("hosts")
        shipped["services"]["challenge"].pop("urls")
    assert made == shipped


def test_an_inventory_lists_the_hosts_a_bigger_lab_really_has():
    from ruamel.yaml import YAML

    lab = Lab("big", Path("/x"), Ports(25000, 25000, 25000), "10.213.7", 4, 1)
    made = YAML(typ="safe").load(inventories.render(lab))
    assert made["groups"]["web"]["hosts"] == ["web1", "web2", "web3", "web4"]
    assert made["groups"]["edge"]["hosts"] == ["lb1"]
    assert made["hosts"]["web4"] == {
        "address": "127.0.0.1",
        "internal": "10.213.7.14",
        "ssh": {"port": 25014},
    }
