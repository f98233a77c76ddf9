"""The figures of docs/proof.md, measured on the lab: nothing lost, and how long it takes.

Run by scripts/prove. Every bound is checked against what the same run measured of the bare minimum;
the exit code is 1 when one is missed. Takes about 25 minutes; ``--short`` uses 2-s requests.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "lab")]

from lab_tools import login, quiet  # noqa: E402
from rollouts import FAST_CHECKS, NO_RETRIES, Ran, fab, lost, traffic, variant  # noqa: E402

from fabfile.balancers.haproxy.config import SERVICE_OPTIONS  # noqa: E402
from fabfile.lab.up import up  # noqa: E402

FACTOR = 1.5
"""A rollout may take that many times the bare minimum."""
BALANCERS = {"edge": ("lb1", "lb2"), "self": ("web1", "web2", "web3")}
WHERE = {"edge": "two edge HAProxies", "self": "a HAProxy on each host"}


@dataclass
class Setting:
    """Health and check settings of one row."""

    name: str
    min_healthy: str
    checks: dict[str, str]

    @property
    def admission(self) -> float:
        """rise x downinter, in seconds: what HAProxy's own checks need."""
        return int(self.checks["rise"]) * seconds(self.checks["downinter"])

    def __str__(self) -> str:
        checks = " ".join(f"{name} {value}" for name, value in self.checks.items())
        return f"min_healthy {self.min_healthy}; {checks}"


QUICK = Setting("quick", "0s", FAST_CHECKS)
SHIPPED = Setting("shipped", "2s", {k: SERVICE_OPTIONS[k] for k in FAST_CHECKS})


def seconds(text: str) -> float:
    return float(text[:-2]) / 1000 if text.endswith("ms") else float(text.rstrip("s"))


class Proof:
    """Collects lines of the page and whether everything held."""

    def __init__(self, *, short: bool) -> None:
        self.lab = up(quiet)
        self.short = short
        self.held = True
        self.lines: list[str] = []

    def say(self, line: str = "") -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        self.lines.append(line)

    def check(self, what: bool) -> str:
        self.held = self.held and what
        return "yes" if what else "**NO**"

    def inventory(self, topology: str, name: str, setting: Setting, **balancer: Any) -> Path:
        base = self.lab.state / ("hosts.yaml" if topology == "edge" else "hosts-self.yaml")
        options = {**setting.checks, **balancer.pop("options", {})}
        change: dict[str, Any] = {
            "health": {"min_healthy": setting.min_healthy},
            "rollout": {"serial": ["35%"]},
            "balancers": {"options": options, **balancer},
        }
        path = variant(base, f"prove-{name}", change)
        done = fab(path, "provision", "--version", "0.0.1")
        assert done.code == 0, done.text
        done = fab(path, "deploy", "--version", "0.0.1", "--serial", "100%")
        assert done.code == 0, done.text
        return path

    def urls(self, topology: str) -> tuple[str, ...]:
        nodes = {node.name: node for node in self.lab.nodes}
        return tuple(self.lab.url(nodes[name]) for name in BALANCERS[topology])

    def bare(self) -> list[float]:
        """Seconds each instance needs for `docker compose up` until it answers, one by one."""
        found = []
        for node in self.lab.nodes:
            if node.role != "web":
                continue
            said = login(self.lab, node, BARE)
            assert said.returncode == 0, said.stderr
            found += [int(line) / 1000 for line in said.stdout.split()]
        return found


BARE = """
cd /srv/challenge
for n in 1 2 3; do
    began=$(date +%s%3N)
    docker compose -p challenge up -d --no-deps --force-recreate app_$n >/dev/null 2>&1 || exit 1
    until curl -sf -m 1 -o /dev/null http://127.0.0.1:300$n/ping; do sleep 0.02; done
    echo $(( $(date +%s%3N) - began ))
done
"""


