"""Rollouts of the lab under traffic: what the lab tests and scripts/prove have in common."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from fabfile.checks.lanes import DownloadLane, FastLane, LongLane, StickyLane
from fabfile.checks.prober import Probe
from fabfile.checks.sockets import WebSocketLane
from fabfile.checks.summary import Summary

ROOT = Path(__file__).resolve().parents[2]
FAST_CHECKS = {
    "inter": "1s",
    "fastinter": "100ms",
    "downinter": "200ms",
    "rise": "2",
    "fall": "3",
}
"""The check settings of the figures in docs/proof.md."""
NO_RETRIES = {"retries": "0", "redispatch": "no"}
"""HAProxy then hides nothing: one lost connection is one failed request."""


def variant(base: Path, name: str, change: dict[str, Any]) -> Path:
    """A copy of an inventory beside it, with values of its service replaced, nested ones too."""
    yaml = YAML()
    data = yaml.load(base.read_text())
    _merge(data["services"]["challenge"], change)
    path = base.with_name(f"test-{base.stem}-{name}.yaml")
    with path.open("w") as stream:
        yaml.dump(data, stream)
    return path


def _merge(into: Any, change: Any) -> None:
    for key, value in change.items():
        there = into.get(key) if hasattr(into, "get") else None
        if key == "balancers":
            for balancer in into["balancers"]:
                _merge(balancer, value)
        elif isinstance(value, dict) and there is not None and key != "secrets":
            _merge(there, value)
        else:
            into[key] = value


@dataclass
class Ran:
    """A finished `fab` (or `inv`)."""

    code: int
    out: str
    err: str
    seconds: float
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.out + self.err

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]


def fab(inventory: Path | None, *args: str, program: str = "fab", **options: Any) -> Ran:
    """Run the real program as a person would; with ``--json`` among ``args``, events are read."""
    env = {**os.environ, "PYTHONWARNINGS": "ignore"}
    env.pop("EVENKEEL_INVENTORY", None)
    if inventory is not None:
        env["EVENKEEL_INVENTORY"] = str(inventory)
    env.update(options.pop("env", {}))
    began = time.monotonic()
    done = subprocess.run(
        [str(Path(sys.executable).parent / program), *args],
        cwd=options.pop("cwd", ROOT),
        env=env,
        capture_output=True,
        text=True,
        timeout=options.pop("timeout", 900),
        check=False,
    )
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"event"')]
    return Ran(done.returncode, done.stdout, done.stderr, time.monotonic() - began, events)


def traffic(
    urls: tuple[str, ...],
    *,
    rate: float,
    slow: float,
    slow_rate: float = 1.0,
    sticky: float = 20.0,
    sockets: bool = True,
    cookies: bool = False,
) -> Probe:
    """Every kind of client at once. ``slow`` is how long a long request takes, in seconds."""
    bases = tuple(url.rstrip("/") for url in urls)
    lanes: list[Any] = [
        FastLane(urls, rate=rate, timeout=10.0),
        LongLane(tuple(f"{b}/slow?s={slow:g}" for b in bases), rate=slow_rate, timeout=slow + 30),
        DownloadLane(tuple(f"{b}/download?mb=1&rate=0.5" for b in bases), rate=0.5),
    ]
    if cookies:
        lanes.append(StickyLane(urls, rate=sticky, timeout=10.0))
    if sockets:
        lanes.append(WebSocketLane(tuple(f"{b}/ws" for b in bases)))
    return Probe(lanes)


def lost(summary: Summary) -> dict[str, Any]:
    """Failures by lane and kind, with examples; WebSockets apart, theirs is the policy's cut."""
    return {
        name: {"kinds": dict(lane.kinds), "examples": [str(e) for e in lane.examples]}
        for name, lane in summary.lanes.items()
        if lane.failures and not lane.sockets
    }


def ask(lab: Any, host: str, command: str) -> str:
    """Say something to a host's HAProxy."""
    from lab_tools import login

    node = next(node for node in lab.nodes if node.name == host)
    said = login(lab, node, f"echo '{command}' | socat - UNIX-CONNECT:/run/haproxy/admin.sock")
    assert said.returncode == 0, said.stderr
    return said.stdout


STATE_COLUMNS = (
    "be_name srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_port"
)
"""Of `show servers state`: all that says how a server takes part. The rest counts checks and
seconds since the last change."""


def servers_state(lab: Any, host: str, backend: str = "challenge") -> list[dict[str, str]]:
    """`show servers state`, without the counters."""
    lines = ask(lab, host, f"show servers state {backend}").splitlines()
    header = next(line for line in lines if line.startswith("# ")).removeprefix("# ").split()
    rows = [dict(zip(header, line.split(), strict=False)) for line in lines if backend in line]
    wanted = STATE_COLUMNS.split()
    return [{name: row[name] for name in wanted} for row in rows if "srv_name" in row]


def running(lab: Any, host: str) -> dict[str, tuple[str, str]]:
    """Containers of the project on ``host``: service to (container id, version label)."""
    from lab_tools import login

    node = next(node for node in lab.nodes if node.name == host)
    form = '{{.Label "com.docker.compose.service"}} {{.ID}} {{.Label "evenkeel.version"}}'
    said = login(
        lab,
        node,
        f"docker ps --filter label=com.docker.compose.project=challenge --format '{form}'",
    )
    found = {}
    for line in said.stdout.splitlines():
        name, identity, *version = line.split()
        found[name] = (identity, version[0] if version else "")
    return found


def one_line(text: str) -> str:
    """The only line of ``text``."""
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 1, text
    assert not re.search(r"Traceback|File \"", text), text
    return lines[0]
