"""What is wrong with hosts.yaml is said in full, with its place, and never with a traceback."""

from pathlib import Path

import pytest

from fabfile.errors import BadInput
from fabfile.inventory.loader import load

HEAD = """\
version: 1
hosts:
  web1: {address: 10.0.0.1}
  web2: {address: 10.0.0.2}
  lb1: {address: 10.0.0.9}
groups:
  web: {hosts: [web1, web2]}
  edge: {hosts: [lb1]}
services:
  shop:
    group: web
    image: shop
"""

FILE = [
    ("hosts: {a: {address: a}}", "1:1: version: missing: the file has to say version: 1"),
    ("version: 2\nhosts: {a: {address: a}}", "1:10: version: this Evenkeel reads version 1"),
    ("version: true\nhosts: {a: {address: a}}", "1:10: version: this Evenkeel reads version 1"),
    ("version: 1", "1:1: hosts: missing"),
    ("version: 1\nhosts: {}", "2:1: hosts: there has to be one host at least"),
    ("version: 1\nhosts: [a]", "2:8: hosts: expected a mapping, found a list"),
    (
        "version: 1\nhosts: {a: {address: a}}\ngroup: {}",
        "3:1: group: unknown key (did you mean gro",
    ),
    ("just text", "1:1: expected a mapping, found 'just text'"),
    ("version: 1\nhosts:\n\ta: {address: a}", "3:1: a tab: YAML indents with spaces only"),
    ("version: 1\nhosts: {a: {address: a}", "2:8: not YAML: what starts here is never closed"),
    ("version: 1\nhosts: a: b", "2:9: not YAML: a colon too many, or the indentation is wrong"),
    ("version: 1\nhosts: *nobody", "2:8: not YAML: found undefined alias"),
    ("version: 1\n---\nversion: 1", "2:1: not YAML: only one document is read"),
    ("version: 1\nhosts: {a: &x {labels: *x}}", "2:"),
    ("version: 1\nhosts: {a: {address: \x07}}", "2:22: not YAML: unacceptable character"),
    ("version: 1\nhosts: {a: !vault x}", "2:12: hosts.a: the tag '!vault' means nothing here"),
    ("version: 1\nhosts: {a: {address: a}, [b]: x}", "2:26: hosts: a key has to be one word"),
    ('version: 1\nhosts: {a: {address: "\\ud800"}}', "2:22: hosts.a.address: half of a \\u pair"),
    ("[" * 5000, "1:1: not readable: nested too deeply"),
]


@pytest.mark.parametrize(("text", "mistake"), FILE)
def test_a_file_that_cannot_be_used_says_where_and_why(refused, text: str, mistake: str) -> None:
    assert refused(text)[0].startswith(f"hosts.yaml:{mistake}")


HOSTS = [
    ("a: ", "hosts.a.address: missing"),
    ("a: {address: }", "hosts.a.address: expected text, found nothing"),
    ("a: {address: 1.10}", 'hosts.a.address: 1.10 without quotes is the number 1.1, not text: write "1.10"'),
    ("a: {address: root@a}", "hosts.a.address: the address holds a user name, 'root@a': use ssh.user"),
    ("a: {address: 'a:22'}", "hosts.a.address: the address holds a port, 'a:22': use ssh.port"),
    ("a: {address: -oProxyCommand=x}", "hosts.a.address: expected a host name or an IP address"),
    ("a: {adress: a}", "hosts.a.adress: unknown key (did you mean address?)"),
    ("a: {address: a, port: 22}", "hosts.a.port: unknown key (it belongs under ssh)"),
    ("a: {address: a, ssh: {port: 65536}}", "hosts.a.ssh.port: expected a whole number from 1 to 65535"),
    ("a: {address: a, ssh: {port: 0x16}}", "hosts.a.ssh.port: expected a whole number"),
    ("a: {address: a, ssh: {port: 022}}", "hosts.a.ssh.port: expected a whole number"),
    ("a: {address: a, ssh: {user: -l}}", "hosts.a.ssh.user: expected a user name"),
    ("a: {address: a, ssh: {connect_timeout: 0}}", "hosts.a.ssh.connect_timeout: has to be longer"),
    ("a: {address: a, ssh: {host_keys: sloppy}}", "hosts.a.ssh.host_keys: expected one of strict, accept-new, off, found 'sloppy'"),
    ("a: {address: a, ssh: {identity_file: ~nobody-here/x}}", "hosts.a.ssh.identity_file: '~nobody-here/x': there is no such user"),
    ("a: {address: a, ssh: {gateway: b}}", "hosts.a.ssh.gateway: no host 'b'"),
    ("a: {address: a, ssh: {gateway: a}}", "hosts.a.ssh.gateway: the gateways go in a circle: a -> a"),
    ("a: {address: a, ssh: {gateway: b}}\n  b: {address: b, ssh: {gateway: a}}", "hosts.a.ssh.gateway: the gateways go in a circle: a -> b -> a"),
    ("a: {address: a, ssh: {gateway: b}}\n  b: {connection: local}", "hosts.a.ssh.gateway: b is this machine"),
    ("a: {address: a, connection: telnet}", "hosts.a.connection: expected one of ssh, local"),
    ("a: {address: a, labels: {on: true}}", 'hosts.a.labels.on: true is not text: put it in quotes, "true"'),
    ("a: {address: a}\n  b: {address: a}", "hosts.b.address: a has the same address and port"),
    ("a: {address: a}\n  b: {address: a, ssh: {port: 22, user: x}}", "hosts.b.address: a has the same address and port"),
    ("a: {connection: local}\n  b: {connection: local}", "hosts.b: a is this machine already"),
    ("a: {address: a}\n  a: {address: b}", "hosts.a: duplicate key (it is on line 3 already)"),
    ("Web: {address: a}", "hosts.Web: not a good name"),
    ("-x: {address: a}", "hosts.-x: not a good name"),
    ('"a b\\n": {address: a}', "hosts.'a b\\n': not a good name"),
    ("self: {address: a}", "hosts.self: the name self has a meaning of its own"),
]  # fmt: skip


