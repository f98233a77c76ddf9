"""``scripts/bench [NAME …] [--quick]``: measures, keeps the figures, writes docs/benchmarks.md.

Each part keeps what it found in results/NAME.json as soon as it is through, and the page is made of
those files: a part may be measured anew by itself. ``--quick`` takes smaller sizes, keeps its
figures in .evenkeel/bench/ and leaves the page alone.
"""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from . import machine, page
from .show import say

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).with_name("results")
QUICK = ROOT / ".evenkeel" / "bench"
PARTS = {
    "rollout": "nine instances on the lab, beside Ansible, pyinfra, docker-rollout and the limit",
    "distance": "the same on hosts that are 40 ms away, beside tuned Ansible and pyinfra",
    "fleet": "50, 200 and 500 hosts, beside Fabric, OpenSSH, pyinfra and Ansible",
    "plan": "the plan and the capacity scheduler for up to 10,000 hosts",
    "balancer": "what our questions cost a HAProxy with 100 servers",
}


def main() -> int:
    """Exit code 1 when a bound is missed, 2 for a name nobody knows."""
    names = "\n".join(f"  {name:10} {what}" for name, what in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=f"Without NAME, all of them:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure")
    parser.add_argument("--quick", action="store_true", help="smaller sizes; writes no page")
    parser.add_argument("--list", action="store_true", help="only say what there is")
    parser.add_argument("--page", action="store_true", help="only write the page anew")
    asked = parser.parse_args()
    unknown = [name for name in asked.names if name not in PARTS]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}: there are {', '.join(PARTS)}")
    if asked.list:
        sys.stdout.write(names + "\n")
        return 0
    # What was begun is taken down again, also when somebody ends this from outside.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    missed = 0
    for name in () if asked.page else asked.names or PARTS:
        missed += measure(name, quick=asked.quick)
    if not asked.quick:
        page.write(RESULTS)
    return 1 if missed else 0


def measure(name: str, *, quick: bool) -> int:
    """Measure one part and keep it; returns how many bounds it missed."""
    began = time.time()
    part = importlib.import_module(f".{name}", __package__)
    found: dict[str, Any] = part.run(quick=quick)
    result = {
        "name": name,
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(began)),
        "took": round(time.time() - began, 1),
        "command": f"scripts/bench {name}" + (" --quick" if quick else ""),
        "machine": machine.describe(),
        "versions": machine.versions(),
        **found,
    }
    folder = QUICK if quick else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    bounds = page.bounds(result)
    sys.stdout.write("\n" + page.section(result) + "\n")
    for bound in bounds:
        say(str(bound))
    return sum(not bound.reached for bound in bounds)


if __name__ == "__main__":
    sys.exit(main())
