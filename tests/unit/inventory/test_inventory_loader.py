"""A right hosts.yaml becomes the model that everything else works with."""

import time
from pathlib import Path

import pytest

from fabfile.inventory.loader import load
from fabfile.inventory.model import Count, Drain, Health, Inventory, RolloutPolicy, Secret

WHOLE = """\
version: 1
x-common: &common {instances: 2}
defaults:
  ssh: {user: deploy, port: 22, connect_timeout: 2500ms, identity_file: keys/id, gateway: jump}
  health: {path: /ping, contains: pong}
  drain: {timeout: 1m}
  rollout: {serial: 35%, max_fail_percentage: 10%}
  resources: {memory: 256m}
hosts:
  web1: {address: 10.0.0.11, internal: web1.lan, labels: {zone: a, rack: 7}}
  web2: {address: 10.0.0.12, ssh: {port: 2222, user: root, known_hosts: ~/hosts}}
  lb1: {address: 10.0.0.21, ssh: {gateway: ops@10.0.0.9:2200}}
  lb2: {address: "2001:db8::1", ssh: {gateway: null}}
  jump: {address: jump.example.org}
  here: {connection: local}
groups:
  edge: {hosts: [lb2, lb1]}
  web: {hosts: [web2, web1, web2]}
  front: {groups: [edge, web]}
services:
  shop:
    <<: *common
    group: web
    image: registry.lab:5000/team/shop
    template: templates/mine.yml.j2
    project_dir: /srv/shop
    port: 3000
    publish: 3001
    resources: {cpus: 0.50, cpuset: 0, memory_swappiness: 50}
    balancers:
      - {hosts: edge, backend: shop, container: haproxy, options: {rise: 2}}
      - {hosts: [lb1, web], backend: shop-b, server: "{host}-{n:02}", template: default}
      - {hosts: self, backend: own, server: "{instance}", socket: /tmp/s}
    health: {status: 204, interval: 1s}
    drain: {mode: drain, on_timeout: abort, sticky_grace: 0}
    rollout: {serial: [1, "35%"], pause: 1h, max_failures: 3, min_capacity: 75}
    hooks: {before_drain: "echo $HOME", timeout: 5m}
    env: {MODE: production, PORT: 3000, VERSION: "1.10", EMPTY: "", ID: 007}
    secrets: {KEY: {env: SHOP_KEY}, CERT: {file: certs/a.pem}, PASS: {command: "pass shop"}}
    registry: {user: robot, password: {file: /run/secrets/registry}}
    urls: http://127.0.0.1:8080/
    stop_grace: 30s
    variables: {colour: blue, ratio: 0.5, list: [1, {deep: true}]}
  tiny:
    group: edge
    image: tiny
    secrets: [A, B]
"""


@pytest.fixture
def whole(load_text, tmp_path: Path) -> Inventory:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/mine.yml.j2").touch()
    (tmp_path / "own").mkdir()
    (tmp_path / "own/haproxy.cfg.j2").touch()
    return load_text(WHOLE)


def test_host_settings_win_over_the_defaults(whole: Inventory, tmp_path: Path) -> None:
    web1, web2 = whole.hosts["web1"], whole.hosts["web2"]
    assert (web1.ssh.user, web1.ssh.port, web1.ssh.connect_timeout) == ("deploy", 22, 2.5)
    assert (web2.ssh.user, web2.ssh.port) == ("root", 2222)
    assert web1.ssh.identity_file == tmp_path / "keys/id"
    assert web2.ssh.known_hosts == Path.home() / "hosts"
    assert web1.internal == "web1.lan"
    assert web2.internal == "10.0.0.12"
    assert web1.labels == {"zone": "a", "rack": "7"}


def test_the_default_gateway_does_not_lead_to_itself(whole: Inventory) -> None:
    gateways = {name: host.ssh.gateway for name, host in whole.hosts.items()}
    assert gateways["web1"] == "jump"
    assert gateways["jump"] is None
    assert gateways["lb1"] == "ops@10.0.0.9:2200"
    assert gateways["lb2"] is None


