"""Hosts that are not fit for a rollout: one clear line, exit 5, and nothing was changed."""

import subprocess
from contextlib import contextmanager

import pytest
from rollouts import ask, fab, running, servers_state, variant

WEB = ("web1", "web2", "web3")


@pytest.fixture(scope="module")
def inventory(edge_inventory):
    path = variant(edge_inventory, "refusals", {"health": {"min_healthy": "0s"}})
    done = fab(path, "provision", "--version", "0.0.1")
    assert done.code == 0, done.text
    # Something to refuse: a deploy of what runs already would be over before it is stopped.
    return variant(path, "changed", {"env": {"GREETING": "a setting that is new"}})


@contextmanager
def as_root(lab, host, do, undo):
    """Break a host, and mend it whatever happens."""
    argv = ["docker", "exec", lab.container(host), "sh", "-c"]
    subprocess.run([*argv, do], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run([*argv, undo], check=True, capture_output=True)


def refused(lab, inventory, *says):
    """A deploy that ends with exit 5, says why, and touches nothing."""
    before = {name: running(lab, name) for name in ("web2", "web3")}
    states = {name: servers_state(lab, name) for name in ("lb2",)}
    done = fab(inventory, "deploy", "--version", "0.0.2")
    assert done.code == 5, done.text
    assert "Traceback" not in done.text
    for text in says:
        assert text in done.err, done.text
    assert {name: running(lab, name) for name in ("web2", "web3")} == before
    assert {name: servers_state(lab, name) for name in ("lb2",)} == states


@pytest.mark.parametrize(
    ("host", "do", "undo", "says"),
    [
        ("web1", "mv /usr/bin/docker /root", "mv /root/docker /usr/bin", "Docker is not installed"),
        ("web1", "mv /usr/bin/curl /root", "mv /root/curl /usr/bin", "curl is not installed"),
        (
            "lb1",  # neither on the host nor, where it is looked for next, in HAProxy's container
            "mv /usr/bin/socat /root && docker exec haproxy mv /usr/bin/socat /root",
            "mv /root/socat /usr/bin; docker exec haproxy mv /root/socat /usr/bin",
            "socat",
        ),
        (
            "web1",
            "mount -t tmpfs -o size=50m tmpfs /srv/challenge/releases"
            " && mount -t tmpfs -o size=40m,mode=1777 tmpfs /srv/challenge",
            "umount /srv/challenge; umount /srv/challenge/releases",
            "disk full",
        ),
        (
            "web1",
            "mv /var/lib/evenkeel /var/lib/evenkeel.off",
            "mv /var/lib/evenkeel.off /var/lib/evenkeel",
            "/var/lib/evenkeel is missing",
        ),
        (
            "web1",
            "chmod 755 /var/lib/evenkeel",
            "chmod 2775 /var/lib/evenkeel",
            "/var/lib/evenkeel is not writable",
        ),
        (
            "web1",
            "d=$(ls -d /usr/lib*/docker/cli-plugins/docker-compose"
            " /usr/libexec/docker/cli-plugins/docker-compose 2>/dev/null | head -n 1);"
            " echo $d > /root/where; mv $d /root/compose-plugin",
            "mv /root/compose-plugin $(cat /root/where)",
            "Compose v2 is missing",
        ),
    ],
)
def test_a_host_that_lacks_something_is_refused(lab, inventory, host, do, undo, says):
    with as_root(lab, host, do, undo):
        refused(lab, inventory, f"{host}: ", says)


def test_a_socket_below_level_admin_is_refused(lab, inventory):
    config = "/etc/haproxy/haproxy.cfg"
    do = (
        f"cp {config} /root/cfg && sed -i 's/level admin/level operator/' {config}"
        " && docker kill -s USR2 haproxy && sleep 1"
    )
    undo = f"cp /root/cfg {config} && docker kill -s USR2 haproxy && sleep 1"
    with as_root(lab, "lb1", do, undo):
        refused(lab, inventory, "lb1: ", "level admin")


def test_a_changed_host_key_is_refused(lab, inventory):
    key = "/etc/ssh/ssh_host_ed25519_key"
    do = (
        f"mkdir -p /root/keys && cp /etc/ssh/ssh_host_* /root/keys && rm /etc/ssh/ssh_host_*"
        f" && ssh-keygen -q -t ed25519 -N '' -f {key} && pkill -HUP -o sshd && sleep 0.5"
    )
    undo = "cp /root/keys/* /etc/ssh/ && pkill -HUP -o sshd && sleep 0.5"
    with as_root(lab, "web3", do, undo):
        done = fab(inventory, "deploy", "--version", "0.0.2")
    assert done.code == 5, done.text
    assert "web3" in done.err
    assert "key" in done.err


def test_a_template_that_does_not_render_is_refused(lab, inventory, tmp_path):
    template = tmp_path / "compose.yml.j2"
    template.write_text("services:\n  app_1:\n    image: {{ imagine }}\n")
    path = variant(inventory, "template", {"template": str(template)})
    refused(lab, path, "compose.yml.j2:3", "imagine")


def test_servers_that_track_ours_and_cuts_on_maint_are_refused(lab, inventory):
    config = "/etc/haproxy/haproxy.cfg"
    do = (
        f"cp {config} /root/cfg"
        " && sed -i 's/default-server check/default-server on-marked-down"
        f" shutdown-sessions check/' {config} && docker kill -s USR2 haproxy && sleep 1"
    )
    undo = f"cp /root/cfg {config} && docker kill -s USR2 haproxy && sleep 1"
    with as_root(lab, "lb1", do, undo):
        refused(lab, inventory, "on-marked-down")
    assert "challenge" in ask(lab, "lb1", "show stat")
