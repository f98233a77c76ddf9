"""docs/hosts-yaml.md speaks of every key there is, and what it shows works."""

import re
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import is_typeddict

from fabfile.inventory import schema

PAGE = Path(__file__).parents[3] / "docs/hosts-yaml.md"
BLOCKS = [
    block
    for block in vars(schema).values()
    if is_typeddict(block) and block.__module__ == schema.__name__
]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
def test_every_key_is_in_the_reference(block: Any) -> None:
    page = PAGE.read_text(encoding="utf-8")
    missing = [key for key in block.__annotations__ if f"`{key}`" not in page]
    if block is schema.SecretEdge:
        missing = [key for key in block.__annotations__ if f"`{{{key}: " not in page]
    assert not missing


def test_the_example_of_the_reference_loads(load_text) -> None:
    example, *_ = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert load_text(example).services["shop"].hosts == ("web1", "web2")
