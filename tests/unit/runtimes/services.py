"""Services as the tests need them."""

from dataclasses import replace
from pathlib import Path

from fabfile.inventory.model import Host, Service

DIGEST = "sha256:" + "ab" * 32
WEB1 = Host("web1", "10.0.0.11", "10.0.0.11")

SHOP = Service(
    name="shop",
    group="web",
    hosts=("web1",),
    image="registry.lab:5000/shop",
    template=None,
    project_dir="/srv/shop",
    instances=2,
    port=3000,
    publish=3001,
)


def with_template(folder: Path, text: str, **changes: object) -> Service:
    path = folder / "compose.yml.j2"
    path.write_text(text, encoding="utf-8")
    return replace(SHOP, template=path, **changes)
