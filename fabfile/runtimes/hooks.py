"""Hooks: a service's own commands on its hosts. What they are told, how they are run, what came.

Builders return shell text and run nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fabfile.inventory.model import Service
from fabfile.remote import state
from fabfile.remote.scripts import script

SHELL = Path(__file__).parent / "shell"

MARGIN = 30.0
"""Seconds beyond a hook's own deadline that its end, its record and its output may take."""
MOST_BYTES = 64 * 1024
MOST_LINES = 200
"""Of what a hook wrote, that many lines are told: the last ones."""
LONGEST = 500
"""Characters of one line."""
EXIT_BEGUN = 76
"""It had begun before, in the same rollout."""
LEFT_OUT = "(what it wrote before is left out)"


@dataclass(frozen=True)
class End:
    """How a hook ended."""

    code: int
    late: bool
    """Its deadline ended it."""
    lines: tuple[str, ...]
    """The last it wrote, stdout and stderr together."""


@dataclass(frozen=True)
class Record:
    """What a host knows of a hook that runs once in a rollout."""

    begun: str
    """When, by the host's clock; empty: the record can't be read."""
    code: int | None
    """Its exit code; ``None``: nobody knows whether it ended, and how."""


def hook_script(
    service: Service,
    command: str,
    env: Mapping[str, str],
    seconds: float,
    *,
    once: str = "",
    again: bool = False,
) -> str:
    """Run ``command`` in the service's folder, ``seconds`` at most; for :func:`read_end`.

    ``once``: the file, without ``.json``, in the journal that says that it was begun and how it
    ended; then it is refused with :data:`EXIT_BEGUN` when it had begun before, but for ``again``.
    """
    return script(
        SHELL / "hook.sh",
        folder=service.project_dir,
        command=command,
        env=[f"{name}={value}" for name, value in env.items()],
        seconds=max(1, math.ceil(seconds)),
        most=MOST_BYTES,
        record=f"{once}.json" if once else "",
        busy=f"{state.ROOT}/locks/{state.key('hook', service.project_dir)}.flock",
        wait=state.FLOCK_WAIT,
        again="yes" if again else "",
    )


def read_end(text: str) -> End | None:
    """Read what :func:`hook_script` printed; ``None``: it does not say how the hook ended."""
    first, _, rest = text.partition("\n")
    words = first.split()
    if len(words) < 3 or words[0] != "ended" or not words[1].isdigit():
        return None
    lines = [_shortened(line) for line in rest.splitlines() if line.strip()]
    if len(rest.encode()) >= MOST_BYTES:
        lines = lines[1:]  # the first one begins anywhere
    if len(lines) > MOST_LINES or len(rest.encode()) >= MOST_BYTES:
        lines = [LEFT_OUT, *lines[-MOST_LINES:]]
    return End(int(words[1]), words[-1] == "late", tuple(lines))


def _shortened(line: str) -> str:
    line = line.rstrip()
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} …"


def record_path(rollout: str, name: str) -> str:
    """Where a rollout's journal keeps the record of a hook that runs once, without ``.json``."""
    return f"{state.ROOT}/rollouts/{rollout}/hooks/{name}"


def read_record(text: str | None) -> Record | None:
    """A hook's record as the journal has it; ``None``: the hook never began."""
    if text is None:
        return None
    try:
        raw = json.loads(text)
        code = raw.get("code")
        return Record(str(raw["begun"]), code if isinstance(code, int) else None)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Record("", None)


def taken_as_done(rollout: str, name: str, by: str) -> str:
    """Write down that ``by`` says that a hook is done."""
    facts = json.dumps({"begun": "?", "code": 0, "said by": by})
    path = f"{record_path(rollout, name)}.json"
    return f"umask 002; mkdir -p $(dirname {path}) && {state.durable(path, facts)}"
