"""Nine instances on three hosts get a new version while people use them: ours beside others.

Everybody starts from the same containers at the same version behind the same HAProxies, images on
the hosts already, under the same load; what is out of rotation is read off the balancers'
statistics, 20 times a second, by somebody who knows nothing of who upgrades.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rollouts import FAST_CHECKS

from fabfile.balancers.haproxy.config import SERVICE_OPTIONS
from fabfile.checks.lanes import FastLane, LongLane
from fabfile.checks.prober import Probe
from fabfile.checks.summary import Summary
from fabfile.lab.up import up

from . import capacity
from .contenders import Ansible, Contender, DockerRollout, Limit, Ours, Pyinfra, prepare
from .measure import Finished
from .overhead import overhead
from .rounds import ROUNDS, middle
from .sampler import Sampler
from .scene import FRONT, INSTANCES, Checks, Scene
from .show import say

QUICK = Checks("quick", 0.0, FAST_CHECKS)
SHIPPED = Checks("shipped", 2.0, {k: SERVICE_OPTIONS[k] for k in FAST_CHECKS})
RATE = 100.0
"""Fast requests a second, through all balancers in turn."""
LONG = 16.0
"""Seconds that a long request takes: more than the usual pause and the grace of a container."""
LONG_RATE = 1.0
BEFORE = 2.0
LONG_BEFORE = 6.0
"""Seconds of load before anything begins; with long requests, some are under way by then."""
USUAL = Ansible("ansible-usual", "Ansible, the usual way")
TUNED = Ansible("ansible-tuned", "Ansible, tuned")
RAW = Ansible("ansible-raw", "shell scripts through Ansible")


def run(*, quick: bool) -> dict[str, Any]:
    """All rows. ``quick``: one topology, no long requests."""
    prepare()
    lab = up(lambda _: None)
    rows: list[dict[str, Any]] = []
    for topology in ("self",) if quick else ("self", "edge"):
        with Scene(lab, topology) as scene:
            say(f"rollout of 9 instances, {FRONT[topology]}")
            fast = scene.inventory(QUICK)
            scene.begin_ours(fast)
            scene.equip()
            ours = Ours(fast)
            often: list[Contender] = [ours, Limit(), TUNED]
            turns = [*often, USUAL, RAW, Pyinfra(), *(often * (0 if quick else ROUNDS - 1))]
            rows += middle(row(scene, contender, QUICK) for contender in turns)
            if topology == "self" and not quick:
                rows += long_rows(scene, [ours, USUAL, TUNED, DockerRollout()])
            shipped = scene.inventory(SHIPPED)
            rows.append(row(scene, Ours(shipped), SHIPPED))
    return {"rows": rows, "load": {"rate": RATE, "long": LONG, "long_rate": LONG_RATE}}


def long_rows(scene: Scene, contenders: Sequence[Contender]) -> list[dict[str, Any]]:
    """One host, with requests that take longer than the usual playbook waits."""
    say(f"one host of them, with {LONG:g}-s requests as well")
    rows = []
    for contender in contenders:
        try:
            rows.append(row(scene, contender, QUICK, host=scene.web[0].name, long=LONG))
        finally:
            if isinstance(contender, DockerRollout):
                contender.end(scene)
    return rows


def row(
    scene: Scene, contender: Contender, checks: Checks, *, host: str = "", long: float = 0.0
) -> dict[str, Any]:
    """One contender, from its starting position to the end of what it did to the users."""
    contender.begin(scene)
    nodes = [node for node in scene.balancers if host in ("", node.name)]
    urls = tuple(scene.lab.url(node) for node in nodes)
    instances = INSTANCES * (1 if host else len(scene.web))
    with Probe(load(urls, long)) as probe, scene.sampler(nodes) as sampler:
        time.sleep(LONG_BEFORE if long else BEFORE)
        done = contender.run(scene, host)
        # What is still missing when the contender says it is done, is missing on its account.
        await_back(sampler)
        summary = probe.stop()
    each = instances // len(nodes) if not scene.edge else instances
    found = {
        "contender": contender.name,
        "title": contender.title,
        "topology": scene.topology,
        "front": FRONT[scene.topology],
        "checks": asdict(checks) | {"admission": checks.admission},
        "host": host,
        "instances": instances,
        **figures(done, instances),
        **out_of_rotation(sampler, each, scene.edge, instances),
        **losses(summary),
    }
    if isinstance(contender, Ours):
        found |= of_events(done)
    if isinstance(contender, Limit):
        found["each"] = contender.each
    say(line(found))
    return found


def load(urls: tuple[str, ...], long: float) -> list[Any]:
    """Half of the fast requests on fresh connections, half on kept ones; the client never tries
    again."""
    lanes: list[Any] = [FastLane(urls, rate=RATE, timeout=10.0)]
    if long:
        slow = tuple(f"{url.rstrip('/')}/slow?s={long:g}" for url in urls)
        lanes.append(LongLane(slow, rate=LONG_RATE, timeout=long + 30))
    return lanes


def await_back(sampler: Sampler, patience: float = 15.0) -> None:
    """Until every balancer shows the weight it had at first."""
    ends = time.monotonic() + patience
    while time.monotonic() < ends and not all(
        sum(seen[-1].weights.values()) >= sum(seen[0].weights.values())
        for seen in sampler.samples.values()
    ):
        time.sleep(0.05)


def figures(done: Finished, instances: int) -> dict[str, Any]:
    """What the run itself cost."""
    cost = done.cost.as_json()
    return {**cost, "per_instance": round(cost["wall"] / instances, 3)}


def out_of_rotation(sampler: Sampler, each: int, edge: bool, instances: int) -> dict[str, Any]:
    """Lost capacity; two edges see the same instances, so their mean counts."""
    lost = [capacity.lost(samples, each) for samples in sampler.samples.values()]
    total = sum(lost) / len(lost) if edge else sum(lost)
    out = [
        seconds
        for samples in sampler.samples.values()
        for seconds in capacity.outages(samples).values()
    ]
    return {
        "lost": round(total, 2),
        "lost_per_instance": round(total / instances, 3),
        "longest_out": round(max(out), 2),
        "sampled": round(max(map(capacity.longest, sampler.samples.values())), 3),
    }


def losses(summary: Summary) -> dict[str, Any]:
    """What users noticed, by the same count for everybody."""
    fast, long = summary.lanes["fast"], summary.lanes.get("long")
    return {
        "requests": fast.requests,
        "failed": fast.failures,
        "kinds": dict(fast.kinds),
        "late": fast.late + fast.unsent,
        "gap": round(fast.gap.seconds, 3),
        "long_requests": long.requests if long else 0,
        "cut": long.failures if long else 0,
    }


def of_events(done: Finished) -> dict[str, Any]:
    """What only our own event log says."""
    events = [json.loads(text) for text in done.out.splitlines() if text.startswith('{"event"')]
    own = overhead(events)
    started = next(e["at"] for e in events if e["event"] == "RolloutStarted")
    ended = next(e["at"] for e in events if e["event"] == "RolloutFinished")
    return {
        "span": round(own.wall, 3),
        "before": round(started - done.began, 3),
        "after": round(done.began + done.cost.wall - ended, 3),
        "overhead": {
            "share": round(own.share, 4),
            "seconds": round(own.seconds, 3),
            "waited": rounded(own.waited),
            "own": rounded(own.own),
        },
    }


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """For JSON."""
    return {name: round(value, 3) for name, value in values.items()}


def line(row: Mapping[str, Any]) -> str:
    """A row as it is told while the others still run."""
    return (
        f"{row['title']:28} {row['wall']:6.1f} s, {row['lost_per_instance']:5.2f} s out of rotation"
        f" an instance, {row['failed']} of {row['requests']} failed"
        + (f", {row['cut']} of {row['long_requests']} cut" if row["long_requests"] else "")
        + f"; {row['cpu']:.1f} s CPU, {row['memory']:.0f} MB"
    )
