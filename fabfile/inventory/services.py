"""``services`` of hosts.yaml."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TypeVar

from fabfile.inventory import model, outlets, schema
from fabfile.inventory.checking import check, check_name, entries, require
from fabfile.inventory.fields import is_file, local_path
from fabfile.inventory.mistakes import Mistakes, Path, did_you_mean, shown

T = TypeVar("T")

OWN = "default"
_OWN_BALANCER = {"haproxy": "haproxy.cfg.j2", "nginx": "nginx.conf.j2"}
_SOURCES = ("env", "file", "command")
_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]*")
_SERVER = re.compile(r"[A-Za-z0-9_.:-]+")
_FIELDS = "{host}, {instance} and {n}"


@dataclass(frozen=True)
class Surroundings:
    """What a service is read against."""

    root: FilePath
    template_dirs: Sequence[FilePath]
    """Where templates are looked for after ``root``."""
    hosts: Mapping[str, object]
    """All names of hosts.yaml, those with mistakes too."""
    groups: Mapping[str, tuple[str, ...]]
    defaults: schema.DefaultsEdge
    mistakes: Mistakes

    def wrong(self, path: Path, message: str) -> None:
        """Report a mistake."""
        self.mistakes.add(path, message)


def services(raw: Mapping[str, object], around: Surroundings) -> dict[str, model.Service]:
    """The services that can be used, in the order of the file."""
    found = {}
    for name, block in raw.items():
        path = ("services", name)
        check_name(path, around.mistakes)
        block = {} if block is None else block
        edge = check(schema.ServiceEdge, block, path, around.mistakes, around.root)
        if edge is not None:
            found[name] = _service(name, edge, block, around)
    return found


def _service(
    name: str, edge: schema.ServiceEdge, raw: object, around: Surroundings
) -> model.Service:
    path = ("services", name)
    defaults = around.defaults
    require(["group", "image"], raw, path, around.mistakes)
    group = edge.get("group", "")
    fields = raw if isinstance(raw, dict) else {}
    service = model.Service(
        name=name,
        group=group,
        hosts=_hosts_of(group, (*path, "group"), around),
        image=edge.get("image", ""),
        template=_template(edge.get("template"), (*path, "template"), around),
        project_dir=edge.get("project_dir", f"/srv/{name}"),
        instances=edge.get("instances", 1),
        port=edge.get("port", 80),
        publish=edge.get("publish"),
        resources=_merged(model.Resources, defaults.get("resources"), edge.get("resources")),
        balancers=tuple(_balancers(name, edge, around)),
        health=_merged(model.Health, defaults.get("health"), edge.get("health")),
        drain=_merged(model.Drain, defaults.get("drain"), edge.get("drain")),
        rollout=_merged(model.RolloutPolicy, defaults.get("rollout"), edge.get("rollout")),
        hooks=model.Hooks(**edge.get("hooks", {})),
        env=edge.get("env", {}),
        secrets=tuple(
            _secret(key, value, _block(fields.get("secrets"), key), (*path, "secrets", key), around)
            for key, value in edge.get("secrets", {}).items()
        ),
        registry_login=_registry(edge, fields, (*path, "registry"), around),
        urls=tuple(edge.get("urls", ())),
        stop_grace=edge.get("stop_grace", 10.0),
        variables=edge.get("variables", {}),
        metrics=outlets.metrics(
            edge.get("metrics"), defaults.get("metrics"), path, around.mistakes
        ),
        notify=outlets.notify(edge.get("notify"), defaults.get("notify"), path, around.mistakes),
    )
    _check_ports(service, around)
    _check_project(service, around)
    _check_variables(service, around)
    for index, spec in enumerate(service.balancers):
        _check_servers(service, spec, (*path, "balancers", index), around)
    return service


def _merged(build: Callable[..., T], *blocks: Mapping[str, object] | None) -> T:
    """``build`` with what the blocks say, the later ones first in rank."""
    merged: dict[str, object] = {}
    for block in blocks:
        merged |= block or {}
    return build(**merged)


def _block(raw: object, key: str) -> object:
    return raw.get(key) if isinstance(raw, dict) else None


def _hosts_of(group: str, path: Path, around: Surroundings) -> tuple[str, ...]:
    if not group or group in around.groups:
        return around.groups.get(group, ())
    if group in around.hosts:
        around.wrong(path, f"{group} is a host: a service runs on a group, make one for it")
    else:
        near = did_you_mean(group, around.groups)
        around.wrong(path, f"no group {shown(group)}{near}")
    return ()


def _template(name: str | None, path: Path, around: Surroundings) -> FilePath | None:
    """Beside hosts.yaml first, then among the templates that come with Evenkeel."""
    if name is None or name == OWN:
        return None
    try:
        places = [local_path(name, around.root)]
    except ValueError as error:
        around.wrong(path, str(error))
        return None
    relative = FilePath(name)
    if not relative.is_absolute() and not name.startswith("~"):
        inner = [relative]
        if relative.parts[:1] == ("templates",):
            inner.append(FilePath(*relative.parts[1:]))
        places += [folder / part for folder in around.template_dirs for part in inner]
    for place in places:
        if is_file(place):
            return place
    looked = f"looked in {around.root}"
    if len(places) > 1:
        looked += " and among Evenkeel's own templates"
    around.wrong(path, f"no template {shown(name)} ({looked})")
    return None


def _secret(
    name: str, edge: schema.SecretEdge, raw: object, path: Path, around: Surroundings
) -> model.Secret:
    # A secret's short form has no block of its own: there, what was checked is all there is.
    given = [key for key in _SOURCES if key in (raw if isinstance(raw, dict) else edge)]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        around.wrong(path, f"a secret has one source: env, file or command (found {found})")
    return model.Secret(name, **edge)


def _registry(
    edge: schema.ServiceEdge, raw: Mapping[str, object], path: Path, around: Surroundings
) -> tuple[str, model.Secret] | None:
    login = edge.get("registry")
    if login is None or not require(["user", "password"], raw["registry"], path, around.mistakes):
        return None
    if "user" not in login or "password" not in login:
        return None
    source, where = _block(raw["registry"], "password"), (*path, "password")
    secret = _secret("registry password", login["password"], source, where, around)
    return login["user"], secret


def _balancers(
    service: str, edge: schema.ServiceEdge, around: Surroundings
) -> Iterator[model.BalancerSpec]:
    """A spec for every entry, so that positions stay what they are in the file."""
    for index, raw in enumerate(edge.get("balancers", ())):
        path: Path = ("services", service, "balancers", index)
        checked = check(schema.BalancerEdge, raw, path, around.mistakes, around.root)
        if checked is None:
            checked = {}
        else:
            require(["hosts"], raw, path, around.mistakes)
        kind = checked.get("kind", "haproxy")
        template = checked.get("template")
        if template == OWN:
            template = _OWN_BALANCER[kind]
        fields = {"backend": service, **checked}
        fields["kind"] = kind
        fields["hosts"] = _balancer_hosts(raw, checked, (*path, "hosts"), around)
        if trouble := _pattern_trouble(checked.get("server", "")):
            around.wrong((*path, "server"), trouble)
            del fields["server"]
        fields["template"] = _template(template, (*path, "template"), around)
        yield model.BalancerSpec(**fields)  # type: ignore[arg-type]


def _balancer_hosts(
    raw: object, edge: schema.BalancerEdge, path: Path, around: Surroundings
) -> tuple[str, ...] | str:
    names = edge.get("hosts", [])
    if names == ["self"]:
        return "self"
    wanted: set[str] = set()
    for index, name in entries(_block(raw, "hosts"), names):
        place = (*path, index) if isinstance(_block(raw, "hosts"), list) else path
        if name in around.hosts:
            wanted.add(name)
        elif name in around.groups:
            wanted.update(around.groups[name])
        elif name == "self":
            around.wrong(place, "self stands alone: hosts: self")
        else:
            near = did_you_mean(name, [*around.groups, *around.hosts, "self"])
            around.wrong(place, f"no group or host {shown(name)}{near}")
    if "hosts" in edge and not names and _block(raw, "hosts") in (None, []):
        around.wrong(path, "names no host")
    return tuple(name for name in around.hosts if name in wanted)


def _check_ports(service: model.Service, around: Surroundings) -> None:
    if service.publish is None:
        return
    last = service.publish + service.instances - 1
    if last > 65535:
        around.wrong(
            ("services", service.name, "publish"),
            f"{service.instances} instances would take ports up to {last}; 65535 is the last one",
        )


def _check_project(service: model.Service, around: Surroundings) -> None:
    if not _PROJECT.fullmatch(service.project):
        around.wrong(
            ("services", service.name, "project_dir"),
            f"its last part names the compose project, and {shown(service.project)} is not fit for"
            " that: use lower-case letters, digits, _ and -, the first a letter or a digit",
        )


def _check_variables(service: model.Service, around: Surroundings) -> None:
    secrets = {secret.name for secret in service.secrets}
    for block, names in (("env", service.env), ("secrets", secrets)):
        for name in names:
            path = ("services", service.name, block, name)
            if not re.fullmatch(schema.VARIABLE, name):
                around.mistakes.add(path, "not the name of a variable", at_key=True)
            if block == "secrets" and name in service.env:
                around.mistakes.add(path, "it is under env too", at_key=True)


def _check_servers(
    service: model.Service, spec: model.BalancerSpec, path: Path, around: Surroundings
) -> None:
    """Two instances behind one backend must not bear one name."""
    seen: dict[tuple[str, str], model.Instance] = {}
    for host in service.hosts:
        scope = host if spec.hosts == "self" else ""
        for instance in service.instances_on(host):
            name = service.server_name(spec, instance)
            first = seen.setdefault((scope, name), instance)
            if first is not instance:
                missing = "{host}" if first.host != host else "{instance} or {n}"
                around.wrong(
                    (*path, "server"),
                    f"{first.id} and {instance.id} would both be {name}: put {missing} into it",
                )
                return


def _pattern_trouble(pattern: str) -> str | None:
    """What keeps ``pattern`` from being filled in; ``None`` where nothing does."""
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError as error:
        return f"{error} in {shown(pattern)}"
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if name not in ("host", "instance", "n"):
            near = did_you_mean(name, ("host", "instance", "n"))
            return f"{{{name}}} means nothing{near}: {_FIELDS} do"
        width = re.fullmatch(r"(0?[1-9]d?)?", spec or "") if name == "n" else not spec
        if conversion or not width:
            return f"only {_FIELDS} are allowed (and {{n:02}} for 01, 02 …), found {shown(pattern)}"
    sample = pattern.format(host="web1", instance="app_1", n=1)
    if sample and not _SERVER.fullmatch(sample):
        return f"{shown(sample)} is no server name: letters, digits and . _ : - are allowed"
    return None
