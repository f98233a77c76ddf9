"""The HAProxy configuration of a host: all services that share its file, rendered into one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from fabfile.balancers.haproxy.parse import checked_name, checked_path
from fabfile.errors import BadInput
from fabfile.inventory.model import BalancerSpec, Health, Inventory, Service

FILE_OPTIONS: Mapping[str, str] = {
    "user": "haproxy",
    "group": "haproxy",
    "hard_stop_after": "10m",
    "maxconn": "",
    "stats_bind": "",
}
"""Options of the whole file; where several services share it they must agree."""

SERVICE_OPTIONS: Mapping[str, str] = {
    "balance": "roundrobin",
    "inter": "2s",
    "fastinter": "200ms",
    "downinter": "500ms",
    "rise": "2",
    "fall": "3",
    "retries": "3",
    "redispatch": "yes",
    "weight": "100",
    "maintenance_text": "Down for maintenance, back soon.",
    "check_host": "",
    "timeout_connect": "5s",
    "timeout_client": "60s",
    "timeout_server": "60s",
    "timeout_queue": "30s",
    "timeout_check": "2s",
    "timeout_tunnel": "1h",
    "timeout_http_request": "10s",
    "timeout_http_keep_alive": "10s",
}
"""Options of one service's frontend and backend. Weight 100 leaves room for percentages: half
of weight 1 is 0."""

_SWITCH = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


@dataclass(frozen=True)
class Server:
    """One server line."""

    name: str
    address: str
    """``host:port``."""


@dataclass(frozen=True)
class Rendered:
    """One service as the template sees it."""

    name: str
    backend: str
    bind: str
    cookie: str | None
    redispatch: bool
    health: Health
    options: Mapping[str, str]
    servers: Sequence[Server]


def render(inventory: Inventory, host: str) -> dict[str, str]:
    """The configuration files of ``host``'s balancers, by their path on the host.

    Only balancers that name a template are rendered; a hand-written file is never touched.
    Raises :class:`fabfile.errors.BadInput` for services that can't share a file, options that
    make no sense, and templates that don't render.
    """
    files: dict[str, list[tuple[Service, BalancerSpec]]] = {}
    for service, spec in _balancers_on(inventory, host):
        files.setdefault(checked_path(spec.config), []).append((service, spec))
    return {path: _file(inventory, host, path, users) for path, users in files.items()}


def _balancers_on(inventory: Inventory, host: str) -> Iterator[tuple[Service, BalancerSpec]]:
    for service in inventory.services.values():
        for spec in service.balancers:
            on = service.hosts if spec.hosts == "self" else spec.hosts
            if spec.kind == "haproxy" and spec.template is not None and host in on:
                yield service, spec


def _file(
    inventory: Inventory, host: str, path: str, users: Sequence[tuple[Service, BalancerSpec]]
) -> str:
    where = f"{host}:{path}"
    first = users[0][1]
    for name in ("template", "socket", "master_socket", "state_file", "container", "image"):
        _agree(where, name, [(service.name, str(getattr(spec, name))) for service, spec in users])
    options = {key: _shared(where, key, users, value) for key, value in FILE_OPTIONS.items()}
    services = [_service(inventory, host, service, spec) for service, spec in users]
    _unlike(where, "backend", [(entry.name, entry.backend) for entry in services])
    _unlike(where, "bind", [(entry.name, entry.bind) for entry in services])
    assert first.template is not None
    return _rendered(
        first.template,
        {
            "host": host,
            "socket": checked_path(first.socket),
            "state_file": checked_path(first.state_file) if first.state_file else None,
            "options": {**first.options, **options},
            "services": services,
        },
    )


def _agree(where: str, what: str, values: Sequence[tuple[str, str]]) -> None:
    for service, value in values[1:]:
        if value != values[0][1]:
            raise BadInput(
                f"{where}: services {values[0][0]} and {service} share this file but differ in "
                f"{what}: {values[0][1]!r} and {value!r}"
            )


def _shared(
    where: str, key: str, users: Sequence[tuple[Service, BalancerSpec]], otherwise: str
) -> str:
    said = [(service.name, spec.options[key]) for service, spec in users if key in spec.options]
    _agree(where, f"options.{key}", said)
    return _plain(f"{where}: options.{key}", said[0][1]) if said else otherwise


def _unlike(where: str, what: str, values: Sequence[tuple[str, str]]) -> None:
    seen: dict[str, str] = {}
    for service, value in values:
        if value in seen:
            raise BadInput(
                f"{where}: services {seen[value]} and {service} have the same {what}: {value!r}"
            )
        seen[value] = service


def _plain(where: str, value: object) -> str:
    text = str(value)
    if any(character in text for character in "\n\r\0#\"'\\"):
        raise BadInput(f"{where}: {text!r} can't stand in a HAProxy configuration")
    return text


def _service(inventory: Inventory, host: str, service: Service, spec: BalancerSpec) -> Rendered:
    where = f"services.{service.name}.balancers"
    options = {
        key: _plain(f"{where}.options.{key}", value)
        for key, value in {**SERVICE_OPTIONS, "check_host": service.name, **spec.options}.items()
    }
    if options["redispatch"].lower() not in _SWITCH:
        raise BadInput(f"{where}.options.redispatch: {options['redispatch']!r}: write yes or no")
    return Rendered(
        name=service.name,
        backend=checked_name(spec.backend),
        bind=_plain(f"{where}.bind", spec.bind),
        cookie=checked_name(spec.cookie) if spec.cookie else None,
        redispatch=_SWITCH[options["redispatch"].lower()],
        health=service.health,
        options=options,
        servers=list(_servers(inventory, host, service, spec)),
    )


def _servers(
    inventory: Inventory, host: str, service: Service, spec: BalancerSpec
) -> Iterator[Server]:
    for name in (host,) if spec.hosts == "self" else service.hosts:
        address = "127.0.0.1" if spec.hosts == "self" else inventory.hosts[name].internal
        for instance in service.instances_on(name):
            if not instance.port:
                raise BadInput(
                    f"services.{service.name}: {instance.id} publishes no port, so a rendered "
                    "balancer can't reach it; set `publish`"
                )
            shown = f"[{address}]" if ":" in address else address
            yield Server(
                checked_name(service.server_name(spec, instance)),
                f"{_plain(f'hosts.{name}.internal', shown)}:{instance.port}",
            )


def _quoted(value: str) -> str:
    """A string with the quoting of HAProxy's configuration."""
    return json.dumps(value, ensure_ascii=False).replace("$", "\\$")


def _rendered(template: Path, values: Mapping[str, object]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - this is no HTML; what is put in was checked
    )
    environment.filters["quoted"] = _quoted
    try:
        return environment.get_template(template.name).render(values)
    except jinja2.TemplateNotFound as error:
        raise BadInput(f"template {template} is not there") from error
    except jinja2.TemplateSyntaxError as error:
        raise BadInput(f"{error.filename or template}:{error.lineno}: {error.message}") from error
    except Exception as error:  # a template is somebody's program: anything can happen in it
        first = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise BadInput(f"{template} does not render: {first[0]}") from error
