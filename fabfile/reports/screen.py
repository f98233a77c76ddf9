"""The live view on a terminal: a picture that is drawn over itself, and lines that stay above it.

Nothing a terminal does may hold up a rollout: whoever tells an event only changes the state, and a
thread of its own draws. That thread may wait for a terminal for ever (Ctrl-S), find it gone, or
die with the process at any moment: no mode of the terminal is ever changed, the cursor included,
so that there is nothing to be put back.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from rich.console import Console as Rich
from rich.text import Text

from fabfile.reports.console import Console
from fabfile.reports.live import WENT_WELL, Live
from fabfile.reports.live_view import MESSAGES, clean, view
from fabfile.rollout import events as e

FRAME = 0.125
"""Seconds between two pictures, at least."""
STILL = 1.0
"""And at most, while nothing happens: clocks go on."""
PATIENCE = 2.0
"""Seconds that the end waits for a terminal that takes nothing."""
ASCII = str.maketrans({"█": "#", "░": ".", "…": "~", "·": "-"})


def worth_a_line(event: e.Event) -> bool:
    """What stays on the terminal: all that a plain console says but what went as it should."""
    match event:
        case e.StepFinished(_, step, ok, _, detail):
            return not ok or bool(detail) or step == "cut"
        case e.InstanceFinished(_, fate):
            return fate not in WENT_WELL
        case e.CapacityAwaited():
            return False
    return True


class Told:
    """Where a rollout stands, and what was said of it, as lines with their time in front."""

    def __init__(self) -> None:
        self.live = Live()
        self.said: list[str] = []
        """Lines that are part of the picture; older ones are above it for good."""
        self.leaving: list[str] = []
        """Lines that go above the picture with the next one."""
        self._at = 0.0
        self._first = 0.0
        self._lines = Console(io.StringIO(), lambda: self._at)

    def keep(self, event: e.Event, at: float) -> None:
        """``event`` happened ``at``."""
        self.live.take(event, at)
        self.said += self.lines(event, at)
        self.leaving += self.said[:-MESSAGES]
        del self.said[:-MESSAGES]

    def lines(self, event: e.Event, at: float) -> list[str]:
        """What stays to be read of ``event``."""
        self._at = at
        self._first = self._first or at
        lines = self._lines.lines(event)  # asked in any case: it remembers beginnings
        if not worth_a_line(event):
            return []
        return [f"{at - self._first:7.1f}s  {clean(line)}" for line in lines]


class Screen:
    """Draws what it is told on a terminal. :meth:`close` leaves the lines, and no picture."""

    def __init__(
        self,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.time,
        size: Callable[[], os.terminal_size] | None = None,
    ) -> None:
        """``stream``: stdout, where none is given. The clock counts from 1970."""
        self._stream = stream or sys.stdout
        self._fd = self._stream.fileno()
        self._clock = clock
        self._size = size or (lambda: os.get_terminal_size(self._fd))
        self._told = Told()
        self._rich = Rich(file=io.StringIO(), force_terminal=True, width=80, highlight=False)
        self._drawn: list[int] = []
        """How wide each line of the picture is that the terminal shows."""
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._ending = False
        self._lost: Exception | None = None
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()
        self._painter = threading.Thread(target=self._paint_on, name="screen", daemon=True)
        self._painter.start()

    def __call__(self, event: e.Event) -> None:
        """Something happened now. Raises what ended the drawing, once there is no terminal."""
        self.take(event, self._clock())

    def take(self, event: e.Event, at: float) -> None:
        """``event`` happened ``at``."""
        if isinstance(self._lost, OSError):
            raise self._lost
        if self._ending or self._lost:  # no picture any more: what is still to be said are lines
            self._after(event, at)
            return
        with self._lock:
            self._told.keep(event, at)
        self._woken.set()
        if isinstance(event, e.RolloutFinished):
            self.close()

    def replay(self, events: Iterable[tuple[e.Event, float]]) -> None:
        """What happened before anybody watched: of what was said only the last is shown."""
        with self._lock:
            for event, at in events:
                self._told.keep(event, at)
            self._told.leaving.clear()
        self._woken.set()

    def heard(self, text: str) -> None:
        """Who does it, and when that was last heard of."""
        with self._lock:
            self._told.live.alive = text

    def close(self) -> None:
        """Take the picture away, and leave what was said."""
        if self._ending:
            return
        self._ending = True
        self._woken.set()
        self._painter.join(PATIENCE)

    def _after(self, event: e.Event, at: float) -> None:
        lines = self._told.lines(event, at)
        if lines and not self._painter.is_alive():
            self._write("".join(f"{line}\n" for line in lines))

    # what follows is the painter's

    def _paint_on(self) -> None:
        try:
            while not self._ending:
                self._draw()
                time.sleep(FRAME)
                self._woken.wait(STILL - FRAME)
                self._woken.clear()
            self._draw(last=True)
        except Exception as error:
            self._lost = error

    def _draw(self, *, last: bool = False) -> None:
        width, height = self._size()
        width, height = width or 80, height or 24
        with self._lock:
            told = self._told
            leaving = told.leaving + (told.said if last else [])
            told.leaving = []
            now, room = self._clock(), max(height - 1, 1)
            lines = [] if last else view(told.live, told.said, now, width - 1, room)
        self._write(self._frame(leaving, lines, width))

    def _frame(self, leaving: Sequence[str], lines: Sequence[Text], width: int) -> str:
        """What makes the terminal show ``lines`` in place of the picture before, and ``leaving``
        above them. One that was made narrower has broken our lines: they are counted anew."""
        up = sum(max(-(-wide // width), 1) for wide in self._drawn)
        self._drawn = [line.cell_len for line in lines]
        self._rich.width = width
        with self._rich.capture() as captured:
            self._rich.print(*lines, sep="\n", crop=False)
        drawn = captured.get().splitlines() if lines else []
        text = "\r" + (f"\x1b[{up}A" if up else "")
        # What was below is erased before lines that are too long for one row are written.
        text += "".join(f"\x1b[J{line}\n" for line in leaving)
        return text + "".join(f"{line}\x1b[K\n" for line in drawn) + "\x1b[J"

    def _write(self, text: str) -> None:
        coding = getattr(self._stream, "encoding", None) or "utf-8"
        if "utf" not in coding.lower():
            text = text.translate(ASCII)
        left = memoryview(text.encode(coding, "backslashreplace"))
        while left:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:  # somebody who shares the terminal has set it so
                select.select((), (self._fd,), ())
