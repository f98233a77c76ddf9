"""Each finding: a set-up that shows it, and the healthy one that does not."""

from dataclasses import replace
from pathlib import Path

import pytest

from fabfile.checks.doctor.catalogue import CATALOGUE
from fabfile.checks.doctor.facts import HostFacts, Unreached
from fabfile.checks.doctor.findings import exit_code, found
from fabfile.checks.doctor.judge import diagnose
from fabfile.checks.fleet.facts import Disk
from fabfile.inventory.model import BalancerSpec, Count, Drain, RolloutPolicy
from tests.unit.checks.doctor.patients import (
    CONFIG,
    DIGEST,
    EDGE,
    IMAGE,
    OURS,
    SHOP,
    TEMPLATE,
    Container,
    Proxy,
    containers,
    host,
    project,
    proxy,
    rendered,
    reply,
    setup,
    with_ssh,
)


def on_web1(**changes):
    return setup(hosts={"web1": host(**changes)})


def configured(*edits, service=SHOP, **spec):
    """The healthy configuration with words replaced, or lines added to the backend."""
    text = CONFIG
    for edit in edits:
        old, new = edit if isinstance(edit, tuple) else ("    option redispatch\n", "")
        if not isinstance(edit, tuple):
            new = f"{old}    {edit}\n"
        assert old in text, old
        text = text.replace(old, new, 1)
    return setup(proxies=[proxy(text, service=service, **spec)], service=service)


def asked(name, *ours, config=False, **spec):
    """What a real HAProxy said, its configuration hidden."""
    text = reply(name)
    text = text if config else text.partition("@evenkeel config")[0]
    backend = {"app": "app", "operator": "app"}.get(name, name)
    own = replace(SHOP, balancers=(replace(EDGE, backend=backend, **spec),))
    return setup(proxies=[Proxy(own, own.balancers_of("web1")[0], ours, said=text)])


def templated(*edits, service=SHOP):
    text = TEMPLATE
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    return setup(templates=[rendered(text, service)], service=service)


def loopback():
    own = service(balancers=(replace(EDGE, template=Path("/x/haproxy.cfg.j2")),))
    made = setup(service=own)
    hosts = dict(made.inventory.hosts)
    hosts["web1"] = replace(hosts["web1"], internal="127.0.0.1")
    return replace(made, inventory=replace(made.inventory, hosts=hosts))


def service(**changes):
    return replace(SHOP, **changes)


def policy(**changes):
    return service(rollout=RolloutPolicy(**changes))


SERVERS = "fall 3 weight 100"
FIRST = "    server web1_app_1 10.0.0.1:3001"
OTHER = "\nbackend other\n    server o1 10.9.9.9:80 track shop/web1_app_1\n"
NAMED = (
    f"{FIRST}\n",
    "    server web1_app_1 app_1:3001 resolvers dns\nresolvers dns\n    hold valid 30s\n",
)

