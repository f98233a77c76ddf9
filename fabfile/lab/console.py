"""The lab's lines of progress."""

from __future__ import annotations

import sys
import threading
import time


class Progress:
    """Prints lines with the seconds since the start; threads may share one."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self, text: str) -> None:
        """Print one line."""
        with self._lock:
            sys.stdout.write(f"{time.monotonic() - self._start:6.1f} s  {text}\n")
            sys.stdout.flush()


def show(text: str) -> None:
    """Print ``text`` as it is."""
    sys.stdout.write(text + "\n")
