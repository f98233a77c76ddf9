from __future__ import annotations

import subprocess

import pytest

from fabfile.balancers.haproxy.change import (
    admit,
    admit_first,
    change_script,
    set_state,
    set_weight,
    shutdown_sessions,
)
from fabfile.balancers.haproxy.observe import observer_script, poll_script
from fabfile.balancers.haproxy.sessions import sessions_script
from fabfile.balancers.model import ServerRef
from fabfile.errors import BadInput
from fabfile.inventory.model import BalancerSpec

REF = ServerRef("lb1", "app", "web1_app_1")
SPEC = BalancerSpec(
    "haproxy",
    ("lb1",),
    "app",
    socket="/run/haproxy/admin.sock",
    master_socket="/run/haproxy/master.sock",
    state_file="/run/haproxy/state",
    container="haproxy",
)


def test_the_exact_commands() -> None:
    assert set_weight(REF, 0) == ("set server app/web1_app_1 weight 0",)
    assert set_state(REF, "maint") == ("set server app/web1_app_1 state maint",)
    assert shutdown_sessions(REF) == ("shutdown sessions server app/web1_app_1",)
    assert admit(REF, 100, "ready") == (
        "set server app/web1_app_1 weight 100",
        "set server app/web1_app_1 state ready",
    )


def test_a_server_leaves_maintenance_as_down_and_only_then_may_be_ready() -> None:
    assert admit_first(REF, checked=True) == (
        "set server app/web1_app_1 state drain",
        "set server app/web1_app_1 health down",
    )


def test_a_server_without_checks_is_never_put_down_for_good() -> None:
    assert admit_first(REF, checked=False) == ()


@pytest.mark.parametrize("weight", [-1, 257])
def test_a_weight_haproxy_would_refuse_is_refused_here(weight: int) -> None:
    with pytest.raises(BadInput):
        set_weight(REF, weight)


def test_a_name_that_carries_a_command_is_refused() -> None:
    with pytest.raises(BadInput):
        set_weight(ServerRef("lb1", "app", "x weight 0;shutdown"), 1)


def test_only_a_cut_reaches_processes_of_before_a_reload() -> None:
    cut = change_script(SPEC, shutdown_sessions(REF))
    assert "be=app srv=web1_app_1 " in cut
    assert "@!PID shutdown session $ek_id" in cut
    assert "@!PID shutdown" not in change_script(SPEC, set_state(REF, "maint"))
    blind = BalancerSpec("haproxy", ("lb1",), "app")
    assert "@!PID shutdown" not in change_script(blind, shutdown_sessions(REF))


@pytest.mark.parametrize("container", [None, "haproxy"])
def test_every_script_is_one_a_posix_shell_accepts(container: str | None) -> None:
    spec = BalancerSpec("haproxy", ("lb1",), "app", container=container, master_socket="/m")
    many = [command for n in range(400) for command in set_weight(REF, n % 256)]
    for script in (
        poll_script(spec, ["app", "api"]),
        observer_script(spec),
        change_script(spec, many, read=["app"]),
        sessions_script(spec),
    ):
        subprocess.run(["sh", "-n", "-c", script], check=True)


def test_a_long_chain_is_cut_below_haproxys_buffer() -> None:
    many = [command for n in range(400) for command in set_weight(REF, n % 256)]
    script = change_script(BalancerSpec("haproxy", ("lb1",), "app"), many)
    chains = [line for line in script.splitlines() if "set server" in line]
    assert len(chains) > 1
    assert all(len(line) < 9000 for line in chains)
    assert sum(line.count("set server") for line in chains) == 400


def test_paths_that_would_change_the_meaning_of_a_script_are_refused() -> None:
    for bad in (
        BalancerSpec("haproxy", ("lb1",), "app", socket="/run/x,fork"),
        BalancerSpec("haproxy", ("lb1",), "app", container="x; rm"),
        BalancerSpec("haproxy", ("lb1",), "app", state_file="state"),
    ):
        with pytest.raises(BadInput):
            poll_script(bad, ["app"])
    with pytest.raises(BadInput):
        poll_script(SPEC, ["app; y"])
