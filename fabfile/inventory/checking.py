"""Holds plain data against a shape of ``schema`` and says everything that does not fit."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path as FilePath
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from typing_extensions import get_type_hints, is_typeddict

from fabfile.inventory.mistakes import Mistakes, Path, did_you_mean, shown

T = TypeVar("T")

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_RESERVED = ("self",)
"""``balancers[].hosts: self`` is not a host."""


def check(shape: type[T], raw: object, path: Path, mistakes: Mistakes, root: FilePath) -> T | None:
    """``raw`` as ``shape`` describes it, without the parts that are wrong.

    Those are reported under ``path``. ``None``: nothing of it can be used. ``root`` is where
    relative paths start.
    """
    key: Any = shape
    adapter: TypeAdapter[T] = _adapter(key)
    try:
        return adapter.validate_python(raw, context=root)
    except ValidationError as error:
        wrong = error.errors(include_url=False)
    for item in wrong:
        at_key = item["type"] == "extra_forbidden"
        mistakes.add((*path, *item["loc"]), _explained(item, shape), at_key=at_key)
    try:
        return adapter.validate_python(_without(raw, [i["loc"] for i in wrong]), context=root)
    except ValidationError:
        return None


@functools.cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


def check_name(path: Path, mistakes: Mistakes) -> None:
    """The last key of ``path`` has to be fit for file names, server names and messages."""
    name = path[-1]
    if name in _RESERVED:
        mistakes.add(path, f"the name {name} has a meaning of its own: choose another", at_key=True)
    elif not isinstance(name, str) or not _NAME.fullmatch(name):
        allowed = "lower-case letters, digits and . _ -, at most 63, the first a letter or a digit"
        mistakes.add(path, f"not a good name: use {allowed}", at_key=True)


def require(keys: Iterable[str], raw: object, path: Path, mistakes: Mistakes) -> bool:
    """Whether the block at ``path`` has all ``keys``; reports the missing ones.

    A misspelt key is reported as such already, so it does not count as missing too.
    """
    missing = [key for key in keys if not isinstance(raw, dict) or key not in raw]
    for key in missing:
        if not isinstance(raw, dict) or not did_you_mean(key, raw):
            mistakes.add((*path, key), "missing")
    return not missing


def entries(raw: object, checked: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The texts of a list that :func:`check` left in, each with its place in the file's list."""
    texts = [str(item) for item in (raw if isinstance(raw, list) else [raw])]
    index = -1
    for text in checked:
        index = texts.index(text, index + 1)
        yield index, text


def _explained(item: ErrorDetails, shape: type) -> str:
    kind, found = item["type"], shown(item["input"])
    if kind == "value_error":
        return str(item["ctx"]["error"])
    if kind == "extra_forbidden":
        return _unknown_key(item["loc"], shape)
    if kind == "literal_error":
        allowed = [
            word.strip(" '") for word in item["ctx"]["expected"].replace(" or ", ",").split(",")
        ]
        near = did_you_mean(str(item["input"]), allowed)
        return f"expected one of {', '.join(allowed)}, found {found}{near}"
    wanted = {"dict_type": "a mapping", "list_type": "a list"}.get(kind)
    return f"expected {wanted}, found {found}" if wanted else f"{item['msg']}, found {found}"


def _unknown_key(loc: Path, shape: type) -> str:
    key = str(loc[-1])
    known = _keys(_descend(shape, loc[:-1]))
    if near := did_you_mean(key, known):
        return f"unknown key{near}"
    blocks = [name for name, inner in known.items() if key in _keys(inner)]
    if blocks:
        return f"unknown key (it belongs under {' or '.join(blocks)})"
    return f"unknown key (known: {', '.join(known)})"


def _keys(shape: Any) -> Mapping[str, Any]:
    """The keys of a block and what each holds; nothing for what is no block."""
    shape = _bare(shape)
    return get_type_hints(shape, include_extras=True) if is_typeddict(shape) else {}


def _descend(shape: Any, loc: Iterable[str | int]) -> Any:
    for part in loc:
        shape = _bare(shape)
        shape = _keys(shape)[str(part)] if is_typeddict(shape) else get_args(shape)[-1]
    return shape


def _bare(shape: Any) -> Any:
    """Without ``Annotated`` and ``| None``."""
    while get_origin(shape) is Annotated or type(None) in get_args(shape):
        shape = get_args(shape)[0]
    return shape


def _without(raw: object, locs: Iterable[Path]) -> object:
    """A copy of ``raw`` without the values at ``locs``."""
    here = {loc[0] for loc in locs if len(loc) == 1}
    below: dict[str | int, list[Path]] = {}
    for loc in locs:
        if len(loc) > 1:
            below.setdefault(loc[0], []).append(loc[1:])
    if isinstance(raw, dict):
        return {k: _without(v, below.get(k, ())) for k, v in raw.items() if k not in here}
    if isinstance(raw, list):
        return [_without(v, below.get(i, ())) for i, v in enumerate(raw) if i not in here]
    return raw
