"""The fault matrix: every fault under load on the lab, a table printed and kept in docs/chaos.md.

Exit code 1 when a row is not as it was expected to be, which was written down before it ran.
"""

from __future__ import annotations

import argparse
import sys
import time

from lab_tools import quiet
from prove import machine
from rollouts import ROOT

from fabfile.lab.engine import ensure
from fabfile.lab.model import LABEL, lab_name
from fabfile.lab.up import up

from .catalogue import FAULTS, Fault
from .deploys import end_all
from .judge import Row, judge
from .kills import killed, random_kill, stopped
from .load import LONG, RATE, Load
from .scene import Scene, alone, play, twins
from .table import Page, fault_cells, kill_cells, summary, today, verdict
from .world import World

PAGE = ROOT / "docs" / "chaos.md"
KILLS = "kills"
PLAYS = {"fault": play, "stopped": stopped, "killed": killed, "twins": twins}


def say(line: str) -> None:
    """A line of progress."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stdout.flush()


def main() -> int:
    """Run what was asked for."""
    asked = _arguments()
    if asked.list:
        for fault in FAULTS:
            sys.stdout.write(f"{fault.name:26} {fault.what} (expected: {fault.expected})\n")
        sys.stdout.write(f"{KILLS:26} kill -9 of the controller at random moments\n")
        return 0
    names = asked.names or [*(fault.name for fault in FAULTS), KILLS]
    if other := whose_lab():
        sys.stderr.write(
            f"the lab {lab_name()} was made by {other}, and everything in a lab gets broken here:"
            " use one of your own, EVENKEEL_LAB=NAME\n"
        )
        return 2
    try:
        return Matrix(asked, names).run()
    finally:
        end_all()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    known = [*(fault.name for fault in FAULTS), KILLS]
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these faults")
    parser.add_argument("--list", action="store_true", help="say which there are")
    parser.add_argument("--kills", type=int, default=25, help="how often the controller is killed")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the kills' moments")
    parser.add_argument("--rate", type=float, default=RATE, help="fast requests a second")
    parser.add_argument("--no-page", action="store_true", help="leave docs/chaos.md alone")
    asked = parser.parse_args()
    unknown = set(asked.names) - set(known)
    if unknown:
        parser.error(f"no fault {', '.join(sorted(unknown))}: see --list")
    if asked.kills < 0:
        parser.error("--kills: 0 or more")
    return asked


def whose_lab() -> str:
    """The other checkout that a running lab of this name was made by; empty: it is ours, or new.

    Everything in it is going to be broken, so it has to be nobody else's.
    """
    docker, name = ensure(quiet), lab_name()
    form = f'{{{{.Label "{LABEL}.checkout"}}}}'
    out = docker("ps", "--filter", f"label={LABEL}={name}", "--format", form)
    return ", ".join(sorted(set(out.split()) - {str(ROOT)}))


class Matrix:
    """One run."""

    def __init__(self, asked: argparse.Namespace, names: list[str]) -> None:
        self.seed, self.kills, self.rate, self.names = asked.seed, asked.kills, asked.rate, names
        self.lab = up(quiet)
        path = self.lab.state / "chaos" / "page.md" if asked.no_page else PAGE
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page = Page(path, machine(), [fault.name for fault in FAULTS])
        self.failed: list[str] = []

    def run(self) -> int:
        """All rows; 1 when one of them is not as expected."""
        world = World(self.lab, ensure(quiet), say)
        say(f"seed {self.seed}; event logs and lost requests in {self.lab.state / 'chaos'}")
        world.begin()
        self.page.about += f" {world.products()}"
        began = time.time()
        with Load(world.urls, self.rate) as load:
            time.sleep(LONG)  # from now on every server has its share of long requests
            scene = Scene(world, load, self.lab.state / "chaos")
            for fault in FAULTS:
                if fault.name in self.names:
                    self._fault(scene, fault)
            if KILLS in self.names:
                self._kills(scene)
            world.settle()
            sent = load.sent(began, time.time())
        minutes = (time.time() - began) / 60
        behind = f"{sent.behind} sent late or not at all by the prober itself"
        say(f"{sent.fast} fast and {sent.long} long requests in {minutes:.0f} min, {behind}")
        self.page.note("faults", f"Last renewed {today()}: {sent.fast} fast and {sent.long} long"
                       f" requests in {minutes:.0f} min, {behind}.")  # fmt: skip
        say(f"NOT ok: {', '.join(self.failed)}" if self.failed else "all as expected")
        return 1 if self.failed else 0

    def _fault(self, scene: Scene, fault: Fault) -> None:
        scene.load.check()
        say(f"{fault.name}: {fault.what}")
        say(f"  expected: {fault.expected}")
        without = None
        try:
            if fault.alone:
                without = alone(scene, fault)
                say(f"  without a rollout: {self._said(without)}")
            row = PLAYS[fault.kind](scene, fault)
        except Exception as error:  # one broken row must not take the others with it
            say(f"  broken: {type(error).__name__}: {error}")
            self.failed.append(fault.name)
            return
        say(f"  {self._said(row)}")
        self.page.put("faults", fault_cells(row, without))
        if judge(row) or (without and judge(without)):
            self.failed.append(fault.name)

    def _kills(self, scene: Scene) -> None:
        self.page.clear("kills")
        rows: dict[str, Row] = {}
        for number in range(1, self.kills + 1):
            scene.load.check()
            try:
                row = random_kill(scene, number, self.seed)
            except Exception as error:
                say(f"kill {number}: broken: {type(error).__name__}: {error}")
                self.failed.append(f"kill {number}")
                continue
            rows[row.name] = row
            say(f"kill {number}: {row.what}; out: {row.was_out}; {self._said(row)}")
            self.page.put("kills", kill_cells(row))
            if judge(row):
                self.failed.append(f"kill {number}")
        text = f"Seed {self.seed}, {today()}. {summary(rows)}"
        say(text)
        self.page.note("kills", text)

    @staticmethod
    def _said(row: Row) -> str:
        parts = [f"{c.name} {c.code} in {c.seconds:.0f} s" for c in (row.deploy, row.recovery) if c]
        parts.append(f"lost by the fault {row.mine}, else {row.added}")
        if row.safe is not None:
            parts.append(f"safe after {row.safe:.1f} s")
        if row.whole is not None:
            parts.append(f"whole after {row.whole:.1f} s")
        return "; ".join([*parts, verdict(row)])


if __name__ == "__main__":
    sys.exit(main())
