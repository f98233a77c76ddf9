"""`fab doctor` looks at everything side by side, and one host in trouble spoils nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest

from fabfile.checks.doctor.facts import HostFacts, Unreached
from fabfile.checks.doctor.judge import diagnose
from fabfile.drivers.doctor import examine, wanted
from fabfile.errors import BadInput, HostKeyRefused
from fabfile.inventory.model import Secret
from fabfile.remote.fake import FakeTransport
from fabfile.remote.pool import Remotes
from tests.unit.checks.doctor.patients import SHOP, TEMPLATE, setup

GOOD = "\n== state\nready 2775 evenkeel\n\n== project shop\nok\nprovisioned\n"


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "shop.yml.j2"
    path.write_text(TEMPLATE.replace("image: shop", "image: {{ image }}:{{ version }}"))
    return path


def known(template, **changes):
    service = replace(SHOP, template=template, **changes)
    inventory = setup(service=service).inventory
    return replace(inventory, path=template.parent / "hosts.yaml")


class Refusing(FakeTransport):
    def connect(self):
        raise HostKeyRefused(self.name, "host key ED25519 is not in known_hosts")


def look(inventory, names=(), service="", **broken):
    made = {}

    def make(host):
        made[host.name] = broken.get(host.name) or FakeTransport(host.name)
        if host.name not in broken:
            made[host.name].on("", GOOD)
        return made[host.name]

    with Remotes(inventory, make=make) as remotes:
        return examine(inventory, wanted(inventory, service, names), remotes), made


def test_each_host_gets_one_command_and_one_connection(template):
    found, made = look(known(template))
    assert set(made) == {"web1", "web2", "lb1"}
    assert all(len(each.commands) == 1 and each.closed for each in made.values())
    assert all(isinstance(facts, HostFacts) for facts in found.hosts.values())
    assert [one.why for one in found.rendered] == ["", ""]
    assert len(found.proxies) == 1


def test_what_can_t_be_reached_is_told_and_the_rest_is_examined(template):
    down, silent = FakeTransport("web1"), FakeTransport("lb1")
    down.down = True
    silent.on("", lose="after")
    found, _ = look(known(template), web1=down, web2=Refusing("web2"), lb1=silent)
    codes = {name: facts.code for name, facts in found.hosts.items()}
    assert codes == {"web1": "unreachable", "web2": "host-key", "lb1": "no-answer"}
    assert isinstance(found.hosts["web1"], Unreached)
    assert not found.hosts["web1"].why.startswith("web1")
    assert diagnose(found).exit_code == 5
    assert len(found.rendered) == 2


def test_a_template_that_does_not_render_is_a_finding_with_its_line(template):
    template.write_text("services:\n  app_1:\n    image: {{ imagine }}\n")
    found, _ = look(known(template))
    (finding,) = (f for f in diagnose(found).findings if f.code == "template")
    assert finding.subjects == ("web1", "web2")
    assert "3" in finding.text
    assert "imagine" in finding.text


def test_a_template_that_is_gone_is_a_finding(template):
    inventory = known(template)
    template.unlink()
    found, _ = look(inventory)
    assert [f.code for f in diagnose(found).findings if f.area == "compose file"] == ["template"]


def test_secrets_are_looked_for_and_nobody_s_command_is_run(template, monkeypatch):
    monkeypatch.delenv("NO_SUCH", raising=False)
    marker = template.parent / "ran"
    secrets = (
        Secret("A", env="NO_SUCH"),
        Secret("B", file=Path("/nowhere/b")),
        Secret("C", command=f"touch {marker}"),
    )
    found, _ = look(known(template, secrets=secrets))
    assert [text.split(":")[0] for text in found.secrets["shop"]] == ["A", "B"]
    assert not marker.exists()


def test_hosts_of_the_flag_are_looked_at_alone(template):
    inventory = known(template)
    found, made = look(inventory, ["web2"])
    assert set(made) == {"web2", "lb1"}
    assert found.proxies[0].ours == ("web2_app_1", "web2_app_2")
    found, made = look(inventory, ["lb1"])
    assert set(made) == {"lb1"}
    assert len(found.proxies[0].ours) == 4


def test_an_inventory_without_services_is_still_worth_a_look(template):
    inventory = known(template)
    bare = replace(inventory, services={}, groups={"all": tuple(inventory.hosts)})
    found, _ = look(bare)
    assert set(found.hosts) == {"web1", "web2", "lb1"}
    assert diagnose(found).exit_code == 0


def test_a_mistyped_host_or_service_contacts_nobody(template):
    inventory = known(template)
    for names, service in ((["web9"], ""), (["root@10.0.0.1"], ""), ([], "shoe")):
        with pytest.raises(BadInput):
            wanted(inventory, service, names)