ILL = {
    ("unreachable", "problem"): setup(hosts={"web1": Unreached("connection refused")}),
    ("host-key", "problem"): setup(hosts={"web1": Unreached("not in known_hosts", "host-key")}),
    ("no-answer", "problem"): setup(hosts={"web1": Unreached("ended with 2", "no-answer")}),
    ("host-keys-off", "risk"): with_ssh(setup(), "web1", host_keys="off"),
    ("tools-missing", "problem"): on_web1(tools=("flock",)),
    ("state-folder", "problem"): on_web1(state="missing"),
    ("state-folder-private", "risk"): on_web1(state="ready 755 deploy"),
    ("disk", "problem"): on_web1(disks=(Disk("/", 50, 1000),)),
    ("disk", "risk"): on_web1(disks=(Disk("/", 90, 9_000_000),)),
    ("clock", "risk"): on_web1(skew=-90.0),
    ("clock", "hint"): on_web1(skew=6.0),
    ("max-sessions", "hint"): on_web1(max_sessions=4),
    ("docker", "problem"): on_web1(docker=("Docker is not installed",)),
    ("project-folder", "problem"): on_web1(projects={"shop": project(folder="not writable")}),
    ("not-provisioned", "problem"): on_web1(projects={"shop": project(provisioned=False)}),
    ("registry", "risk"): on_web1(registries={"registry.lab:5000": "000"}),
    ("digest-missing", "risk"): on_web1(projects={"shop": project(digests=frozenset())}),
    ("image-latest", "risk"): on_web1(
        projects={"shop": project(containers=(Container("app_1", f"{IMAGE}:latest", True),))}
    ),
    ("image-latest", "hint"): templated(("postgres:16.3", "postgres")),
    ("health-missing", "hint"): setup(
        templates=[rendered(TEMPLATE.replace('    healthcheck: {test: ["CMD", "true"]}\n', ""))],
        hosts={name: host(projects={"shop": project(containers=())}) for name in ("web1", "web2")},
    ),
    ("template", "problem"): setup(templates=[rendered(why="shop.yml.j2:3: no such variable")]),
    ("port-differs", "problem"): templated(("3002:3000", "4002:3000")),
    ("port-range", "problem"): templated(("3001:3000", "3001-3009:3000"), ('"3002:3000"', "")),
    ("port-shared", "problem"): templated(("postgres:16.3", "postgres:16.3\n    ports: [3001:1]")),
    ("replicas", "problem"): templated(("restart: unless", "scale: 2\n    restart: unless")),
    ("container-name", "risk"): templated(
        ('ports: ["3001', 'container_name: x\n    ports: ["3001')
    ),
    ("build", "risk"): templated(("    image: shop", "    build: .\n    image: shop")),
    ("build", "hint"): templated(("    image: postgres:16.3", "    build: .")),
    ("depends-on", "risk"): templated(('ports: ["3002', 'depends_on: [app_1]\n    ports: ["3002')),
    ("depends-on", "hint"): templated(
        ('ports: ["3002', 'depends_on: {database: {}}\n    ports: ["3002')
    ),
    ("stop-grace", "risk"): templated(
        ("restart: unl", "stop_grace_period: 1m30s\n    restart: unl")
    ),
    ("stop-grace", "hint"): templated(service=service(stop_grace=60.0)),
    ("restart-missing", "risk"): templated(("    restart: unless-stopped\n", "")),
    ("memory-missing", "hint"): templated(("    mem_limit: 256m\n", "")),
    ("balancer-silent", "problem"): configured(("stats socket /run/haproxy", "stats socket /tmp")),
    ("level", "problem"): configured(("level admin", "level operator")),
    ("backend-missing", "problem"): configured(("\nbackend shop\n", "\nbackend shoe\n")),
    ("server-missing", "problem"): configured((FIRST, FIRST.replace("app_1", "app_9"))),
    ("config-edited", "hint"): setup(proxies=[replace(proxy(), meant=CONFIG + "# new\n")]),
    ("config-edited", "risk"): setup(proxies=[replace(proxy(CONFIG + OTHER), meant=CONFIG)]),
    ("server-elsewhere", "problem"): configured((FIRST, FIRST.replace("10.0.0.1:", "10.0.0.2:"))),
    ("server-elsewhere", "risk"): configured((FIRST, FIRST.replace("3001", "4001"))),
    ("config-unread", "risk"): setup(proxies=[proxy(None)]),
    ("haproxy-old", "risk"): setup(
        proxies=[proxy(said="@evenkeel runtime\nadmin\n\nVersion: 2.4.22\n")]
    ),
    ("expose-fd", "hint"): configured((" expose-fd listeners", "")),
    ("expose-fd", "risk"): configured((" expose-fd listeners", ""), master_socket=None),
    ("no-state-file", "risk"): configured(state_file=None),
    ("state-file-not-loaded", "risk"): configured(("    load-server-state-from-file global\n", "")),
    ("no-master-socket", "risk"): configured(master_socket=None),
    ("hard-stop-after", "risk"): configured(("hard-stop-after 10m", "hard-stop-after 5s")),
    ("hard-stop-after", "hint"): configured(("    hard-stop-after 10m\n", "")),
    ("on-marked-down", "problem"): configured((SERVERS, "on-marked-down shutdown-sessions")),
    ("persist", "problem"): configured("option persist"),
    ("force-persist", "risk"): configured("force-persist if { src 10.0.0.9 }"),
    ("ignore-persist", "hint"): configured("ignore-persist if { path /static }"),
    ("use-server", "hint"): configured("use-server web1_app_1 if { path /one }"),
    ("no-redispatch", "risk"): configured(("    option redispatch\n", "")),
    ("no-retries", "hint"): configured("retries 0"),
    ("retry-on", "risk"): configured("retry-on conn-failure 503"),
    ("static-algorithm", "risk"): configured(("roundrobin", "source")),
    ("weight-one", "hint"): asked("nocheck", "s1"),
    ("weight-one", "problem"): setup(
        proxies=[
            replace(asked("nocheck", "s1").proxies[0], service=policy(strategy="canary")),
        ]
    ),
    ("agent-check", "risk"): configured((SERVERS, "agent-check agent-port 9999")),
    ("tracker", "risk"): setup(proxies=[proxy(CONFIG + OTHER)]),
    ("backup", "risk"): configured((FIRST, f"{FIRST} backup")),
    ("unchecked", "risk"): configured((FIRST, f"{FIRST} no-check")),
    ("slow-return", "hint"): configured(("inter 2s fastinter 200ms", "inter 10s fastinter 1s")),
    ("slow-return", "risk"): configured(("inter 2s fastinter 200ms", "inter 20s")),
    ("slow-return", "problem"): configured(("inter 2s fastinter 200ms", "inter 1m")),
    ("slowstart", "hint"): configured((SERVERS, "slowstart 30s")),
    ("unresolved", "risk"): setup(
        proxies=[
            replace(
                asked("app", "web1_app_1").proxies[0],
                said=reply("app").replace(
                    "app 1 web1_app_1 127.0.0.1 2 0 ", "app 1 web1_app_1 127.0.0.1 0 32 "
                ),
            )
        ]
    ),
    ("resolvers", "risk"): configured((FIRST, "    server web1_app_1 app_1:3001")),
    ("resolvers", "hint"): setup(proxies=[proxy(CONFIG.replace(*NAMED))]),
    ("no-balancer", "problem"): setup(service=service(balancers=())),
    ("internal-address", "problem"): loopback(),
    ("no-spare", "problem"): setup(service=service(hosts=("web1",), instances=1)),
    ("min-capacity", "problem"): setup(service=policy(min_capacity=80)),
    ("serial-waits", "hint"): setup(
        service=service(instances=1, rollout=RolloutPolicy(serial=(Count(100, percent=True),)))
    ),
    ("sticky-grace", "hint"): configured(
        "cookie SRV insert indirect", service=service(drain=Drain(sticky_grace=0.0))
    ),
    ("drain-timeout", "hint"): configured("timeout tunnel 1h"),
    ("secret", "problem"): setup(secrets={"shop": ("KEY: the variable K is not set",)}),
}


