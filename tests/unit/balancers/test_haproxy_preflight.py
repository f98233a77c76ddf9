from __future__ import annotations

import re
from pathlib import Path

import pytest

from fabfile.balancers.haproxy.configured import ports, read_configuration
from fabfile.balancers.haproxy.preflight import parks, preflight
from fabfile.inventory.model import BalancerSpec

REPLIES = Path(__file__).parent / "replies"


def findings(
    backend: str, *wanted: str, text: str | None = None, **spec: str | None
) -> dict[str, str]:
    balancer = BalancerSpec(
        "haproxy",
        ("lb1",),
        backend,
        **{"master_socket": "/run/m", "state_file": "/run/s", **spec},  # type: ignore[arg-type]
    )
    recorded = (REPLIES / f"preflight_{backend}.txt").read_text() if text is None else text
    found = preflight("lb1", balancer, wanted, recorded)
    assert all(item.text.startswith("lb1: ") for item in found)
    assert [item.severity for item in found] == sorted(
        (item.severity for item in found), key=lambda severity: severity != "refuse"
    )
    return {item.code: item.severity for item in found}


def test_a_sound_balancer_is_only_warned_of_what_it_lacks() -> None:
    assert findings("app", "web1_app_1") == {"no-redispatch": "warn"}


def test_servers_that_are_not_there_are_refused() -> None:
    assert findings("app", "web9_app_1")["server-missing"] == "refuse"


def test_a_missing_backend_is_refused() -> None:
    text = (REPLIES / "poll_missing_backend.txt").read_text()
    assert findings("nope", "s1", text=text) == {"backend-missing": "refuse"}


def test_a_socket_without_admin_level_is_refused_before_any_drain() -> None:
    text = (REPLIES / "preflight_operator.txt").read_text()
    assert findings("app", "web1_app_1", text=text) == {"level": "refuse"}


def test_a_server_whose_sessions_maintenance_would_cut_is_refused() -> None:
    assert findings("stat_alg", "s2")["on-marked-down"] == "refuse"
    assert "on-marked-down" not in findings("stat_alg", "s1")


def test_pinned_clients_that_maintenance_would_not_move_are_refused() -> None:
    found = findings("ag", "s1")
    assert found["persist"] == "refuse"
    assert found["agent-check"] == "warn"


def test_static_algorithms_trackers_backups_and_unchecked_servers_are_named() -> None:
    assert findings("static", "s1")["static-algorithm"] == "warn"
    assert findings("stat_alg", "s1")["static-algorithm"] == "warn"
    assert findings("app", "web1_app_2")["tracker"] == "warn"
    found = findings("nocheck", "s1", "bk")
    assert found["unchecked"] == found["backup"] == "warn"


def test_what_a_reload_would_lose_is_named() -> None:
    found = findings("app", "web1_app_1", state_file=None, master_socket=None)
    assert found["no-state-file"] == found["no-master-socket"] == "warn"
    text = (REPLIES / "preflight_app.txt").read_text()
    text = text.replace("load-server-state-from-file global", "")
    assert findings("app", "web1_app_1", text=text)["state-file-not-loaded"] == "warn"


def test_a_configuration_that_can_not_be_read_is_said_not_guessed() -> None:
    text = (REPLIES / "preflight_app.txt").read_text().partition("@evenkeel config")[0]
    assert findings("app", "web1_app_1", text=text) == {"config-unread": "warn"}


def test_a_name_that_does_not_resolve_is_named() -> None:
    text = (REPLIES / "preflight_app.txt").read_text()
    line = "3 app 1 web1_app_1 127.0.0.1 2 0 "
    assert line in text
    changed = text.replace(line, "3 app 1 web1_app_1 - 0 32 ")
    assert findings("app", "web1_app_1", text=changed)["unresolved"] == "warn"


CUT = "on-marked-down shutdown-sessions"
ONE = " server s 1:1"


@pytest.mark.parametrize(
    ("configuration", "cutting"),
    [
        (f"backend b\n{ONE} {CUT}\n", ("s",)),
        (f"backend b\n default-server {CUT}\n{ONE}\n", ("s",)),
        (f"defaults\n default-server {CUT}\nbackend b\n{ONE}\n", ("s",)),
        (f"backend b\n{ONE} # {CUT}\n", ()),
        (f"backend b\n{ONE}\nbackend c\n{ONE} {CUT}\n", ()),
        (f"defaults\n default-server {CUT}\ndefaults\nbackend b\n{ONE}\n", ()),
        (f"defaults x\n option persist\ndefaults y\nlisten b from x\n{ONE}\n", ()),
    ],
)
def test_the_line_that_makes_maintenance_cut_is_found_wherever_it_stands(
    configuration: str, cutting: tuple[str, ...]
) -> None:
    facts = read_configuration(configuration, "b")
    assert facts is not None
    assert facts.cuts_on_maint == cutting
    assert facts.persist == ("option persist" in configuration)


def test_facts_come_from_defaults_unless_the_backend_says_otherwise() -> None:
    text = (
        "global\n server-state-file /s\ndefaults\n retries 0\n option redispatch\n option persist\n"
        " load-server-state-from-file global\n"
        "backend b\n no option persist\n retries 2\n balance source\n hash-type consistent\n"
        " force-persist if { src 10.0.0.1 }\n"
    )
    facts = read_configuration(text, "b")
    assert facts is not None
    assert (facts.persist, facts.redispatch, facts.retries) == (False, True, 2)
    assert (facts.force_persist, facts.static, facts.loads_state) == (True, False, True)
    assert read_configuration(text, "other") is None


def test_ports_of_a_configuration_are_known_by_backend_and_server() -> None:
    text = "backend b\n server s h:3001 check\n server t [::1]:3002\n server u h\n"
    assert ports(text) == {"b/s": 3001, "b/t": 3002}


@pytest.mark.parametrize(
    ("version", "parked"),
    [("3.0.11-1+deb13u3", True), ("2.4.0", True), ("2.3.9", False), ("1.8.30", False)],
)
def test_checks_can_be_sent_elsewhere_since_2_4(version: str, *, parked: bool) -> None:
    text = (REPLIES / "preflight_app.txt").read_text()
    told = re.sub(r"(?m)^Version: .*", f"Version: {version}", text)
    assert parks(told) is parked
