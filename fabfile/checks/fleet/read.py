"""What the script of :mod:`look` printed, taken apart. Nothing a host says can break it."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from fabfile.balancers.haproxy.observe import Poll, parse_poll, reading, sections
from fabfile.balancers.haproxy.parse import HaproxyError
from fabfile.balancers.haproxy.shell import Unusable
from fabfile.balancers.haproxy.switch import is_on
from fabfile.balancers.model import BackendReading
from fabfile.checks.fleet.facts import (
    Certificate,
    Container,
    Disk,
    HostFacts,
    Lock,
    Project,
    Reading,
    Rollout,
    Silent,
)
from fabfile.checks.fleet.look import Process, Question
from fabfile.inventory.model import Service
from fabfile.remote import drained, state
from fabfile.runtimes import compose

Sections = Mapping[str, Sequence[str]]
DEAD = ("not-running", "container", "no-socket")
"""Kinds of trouble that mean that HAProxy does not run."""


def read_host(text: str, question: Question, services: Sequence[Service]) -> HostFacts:
    """The facts of one host; ``services`` are all there are, to name its locks by."""
    parts = _sections(text)
    polls = [_body(parts, f"balancer {n}") for n in range(len(question.processes))]
    now = _number("".join(parts.get("now", [])[:1]))
    return HostFacts(
        now=now,
        docker=_docker(parts) if question.services else "",
        state="".join(parts.get("state", [])[:1]),
        containers=tuple(_containers(parts)),
        projects={s.name: _project(parts.get(f"project {s.name}", ())) for s in question.services},
        disks=tuple(_disks(parts)),
        locks=tuple(
            Lock(held, _service_of(held.key, services))
            for held in state.parse_locks(_body(parts, "locks"))
        ),
        rollouts=tuple(_rollouts(parts)),
        drained=tuple(drained.parse(_body(parts, "drained"))),
        certificates=tuple({c.name: c for poll in polls for c in certificates(poll)}.values()),
    )


def read_balancers(text: str, question: Question) -> dict[tuple[str, str], Reading]:
    """Every balancer of one host, by service and balancer id."""
    parts = _sections(text)
    found: dict[tuple[str, str], Reading] = {}
    for number, process in enumerate(question.processes):
        poll = _poll(process, _body(parts, f"balancer {number}"))
        for service, balancer in process.balancers:
            found[service.name, balancer.id] = _reading(balancer.id, balancer.spec.backend, poll)
    return found


def read_maintained(text: str, question: Question) -> set[tuple[str, str]]:
    """Service and balancer of each maintenance page that is on."""
    parts = _sections(text)
    found: set[tuple[str, str]] = set()
    for number, process in enumerate(question.processes):
        poll = _poll(process, _body(parts, f"balancer {number}"))
        if isinstance(poll, Poll):
            found |= {
                (service.name, balancer.id)
                for service, balancer in process.balancers
                if is_on(balancer.spec.backend, poll)
            }
    return found


def passing(answer: Reading) -> bool:
    """Whether a balancer's silence may end by itself: a reload in the middle of the question."""
    return isinstance(answer, Silent)


def _poll(process: Process, text: str) -> Poll | Silent:
    host = process.balancers[0][1].host
    try:
        return parse_poll(text, where=host)
    except Unusable as error:
        return Silent(str(error), dead=error.kind in DEAD)
    except HaproxyError as error:
        return Silent(str(error))
    except (ValueError, KeyError) as error:
        return Silent(f"{host}: HAProxy's answer can't be read: {error}")


def _reading(balancer: str, backend: str, poll: Poll | Silent) -> Reading:
    if isinstance(poll, Silent):
        return poll
    if backend not in poll.stats:
        return BackendReading(balancer, poll.process, {})  # every server of it is missing
    try:
        return reading(balancer, backend, poll)
    except (HaproxyError, ValueError, KeyError) as error:
        return Silent(f"{balancer}: HAProxy's answer can't be read: {error}")


def certificates(poll: str) -> Iterator[Certificate]:
    """The certificates that are in use, from a poll's text (HAProxy 2.2 or newer)."""
    for block in re.split(r"^Filename: ", dict(sections(poll)).get("certs", ""), flags=re.M)[1:]:
        name, _, rest = block.partition("\n")
        expires = re.search(r"^notAfter: (.+)$", rest, re.M)
        if expires is None or not re.search(r"^Status: Used", rest, re.M):
            continue
        try:
            yield Certificate(name.strip(), float(ssl.cert_time_to_seconds(expires[1].strip())))
        except ValueError:
            continue


def _sections(text: str) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.split("\n"):
        if line.startswith("== "):
            lines = parts.setdefault(line[3:].strip(), [])
        else:
            lines.append(line)
    return parts


