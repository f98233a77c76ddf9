"""What is done to the controller itself: killed or stopped, and another one takes over."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from .catalogue import Fault
from .deploys import Fab
from .judge import SAFE_WITHIN, Command, Expectation, Row
from .scene import WHOLE_WITHIN, Scene, counted, deploy, idle, recovered, seen
from .world import EDGE, GOOD, LOOK_EDGE, World, read_servers

POLL = 0.25
"""Seconds between two looks at the balancers."""
EVENTS = 190
"""About as many events has a rollout up to its last return: a kill's moment is one of them."""


def stopped(scene: Scene, fault: Fault) -> Row:
    """The controller sleeps through its own replacement, wakes up, and must change nothing."""
    world, folder = scene.world, scene.folder(fault.name)
    _, new = world.settle()
    before, free = dict(world.look().versions), idle()
    began = time.time()
    fab = deploy(world.inventory, new, folder)
    fab.await_when(fault.when)
    since = time.time()
    fab.signal(signal.SIGSTOP)
    row = Row(fault.name, f"{fault.what}; at: {fault.when}", fault.expected, before, new, None)
    row, safe = _watched(scene, row, folder, fault.recovery, (), since)
    replaced = world.look()
    fab.signal(signal.SIGCONT)
    code = fab.wait()
    stand = world.await_whole(WHOLE_WITHIN)
    wrong = []
    if "another controller has taken over" not in fab.log.read_text() + fab.errors:
        wrong.append("it did not notice that it was replaced")
    if (stand.versions, stand.servers) != (replaced.versions, replaced.servers):
        wrong.append("it changed something after it was replaced")
    row = replace(row, deploy=Command("deploy", code), wrong=tuple(wrong), idle=free)
    row = seen(scene, row, stand, whole=time.time() - since, safe=safe)
    return counted(scene, row, (), began, fault)


def killed(scene: Scene, fault: Fault) -> Row:
    """kill -9 of the controller at the fault's moment, and `fab resume`."""
    world = scene.world
    world.settle(fault.begins_at)
    if fault.set_up:
        fault.set_up(world)
        world.await_whole(WHOLE_WITHIN)
    try:
        row, began = _killed(
            scene, fault.name, lambda fab: _locked(scene, fab, fault), fault.recovery, ()
        )
        row = replace(row, what=f"{fault.what}; at: {fault.when}", expected=fault.expected)
        return counted(scene, row, (), began, fault)
    finally:
        if fault.tear_down:
            fault.tear_down(world)
            world.await_whole(WHOLE_WITHIN)


def _locked(scene: Scene, fab: Fab, fault: Fault) -> None:
    """The fault's moment; for one before the plan, when the first lock lies on a host."""
    fab.await_when(fault.when)
    if fault.when.phase:
        script = (
            "for i in $(seq 1 1000); do ls /var/lib/evenkeel/locks/*.lock && exit; sleep 0.01; done"
        )
        scene.world.inside("lb1", script)


def random_kill(scene: Scene, number: int, seed: int) -> Row:
    """kill -9 at a moment that the seed decides, and what the seed decides to do about it."""
    dice = random.Random(f"{seed} {number}")
    nth, later = dice.randrange(1, EVENTS), dice.uniform(0.0, 2.0)
    mode = dice.choice(("resume", "abort", "repair"))
    flags = dice.choice(((), ("--force",)))
    world, name = scene.world, f"kill-{number:02}"
    stand = world.look()
    if not set(stand.versions.values()) <= set(GOOD) or stand.out(world.recorded):
        world.settle()

    def moment(fab: Fab) -> None:
        fab.await_event(lambda _: True, nth)
        time.sleep(later)

    row, began = _killed(scene, name, moment, mode, flags)
    when = f"event {nth} + {later:.2f} s: {row.what}"
    row = replace(row, name=str(number), what=when)
    return counted(scene, row, (), began, None)


def _killed(
    scene: Scene, name: str, moment: Callable[[Fab], None], mode: str, flags: Iterable[str]
) -> tuple[Row, float]:
    world, folder = scene.world, scene.folder(name)
    before = dict(world.look().versions)
    fewest = min(GOOD, key=list(before.values()).count)
    free = idle()
    began = time.time()
    fab = deploy(world.inventory, fewest, folder)
    moment(fab)
    since = time.time()
    where = fab.stand()
    fab.signal(signal.SIGKILL)
    code = fab.wait()
    row = Row(name, where, _killed_expectation(code), before, fewest,
              Command("deploy", code, fab.ended - fab.began), idle=free)  # fmt: skip
    row, safe = _watched(scene, row, folder, mode, flags, since)
    stand = world.look()
    row = seen(scene, row, stand, whole=time.time() - since, safe=safe)
    return row, began


def _killed_expectation(code: int) -> Expectation:
    # One that was quicker than the kill has to have ended well.
    return Expectation(frozenset({code if code == -9 else 0}), safe_within=SAFE_WITHIN)


def _watched(
    scene: Scene, row: Row, folder: Path, mode: str, flags: Iterable[str], since: float
) -> tuple[Row, float | None]:
    """The recovery, and the seconds until everything that was out has been seen back."""
    world = scene.world
    stand = world.look()
    watch = _Watch(world, stand.out(world.recorded), since)
    watch.start()
    row = recovered(row, world.inventory, mode, folder, taken_up=bool(stand.unfinished),
                     flags=flags)  # fmt: skip
    watch.stop()
    out = sorted({name.partition(":")[2] for name in stand.out(world.recorded)})
    return replace(row, was_out=", ".join(out) or "nothing"), watch.safe


class _Watch:
    """Looks at both balancers until each server that was out has been seen as recorded."""

    def __init__(self, world: World, out: tuple[str, ...], since: float) -> None:
        self.safe: float | None = None if out else 0.0
        self._world, self._left, self._since = world, set(out), since
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Once more, so that nothing is missed that came at the very end."""
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while self._left:
            last = self._over.is_set()
            self._once()
            if not self._left:
                self.safe = time.time() - self._since
            if last:
                return
            self._over.wait(POLL)

    def _once(self) -> None:
        for host in EDGE:
            seen = read_servers(host, self._world.inside(host, LOOK_EDGE))
            recorded = self._world.recorded
            self._left -= {name for name in self._left if seen.get(name) == recorded[name]}
