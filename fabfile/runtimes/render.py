"""Templates in, releases out: what one host's compose project is made of.

A rendered template is cut in two: the blocks of our instances (``app_1`` …), each of which becomes
part of a release of its own, and the base, which is everything else (a database, networks,
volumes). On the host the base and the current block of each instance are put together again, so
the compose file there always says what is meant to run.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
import json
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    TemplateError,
    TemplateSyntaxError,
)
from jinja2.bccache import Bucket, BytecodeCache
from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import SafeRepresenter

from fabfile.errors import PreflightFailed
from fabfile.inventory.model import Host, Instance, Service

TEMPLATES = Path(__file__).parents[2] / "templates"
"""The templates that come with Evenkeel."""
COMPOSE_TEMPLATE = "docker-compose.yml.j2"


@dataclass(frozen=True)
class StagedRelease:
    """One release of one instance, ready to be laid on its host."""

    id: str
    version: str
    digest: str
    instance: Instance
    base: str
    """The rest of the compose file, ending with its ``services:``."""
    block: str
    """The instance's own block, indented to follow ``base``."""
    env: str
    """The env file; holds secrets, goes nowhere but to the host's mode-0600 file."""
    image: str
    """``repository@digest``."""

    @property
    def record(self) -> dict[str, str]:
        """What ``release.json`` says."""
        return {
            "release": self.id,
            "version": self.version,
            "digest": self.digest,
            "image": self.image,
            "service": self.instance.service,
            "instance": self.instance.name,
        }


def render(
    service: Service,
    host: Host,
    version: str,
    *,
    versions: Mapping[str, str] | None = None,
) -> str:
    """The compose file's text for ``host``, with every instance at ``version``.

    ``versions`` overrides it per instance. Raises :class:`PreflightFailed` when the template
    does not render.
    """
    path = service.template or TEMPLATES / COMPOSE_TEMPLATE
    values = context(service, host, version, versions or {})
    try:
        return _environment(path.parent).get_template(path.name).render(values)
    except Exception as error:  # whatever the expressions in a template can raise
        what = str(error) if isinstance(error, TemplateError) else repr(error)
        where = _place(error, path)
        raise PreflightFailed(f"{where}: the template does not render: {what}") from error