def _body(parts: Sections, name: str) -> str:
    return "\n".join((*parts.get(name, ()), ""))


def _docker(parts: Sections) -> str:
    said = [line for line in parts.get("docker", ()) if line.strip()]
    return "" if "ok" in said else " ".join(said)[:200] or "it gave no answer"


def _containers(parts: Sections) -> Iterator[Container]:
    for line in parts.get("containers", ()):
        raw = _object(line)
        if not raw.get("name"):
            continue
        texts = ("project", "service", "release", "version", "image", "status", "health")
        yield Container(
            name=str(raw["name"]).lstrip("/"),
            restarts=int(_number(raw.get("restarts"))),
            started=_moment(raw.get("started")),
            exit_code=int(_number(raw.get("exit_code"))),
            oneoff=raw.get("oneoff") == "True",
            ports=_ports(raw.get("ports")),
            **{name: str(raw.get(name) or "") for name in texts},
        )


def _ports(raw: object) -> tuple[str, ...]:
    """As ``docker ps`` has them, but for the addresses that mean all of them."""
    found: list[str] = []
    for inside, spots in sorted(raw.items()) if isinstance(raw, dict) else ():
        if not spots:
            found.append(inside)
        for spot in spots or ():
            address = spot.get("HostIp", "")
            at = "" if address in ("", "0.0.0.0", "::") else f"{address}:"  # noqa: S104 (read)
            found.append(f"{at}{spot.get('HostPort', '?')}->{inside}")
    return tuple(dict.fromkeys(found))


def containers(text: str) -> tuple[float, str, tuple[Container, ...]]:
    """What ``look.containers_script`` brought: the host's clock in seconds since 1970, why Docker
    does not answer (empty: it does), and every container of the host."""
    parts = _sections(text)
    return _number("".join(parts.get("now", ())[:1])), _docker(parts), tuple(_containers(parts))


def _project(said: Sequence[str]) -> Project:
    words = [line.split() for line in said if line.strip()]
    current = {line[1]: line[2] for line in words if line[0] == "current" and len(line) == 3}
    return Project(current, ["edited"] in words, ["present"] in words)


def _disks(parts: Sections) -> Iterator[Disk]:
    found: dict[str, Disk] = {}
    for line in parts.get("disk", ()):
        fields = line.split(None, 5)
        if len(fields) == 6 and fields[3].isdecimal() and fields[4].rstrip("%").isdecimal():
            found[fields[5]] = Disk(fields[5], int(fields[4].rstrip("%")), int(fields[3]))
    yield from found.values()


def _rollouts(parts: Sections) -> Iterator[Rollout]:
    for name, body in parts.items():
        kind, _, identity = name.partition(" ")
        if kind not in ("unfinished", "finished"):
            continue
        lines = [line for line in body if line.strip()]
        plan = _object(lines[0]) if lines else {}
        rest = lines[1:] if plan else lines
        # A plan that was pruned, or can't be read, leaves its line empty.
        ended = _object(lines[-1]) if kind == "finished" and lines else {}
        # What an ended rollout says of itself goes before what it had planned.
        plan |= {key: ended[key] for key in ("service", "version", "chosen") if key in ended}
        undo = [line.removesuffix(".json") for line in rest if line.endswith(".json")]
        ahead, touched = (
            tuple(line.removeprefix(word) for line in rest if line.startswith(word))
            for word in ("ahead-of ", "undo-of ")
        )
        yield Rollout(
            id=identity,
            finished=kind == "finished",
            service=str(plan.get("service") or ""),
            version=str(plan.get("version") or ""),
            chosen=plan.get("chosen") is True,
            hosts=tuple(_flat([ended["hosts"]] if "hosts" in ended else plan.get("batches"))),
            verdict=str(ended.get("verdict") or ""),
            undo=tuple(undo) if kind == "unfinished" else (),
            ahead=ahead if kind == "unfinished" else (),
            touched=touched if kind == "unfinished" else (),
        )


def _flat(batches: Any) -> Iterator[str]:
    for batch in batches if isinstance(batches, list) else ():
        yield from (str(host) for host in (batch if isinstance(batch, list) else ()))


def _service_of(key: str, services: Sequence[Service]) -> str:
    for service in services:
        keys = {compose.project_key(service)}
        for spec in service.balancers:
            keys.add(state.key("backend", spec.socket, spec.backend))
            keys.add(state.key("process", spec.config))
        if key in keys:
            return service.name
    return ""


def _object(line: str) -> dict[str, Any]:
    try:
        raw = json.loads(line)
    except ValueError:
        return {}
    return raw if isinstance(raw, dict) else {}


def _number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return 0.0


def _moment(value: object) -> float:
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except (ValueError, OverflowError):
        return 0.0