@pytest.mark.parametrize(("hosts", "mistake"), HOSTS)
def test_a_mistake_in_a_host_is_named(refused, hosts: str, mistake: str) -> None:
    lines = refused(f"version: 1\nhosts:\n  {hosts}\n")
    assert len(lines) == 1
    assert f": {mistake}" in lines[0]


def test_one_address_with_several_ports_is_several_machines(load_text) -> None:
    inventory = load_text("""
        version: 1
        hosts:
          a: {address: 127.0.0.1, ssh: {port: 2201}}
          b: {address: 127.0.0.1, ssh: {port: 2202}}
          c: {address: 127.0.0.1, ssh: {port: 2202, gateway: a}}
    """)
    assert len(inventory.hosts) == 3


GROUPS = [
    ("{hosts: [web3]}", "groups.g.hosts[0]: no host 'web3' (did you mean web"),
    ("{hosts: [web1, 1.10]}", "groups.g.hosts[1]: 1.10 without quotes"),
    ("{hosts: [lb1, web]}", "groups.g.hosts[1]: web is a group: put it under groups"),
    ("{groups: [web1]}", "groups.g.groups[0]: web1 is a host: put it under hosts"),
    ("{groups: [wbe]}", "groups.g.groups[0]: no group 'wbe' (did you mean web?)"),
    ("{groups: [g]}", "groups.g.groups: the groups hold each other: g -> g"),
    ("{groups: [h], hosts: [web1]}\n  h: {groups: [g]}", "groups.g.groups: the groups hold each other: g -> h -> g"),
    ("{}", "groups.g: the group is empty"),
    ("", "groups.g: the group is empty"),
    ("[web1]", "groups.g: expected a mapping, found a list"),
    ("{host: [web1]}", "groups.g.host: unknown key (did you mean hosts?)"),
    ("{hosts: [web1]}\n  all: {hosts: [web1]}", "groups.all: the group all is there anyway"),
    ("{hosts: [web1]}\n  lb1: {hosts: [web1]}", "groups.lb1: there is a host of the same name"),
]  # fmt: skip


@pytest.mark.parametrize(("group", "mistake"), GROUPS)
def test_a_mistake_in_a_group_is_named(refused, group: str, mistake: str) -> None:
    lines = refused(HEAD.replace("groups:\n", f"groups:\n  g: {group}\n"))
    assert f": {mistake}" in lines[0]