def codes(made):
    return {(finding.code, finding.severity) for finding in diagnose(made).findings}


def healthy():
    """Nothing is wrong with it, but that these HAProxies were not really asked."""
    return setup(proxies=[proxy()])


def test_a_healthy_set_up_is_left_in_peace():
    assert codes(setup()) == set()
    assert codes(healthy()) == {("balancer-silent", "problem")}
    assert diagnose(setup()).exit_code == 0


@pytest.mark.parametrize("known", ILL, ids=lambda known: "-".join(known))
def test_each_fault_is_found_and_nothing_it_does_not_bring_along(known):
    found_here = codes(ILL[known])
    assert known in found_here
    assert known not in codes(setup())
    if known[0] != "balancer-silent":
        assert known not in codes(healthy())


def test_every_finding_that_the_documentation_names_can_come_up():
    expected = {(code, s) for code, kind in CATALOGUE.items() for s in kind.severities}
    assert set(ILL) == expected


@pytest.mark.parametrize("known", ILL, ids=lambda known: "-".join(known))
def test_a_finding_says_in_one_line_where_and_what_to_do(known):
    for finding in diagnose(ILL[known]).findings:
        assert finding.text.strip()
        assert finding.mend.strip()
        assert finding.subjects
        assert "\n" not in finding.text + finding.mend + finding.where


def one(made, code):
    (finding,) = (f for f in diagnose(made).findings if f.code == code)
    return finding


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("level", "level operator"),
        ("on-marked-down", "on-marked-down"),
        ("persist", "option persist"),
        ("retry-on", "retry-on"),
        ("static-algorithm", "balance source"),
        ("hard-stop-after", "hard-stop-after 5s"),
        ("tracker", "track shop"),
        ("backup", "backup"),
        ("unchecked", "no-check"),
        ("slow-return", "web1_app_1"),
        ("drain-timeout", "timeout tunnel"),
        ("no-redispatch", "backend shop"),
    ],
)
def test_a_finding_in_haproxy_s_file_names_the_line_to_change(code, line):
    known = next(key for key in ILL if key[0] == code)
    finding = one(ILL[known], code)
    text = ILL[known].proxies[0].config.splitlines()[finding.line - 1]
    assert line in text
    assert finding.where == f"lb1 /etc/haproxy/haproxy.cfg:{finding.line}"


