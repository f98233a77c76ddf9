"""Where it was measured, and with what."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from .venvs import PINNED


def describe() -> str:
    """The machine, in one sentence."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    gib = int(memory[1]) / 2**20 if memory else 0
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return (
        f"{os.cpu_count()} cores ({model[1] if model else platform.machine()}), {gib:.0f} GiB,"
        f" {system}, Linux {platform.release()}"
    )


def versions() -> dict[str, str]:
    """By program."""
    found = {"Python": platform.python_version()}
    found |= {name: version(name) for name in ("fabric", "invoke", "paramiko")}
    found |= {name: pinned.partition("==")[2] for name, pinned in PINNED.items()}
    found["OpenSSH"] = _said(["ssh", "-V"], r"OpenSSH_([\w.]+)")
    found["Docker here"] = _said(["docker", "--version"], r"version ([\w.]+)")
    return found | _on_hosts()


def _on_hosts() -> dict[str, str]:
    """Of the lab's hosts, where one runs."""
    names = _said(["docker", "ps", "--format", "{{.Names}}"], r"(?s)(.*)").split()
    web = next((name for name in names if name.endswith("-lab-web1")), "")
    if not web:
        return {}
    inside = ["docker", "exec", web]
    haproxy = [*inside, "docker", "run", "--rm", "registry.lab:5000/haproxy:3.0", "haproxy", "-v"]
    return {
        "Docker on hosts": _said([*inside, "docker", "--version"], r"version ([\w.]+)"),
        "Compose on hosts": _said([*inside, "docker", "compose", "version"], r"([\d.]+)"),
        "HAProxy": _said(haproxy, r"version ([\d.]+)"),
    }


def _said(argv: Sequence[str], pattern: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    match = re.search(pattern, done.stdout + done.stderr)
    return match[1] if match else "unknown"
