"""What the benchmarks say while they run."""

from __future__ import annotations

import sys
import time


def say(text: str) -> None:
    """One line, at once."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {text}\n")
    sys.stdout.flush()
