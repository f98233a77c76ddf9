"""One row: a rollout under load, the fault at its moment, what follows, and a look at everything."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from rollouts import ROOT

from .catalogue import Fault
from .deploys import Event, Fab
from .faults import Missed
from .judge import Command, Expectation, Row, Window, count
from .load import Load
from .world import GOOD, Stand, World

GRACE = 3.0
"""Seconds that HAProxy's checks may need to see what the fault did, or that it is over."""
WHOLE_WITHIN = 40.0
"""Seconds after the last command that HAProxy's checks may need to let everybody in."""


@dataclass
class Scene:
    """What all rows have in common."""

    world: World
    load: Load
    logs: Path

    def folder(self, name: str) -> Path:
        """Where a row's event logs lie, empty."""
        path = self.logs / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path


def alone(scene: Scene, fault: Fault) -> Row:
    """The fault without a rollout: what it takes by itself."""
    world = scene.world
    runs, _ = world.settle(fault.begins_at)
    before, free = dict(world.look().versions), idle()
    began = time.time()
    wrong = _strike(scene, fault, {"instance": "web2/app_1"})
    until = time.time() + GRACE
    if fault.mend:
        fault.mend(world)
    stand = world.await_whole(WHOLE_WITHIN)
    whole = time.time() - began
    time.sleep(max(0.0, until - time.time()))
    window = _window(scene, fault, began, until)
    row = Row(fault.name, fault.what, Expectation(losses="own"), before, runs, None, wrong=wrong)
    row = seen(scene, row, stand, whole=whole)
    return counted(scene, replace(row, idle=free), (window,), began, fault)


def play(scene: Scene, fault: Fault) -> Row:
    """The fault in the midst of a rollout."""
    world = scene.world
    runs, other = world.settle(fault.begins_at)
    new = fault.version or (GOOD[0] if runs not in GOOD else other)
    inventory = world.variant(fault.name, fault.change)
    if fault.set_up:
        fault.set_up(world)
        world.await_whole(WHOLE_WITHIN)
    try:
        return _play(scene, fault, inventory, new)
    finally:
        if fault.tear_down:
            fault.tear_down(world)
            world.await_whole(WHOLE_WITHIN)


def _play(scene: Scene, fault: Fault, inventory: Path, new: str) -> Row:
    world, folder = scene.world, scene.folder(fault.name)
    before, free = dict(world.look().versions), idle()
    began = time.time()
    fab = deploy(inventory, new, folder)
    there = fab.await_when(fault.when)
    since = time.time()
    event = next((e for e in reversed(fab.events) if fault.when.fits(e)), {})
    wrong = _strike(scene, fault, event) if there else ("its moment never came",)
    until = time.time() + GRACE
    code = fab.wait()
    if fault.mend:
        fault.mend(world)
    row = Row(fault.name, f"{fault.what}; at: {fault.when}", fault.expected, before, new,
              Command("deploy", code, fab.ended - fab.began), wrong=wrong)  # fmt: skip
    stand = world.look()
    if stand.unfinished:
        row = recovered(row, inventory, fault.recovery, folder, taken_up=True)
    stand = world.await_whole(WHOLE_WITHIN)
    row = seen(scene, row, stand, whole=time.time() - since)
    time.sleep(max(0.0, until - time.time()))
    return counted(
        scene, replace(row, idle=free), (_window(scene, fault, since, until),), began, fault
    )


def twins(scene: Scene, fault: Fault) -> Row:
    """Two deploys of two versions at the same moment."""
    world, folder = scene.world, scene.folder(fault.name)
    world.settle("0.0.6")
    before = dict(world.look().versions)
    second = _checkout(scene.logs / "second-checkout")
    free = idle()
    began = time.time()
    fabs = [
        Fab(world.inventory, "deploy", "--version", version, "--json",
            log=folder / f"deploy-{version}.jsonl", cwd=cwd, gate=True)
        for version, cwd in zip(GOOD, (ROOT, second), strict=True)
    ]  # fmt: skip
    time.sleep(0.2)  # both shells stand at their gates
    for fab in fabs:
        fab.open()
    codes = [fab.wait() for fab in fabs]
    wrong = () if sorted(codes) == [0, 4] else (f"exit codes {codes[0]} and {codes[1]}",)
    winner = codes.index(0) if 0 in codes else 0
    row = Row(fault.name, fault.what, fault.expected, before, GOOD[winner],
              Command("deploy", codes[winner]), wrong=wrong)  # fmt: skip
    row = seen(scene, row, world.await_whole(WHOLE_WITHIN), whole=time.time() - began)
    return counted(scene, replace(row, idle=free), (), began, fault)


def _checkout(folder: Path) -> Path:
    """Another checkout of what is here."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("fabfile", "templates"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tasks.py", "fabric.yaml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def deploy(inventory: Path, version: str, folder: Path) -> Fab:
    """A deploy, begun."""
    return Fab(inventory, "deploy", "--version", version, "--json", log=folder / "deploy.jsonl")


def idle(seconds: float = 2.0) -> float:
    """Share of this machine that nobody uses now, from 0 to 1."""

    def read() -> tuple[int, int]:
        fields = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return fields[3], sum(fields)

    (idle_before, before), _ = read(), time.sleep(seconds)
    idle_now, now = read()
    return (idle_now - idle_before) / max(now - before, 1)


def _strike(scene: Scene, fault: Fault, event: Event) -> tuple[str, ...]:
    try:
        fault.strike(scene.world, event)
    except Missed as missed:
        return (f"the fault could not be made: {missed}",)
    return ()


def recovered(
    row: Row, inventory: Path, mode: str, folder: Path, *, taken_up: bool, flags: Iterable[str] = ()
) -> Row:
    fab = Fab(inventory, mode, "--json", *flags, log=folder / f"{mode}.jsonl")
    code = fab.wait()
    done = Command(mode, code, fab.ended - fab.began)
    return replace(row, recovery=done, taken_up=taken_up)


def _window(scene: Scene, fault: Fault, since: float, until: float) -> Window:
    url = scene.world.urls[fault.url] if fault.url is not None else ""
    bad = fault.version if fault.expected.losses == "version" else ""
    return Window(since, until, fault.servers, url.rstrip("/"), fault.kept, bad)


def seen(scene: Scene, row: Row, stand: Stand, *, whole: float, safe: float | None = None) -> Row:
    return replace(
        row,
        versions=dict(stand.versions),
        out=stand.out(scene.world.recorded),
        locks=stand.locks,
        unfinished=stand.unfinished,
        oddities=stand.oddities,
        safe=safe,
        whole=whole,
    )


def counted(
    scene: Scene, row: Row, windows: tuple[Window, ...], began: float, fault: Fault | None
) -> Row:
    """Everything that was lost from ``began`` until now, and whose doing it was."""
    if fault is not None and fault.name == "host-paused":
        scene.load.await_known()  # what hangs on a paused host
    ended = time.time()
    scene.load.await_reported()
    bads = scene.load.bad(began, ended)
    mine = [bad for bad in bads if any(window.explains(bad) for window in windows)]
    rest = [bad for bad in bads if bad not in mine]
    sent = scene.load.sent(began, ended)
    with (scene.logs / f"{row.name}.lost").open("w") as stream:
        for whose, some in (("fault", mine), ("else", rest)):
            stream.writelines(f"{whose} {bad}\n" for bad in some)
    return replace(row, mine=count(mine), added=count(rest), kept_schedule=sent.kept_schedule)
