"""Whatever happens to a hosts.yaml, a person gets an inventory or a list of mistakes."""

import copy
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from fabfile.errors import BadInput
from fabfile.inventory.loader import load
from fabfile.inventory.model import Inventory

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,6}", fullmatch=True).filter(
    lambda name: name not in ("self", "all")
)
DURATIONS = st.sampled_from(["500ms", "5s", "2m", "1h", 3, 0.25])
PERCENT = st.sampled_from([0, 10, "50%", "100%"])
SERIAL = st.one_of(st.integers(0, 50), st.just("35%"), st.just([1, "35%"]))
WORDS = st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=8)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


BLOCKS = {
    "health": some(timeout=DURATIONS, interval=DURATIONS, status=st.just(204), path=st.just("/p")),
    "drain": some(mode=st.sampled_from(["weight", "drain"]), timeout=DURATIONS),
    "rollout": some(serial=SERIAL, pause=DURATIONS, max_fail_percentage=PERCENT),
    "resources": some(cpus=st.just(0.5), memory=st.just("256m"), cpuset=st.just("0")),
    "metrics": some(textfile=st.just("prom"), pushgateway=st.just({"env": "PUSH"})),
    "notify": st.lists(
        st.sampled_from([{"url": "http://h/x"}, {"file": "hook", "on": ["failed"]}])
    ),
}
SECRETS = st.one_of(
    st.just(["A", "B"]),
    st.just({"A": {"env": "X"}, "B": {"file": "~/b"}, "C": {"command": "pass c"}}),
)


@st.composite
def inventories(draw: st.DrawFn) -> dict[str, Any]:
    """A hosts.yaml without a mistake."""
    names = draw(st.lists(NAMES, min_size=4, max_size=9, unique=True))
    cut = draw(st.integers(1, len(names) - 3))
    hosts, (group, outer), service = names[:cut], names[cut : cut + 2], names[-1]
    host = some(labels=some(zone=WORDS), ssh=some(port=st.integers(1, 65535), user=st.just("u")))
    balancer = {
        "hosts": draw(st.sampled_from([hosts[0], group, outer, [hosts[-1]], "self"])),
        "server": draw(st.sampled_from(["{host}_{instance}", "{host}-{n:02}"])),
        "options": {"rise": 2},
    }
    return {
        "version": 1,
        "defaults": draw(some(ssh=some(user=st.just("deploy")), **BLOCKS)),
        "hosts": {n: {"address": f"{n}.lan", **draw(host)} for n in hosts},
        "groups": {group: {"hosts": hosts}, outer: {"groups": [group]}},
        "services": {
            service: {
                "group": draw(st.sampled_from([group, outer, "all"])),
                "image": "registry:5000/app",
                "instances": draw(st.integers(1, 5)),
                "publish": draw(st.integers(1, 65000)),
                "env": draw(some(TEXT=WORDS, NUMBER=st.integers(0, 9))),
                "secrets": draw(SECRETS),
                "balancers": draw(st.sampled_from([[], [balancer]])),
                "registry": {"user": "u", "password": {"env": "P"}},
                **draw(some(**BLOCKS)),
            }
        },
    }


def written(data: object, *, block: bool) -> str:
    if not block:
        return json.dumps(data)
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.dump(data, stream)
    return stream.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inventories")


def attempt(folder: Path, text: str) -> Inventory | list[str]:
    path = folder / "hosts.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        return load(path, ())
    except BadInput as error:
        lines = str(error).splitlines()
        assert lines
        assert all(line.startswith(str(path)) for line in lines)
        return lines


def paths_of(data: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every key and every entry."""
    items = data.items() if isinstance(data, dict) else enumerate(data)  # type: ignore[arg-type]
    found = []
    for key, value in items:
        found.append((*path, key))
        if isinstance(value, dict | list):
            found += paths_of(value, (*path, key))
    return found


@settings(max_examples=60, deadline=None)
@given(data=inventories(), block=st.booleans())
def test_a_right_inventory_loads_whole(folder: Path, data: dict[str, Any], block: bool) -> None:
    inventory = attempt(folder, written(data, block=block))
    assert isinstance(inventory, Inventory), inventory
    assert list(inventory.hosts) == list(data["hosts"]) or block  # block style sorts the keys
    [service] = inventory.services.values()
    assert set(service.hosts) == set(data["hosts"])
    assert service.env == {key: str(v) for key, v in data["services"][service.name]["env"].items()}


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["self", "all", "{host}", "{0}", "~", "~x/y", "/", "0%", "[]", "a@b:c", "\0"]),
    st.lists(st.integers() | st.text(max_size=3), max_size=2),
    st.dictionaries(
        st.text(max_size=3), st.none() | st.integers() | st.text(max_size=3), max_size=2
    ),
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=inventories(), change=st.data())
def test_a_changed_key_or_value_never_ends_in_a_traceback(
    folder: Path, data: dict[str, Any], change: st.DataObject
) -> None:
    broken = copy.deepcopy(data)
    for _ in range(change.draw(st.integers(1, 3))):
        ways = paths_of(broken)
        if not ways:
            break
        *way, last = change.draw(st.sampled_from(ways))
        holder: Any = broken
        for part in way:
            holder = holder[part]
        value = holder.pop(last)
        action = change.draw(st.sampled_from(["delete", "rename", "replace"]))
        if action == "rename" and isinstance(holder, dict):
            holder[change.draw(st.one_of(st.text(max_size=6), st.just(f"{last}s")))] = value
        elif action == "replace" and isinstance(holder, dict):
            holder[last] = change.draw(JUNK)
        elif action == "replace":
            holder.insert(last, change.draw(JUNK))
    attempt(folder, written(broken, block=False))


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=inventories(), change=st.data())
def test_a_slip_of_the_keyboard_never_ends_in_a_traceback(
    folder: Path, data: dict[str, Any], change: st.DataObject
) -> None:
    text = written(data, block=True)
    slips = st.one_of(st.sampled_from(list("\t\n:{}[]-#&*!|>'\"%@`,? ")), st.text(max_size=3))
    for _ in range(change.draw(st.integers(1, 4))):
        at = change.draw(st.integers(0, len(text)))
        text = text[:at] + change.draw(slips) + text[at + change.draw(st.integers(0, 3)) :]
    attempt(folder, text)
