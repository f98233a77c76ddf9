from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from fabfile.errors import BadInput
from fabfile.inventory.loader import load
from fabfile.inventory.model import Inventory

Load = Callable[[str], Inventory]
Refused = Callable[[str], list[str]]


@pytest.fixture
def load_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads a hosts.yaml given as text."""
    monkeypatch.chdir(tmp_path)

    def run(text: str) -> Inventory:
        path = tmp_path / "hosts.yaml"
        path.write_text(dedent(text), encoding="utf-8")
        return load(path, (tmp_path / "own",))

    return run


@pytest.fixture
def refused(load_text: Load) -> Refused:
    """The mistakes that loading a text ends with, one a line."""

    def run(text: str) -> list[str]:
        with pytest.raises(BadInput) as caught:
            load_text(text)
        return str(caught.value).splitlines()

    return run