def test_this_machine_needs_no_address(whole: Inventory) -> None:
    assert whole.hosts["here"].connection == "local"
    assert whole.hosts["here"].address == "127.0.0.1"


def test_groups_come_in_inventory_order_without_repeats(whole: Inventory) -> None:
    assert whole.groups == {
        "edge": ("lb1", "lb2"),
        "web": ("web1", "web2"),
        "front": ("web1", "web2", "lb1", "lb2"),
        "all": ("web1", "web2", "lb1", "lb2", "jump", "here"),
    }
    assert whole.services["shop"].hosts == ("web1", "web2")


def test_service_blocks_are_merged_over_the_defaults(whole: Inventory) -> None:
    shop, tiny = whole.services["shop"], whole.services["tiny"]
    assert shop.health == Health(path="/ping", contains="pong", status=204, interval=1.0)
    assert tiny.health == Health(path="/ping", contains="pong")
    assert shop.drain == Drain(mode="drain", sticky_grace=0, timeout=60, on_timeout="abort")
    assert shop.rollout == RolloutPolicy(
        serial=(Count(1), Count(35, percent=True)),
        pause=3600,
        max_failures=3,
        min_capacity=75,
        max_fail_percentage=10,
    )
    assert tiny.rollout.serial == (Count(35, percent=True),)
    assert (shop.resources.cpus, shop.resources.cpuset) == ("0.5", "0")
    assert (shop.resources.memory, shop.resources.memory_swappiness) == ("256m", 50)


def test_an_anchor_can_be_merged_into_a_service(whole: Inventory) -> None:
    assert whole.services["shop"].instances == 2
    assert [i.port for i in whole.services["shop"].instances_on("web1")] == [3001, 3002]


def test_templates_are_found_beside_the_file_and_among_ours(
    whole: Inventory, tmp_path: Path
) -> None:
    shop = whole.services["shop"]
    assert shop.template == tmp_path / "templates/mine.yml.j2"
    assert [spec.template for spec in shop.balancers] == [
        None,
        tmp_path / "own/haproxy.cfg.j2",
        None,
    ]
    assert whole.services["tiny"].template is None


