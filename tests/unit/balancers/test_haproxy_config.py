from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fabfile.balancers.haproxy.config import render
from fabfile.balancers.haproxy.provision import outcome, provision_script
from fabfile.errors import BadInput
from fabfile.inventory.model import BalancerSpec, Health, Host, Inventory, Service

TEMPLATE = Path(__file__).parents[3] / "templates" / "haproxy.cfg.j2"
SPEC = BalancerSpec(
    "haproxy",
    ("lb1", "lb2"),
    "challenge",
    template=TEMPLATE,
    state_file="/run/haproxy/state",
    master_socket="/run/haproxy/master.sock",
    container="haproxy",
    image="haproxy:3.0",
)
SERVICE = Service(
    "challenge",
    "web",
    ("web1", "web2"),
    "registry.lab/challenge",
    None,
    "/srv/challenge",
    instances=2,
    publish=3001,
    balancers=(SPEC,),
    health=Health(path="/ping", contains="pong"),
)


def inventory(*services: Service) -> Inventory:
    hosts = {
        "web1": Host("web1", "203.0.113.1", "10.0.0.11"),
        "web2": Host("web2", "203.0.113.2", "fd00::12"),
        "lb1": Host("lb1", "203.0.113.3", "10.0.0.21"),
        "lb2": Host("lb2", "203.0.113.4", "10.0.0.22"),
    }
    return Inventory(Path("/x/hosts.yaml"), hosts, {}, {each.name: each for each in services})


def with_spec(name: str, **changes: object) -> Service:
    return replace(SERVICE, name=name, balancers=(replace(SPEC, **changes),))  # type: ignore[arg-type]


def lines(text: str, start: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip().startswith(start)]


def test_every_instance_is_a_server_reached_by_its_internal_address() -> None:
    text = render(inventory(SERVICE), "lb1")["/etc/haproxy/haproxy.cfg"]
    assert lines(text, "server web") == [
        "server web1_app_1 10.0.0.11:3001 weight 100",
        "server web1_app_2 10.0.0.11:3002 weight 100",
        "server web2_app_1 [fd00::12]:3001 weight 100",
        "server web2_app_2 [fd00::12]:3002 weight 100",
    ]
    assert lines(text, "default-server check") == [
        "default-server check inter 2s fastinter 200ms downinter 500ms rise 2 fall 3"
    ]
    assert lines(text, "stats socket") == [
        "stats socket /run/haproxy/admin.sock mode 666 level admin expose-fd listeners"
    ]
    assert "load-server-state-from-file global" in text
    assert 'http-check expect string "pong"' in text


def test_a_balancer_of_its_own_serves_its_hosts_own_instances_only() -> None:
    text = render(inventory(with_spec("a", hosts="self")), "web2")["/etc/haproxy/haproxy.cfg"]
    assert lines(text, "server web") == [
        "server web2_app_1 127.0.0.1:3001 weight 100",
        "server web2_app_2 127.0.0.1:3002 weight 100",
    ]


def test_hosts_without_a_rendered_balancer_are_left_alone() -> None:
    assert render(inventory(SERVICE), "web1") == {}
    assert render(inventory(with_spec("a", template=None)), "lb1") == {}


def test_people_get_the_maintenance_page_of_their_own_service() -> None:
    words = {"maintenance_text": "Back at 8 o clock."}
    text = render(inventory(with_spec("a", options=words)), "lb1")["/etc/haproxy/haproxy.cfg"]
    assert lines(text, "use_backend") == [
        "use_backend challenge_maintenance if { srv_uweight(challenge_maintenance/on) gt 0 }"
    ]
    assert lines(text, "server on") == ["server on 127.0.0.1:9 weight 0"]
    assert 'string "Back at 8 o clock."' in lines(text, "http-request return")[0]


def test_services_that_share_a_host_share_one_file() -> None:
    other = with_spec("b", backend="api", bind="*:81", cookie="SRV", options={"inter": "1s"})
    files = render(inventory(SERVICE, other), "lb1")
    assert list(files) == ["/etc/haproxy/haproxy.cfg"]
    text = files["/etc/haproxy/haproxy.cfg"]
    assert lines(text, "backend ") == [
        "backend challenge_maintenance",
        "backend challenge",
        "backend api_maintenance",
        "backend api",
    ]
    assert lines(text, "cookie ") == ["cookie SRV insert indirect nocache"]
    assert "server web1_app_1 10.0.0.11:3001 cookie web1_app_1 weight 100" in text
    assert text.count("\nglobal\n") == 1


def test_zero_retries_can_be_asked_for_and_stand_alone() -> None:
    asked = with_spec("a", options={"retries": "0", "redispatch": "no"})
    text = render(inventory(asked), "lb1")["/etc/haproxy/haproxy.cfg"]
    assert lines(text, "retries") == ["retries 0"]
    assert lines(text, "option redispatch") == []
    assert lines(text, "no option redispatch") == ["no option redispatch"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"backend": "challenge", "bind": "*:81"}, "same backend"),
        ({"backend": "api", "bind": "*:80"}, "same bind"),
        ({"backend": "api", "bind": "*:81", "socket": "/run/x.sock"}, "differ in socket"),
        ({"backend": "api", "bind": "*:81", "options": {"user": "x"}}, ""),
    ],
)
def test_services_that_can_not_share_a_file_are_named(change: dict[str, object], said: str) -> None:
    first = with_spec("a", options={"user": "haproxy"})
    with pytest.raises(BadInput, match=said or "options.user") as caught:
        render(inventory(first, with_spec("b", **change)), "lb1")
    assert "lb1:/etc/haproxy/haproxy.cfg: services a and b" in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"inter": "1s\n bogus"}},
        {"options": {"redispatch": "perhaps"}},
        {"backend": "a b"},
        {"cookie": "A;B"},
        {"socket": "relative"},
        {"template": Path("/nowhere/haproxy.cfg.j2")},
    ],
)
def test_values_that_would_break_the_file_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(BadInput) as caught:
        render(inventory(with_spec("a", **change)), "lb1")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{{ nothing }}", "{% if %}", "{{ 1 // 0 }}", "{{ host.x.y }}"])
def test_a_template_that_does_not_render_is_one_clear_line(tmp_path: Path, text: str) -> None:
    template = tmp_path / "own.j2"
    template.write_text(text)
    with pytest.raises(BadInput, match=r"own\.j2") as caught:
        render(inventory(with_spec("a", template=template)), "lb1")
    assert "\n" not in str(caught.value)


def test_an_instance_without_a_port_can_not_be_balanced() -> None:
    with pytest.raises(BadInput, match="publish"):
        render(inventory(replace(SERVICE, publish=None)), "lb1")


@pytest.mark.parametrize("container", [None, "haproxy"])
def test_the_configuration_travels_by_stdin_in_one_script_a_posix_shell_accepts(
    container: str | None,
) -> None:
    command = provision_script(replace(SPEC, container=container), "global\n")
    assert command.stdin == b"global\n"
    subprocess.run(["sh", "-n", "-c", command.script], check=True)


def test_the_container_gets_the_folder_of_its_file_not_the_file() -> None:
    script = provision_script(SPEC, "").script
    assert "-v /etc/haproxy:/etc/haproxy:ro" in script
    assert "-S /run/haproxy/master.sock,mode,666,level,admin" in script


def test_only_a_finished_script_has_an_outcome() -> None:
    assert outcome("noise\nreloaded\n") == "reloaded"
    assert outcome("reloaded\nnoise\n") is None
    assert outcome("") is None
