"""A rollout as it is seen while it runs: on its own terminal, from another one, from elsewhere."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from http.client import HTTPException
from pathlib import Path

import pytest
from lab_tools import login
from rollouts import FAST_CHECKS, NO_RETRIES, ROOT, fab, variant
from test_rollout import QUICK, Fleet

from tests.unit.reports.terminal import Terminal


@pytest.fixture(scope="module")
def edge(lab, edge_inventory):
    change = {
        "health": QUICK,
        "drain": {"sticky_grace": "1s", "timeout": "6s"},
        "rollout": {"serial": ["35%"]},
        "balancers": {"options": {**FAST_CHECKS, **NO_RETRIES}, "cookie": "SRV"},
    }
    return Fleet(lab, "edge", variant(edge_inventory, "quick", change))


class OnTerminal:
    """A program on a terminal of its own."""

    def __init__(self, inventory, *args):
        leader, follower = os.openpty()
        env = {**os.environ, "EVENKEEL_INVENTORY": str(inventory), "TERM": "xterm-256color"}
        argv = [str(Path(sys.executable).parent / args[0]), *args[1:]]
        self.process = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=follower, stderr=follower)
        os.close(follower)
        self.text = ""
        self._leader = leader
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        with contextlib.suppress(OSError):  # so a terminal ends whose other end is closed
            while data := os.read(self._leader, 65536):
                self.text += data.decode(errors="replace")
        os.close(self._leader)

    def until(self, words):
        ends = time.monotonic() + 60
        while words not in self.text:
            assert time.monotonic() < ends, self.text
            assert self.process.poll() is None, self.text
            time.sleep(0.02)

    def end(self):
        code = self.process.wait(120)
        self._reader.join()
        return code


def held(url, server):
    """A request that stays on ``server`` for longer than a drain waits."""
    where = url.rstrip("/") + "/slow?s=30"
    asked = urllib.request.Request(where, headers={"Cookie": f"SRV={server}"})

    def ask():
        with contextlib.suppress(OSError, HTTPException):  # cut at the drain's deadline
            urllib.request.urlopen(asked, timeout=60).read()

    threading.Thread(target=ask, daemon=True).start()


def test_a_rollout_is_seen_on_its_terminal_from_another_one_and_from_elsewhere(edge, tmp_path):
    edge.at("0.0.1")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(edge.inventory.parent, elsewhere, ignore=lambda *_: [".evenkeel"])
    held(edge.urls[0], "web1_app_1")
    deploy = OnTerminal(edge.inventory, "fab", "-H", "web1", "deploy", "--version", "0.0.2")
    deploy.until("1 left")
    here = OnTerminal(edge.inventory, "inv", "watch")
    reload = "echo reload | socat -t 10 - UNIX-CONNECT:/run/haproxy/master.sock"
    assert "Success=1" in login(edge.lab, edge.node("lb2"), reload).stdout
    for _ in range(20):
        urllib.request.urlopen(edge.urls[1], timeout=5).read()
    facts = {}
    while not facts and deploy.process.poll() is None:
        looked = fab(elsewhere / edge.inventory.name, "watch", "--once", "--json", program="inv")
        facts = json.loads(looked.out)
    assert (deploy.end(), here.end()) == (0, 0)

    assert facts["changing"] == 3
    assert {one["state"] for one in facts["instances"]} <= {"at work", "done", "to come"}
    assert "last sign of life" in facts["alive"]
    for seen in (deploy, here):
        terminal = Terminal(80, 24).feed(seen.text)
        assert terminal.odd == []
        # A word on old journals that were removed may follow.
        said = [line for line in terminal.text.splitlines() if "removed" not in line]
        assert said[-1].endswith("done: 3 upgraded"), terminal.text
    assert "closed 1 that would not end" in Terminal(80, 24).feed(deploy.text).text

    log = edge.inventory.parent / ".evenkeel" / "rollouts" / f"{facts['rollout']}.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()]
    counted = {e["balancer"]: e for e in events if e["event"] == "ServersCounted"}
    assert {name: one["resets"] for name, one in counted.items()} == {"lb1": 0, "lb2": 1}
    assert counted["lb2"]["servers"]["BACKEND"]["requests"] >= 20
    nothing = fab(edge.inventory, "watch", program="inv")
    assert (nothing.code, nothing.out) == (0, "no rollout of challenge runs\n")
