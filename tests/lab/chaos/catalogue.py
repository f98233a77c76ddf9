"""Every fault of the matrix, with what is expected of it: written down before it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import faults as f
from .deploys import Event, When
from .judge import SAFE_WITHIN, Expectation
from .world import World

DONE = frozenset({0})
BACK = frozenset({7})
TRUE = frozenset({0, 6, 7})
"""It may succeed, or go back, or say that a repair is needed, as long as what it says is true."""


@dataclass(frozen=True)
class Fault:
    """One row."""

    name: str
    what: str
    """What is done, for a person; the moment is added."""
    when: When = field(default_factory=lambda: When("RolloutStarted"))
    strike: Callable[[World, Event], None] = f.nothing
    mend: Callable[[World], None] | None = None
    """After the deploy ended, before a recovery."""
    set_up: Callable[[World], None] | None = None
    """Before the row, out of everybody's account."""
    tear_down: Callable[[World], None] | None = None
    expected: Expectation = field(default_factory=Expectation)
    servers: tuple[str, ...] = ()
    """What the fault takes by itself: prefixes of instances."""
    url: int | None = None
    """The frontend it takes by itself, by its number."""
    kept: bool = False
    """Of that frontend only connections that were kept and idle."""
    version: str = ""
    """The version to deploy, where it is no good one."""
    begins_at: str = ""
    """The version to begin at."""
    change: dict[str, Any] = field(default_factory=dict)
    """Of the harness' inventory."""
    recovery: str = "resume"
    """For what the deploy leaves unfinished."""
    alone: bool = False
    """It takes servers by itself, so it is tried without a rollout as well."""
    kind: str = "fault"
    """fault · stopped, killed: what is done to the controller · twins: two of them."""


ONE_HOST_FIRST = {"rollout": {"serial": [1, "100%"]}, "health": {"timeout": "5s"}}