def test_a_finding_in_a_template_names_its_line():
    finding = one(ILL["container-name", "risk"], "container-name")
    assert finding.where.startswith("web1 shop.yml.j2:")
    assert (
        "container_name"
        in ILL["container-name", "risk"].rendered[0].source.splitlines()[finding.line - 1]
    )


def test_what_hosts_suffer_from_alike_is_said_once():
    ill = host(tools=("curl",))
    finding = one(setup(hosts={"web1": ill, "web2": ill}), "tools-missing")
    assert finding.subjects == ("web1", "web2")


def test_the_same_trouble_is_not_told_twice_by_file_and_process():
    text = reply("stat_alg")
    config = text.partition("@evenkeel config\n")[2]
    own = replace(SHOP, balancers=(replace(EDGE, backend="stat_alg"),))
    ill = Proxy(own, own.balancers_of("web1")[0], ("s1", "s2"), said=text, config=config)
    findings = diagnose(setup(proxies=[ill])).findings
    for code in ("on-marked-down", "static-algorithm"):
        (finding,) = (f for f in findings if f.code == code)
        assert finding.line


def test_what_only_the_running_process_tells_is_found_without_its_file():
    found_here = codes(asked("nocheck", "s1", "bk", "tr"))
    assert {("unchecked", "risk"), ("backup", "risk"), ("config-unread", "risk")} <= found_here
    assert ("agent-check", "risk") in codes(asked("ag", "s1"))
    assert ("tracker", "risk") in codes(asked("app", "web1_app_2"))
    assert ("level", "problem") in codes(asked("operator", "web1_app_1"))


def test_the_worst_comes_first_and_gives_the_exit_code():
    made = setup(
        hosts={"web1": host(tools=("curl",), skew=90.0, max_sessions=2), "web2": host(skew=6.0)}
    )
    severities = [finding.severity for finding in diagnose(made).findings]
    assert severities == ["problem", "risk", "hint", "hint"]
    assert diagnose(made).exit_code == 5
    risk = found("clock", "web1", "x", "y")
    hint = found("clock", "web1", "x", "y", severity="hint")
    assert [exit_code(f) for f in ([], [hint], [hint, risk])] == [0, 0, 3]


def test_a_severity_that_no_page_tells_of_cannot_slip_in():
    with pytest.raises(ValueError, match="never"):
        found("clock", "web1", "x", "y", severity="problem")
    with pytest.raises(KeyError):
        found("nonsense", "web1", "x", "y")


def test_an_unreachable_host_keeps_nothing_else_from_being_told():
    made = setup(
        hosts={"web1": Unreached("connection refused"), "web2": host(skew=90.0)},
        proxies=[proxy(CONFIG.replace("level admin", "level user"))],
    )
    assert {"unreachable", "clock", "level"} <= {code for code, _ in codes(made)}


def test_one_haproxy_per_host_with_one_instance_has_nothing_to_spare():
    own = replace(EDGE, hosts="self")
    made = setup(service=service(instances=1, balancers=(own,)))
    assert ("no-spare", "problem") in codes(made)


def test_weights_that_differ_count_as_they_are():
    """Of the recorded HAProxy's servers one has weight 1, one 100, one 50."""
    made = asked("app", *OURS)
    low = replace(
        made,
        services=(
            replace(
                SHOP,
                balancers=made.proxies[0].service.balancers,
                rollout=RolloutPolicy(min_capacity=75),
            ),
        ),
    )
    finding = one(low, "min-capacity")
    assert finding.text.startswith("web1/app_2 can never leave: lb1:app: 151 of 251")
    assert "{min_capacity: 60%}" in finding.mend


@pytest.mark.parametrize(
    ("text", "takes"),
    [
        ("inter 30s", "60 s"),  # rise 2: one after inter, one more
        ("inter 30s rise 1", "30 s"),
        ("inter 20s fastinter 1s downinter 1s", "21 s"),
        ("inter 5s downinter 20s fastinter 2s rise 3", "24 s"),
    ],
)
def test_how_long_a_return_takes_is_reckoned_as_haproxy_does(text, takes):
    made = configured(("inter 2s fastinter 200ms downinter 500ms rise 2 fall 3", text))
    assert f"up to {takes}" in one(made, "slow-return").text