def test_the_checkouts_own_template_can_be_named_as_its_folder_calls_it(
    load_text, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/app.j2").touch()
    inventory = load_text("""
        version: 1
        hosts: {a: {address: a}}
        groups: {g: {hosts: [a]}}
        services: {s: {group: g, image: i, template: templates/app.j2}}
    """)
    assert inventory.services["s"].template == tmp_path / "own/app.j2"


def test_balancer_hosts_may_be_a_group_a_host_a_mix_or_self(whole: Inventory) -> None:
    edge, mixed, own = whole.services["shop"].balancers
    assert edge.hosts == ("lb1", "lb2")
    assert edge.options == {"rise": "2"}
    assert mixed.hosts == ("web1", "web2", "lb1")
    assert own.hosts == "self"
    shop = whole.services["shop"]
    assert shop.server_name(mixed, shop.instances_on("web2")[1]) == "web2-02"


def test_settings_and_secrets_keep_what_was_written(whole: Inventory, tmp_path: Path) -> None:
    shop = whole.services["shop"]
    assert shop.env == {
        "MODE": "production",
        "PORT": "3000",
        "VERSION": "1.10",
        "EMPTY": "",
        "ID": "007",
    }
    assert shop.secrets == (
        Secret("KEY", env="SHOP_KEY"),
        Secret("CERT", file=tmp_path / "certs/a.pem"),
        Secret("PASS", command="pass shop"),
    )
    assert whole.services["tiny"].secrets == (Secret("A", env="A"), Secret("B", env="B"))
    assert shop.registry_login is not None
    user, password = shop.registry_login
    assert (user, password.file) == ("robot", Path("/run/secrets/registry"))
    assert shop.variables == {"colour": "blue", "ratio": 0.5, "list": [1, {"deep": True}]}
    assert shop.hooks.before_drain == "echo $HOME"
    assert shop.hooks.timeout == 300
    assert shop.urls == ("http://127.0.0.1:8080/",)


def test_a_service_needs_only_a_group_and_an_image(whole: Inventory) -> None:
    tiny = whole.services["tiny"]
    assert (tiny.project_dir, tiny.project, tiny.instances) == ("/srv/tiny", "tiny", 1)
    assert tiny.publish is None
    assert tiny.balancers == ()


def test_empty_blocks_are_as_good_as_none(load_text) -> None:
    inventory = load_text("""
        version: 1
        defaults:
        hosts: {a: {address: a, ssh: , labels: }}
        groups: {g: {hosts: [a], groups: }}
        services:
          s: {group: g, image: i, health: , env: , secrets: , balancers: , urls: , variables: }
    """)
    assert inventory.services["s"].health == Health()


def test_a_mark_of_order_at_the_start_of_the_file_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_bytes(b"\xef\xbb\xbfversion: 1\r\nhosts: {a: {address: a}}\r\n")
    assert list(load(path).hosts) == ["a"]


def test_two_services_may_share_a_host_and_a_backend(load_text) -> None:
    inventory = load_text("""
        version: 1
        hosts: {a: {address: a}, lb: {address: lb}}
        groups: {g: {hosts: [a]}}
        services:
          one: {group: g, image: i, publish: 3000, instances: 2,
                balancers: [{hosts: lb, backend: b, server: "one_{n}"}]}
          two: {group: g, image: i, publish: 3002,
                balancers: [{hosts: lb, backend: b, server: "two_{n}"}]}
    """)
    assert list(inventory.services) == ["one", "two"]


def test_five_hundred_hosts_load_quickly(tmp_path: Path) -> None:
    lines = ["version: 1", "hosts:"]
    lines += [
        f"  web{i}: {{address: web{i}.lan, labels: {{zone: a}}, ssh: {{port: 22}}}}"
        for i in range(500)
    ]
    lines += ["groups: {web: {hosts: [" + ", ".join(f"web{i}" for i in range(500)) + "]}}"]
    lines += ["services: {s: {group: web, image: s, instances: 4, publish: 3000,"]
    lines += ["  balancers: [{hosts: self}, {hosts: [web1, web2], backend: x}]}}"]
    path = tmp_path / "hosts.yaml"
    path.write_text("\n".join(lines))
    start = time.process_time()
    assert len(load(path).groups["web"]) == 500
    # About 0.4 s on a slow machine; far more means that something is quadratic.
    assert time.process_time() - start < 3


def test_the_shipped_inventory_has_no_mistakes() -> None:
    shipped = Path(__file__).parents[3] / "hosts.yaml"
    if not shipped.exists():
        pytest.skip("hosts.yaml is not in this checkout yet")
    assert load(shipped).services


def test_who_is_told_of_rollouts_comes_from_the_service_or_the_defaults(
    load_text, tmp_path: Path
) -> None:
    services = load_text("""
        version: 1
        defaults:
          metrics: {textfile: prom, pushgateway: "http://joe:pw@push:9091"}
          notify: [{file: hook, kind: slack, on: failed}, https://h.example/x]
        hosts: {web1: {address: a}}
        groups: {web: {hosts: [web1]}}
        services:
          one: {group: web, image: i}
          two: {group: web, image: i, metrics: {pushgateway: null}, notify: []}
          three: {group: web, image: i, notify: [{env: HOOK}], metrics: {textfile: /other}}
    """).services
    one, two, three = services["one"], services["two"], services["three"]
    assert one.metrics.textfile == tmp_path / "prom"
    assert one.metrics.pushgateway is not None
    assert one.metrics.pushgateway.value == "http://joe:pw@push:9091"
    slack, generic = one.notify
    assert (slack.url.file, slack.kind, slack.on) == (tmp_path / "hook", "slack", ("failed",))
    assert (generic.url.value, generic.kind) == ("https://h.example/x", "generic")
    assert generic.on == ("started", "finished", "failed")
    assert (two.metrics.pushgateway, two.metrics.textfile) == (None, tmp_path / "prom")
    assert two.notify == ()
    assert (three.notify[0].url.env, three.metrics.textfile) == ("HOOK", Path("/other"))
    assert three.metrics.pushgateway == one.metrics.pushgateway