FAULTS: tuple[Fault, ...] = (
    Fault(
        "controller-stopped",
        "SIGSTOP of the controller, `fab abort` once its locks are silent, then SIGCONT",
        When(step="recreate"),
        expected=Expectation(frozenset({1, 4, 6}), safe_within=45.0),
        recovery="abort",
        kind="stopped",
    ),
    Fault(
        "killed-before-its-plan",
        "kill -9 of the controller when its locks are taken and no plan is written, `fab resume`",
        When(event="PhaseFinished", phase="pull"),
        expected=Expectation(frozenset({-9})),
        kind="killed",
    ),
    Fault(
        "compose-killed",
        "kill -9 of `docker compose` on the host when the old container has stopped",
        When(step="recreate", host="web2"),
        f.kill_compose,
        expected=Expectation(frozenset({0, 7})),
    ),
    Fault(
        "sshd-killed",
        f"sshd and all its sessions killed on a host, back after {f.HELD:g} s",
        When(step="recreate", host="web2"),
        f.kill_sshd,
        expected=Expectation(TRUE),
    ),
    Fault(
        "sshd-killed-in-drain",
        f"sshd and all its sessions killed on a host, back after {f.HELD:g} s",
        When(step="await-idle", host="web2"),
        f.kill_sshd,
        expected=Expectation(TRUE),
    ),
    Fault(
        "edge-sshd-killed",
        f"sshd and all its sessions killed on lb1, back after {f.HELD:g} s",
        When(step="await-idle", host="web2"),
        lambda world, _: f.kill_sshd(world, {"instance": "lb1/"}),
        expected=Expectation(TRUE),
    ),
    Fault(
        "host-paused",
        f"`docker pause` of a host for {f.HELD:g} s",
        When(step="recreate", host="web2"),
        f.pause_host,
        expected=Expectation(TRUE, losses="own"),
        servers=("web2/",),
        alone=True,
    ),
    Fault(
        "engine-restarted",
        "dockerd of a host stopped and started",
        When(step="recreate", host="web2"),
        f.restart_engine,
        expected=Expectation(TRUE, losses="own"),
        servers=("web2/",),
        alone=True,
    ),
    Fault(
        "registry-gone",
        "the registry killed after the pull, back after the deploy",
        When(event="PhaseFinished", phase="pull"),
        f.stop_registry,
        f.start_registry,
    ),
    Fault(
        "disk-full",
        "the host's /var/lib/docker, a file system of its own, filled to the last byte,"
        " emptied after the deploy; then `fab abort`, if it left anything",
        When(step="recreate", host="web2"),
        f.fill_disk,
        f.empty_disk,
        set_up=f.small_disk,
        tear_down=f.large_disk,
        expected=Expectation(frozenset({6, 7})),
        recovery="abort",
    ),
    Fault(
        "never-healthy",
        "deploy of 0.0.3, whose /ping answers 500, one host first",
        version="0.0.3",
        change=ONE_HOST_FIRST,
        expected=Expectation(BACK),
    ),
    Fault(
        "answers-5xx",
        "deploy of 0.0.5, which answers 500 to every fifth request, one host first",
        version="0.0.5",
        change=ONE_HOST_FIRST,
        expected=Expectation(BACK, losses="version"),
    ),
    Fault(
        "ignores-sigterm",
        "deploy over 0.0.6, which ignores SIGTERM and is killed after 5 s",
        begins_at="0.0.6",
    ),
    Fault(
        "reload-in-drain",
        "HAProxy on lb1 reloaded",
        When(step="await-idle", host="web2", nth=2),
        f.reload_haproxy,
        expected=Expectation(DONE, losses="own"),
        url=0,
        kept=True,
        alone=True,
    ),
    Fault(
        "reload-in-recreate",
        "HAProxy on lb1 reloaded",
        When(step="recreate", host="web2"),
        f.reload_haproxy,
        expected=Expectation(DONE, losses="own"),
        url=0,
        kept=True,
    ),
    Fault(
        "reload-in-return",
        "HAProxy on lb1 reloaded",
        When(step="admit", host="web2"),
        f.reload_haproxy,
        expected=Expectation(DONE, losses="own"),
        url=0,
        kept=True,
    ),
    Fault(
        "haproxy-restarted",
        "`docker restart` of lb1's HAProxy, which cuts what runs after 10 s",
        When(step="recreate", host="web2"),
        f.restart_haproxy,
        expected=Expectation(TRUE, losses="own"),
        url=0,
        alone=True,
    ),
    Fault(
        "instance-killed",
        "`docker kill` of web2/app_3, which waits for its turn in rotation",
        When(step="recreate", host="web2"),
        f.kill_app_3,
        f.start_app_3,
        expected=Expectation(DONE, losses="own"),
        servers=("web2/app_3",),
        alone=True,
    ),
    Fault(
        "upgraded-instance-killed",
        "`docker kill` of web2/app_3, upgraded and back in rotation, while another is replaced;"
        " exit 0 would not be true of it",
        When(step="recreate", host="web3"),
        f.kill_app_3,
        expected=Expectation(frozenset({3, 6, 7}), losses="own"),
        change={"rollout": {"serial": [2, 1]}},
        servers=("web2/app_3",),
    ),
    Fault(
        "two-deploys",
        "two deploys of two versions from two checkouts, started at the same moment:"
        " exactly one goes on, the other one ends with 4",
        kind="twins",
    ),
    Fault(
        "clocks-an-hour-off",
        "web2's clock an hour ahead, lb2's an hour behind",
        set_up=f.clocks_off,
        tear_down=f.clocks_right,
    ),
    Fault(
        "killed-with-clocks-off",
        "the same, and kill -9 of the controller, `fab resume`",
        When(step="recreate", nth=2),
        set_up=f.clocks_off,
        tear_down=f.clocks_right,
        expected=Expectation(frozenset({-9}), safe_within=SAFE_WITHIN),
        kind="killed",
    ),
)