SERVICE = [
    ("helth: {}", "helth: unknown key (did you mean health?)"),
    ("serial: 3", "serial: unknown key (it belongs under rollout)"),
    ("colour: red", "colour: unknown key (known: group, image, "),
    ("template: nope.j2", "template: no template 'nope.j2' (looked in "),
    ("project_dir: srv/x", "project_dir: expected an absolute path on the host, found 'srv/x'"),
    ("project_dir: /srv/../etc", "project_dir: expected a path of letters"),
    ("project_dir: '/srv/$(id)'", "project_dir: expected a path of letters"),
    ("project_dir: /srv/My.App", "project_dir: its last part names the compose project"),
    ("instances: 0", "instances: expected a whole number from 1 to 1000, found 0"),
    ("instances: true", "instances: expected a whole number from 1 to 1000, found true"),
    ("port: '80'", "port: expected a whole number from 1 to 65535, found '80'"),
    ("instances: 4\n    publish: 65533", "publish: 4 instances would take ports up to 65536"),
    ("resources: {memory: lots}", "resources.memory: expected a size such as 256m"),
    ("resources: {cpus: 0}", "resources.cpus: expected a number of processors"),
    ("resources: {cpuset: 0-}", "resources.cpuset: expected processors"),
    ("resources: {memory_swappiness: 101}", "resources.memory_swappiness: expected a whole"),
    ("health: {path: ping}", "health.path: expected a path that starts with /, found 'ping'"),
    ("health: {status: 20}", "health.status: expected a whole number from 100 to 599"),
    ("health: {timeout: 5 parsecs}", "health.timeout: expected a duration such as 500ms"),
    ("health: {interval: 0s}", "health.interval: has to be longer than 0s"),
    ("health: {contains: 1.10}", "health.contains: 1.10 without quotes is the number 1.1"),
    ("health: 5", "health: expected a mapping, found 5"),
    ("drain: {timeout: -1}", "drain.timeout: expected a duration"),
    ("drain: {timeout: .inf}", "drain.timeout: expected a duration"),
    ("drain: {on_timeout: kill}", "drain.on_timeout: expected one of cut, abort, wait, found"),
    ("drain: {mode: wieght}", "drain.mode: expected one of weight, drain, found 'wieght' (did you mean weight?)"),
    ("rollout: {serial: []}", "rollout.serial: expected a number of hosts (3), a percentage"),
    ("rollout: {serial: [1, x]}", "rollout.serial: expected a number of hosts"),
    ("rollout: {serial: 0.5}", "rollout.serial: expected a number of hosts"),
    ("rollout: {serial: 101%}", "rollout.serial: expected a number of hosts"),
    ("rollout: {max_fail_percentage: 101%}", "rollout.max_fail_percentage: expected a whole perc"),
    ("rollout: {min_capacity: -5}", "rollout.min_capacity: expected a whole percentage"),
    ("rollout: {keep_releases: 0}", "rollout.keep_releases: expected a whole number of at least 1"),
    ("hooks: {before_drain: ''}", "hooks.before_drain: expected a command"),
    ("env: {VERSION: 1.10}", 'env.VERSION: 1.10 without quotes is the number 1.1, not text: write "1.10"'),
    ("env: {DEBUG: true}", 'env.DEBUG: true is not text: put it in quotes, "true"'),
    ("env: {my-key: x}", "env.my-key: not the name of a variable"),
    ("env: {A: x}\n    secrets: [A]", "secrets.A: it is under env too"),
    ("secrets: {A: {}}", "secrets.A: a secret has one source: env, file or command (found none)"),
    ("secrets: {A: {env: B, file: c}}", "secrets.A: a secret has one source: env, file or command (found env and file)"),
    ("secrets: {A: plain}", "secrets.A: expected a mapping, found 'plain'"),
    ("secrets: [A, 5]", "secrets: expected names, found 5"),
    ("secrets: [not-a-name]", "secrets.not-a-name"),
    ("registry: {user: x}", "registry.password: missing"),
    ("registry: {user: x, password: secret}", "registry.password: expected a mapping"),
    ("registry: {user: x, password: {}}", "registry.password: a secret has one source"),
    ("urls: [ftp://a/]", "urls[0]: expected a URL such as"),
    ("urls: ['http://a:x/']", "urls[0]: expected a URL such as"),
    ("variables: {tag: 1.10}", "variables.tag: 1.10 without quotes is the number 1.1"),
    ("variables: {a: {b: [1.10]}}", "variables.a"),
    ("balancers: [{}]", "balancers[0].hosts: missing"),
    ("balancers: [{hosts: []}]", "balancers[0].hosts: names no host"),
    ("balancers: [{hosts: edg}]", "balancers[0].hosts: no group or host 'edg' (did you mean edge?)"),
    ("balancers: [{hosts: [lb1, lb2]}]", "balancers[0].hosts[1]: no group or host 'lb2' (did you mean lb1?)"),
    ("balancers: [{hosts: [self, lb1]}]", "balancers[0].hosts[0]: self stands alone"),
    ("balancers: [{hosts: edge, kind: apache}]", "balancers[0].kind: expected one of haproxy, nginx"),
    ("balancers: [{hosts: edge, sokcet: /x}]", "balancers[0].sokcet: unknown key (did you mean socket?)"),
    ("balancers: [{hosts: edge, socket: 'a,b'}]", "balancers[0].socket: expected an absolute path"),
    ("balancers: [{hosts: edge, backend: a b}]", "balancers[0].backend: expected the name of a backend"),
    ("balancers: [{hosts: edge, server: '{instance}'}]", "balancers[0].server: web1/app_1 and web2/app_1 would both be app_1: put {host} into it"),
    ("balancers: [{hosts: edge, server: '{host}'}]\n    instances: 2", "balancers[0].server: web1/app_1 and web1/app_2 would both be web1: put {instance} or {n} into it"),
    ("balancers: [{hosts: edge, server: '{hots}_{n}'}]", "balancers[0].server: {hots} means nothing (did you mean host?): {host}, {instance} and {n} do"),
    ("balancers: [{hosts: edge, server: '{host.x}'}]", "balancers[0].server: {host.x} means nothing"),
    ("balancers: [{hosts: edge, server: '{}'}]", "balancers[0].server: {} means nothing"),
    ("balancers: [{hosts: edge, server: '{host'}]", "balancers[0].server: "),
    ("balancers: [{hosts: edge, server: '{host}_{n:999999999}'}]", "balancers[0].server: only {host}"),
    ("balancers: [{hosts: edge, server: '{host} {n}'}]", "balancers[0].server: 'web1 1' is no server name"),
    ("balancers: [{hosts: edge}, {hosts: lb1}]", "balancers[1]: backend shop on lb1 is listed already"),
    ("balancers: [{hosts: edge, template: x.j2}]", "balancers[0].template: no template 'x.j2'"),
    ("balancers: edge", "balancers: expected a list, found 'edge'"),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "mistake"), SERVICE)
