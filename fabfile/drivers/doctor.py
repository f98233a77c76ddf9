"""Everything ``fab doctor`` judges, found out: all hosts side by side, one command for each."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fabfile.balancers.haproxy import config
from fabfile.checks.doctor.facts import HostFacts, Proxy, Rendered, Setup, Unreached
from fabfile.checks.doctor.look import Question, questions, read_host, read_proxies
from fabfile.errors import BadInput, EvenkeelError, HostKeyRefused
from fabfile.inventory.model import Inventory, Secret, Service
from fabfile.inventory.selection import select_hosts, select_service
from fabfile.remote.base import Command, Result
from fabfile.remote.pool import Remotes
from fabfile.runtimes import render

TIMEOUT = 40.0
"""Deadline of one host's command, in seconds: a registry may take its time not to answer."""
WORKERS = 32
"""Hosts at a time."""
VERSION = "0.0.0"
"""Stands for the version a template is rendered with."""


@dataclass(frozen=True)
class Wanted:
    """What a person wants to have examined."""

    services: tuple[Service, ...]
    selected: Mapping[str, tuple[str, ...]]
    """Application hosts by service."""
    named: tuple[str, ...] = ()
    """Hosts that ``-H`` names, whatever they are."""


def wanted(inventory: Inventory, service: str, names: Sequence[str]) -> Wanted:
    """What ``--service`` and ``-H`` mean; a balancer's host may be named as well.

    Raises :class:`BadInput`.
    """
    known = inventory.services
    services = (select_service(inventory, service),) if service else tuple(known.values())
    if not names:
        everybody = () if services else inventory.groups["all"]
        return Wanted(services, {s.name: s.hosts for s in services}, everybody)
    named = select_hosts(inventory, None, names)
    strange = [name for name in named if name not in inventory.hosts]
    if strange:
        raise BadInput(f"-H: {strange[0]}: doctor needs a host of {inventory.path.name}")
    chosen = {s.name: tuple(h for h in s.hosts if h in named) for s in services}
    return Wanted(services, chosen, named)


def examine(inventory: Inventory, what: Wanted, remotes: Remotes) -> Setup:
    """Look at everything; a host that can't be reached is told of and spoils nothing else."""
    asked = questions(what.services, what.selected, what.named)
    answers = _ask(asked, remotes)
    hosts: dict[str, HostFacts | Unreached] = {}
    proxies: list[Proxy] = []
    for host, question in asked.items():
        answer, between = answers[host]
        if isinstance(answer, Unreached):
            hosts[host] = answer
            continue
        hosts[host] = read_host(answer.stdout, question, between)
        meant = _meant(inventory, host) if question.proxies else {}
        found = read_proxies(answer.stdout, question, what.selected, inventory.hosts)
        proxies += (replace(p, meant=meant.get(p.balancer.spec.config)) for p in found)
    concerned = [s for s in what.services if what.selected[s.name] or not what.named]
    return Setup(
        inventory,
        tuple(concerned),
        what.selected,
        hosts,
        tuple(proxies),
        tuple(r for s in concerned for r in _rendered(inventory, s, what.selected[s.name])),
        {s.name: tuple(_secrets(s)) for s in concerned},
    )


Answer = tuple["Result | Unreached", tuple[float, float]]


def _ask(asked: Mapping[str, Question], remotes: Remotes) -> dict[str, Answer]:
    def one(host: str) -> Answer:
        command = Command(asked[host].script(), timeout=TIMEOUT, label="doctor")
        began = time.time()
        try:
            transport = remotes.get(host)
            began = time.time()
            answer = transport.run(command)
            between = (began, time.time())
            with contextlib.suppress(Exception):  # there may be hundreds
                transport.close()
        except EvenkeelError as error:
            code = "host-key" if isinstance(error, HostKeyRefused) else "unreachable"
            return Unreached(str(error).removeprefix(f"{host}: "), code), (began, began)
        if not answer.ok:
            why = answer.tail(1) or f"its command ended with {answer.exit_code}"
            return Unreached(why.removeprefix(f"{host}: "), "no-answer"), between
        return answer, between

    if not asked:
        return {}
    with ThreadPoolExecutor(min(WORKERS, len(asked)), thread_name_prefix="doctor") as workers:
        return dict(zip(asked, workers.map(one, asked), strict=True))


def _rendered(inventory: Inventory, service: Service, hosts: Sequence[str]) -> Iterator[Rendered]:
    path = service.template or render.TEMPLATES / render.COMPOSE_TEMPLATE
    shown = _shown(path, inventory)
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        yield Rendered(service, hosts[0] if hosts else "", shown, why=f"it can't be read: {error}")
        return
    for host in hosts:
        one = inventory.hosts[host]
        try:
            render.project(service, one, VERSION)
            project = YAML(typ="safe", pure=True).load(render.render(service, one, VERSION))
        except (EvenkeelError, YAMLError) as error:
            why = str(error).replace(str(path), shown)
            yield Rendered(service, host, shown, source, why=why)
        else:
            yield Rendered(service, host, shown, source, project)


def _meant(inventory: Inventory, host: str) -> dict[str, str]:
    """HAProxy's configurations as they would be written now; none where they can't be."""
    try:
        return config.render(inventory, host)
    except EvenkeelError:  # a template that does not render is what `fab provision` tells of
        return {}


def _shown(path: Path, inventory: Inventory) -> str:
    """Short where the reader stands near it, or where it is one of ours."""
    for folder in (inventory.root, render.TEMPLATES.parent):
        if path.is_relative_to(folder):
            return str(path.relative_to(folder))
    return str(path)


def _secrets(service: Service) -> Iterator[str]:
    """What can be seen of them without running anybody's command."""
    login = () if service.registry_login is None else (service.registry_login[1],)
    for secret in (*service.secrets, *login):
        if why := _secret(secret):
            yield f"{secret.name}: {why}"


def _secret(secret: Secret) -> str:
    if secret.env is not None and secret.env not in os.environ:
        return f"the environment variable {secret.env} is not set"
    if secret.file is not None and not os.access(secret.file, os.R_OK):
        return f"{secret.file} can't be read"
    return ""
