"""The flags of ``inv simulate``, as typed, and what comes of them."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fabfile.drivers.simulated.forecast import Forecast, forecast, learned, no_collector
from fabfile.drivers.simulated.paper import plan_on_paper
from fabfile.drivers.simulated.timing import Timing
from fabfile.errors import BadInput
from fabfile.inventory import loader
from fabfile.inventory.model import Inventory, Service
from fabfile.inventory.selection import select_service
from fabfile.inventory.values import parse_percent, parse_serial, parse_version
from fabfile.reports import page, story
from fabfile.reports.console import as_json
from fabfile.reports.forecast_view import forecast_view
from fabfile.reports.html import html
from fabfile.rollout.events import Event
from fabfile.rollout.plan import Plan

LEARN_FROM = 20
"""Earlier rollouts whose step times are used, the newest ones."""
DRAWN = 2000
"""Instances at most that a page draws."""
MOST_RUNS = 100


@dataclass(frozen=True)
class Wish:
    """One field per flag; empty where it was not given."""

    service: str = ""
    inventory: str = ""
    version: str = "next"
    hosts: str = ""
    instances: str = ""
    serial: str = ""
    min_capacity: str = ""
    fail: str = ""
    runs: str = ""
    seed: str = "0"
    html: str = ""


def run(wish: Wish) -> str:
    """The text. Raises :class:`BadInput` for any mistake."""
    with no_collector():
        return _run(wish)


def _run(wish: Wish) -> str:
    found = loader.here(wish.inventory)
    inventory = loader.load(found)
    service = _service(inventory, wish)
    plan = plan_on_paper(service, parse_version(wish.version), "now")
    timing, instances = _timing(inventory, service)
    fail = _share(wish.fail)
    runs = _number(wish.runs, "--runs") if wish.runs else (MOST_RUNS if fail else 1)
    if wish.html and len(plan.targets) > DRAWN:
        raise BadInput(f"--html: a page draws {DRAWN} instances, and not {len(plan.targets)}")
    events: list[tuple[float, Event]] = []
    ends = forecast(
        plan,
        timing,
        fail=fail,
        runs=runs,
        seed=_number(wish.seed, "--seed", least=0),
        on_event=(lambda at, event: events.append((at, event))) if wish.html else None,
    )
    if wish.html:
        _draw(plan, events, Path(wish.html))
    return _text(plan, ends, fail, instances)


def _text(plan: Plan, ends: Forecast, fail: float, instances: int) -> str:
    usual = "step times of small idle containers: no earlier rollout is known here"
    return forecast_view(
        plan,
        ends.verdicts,
        ends.seconds,
        ends.lowest,
        ends.curve,
        fail=fail,
        source=f"step times of {instances} earlier upgrades" if instances else usual,
        width=shutil.get_terminal_size((80, 24)).columns,
    )


def _service(inventory: Inventory, wish: Wish) -> Service:
    service = select_service(inventory, wish.service or None)
    policy = service.rollout
    if wish.serial:
        policy = replace(policy, serial=parse_serial(wish.serial))
    if wish.min_capacity:
        policy = replace(policy, min_capacity=parse_percent(wish.min_capacity, "--min-capacity"))
    service = replace(service, rollout=policy)
    if wish.instances:
        service = replace(service, instances=_number(wish.instances, "--instances"))
    if wish.hosts:
        count = _number(wish.hosts, "--hosts")
        names = [*service.hosts[:count]]
        names += [f"host{number}" for number in range(len(names) + 1, count + 1)]
        service = replace(service, hosts=tuple(names))
    return service


def _timing(inventory: Inventory, service: Service) -> tuple[Timing, int]:
    """From the logs of earlier rollouts that came through, where there are any."""
    stories: list[story.Story] = []
    for path in sorted(page.logs(inventory.root).glob("*.jsonl"), reverse=True):
        if len(stories) == LEARN_FROM:
            break
        if path.name.endswith(".probe.jsonl"):
            continue
        with suppress(BadInput):  # a log that is broken teaches nothing
            told = story.read(path)
            if told.service == service.name and told.verdict == "done":
                stories.append(told)
    usual = Timing()
    timing, instances = learned(stories, usual)
    if not instances:
        timing = replace(usual, healthy=usual.healthy + service.health.min_healthy)
    return replace(timing, health_timeout=service.health.timeout, jitter=0.2), instances


def _draw(plan: Plan, events: list[tuple[float, Event]], place: Path) -> None:
    lines = [json.loads(as_json(event, at)) for at, event in events]
    told = story.tell(lines)
    told.service, told.hosts = plan.service, tuple(h for batch in plan.batches for h in batch)
    try:
        place.write_text(html(told), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"--html: {place}: can't be written: {error.strerror}") from None


def _number(text: str, flag: str, least: int = 1) -> int:
    if not (text.isascii() and text.isdigit()) or not least <= int(text) <= 1_000_000:
        raise BadInput(f"{flag}: {text!r} is no whole number from {least} to 1000000")
    return int(text)


def _share(text: str) -> float:
    if not text:
        return 0.0
    found = re.fullmatch(r"(\d+(?:\.\d+)?)%", text)
    if not found or float(found[1]) > 100:
        raise BadInput(f"--fail: {text!r} is no percentage from 0% to 100%")
    return float(found[1]) / 100
