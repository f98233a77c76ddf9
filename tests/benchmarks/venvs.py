"""The peers' programs, each in a Python environment of its own under .evenkeel/peers/."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PINNED = {"ansible": "ansible-core==2.19.14", "pyinfra": "pyinfra==3.10.0"}


def venv(name: str) -> Path:
    """The ``bin`` folder of a peer's environment, made where it is missing."""
    requirement = PINNED[name]
    folder = ROOT / ".evenkeel" / "peers" / requirement
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            pip = [str(folder / "bin/pip"), "install", "--quiet", "--no-input", requirement]
            done = subprocess.run(pip, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{requirement} could not be installed:\n{done.stderr[-2000:]}")
            (folder / "complete").touch()
    return folder / "bin"