def test_a_mistake_in_a_service_is_named(refused, lines: str, mistake: str) -> None:
    found = refused(f"{HEAD}    {lines}\n")
    assert len(found) == 1
    assert f": services.shop.{mistake}" in found[0]


IMAGES = [
    ("repo:1.2", "leave the tag to --version: write repo"),
    ("reg:5000/a/b:latest", "leave the tag to --version: write reg:5000/a/b"),
    ("a@sha256:00", "leave the tag to --version: write a"),
    ("Shop", "expected a repository such as"),
    ("1.10", "1.10 without quotes"),
]


@pytest.mark.parametrize(("image", "mistake"), IMAGES)
def test_the_image_is_a_repository_without_a_tag(refused, image: str, mistake: str) -> None:
    [line] = refused(HEAD.replace("image: shop", f"image: {image}"))
    assert line.startswith(f"hosts.yaml:12:12: services.shop.image: {mistake}")


@pytest.mark.parametrize(
    ("group", "mistake"),
    [
        ("wbe", "no group 'wbe' (did you mean web?)"),
        ("web1", "web1 is a host: a service runs on a group, make one for it"),
    ],
)
def test_a_service_runs_on_a_group_that_is_there(refused, group: str, mistake: str) -> None:
    [line] = refused(HEAD.replace("group: web", f"group: {group}"))
    assert line == f"hosts.yaml:11:12: services.shop.group: {mistake}"


OTHER = [
    ("publish: 3001", "publish: 3000, instances: 2", "publish: port 3001 of web1 belongs to an instance of shop already"),
    ("project_dir: /a/x", "project_dir: /b/x", "project_dir: shop has the compose project x on web1 already"),
    ("balancers: [{hosts: edge, backend: b}]", "balancers: [{hosts: edge, backend: b}]", "balancers[0].server: web1_app_1 of backend b on lb1 belongs to shop"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "mistake"), OTHER)
def test_services_do_not_take_from_each_other(
    refused, first: str, second: str, mistake: str
) -> None:
    [line] = refused(f"{HEAD}    {first}\n  other: {{group: web, image: x, {second}}}\n")
    assert f": services.other.{mistake}" in line