class _Compiled(BytecodeCache):
    """Templates are compiled once for all hosts, and anew when their text has changed.

    Nothing else is kept: what a template sets in a module that it imports stays with one host.
    """

    def __init__(self) -> None:
        self._known: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """As Jinja asks for it."""
        if bucket.key in self._known:
            bucket.bytecode_from_string(self._known[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        """As Jinja hands it over."""
        self._known[bucket.key] = bucket.bytecode_to_string()


_COMPILED = _Compiled()


def _environment(folder: Path) -> Environment:
    return Environment(
        loader=FileSystemLoader([folder, TEMPLATES]),
        bytecode_cache=_COMPILED,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - this is YAML, not HTML
    )


def _place(error: Exception, path: Path) -> str:
    """``file:line`` of the innermost template that ``error`` came through."""
    if isinstance(error, TemplateSyntaxError):
        return f"{error.filename or path}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    folders = {path.parent, TEMPLATES}
    found = [f for f in frames if Path(f.filename).parent in folders]
    return f"{found[-1].filename}:{found[-1].lineno}" if found else str(path)


def context(
    service: Service, host: Host, version: str, versions: Mapping[str, str]
) -> dict[str, object]:
    """What a template may use, nested and flat."""
    instances = []
    flat: dict[str, object] = {}
    for instance in service.instances_on(host.name):
        own = versions.get(instance.name, version)
        instances.append(
            {
                "name": instance.name,
                "number": instance.number,
                "version": own,
                "image": f"{service.image}:{own}",
                "port": service.port,
                "publish": instance.port or None,
                "down": False,
                "env": dict(service.env),
                "resources": service.resources,
            }
        )
        flat |= {
            f"{instance.name}_version": own,
            f"{instance.name}_port": instance.port,
            f"{instance.name}_down": False,
        }
    return {
        **service.variables,
        **flat,
        "version": version,
        "image": service.image,
        "instances": instances,
        "service": service,
        "host": host,
        "port": service.port,
        "env": dict(service.env),
        "resources": service.resources,
        "stop_grace": service.stop_grace,
    }


@dataclass(frozen=True)
class Project:
    """What a template comes to on one host; which image its tag stands for may be known later."""

    service: Service
    version: str
    base: str
    blocks: Mapping[Instance, dict[str, Any]]

    def releases(
        self, digest: str, secrets: Mapping[str, str], salt: str
    ) -> tuple[StagedRelease, ...]:
        """One release for each instance."""
        env = "".join(f"{name}={_env_value(value)}\n" for name, value in sorted(secrets.items()))
        return tuple(
            _release(self, instance, block, env, digest, salt)
            for instance, block in self.blocks.items()
        )


def project(service: Service, host: Host, version: str) -> Project:
    """Render the template for ``host``.

    Raises :class:`PreflightFailed` when the text is no compose file, lacks an instance, or uses
    another image than the service's.
    """
    rest = _parse(render(service, host, version), service)
    services = rest.pop("services", None)
    if not isinstance(services, dict):
        raise PreflightFailed(f"{_path(service)}: renders to a file without services")
    blocks = {}
    for instance in service.instances_on(host.name):
        block = services.pop(instance.name, None)
        if not isinstance(block, dict):
            raise PreflightFailed(f"{_path(service)}: renders without a service {instance.name}")
        _check_image(service, instance, block, version)
        _check_block(service, instance, block)
        blocks[instance] = block
    return Project(service, version, _base(rest, services), blocks)


def _release(
    whole: Project, instance: Instance, block: dict[str, Any], env: str, digest: str, salt: str
) -> StagedRelease:
    service, version = whole.service, whole.version
    image = f"{service.image}@{digest}"
    block = {**block, "image": image}
    # Keyed with a secret of the host: an id is printed and logged, and must not let anybody
    # try out guesses of a password.
    # The name is part of it: instances may be alike to the letter where none publishes a port.
    text = json.dumps([instance.name, block, env, version], sort_keys=True, default=str)
    identity = hmac.new(salt.encode(), text.encode(), hashlib.sha256).hexdigest()[:12]
    block["labels"] = {
        **_labels(block.get("labels")),
        "evenkeel.release": identity,
        "evenkeel.version": version,
        "evenkeel.service": service.name,
    }
    if env:
        own = block.get("env_file", [])
        files = [own] if isinstance(own, str) else list(own)
        block["env_file"] = [*files, f"releases/{identity}/env"]
    body = _dump({instance.name: block})
    indented = "".join(f"  {line}\n" for line in body.splitlines())
    return StagedRelease(identity, version, digest, instance, whole.base, indented, env, image)


def _check_image(
    service: Service, instance: Instance, block: Mapping[str, Any], version: str
) -> None:
    image = block.get("image")
    if image not in (f"{service.image}:{version}", service.image):
        raise PreflightFailed(
            f"{_path(service)}: {instance.name} uses the image {image},"
            f" the inventory says {service.image}"
        )


def _check_block(service: Service, instance: Instance, block: Mapping[str, Any]) -> None:
    """That we can put something of ours beside what is there; the rest Compose judges."""
    try:
        _labels(block.get("labels"))
        list(block.get("env_file", []))
        json.dumps(block, sort_keys=True, default=str)
    except (TypeError, ValueError) as error:
        raise PreflightFailed(
            f"{_path(service)}: {instance.name} renders to what is no service of Compose: {error}"
        ) from error


def _labels(labels: Any) -> dict[str, str]:
    if isinstance(labels, list):
        return dict(str(label).partition("=")[::2] for label in labels)
    return dict(labels or {})


def _env_value(value: str) -> str:
    """Single quotes keep a value as it is, but for a quote, and a backslash in front of one."""
    if not set(value) & set("\n\r'\\"):
        return f"'{value}'"
    escaped = value.translate(_ESCAPES)
    return f'"{escaped}"'


def _base(project: Mapping[str, Any], services: Mapping[str, Any]) -> str:
    head = _dump(dict(project)) if project else ""
    body = _dump(dict(services)) if services else ""
    return head + "services:\n" + "".join(f"  {line}\n" for line in body.splitlines())


_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "$": "\\$", "\n": "\\n", "\r": "\\r"})
"""What Compose undoes between double quotes."""


def _path(service: Service) -> str:
    return str(service.template or TEMPLATES / COMPOSE_TEMPLATE)


class _Verbatim(str):
    """A number that Compose may read in another way than Python: ``0440``, ``1_000``."""

    tag = ""


class _Constructor(SafeConstructor):
    """Keeps numbers as they are written unless there is one way to read them."""


class _Representer(SafeRepresenter):
    """Quotes every text that somebody could take for something else, and makes no anchors, which
    two blocks of a file could share by accident."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _number(_: SafeConstructor, node: Any) -> object:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            if str(kind(node.value)) == node.value:
                return kind(node.value)
    verbatim = _Verbatim(node.value)
    verbatim.tag = str(node.tag)
    return verbatim


def _text(representer: SafeRepresenter, text: str) -> Any:
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style="" if plain else '"')


_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@-]*(:[A-Za-z0-9_./@-]+)*")
_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null"])
for _tag in ("int", "float", "timestamp"):
    _Constructor.add_constructor(f"tag:yaml.org,2002:{_tag}", _number)
_Representer.add_representer(str, _text)
_Representer.add_representer(
    _Verbatim, lambda r, text: r.represent_scalar(text.tag, text, style="")
)


def _parse(text: str, service: Service) -> dict[str, Any]:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    try:
        loaded = yaml.load(text)
    except YAMLError as error:
        raise PreflightFailed(f"{_path(service)}: renders to broken YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise PreflightFailed(f"{_path(service)}: renders to no compose file")
    return loaded


def _dump(data: Mapping[str, Any]) -> str:
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.width = 4096
    stream = io.StringIO()
    yaml.dump(dict(data), stream)
    return stream.getvalue()