def test_our_own_template_is_mended_where_it_is_rendered_from():
    made = configured(("roundrobin", "source"), template=Path("/x/haproxy.cfg.j2"))
    assert "fab provision.balancers" in one(made, "static-algorithm").mend
    assert "haproxy.cfg.j2" in one(made, "static-algorithm").mend


def test_a_configuration_that_is_still_to_be_written_is_one_finding():
    made = setup(proxies=[proxy(None, template=Path("/x/haproxy.cfg.j2"))])
    assert codes(made) == {("balancer-silent", "problem")}
    assert one(made, "balancer-silent").mend == "fab provision.balancers"


def test_a_health_check_that_comes_with_the_image_counts():
    bare = TEMPLATE.replace('    healthcheck: {test: ["CMD", "true"]}\n', "")
    assert codes(setup(templates=[rendered(bare)])) == set()


@pytest.mark.parametrize(
    "ports", ["127.0.0.1:3001:3000", "3001:3000/tcp", "{published: 3001, target: 3000}"]
)
def test_ports_are_read_as_compose_spells_them(ports):
    quoted = ports if ports.startswith("{") else f'"{ports}"'
    assert codes(templated(('["3001:3000"]', f"[{quoted}]"))) == set()


def test_a_spec_of_another_kind_is_no_haproxy_to_examine():
    nginx = BalancerSpec("nginx", ("lb1",), "shop")
    assert codes(setup(service=service(balancers=(nginx,)))) == set()
    assert containers()[0].digest == DIGEST
    assert isinstance(host(), HostFacts)


def test_a_missing_server_is_shown_as_the_line_to_write():
    finding = one(ILL["server-missing", "problem"], "server-missing")
    assert "server web1_app_1 10.0.0.1:3001 check " in finding.mend


def test_a_server_inside_docker_s_network_is_where_it_ought_to_be():
    made = configured((FIRST, FIRST.replace("10.0.0.1:3001", "172.18.0.5:3000")))
    assert ("server-elsewhere", "risk") not in codes(made)


def test_what_was_edited_by_hand_is_put_back_by_provisioning():
    made = configured(("roundrobin", "source"), template=Path("/x/haproxy.cfg.j2"))
    edited = replace(made, proxies=tuple(replace(p, meant=CONFIG) for p in made.proxies))
    assert "the file was edited" in one(edited, "static-algorithm").mend
    same = replace(proxy(), meant=CONFIG.rstrip("\n"))
    assert ("config-edited", "hint") not in codes(setup(proxies=[same]))


@pytest.mark.parametrize("changes", [{"order": "start-first"}, {"strategy": "blue-green"}])
def test_where_the_new_one_is_up_first_nothing_has_to_be_spared(changes):
    alone = service(hosts=("web1",), instances=1, rollout=RolloutPolicy(**changes))
    assert ("no-spare", "problem") not in codes(setup(service=alone))


def test_a_large_fleet_is_judged_without_a_pause():
    """800 servers: asked one by one over all of them, that would be minutes."""
    hosts = tuple(f"web{n}" for n in range(1, 201))
    large = service(hosts=hosts, instances=4)
    made = setup(service=large)
    known = dict.fromkeys((*hosts, "lb1"), made.inventory.hosts["web1"])
    made = replace(made, inventory=replace(made.inventory, hosts=known))
    assert codes(made) == set()


@pytest.mark.parametrize(
    ("why", "mend"),
    [
        ("socat is not installed on this host", "apt-get install socat"),
        ("permission denied: deploy can't write to /run/x.sock", "mode 660"),
        ("no HAProxy socket at /run/haproxy/admin.sock", "hosts.yaml: socket:"),
    ],
)
def test_a_silent_haproxy_is_mended_by_what_keeps_it_silent(why, mend):
    made = setup(proxies=[replace(proxy(), why=why)])
    assert mend in one(made, "balancer-silent").mend


def test_an_unknown_host_key_ends_with_the_command_that_makes_it_known():
    shown = "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"
    why = (
        "host key ED25519 SHA256:x of web1 is not in /known_hosts; if that fingerprint is the one"
        f" the host itself shows ({shown} there), add it with: ssh-keyscan -p 22 web1 >> /known_hosts"
    )
    finding = one(setup(hosts={"web1": Unreached(why, "host-key")}), "host-key")
    assert finding.text.endswith("is not in /known_hosts")
    assert finding.mend.startswith("ssh-keyscan -p 22 web1 >> /known_hosts # if that fingerprint")
    assert finding.mend.endswith("there)")
