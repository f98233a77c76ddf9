"""Runs a program and says what it and everything it started cost."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

MARK = "EVENKEEL_BENCH_RUN"
"""Stands in the environment of whatever a measured program starts, daemons included."""
INTERVAL = 0.2
"""Seconds between two looks at the memory of all its processes."""
SHARE = 20
"""A look that takes long is repeated later: it may use one part in that many of a core."""
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Cost:
    """What a run cost, its children's and its daemons' share included."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds of processor time."""
    memory: float
    """MB at the peak: shared pages counted once (PSS, sampled), at least the largest process."""

    def as_json(self) -> dict[str, float]:
        """Rounded."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Finished:
    """A measured program that ended."""

    code: int
    out: str
    err: str
    began: float
    """Unix time."""
    cost: Cost

    def check(self, what: str) -> Finished:
        """Itself; raises :class:`RuntimeError` when its exit code is not 0."""
        if self.code:
            tail = "\n".join((self.out + self.err).splitlines()[-25:])
            raise RuntimeError(f"{what}: exit code {self.code}\n{tail}")
        return self


def measured(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 600.0,
) -> Finished:
    """Run ``argv``; when it ends, end whatever it left running (a ControlMaster) and count it too.

    Linux only: orphans are adopted by this process, so that none escapes the bill.
    """
    adopt_orphans()
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    environment = {**(os.environ if env is None else env), MARK: mark}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began, start = time.time(), time.monotonic()
        process = subprocess.Popen(
            argv, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
        # Who looks at memory must not take part in what a Ctrl-C here ends.
        meter = _Meter(process.pid)
        alarm = threading.Timer(timeout, process.kill)
        alarm.start()
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            list(_end_orphans(mark))
            raise
        finally:
            alarm.cancel()
            peak = meter.stop()
        wall = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        cpu = _cpu(used) + sum(_cpu(usage) for usage in _end_orphans(mark))
        for stream in (out, err):
            stream.seek(0)
        text = out.read().decode(errors="replace"), err.read().decode(errors="replace")
        return Finished(process.returncode, *text, began, Cost(wall, cpu, peak))


def adopt_orphans() -> None:
    """Let daemons that measured programs leave behind become children of this process."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _cpu(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def _end_orphans(mark: str) -> Iterator[resource.struct_rusage]:
    for number in (signal.SIGTERM, signal.SIGKILL):
        pids = [pid for pid in children(os.getpid()) if mark in _environment(pid)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + 2.0
        while pids and (number == signal.SIGKILL or time.monotonic() < deadline):
            for pid in list(pids):
                ended, _, usage = os.wait4(pid, os.WNOHANG)
                if ended:
                    pids.remove(pid)
                    yield usage
            time.sleep(0.01)


def _environment(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def children(pid: int) -> list[int]:
    """Processes whose parent is ``pid``."""
    return [child for child, parent in parents().items() if parent == pid]


def parents() -> dict[int, int]:
    """Every process's parent."""
    found = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - thousands of Path objects are dear
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as stream:  # noqa: PTH123
                    found[int(entry)] = int(stream.read().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
    return found


def tree(root: int, parent_of: Mapping[int, int]) -> set[int]:
    """``root`` and all below it."""
    found = {root}
    grown = True
    while grown:
        more = {pid for pid, parent in parent_of.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return found


def pss(pid: int) -> float:
    """MB of a process, what it shares divided by those who share it; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as stream:  # noqa: PTH123
            for line in stream:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def highest(pid: int) -> float:
    """MB that a process had in memory at its own peak; 0 when it is gone."""
    # Not ru_maxrss: that begins with what its parent had when it was forked.
    try:
        with open(f"/proc/{pid}/status") as stream:  # noqa: PTH123
            for line in stream:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


class _Meter:
    """Watches the memory of a process and all below it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """MB at the peak."""
        self._over.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        pause = INTERVAL
        while not self._over.wait(pause):
            began = time.thread_time()
            pids = tree(self._pid, parents())
            self._peak = max(self._peak, sum(map(pss, pids)), *map(highest, pids))
            pause = max(INTERVAL, SHARE * (time.thread_time() - began))