def measured(inventory: Path, *args: str) -> tuple[Ran, int, int]:
    """A deploy, its peak memory in MiB and its SSH connections at most."""
    env = {**os.environ, "EVENKEEL_INVENTORY": str(inventory)}
    argv = [str(Path(sys.executable).parent / "fab"), "deploy", "--json", *args]
    began = time.monotonic()
    process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    connections = [0]
    watching = threading.Event()

    def watch() -> None:
        while not watching.wait(0.2):
            connections[0] = max(connections[0], ssh_connections(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert process.stdout
    assert process.stderr
    out = process.stdout.read().decode()
    err = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    watching.set()
    watcher.join()
    events = [json.loads(line) for line in out.splitlines() if line.startswith('{"event"')]
    code = os.waitstatus_to_exitcode(status)
    process.returncode = code
    ran = Ran(code, out, err, time.monotonic() - began, events)
    return ran, usage.ru_maxrss // 1024, connections[0]


def ssh_connections(pid: int) -> int:
    """Established TCP connections of a process."""
    try:
        links = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        table = Path(f"/proc/{pid}/net/tcp").read_text()
    except OSError:
        return 0
    mine = {link[8:-1] for link in links if link.startswith("socket:[")}
    rows = [line.split() for line in table.splitlines()[1:]]
    return sum(1 for row in rows if row[3] == "01" and row[9] in mine)


def out_of_rotation(ran: Ran) -> list[float]:
    """Seconds of each instance from weight 0 to weight restored and up."""
    began: dict[str, float] = {}
    found = []
    for event in ran.events:
        if event["event"] == "StepStarted" and event["step"] == "take-out":
            began.setdefault(event["instance"], event["at"])
        if event["event"] == "StepFinished" and event["step"] == "await-admitted":
            found.append(event["at"] - began.pop(event["instance"]))
    return found


def span(ran: Ran) -> float:
    """Seconds from the first batch to the end."""
    first = ran.of("BatchStarted")[0]["at"]
    last = ran.of("RolloutFinished")[0]["at"]
    return float(last - first)


def speed(proof: Proof) -> None:
    proof.say("## Nine idle instances, `serial: 35%`")
    proof.say()
    proof.say(
        f"Bound: {FACTOR} x the sum over the instances of (bare `docker compose up -d --no-deps`"
        " until it answers, + rise x downinter), all in the same run. The policy's own waiting"
        " (`min_healthy`) is added to the bound of the second row."
    )
    proof.say()
    proof.say(
        "| in front | settings | bare, per instance | rollout | bound | per instance | out of"
        " rotation: mean (slowest) | bound of the mean | held | memory | SSH connections |"
    )
    proof.say("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for topology in BALANCERS:
        for setting in (QUICK, SHIPPED):
            speed_row(proof, topology, setting)
    proof.say()
    listing(proof)


def speed_row(proof: Proof, topology: str, setting: Setting) -> None:
    path = proof.inventory(topology, f"speed-{setting.name}", setting)
    time.sleep(3)
    bare = proof.bare()
    time.sleep(3)
    ran, memory, connections = measured(path, "--version", "0.0.2")
    assert ran.code == 0, ran.text
    assert ran.of("RolloutFinished")[0]["upgraded"] == 9
    waits = setting.admission + seconds(setting.min_healthy)
    bound = FACTOR * sum(one + setting.admission for one in bare)
    bound += 9 * seconds(setting.min_healthy)
    out = out_of_rotation(ran)
    out_bound = FACTOR * (sum(bare) / 9 + setting.admission) + waits - setting.admission
    hosts = 3 + (2 if topology == "edge" else 0)
    mean = sum(out) / len(out)
    held = span(ran) <= bound and mean <= out_bound
    held = held and memory < 120 and connections == hosts
    proof.say(
        f"| {WHERE[topology]} | {setting} | {sum(bare) / 9:.2f} s | {span(ran):.1f} s"
        f" | {bound:.1f} s | {span(ran) / 9:.2f} s | {mean:.2f} s ({max(out):.2f} s) | {out_bound:.2f} s"
        f" | {proof.check(held)} | {memory} MiB | {connections} for {hosts} hosts |"
    )


def losses(proof: Proof) -> None:
    slow = 2 if proof.short else 20
    proof.say(f"## What users lost during a rollout of 3 hosts x 3 instances ({slow}-s requests)")
    proof.say()
    proof.say(
        "All at once: fast requests (half on fresh connections, half kept alive), long requests,"
        " clients pinned by a cookie, downloads, and a WebSocket through each balancer that"
        " lives until the drain's deadline cuts it."
    )
    proof.say()
    proof.say(
        "| in front | HAProxy | rollout | fast | failed | long | failed | sticky | failed"
        " | downloads | failed | WebSockets cut | longest gap | nothing lost |"
    )
    proof.say("| --- " * 14 + "|")
    for topology in BALANCERS:
        for name, options in (
            ("retries 0, no redispatch", NO_RETRIES),
            ("retries 3, redispatch", {}),
        ):
            loss_row(proof, topology, name, options, slow)
    proof.say()


def loss_row(proof: Proof, topology: str, name: str, options: dict[str, str], slow: float) -> None:
    path = proof.inventory(topology, f"loss-{len(options)}", SHIPPED, options=options, cookie="SRV")
    time.sleep(3)
    fast_wanted, long_wanted = (1_500, 10) if proof.short else (30_000, 100)
    with traffic(proof.urls(topology), rate=150, slow=slow, slow_rate=1.5, cookies=True) as probe:
        time.sleep(slow)
        ran, _, _ = measured(path, "--version", "0.0.2")
        while True:
            now = probe.summary().lanes
            if now["fast"].requests >= fast_wanted and now["long"].requests >= long_wanted:
                break
            time.sleep(1)
        seen = probe.stop()
    assert ran.code == 0, ran.text
    lanes = seen.lanes
    cut = sum(len(lane.sockets) for lane in lanes.values())
    held = not lost(seen) and lanes["fast"].unsent == 0
    fast, long, sticky, load = (lanes[n] for n in ("fast", "long", "sticky", "download"))
    proof.say(
        f"| {WHERE[topology]} | {name} | {span(ran):.0f} s | {fast.requests} | {fast.failures}"
        f" | {long.requests} | {long.failures} | {sticky.requests} | {sticky.failures}"
        f" | {load.requests} | {load.failures} | {cut} | {fast.gap.seconds * 1000:.0f} ms"
        f" | {proof.check(held)} |"
    )
    for lane, what in lost(seen).items():
        proof.say(f"|  | lost in {lane}: {what} " + "|" * 13)


def listing(proof: Proof) -> None:
    times = []
    for _ in range(5):
        times.append(fab(None, "--list").seconds)
    best = sorted(times)[2]
    proof.say(f"`fab --list`: {best:.2f} s (median of 5; bound 0.5 s): {proof.check(best < 0.5)}.")
    proof.say()


def machine() -> str:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    cpu = model[1] if model else platform.processor()
    gib = int(memory[1]) / 2**20 if memory else 0
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return (
        f"{os.cpu_count()} cores ({cpu}), {gib:.0f} GiB, {system}, Linux {platform.release()},"
        f" Python {platform.python_version()}. Hosts, balancers, registry, prober and controller"
        " all run on this one machine."
    )


PAGE = ROOT / "docs" / "proof.md"
PARTS: dict[str, Callable[[Proof], None]] = {"speed": speed, "loss": losses}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="2-s requests; writes no page")
    parser.add_argument("--only", choices=list(PARTS), help="renew one part of the page")
    asked = parser.parse_args()
    proof = Proof(short=asked.short)
    proof.say(f"Machine: {machine()}")
    sections = dict(re.findall(r"<!-- (\w+) -->\n(.*?)(?=<!-- |\Z)", old_page(), re.DOTALL))
    for name, part in PARTS.items():
        if asked.only in (None, name):
            proof.lines = []
            part(proof)
            when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
            sections[name] = "\n".join([*proof.lines, f"Measured {when}.", "", ""])
    if not asked.short:
        write_page(sections)
    return 0 if proof.held else 1


def old_page() -> str:
    return PAGE.read_text() if PAGE.exists() else ""


def write_page(sections: dict[str, str]) -> None:
    head = (
        "# Proof\n\nWritten by `scripts/prove`; nothing here is typed by hand. Run it to get your"
        " own. What comes of faults is on a page of its own: [faults on purpose](chaos.md).\n\n"
        f"Machine: {machine()}\n\n"
    )
    parts = [f"<!-- {name} -->\n{sections[name]}" for name in PARTS if name in sections]
    PAGE.write_text((head + "".join(parts)).rstrip() + "\n")


if __name__ == "__main__":
    sys.exit(main())
