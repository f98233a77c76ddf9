"""Makes of recorded commands what a bare Fabric script sends again: stages, and who waits for whom."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Sent = Mapping[str, Any]
SERVER = re.compile(r"\b(h\d+)_app_\d+\b")
ORDER = re.compile(r"set server [\w.-]+/(h\d+_app_\d+) state (\w+)")
STAGES = ("PhaseStarted", "BatchStarted", "RolloutFinished")
"""Events at which everything before has ended: what comes after may rely on it."""


def read(lines: Iterable[str]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """What record.py wrote: the commands, and by name what some of them read (base64).

    A command has one line when it begins and another when its end was heard of.
    """
    found: dict[int, dict[str, Any]] = {}
    inputs: dict[str, str] = {}
    for line in lines:
        entry = json.loads(line)
        if "input" in entry:
            inputs[entry["input"]] = entry["data"]
        else:
            found.setdefault(entry.pop("number"), {}).update(entry)
    return [entry for entry in found.values() if "host" in entry], inputs


def stages(sent: Sequence[Sent], events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The commands between two stages, each with the numbers of those it comes after."""
    marks = sorted(event["at"] for event in events if event["event"] in STAGES)
    parts: list[list[Sent]] = [[] for _ in range(len(marks) + 1)]
    for command in sorted(sent, key=lambda one: one["began"]):
        if command.get("code") is not None:
            parts[sum(mark <= command["began"] for mark in marks)].append(command)
    return [{"commands": stage(part)} for part in parts if part]


def stage(commands: Sequence[Sent]) -> list[dict[str, Any]]:
    """One command comes after all that concern one of its hosts and had ended when it began."""
    found: list[dict[str, Any]] = []
    for command in commands:
        mine = concerns(command)
        after = [
            number
            for number, earlier in enumerate(commands)
            if earlier["ended"] <= command["began"] and mine & concerns(earlier)
        ]
        found.append(
            {
                "host": command["host"],
                "label": command["label"],
                "script": command["script"],
                "stdin": command["stdin"],
                "code": command["code"],
                "after": nearest(after, found),
                "until_idle": servers(command["script"], "maint", "drain"),
                "until_up": servers(command["script"], "ready"),
            }
        )
    return found


def concerns(command: Sent) -> set[str]:
    """The hosts a command is about: its own, or those whose servers it names on a balancer."""
    if not command["host"].startswith("lb"):
        return {command["host"]}
    return {match[1] for match in SERVER.finditer(command["script"])} or {command["host"]}


def servers(script: str, *states: str) -> list[str]:
    """Servers that a command puts into one of ``states``."""
    found = (name for name, order in ORDER.findall(script) if order in states)
    return list(dict.fromkeys(found))


def nearest(after: Sequence[int], found: Sequence[Mapping[str, Any]]) -> list[int]:
    """Without those that others of them come after anyway."""
    implied: set[int] = set()
    for number in after:
        implied |= set(found[number]["after"])
    return [number for number in after if number not in implied]
