"""Durations as people type them, in seconds as the code keeps them."""

from __future__ import annotations

import re

from fabfile.errors import BadInput

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|)")


def seconds(text: str, *, flag: str) -> float:
    """``500ms``, ``30s``, ``2m``, ``1h`` or bare seconds, as seconds above 0.

    Raises :class:`BadInput`, naming ``flag``, for anything else.
    """
    match = _PATTERN.fullmatch(text.strip())
    value = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if value <= 0:
        raise BadInput(f"{flag}: {text!r} is no duration (say 500ms, 30s, 2m or 1h)")
    return value
