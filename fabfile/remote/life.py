"""Signs of life: scripts by which who holds locks on a host shows that it lives; see ``state``."""

from __future__ import annotations

from collections.abc import Mapping

from fabfile.remote import state
from fabfile.remote.quoting import answer_lines, q

MARKER = "@evenkeel beat"
"""Ends each answer of :func:`heartbeats`."""


def heartbeat(keys: Mapping[str, str]) -> str:
    """A sign of life for all locks; exit 75 when one is no longer ours."""
    return (
        f"cd {state.ROOT}/locks || exit 71\n"
        f"{_are_ours(keys)} || exit {state.EXIT_FENCED}\n{_touch(keys)}"
    )


def heartbeats(keys: Mapping[str, str]) -> str:
    """The same as a conversation: a sign of life for each line, answered with ``ours`` or ``lost``.

    It starts a shell once, and not with every sign of life.
    """
    body = f"if {_are_ours(keys)}; then {_touch(keys)}; echo ours; else echo lost; fi"
    return answer_lines(body, MARKER, setup=f"cd {state.ROOT}/locks || exit 71")


def _are_ours(keys: Mapping[str, str]) -> str:
    return " && ".join(
        f"{{ held=; {{ IFS= read -r held <{q(name)}.lock; }} 2>/dev/null;"
        f' [ "$held" = {q(line)} ]; }}'
        for name, line in sorted(keys.items())
    )


def _touch(keys: Mapping[str, str]) -> str:
    return "touch -c " + " ".join(f"{q(name)}.lock" for name in sorted(keys))