def test_all_mistakes_come_at_once_in_the_order_of_the_file(refused) -> None:
    assert refused("""\
        version: 1
        defaults:
          helth: {}
        hosts:
          a: {address: a, ssh: {prot: 22}}
          a: {}
          B: {address: b}
        groups:
          g: {hosts: [a, c]}
        services:
          s:
            group: gg
            image: s:1
            drain: {timeout: x}
            balancers:
              - 7
              - {hosts: d}
    """) == [
        "hosts.yaml:3:3: defaults.helth: unknown key (did you mean health?)",
        "hosts.yaml:5:25: hosts.a.ssh.prot: unknown key (did you mean port?)",
        "hosts.yaml:6:3: hosts.a: duplicate key (it is on line 5 already)",
        "hosts.yaml:7:3: hosts.B: not a good name: use lower-case letters, digits and . _ -, "
        "at most 63, the first a letter or a digit",
        "hosts.yaml:9:18: groups.g.hosts[1]: no host 'c'",
        "hosts.yaml:12:12: services.s.group: no group 'gg' (did you mean g?)",
        "hosts.yaml:13:12: services.s.image: leave the tag to --version: write s",
        "hosts.yaml:14:22: services.s.drain.timeout: expected a duration such as 500ms, 5s, 2m,"
        " 1h or a plain number of seconds, found 'x'",
        "hosts.yaml:16:9: services.s.balancers[0]: expected a mapping, found 7",
        "hosts.yaml:17:17: services.s.balancers[1].hosts: no group or host 'd'",
    ]


def test_aliases_that_stand_for_too_much_are_refused_in_good_time(refused) -> None:
    layers = ["x-a: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    layers += [f"x-{i}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]" for i in range(9)]
    assert "too many values" in refused("\n".join(layers))[0]


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"does not exist: .*EVENKEEL_INVENTORY.*inv init.*docs/hosts-yaml.md"
    ):
        load(tmp_path / "hosts.yaml")


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a folder"):
        load(tmp_path)


def test_a_file_that_may_not_be_read_is_said_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(BadInput, match="no permission to read it"):
        load(tmp_path / "hosts.yaml")


@pytest.mark.parametrize("text", ["", "\n# nothing but words\n", "---\n"])
def test_an_empty_file_is_said_to_be_so(refused, text: str) -> None:
    assert refused(text)[0].startswith("hosts.yaml: the file is empty: ")


def test_other_encodings_are_refused_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_bytes("version: 1\nhosts: {ä: }".encode("latin-1"))
    with pytest.raises(BadInput, match=r":2:9: not UTF-8 \(byte 0xe4\)"):
        load(path)


def test_a_file_elsewhere_is_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = tmp_path / "hosts.yaml"
    path.write_text("version: 1\nhosts: []")
    with pytest.raises(BadInput) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:2:8: ")


OUTLETS = [
    ("metrics: {textfile: a/x.prom}", "metrics.textfile: name the collector's folder"),
    ("metrics: {pushgateway: push:9091}", "metrics.pushgateway: not an http:// or https:// URL"),
    ("metrics: {pushgateway: {file: a, env: B}}", "metrics.pushgateway: a URL has one source: url, env, file or command (found env and file)"),
    ("metrics: {push: http://p}", "metrics.push: unknown key"),
    ("notify: hidden.example/T0", "notify[0]: not an http:// or https:// URL (it may be a secret"),
    ("notify: [http://a/, 'http://h/hid den']", "notify[1]: not an http:// or https:// URL"),
    ("notify: [{url: ftp://hidden}]", "notify[0]: not an http:// or https:// URL"),
    ("notify: [{kind: slack}]", "notify[0]: a URL has one source: url, env, file or command (found none)"),
    ("notify: [{env: 'a b'}]", "notify[0].env: expected the name of a variable"),
    ("notify: [{url: http://h, kind: slak}]", "notify[0].kind: expected one of slack, generic, found 'slak' (did you mean slack?)"),
    ("notify: [{url: http://h, on: []}]", "notify[0].on: names no moment"),
    ("notify: [{url: http://h, on: ended}]", "notify[0].on[0]: expected one of started, finished, failed"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "mistake"), OUTLETS)
@pytest.mark.parametrize("place", ["services.shop", "defaults"])
def test_a_mistake_in_who_is_told_is_named_and_no_url_repeated(
    refused, place: str, line: str, mistake: str
) -> None:
    text = f"{HEAD}    {line}\n" if place != "defaults" else f"{HEAD}defaults:\n  {line}\n"
    (said,) = refused(text)
    assert f": {place}.{mistake}" in said
    assert "hid" not in said
