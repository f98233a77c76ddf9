"""A YAML file as plain data, with the position of every key and value.

The node tree is walked once: ruamel's own round-trip loader keeps positions too, but takes
several times as long, and its safe loader loses them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from fabfile.inventory.mistakes import Mark, Mistakes, Path, Place, shown
from fabfile.inventory.values import WrittenFloat

_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = {f"{_TAG}str", f"{_TAG}timestamp", f"{_TAG}value"}
_MOST_VALUES = 500_000
"""A few nested aliases can stand for more values than fit into memory."""

_OWN_WORDS = {
    "mapping values are not allowed here": "a colon too many, or the indentation is wrong",
    "could not find expected ':'": "a colon is missing, or the indentation is wrong",
    "but found another document": "only one document is read (a line --- too many)",
    "found unexpected end of stream": "what starts here is never closed",
}


@dataclass(frozen=True)
class Document:
    """What a file holds: ``None``, text, numbers, lists and mappings with text as keys."""

    data: object
    places: dict[Path, Place]


def read(text: str, mistakes: Mistakes) -> Document:
    """Parse ``text``.

    Mistakes that leave the rest readable (a key given twice) go to ``mistakes``; one that does
    not raises :class:`fabfile.errors.BadInput` at once.
    """
    builder = _Builder(mistakes)
    data: object = None
    try:
        root = _compose(text)
        data = None if root is None else builder.build(root, ())
    except MarkedYAMLError as error:
        mistakes.add_at(*_explained(error, text))
    except YAMLError as error:
        mistakes.add_at(_unmarked(error, text), f"not YAML: {_first_line(error)}")
    except RecursionError:
        mistakes.add_at(Mark(1, 1), "not readable: nested too deeply")
    except _TooMuch:
        mistakes.add_at(Mark(1, 1), "not readable: its aliases (*name) stand for too many values")
    else:
        return Document(data, builder.places)
    mistakes.raise_any()
    raise AssertionError


def _compose(text: str) -> Node | None:
    yaml = YAML(typ="safe", pure=True)
    # An anchor that is defined twice is legal; ruamel would print a warning about it.
    yaml.composer.warn_double_anchors = False
    node: Node | None = yaml.compose(text)
    return node


def _explained(error: MarkedYAMLError, text: str) -> tuple[Mark, str]:
    """Where a syntax error is and what to do about it."""
    place = error.problem_mark or error.context_mark
    if "stream end" in str(error.problem) or "end of stream" in str(error.problem):
        # The end of the file is not where the bracket or the quote is missing.
        error.problem, place = "found unexpected end of stream", error.context_mark or place
    if place is None:
        return Mark(1, 1), f"not YAML: {_first_line(error)}"
    lines = text.splitlines()
    line = lines[place.line] if place.line < len(lines) else ""
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent or "'\\t'" in (error.problem or ""):
        column = line.index("\t") if "\t" in line else place.column
        return Mark(place.line + 1, column + 1), "a tab: YAML indents with spaces only"
    problem = str(error.problem or error.context or "not readable")
    return (
        Mark(place.line + 1, place.column + 1),
        f"not YAML: {_OWN_WORDS.get(problem, _first_line(problem))}",
    )


def _unmarked(error: YAMLError, text: str) -> Mark:
    """Where the reader met a character that YAML does not allow."""
    before = text[: max(getattr(error, "position", 0) or 0, 0)]
    return Mark(before.count("\n") + 1, len(before) - before.rfind("\n"))


def _first_line(problem: object) -> str:
    return next(iter(str(problem).splitlines()), "not readable")


class _TooMuch(Exception):
    """More values than any inventory has."""


def _mark(node: Node) -> Mark:
    return Mark(node.start_mark.line + 1, node.start_mark.column + 1)


@dataclass
class _Builder:
    mistakes: Mistakes
    places: dict[Path, Place] = field(default_factory=dict)
    _open: list[int] = field(default_factory=list)

    def build(self, node: Node, path: Path) -> object:
        if len(self.places) > _MOST_VALUES:
            raise _TooMuch
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            self._wrong(node, path, "an alias (*name) inside of what it stands for")
            return None
        self._open.append(id(node))
        try:
            if isinstance(node, SequenceNode):
                return self._sequence(node, path)
            assert isinstance(node, MappingNode)
            return self._mapping(node, path)
        finally:
            self._open.pop()

    def _sequence(self, node: SequenceNode, path: Path) -> object:
        self._check_tag(node, path, "seq")
        for index, child in enumerate(node.value):
            self.places[*path, index] = Place(_mark(child), _mark(child))
        return [self.build(child, (*path, index)) for index, child in enumerate(node.value)]

    def _mapping(self, node: MappingNode, path: Path) -> object:
        self._check_tag(node, path, "map")
        data: dict[str, object] = {}
        merged: list[Node] = []
        first: dict[str, Mark] = {}
        for key, child in node.value:
            name = self._key(key, path)
            if name is None:
                continue
            if str(key.tag) == f"{_TAG}merge":
                merged.append(child)
            elif name in first:
                seen = f"duplicate key (it is on line {first[name].line} already)"
                self._wrong(key, (*path, name), seen)
            else:
                first[name] = _mark(key)
                self.places[*path, name] = Place(_mark(key), _mark(child))
                data[name] = self.build(child, (*path, name))
        for child in merged:
            self._merge(child, path, data)
        return data

    def _key(self, key: Node, path: Path) -> str | None:
        """A key as it is written: ``1.10`` and ``on`` are names like any other here."""
        name = _joined(str(key.value)) if isinstance(key, ScalarNode) else None
        if name is None:
            self._wrong(key, path, "a key has to be one word")
        return name

    def _merge(self, node: Node, path: Path, data: dict[str, object]) -> None:
        """``<<: *name``: what the mapping does not say itself comes from the alias."""
        sources = node.value if isinstance(node, SequenceNode) else [node]
        for source in sources:
            if not isinstance(source, MappingNode) or id(source) in self._open:
                self._wrong(source, path, "<< takes a mapping, or a list of mappings")
                continue
            self._open.append(id(source))
            for key, child in source.value:
                name = self._key(key, path)
                if name is not None and str(key.tag) == f"{_TAG}merge":
                    self._merge(child, path, data)
                elif name is not None and name not in data:
                    self.places[*path, name] = Place(_mark(key), _mark(child))
                    data[name] = self.build(child, (*path, name))
            self._open.pop()

    def _scalar(self, node: ScalarNode, path: Path) -> object:
        tag, text = str(node.tag), _joined(str(node.value))
        if text is None:
            self._wrong(node, path, "half of a \\u pair: no character at all")
            return ""
        if tag in _TEXT_TAGS:
            return text
        if tag == f"{_TAG}null":
            return None
        if tag == f"{_TAG}bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if tag == f"{_TAG}int":
            return _whole(text)
        if tag == f"{_TAG}float":
            try:
                return WrittenFloat(text)
            except ValueError:  # .inf, .nan, 1:30.5
                return text
        if not tag.startswith(_TAG):
            self._wrong(node, path, f"the tag {shown(tag)} means nothing here")
        return text

    def _check_tag(self, node: Node, path: Path, name: str) -> None:
        if str(node.tag) != f"{_TAG}{name}":
            self._wrong(node, path, f"the tag {shown(str(node.tag))} means nothing here")

    def _wrong(self, node: Node, path: Path, message: str) -> None:
        self.mistakes.places = self.places
        place = self.places.get(path)
        self.places[path] = Place(_mark(node), _mark(node))
        self.mistakes.add(path, message)
        if place is not None:
            self.places[path] = place


def _joined(text: str) -> str | None:
    r"""``text`` with ``"\ud83d\ude00"`` (as JSON writes it) as one character.

    ``None`` where half of a pair stands alone: that could not be written anywhere.
    """
    if text.isascii():
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        return None


def _whole(text: str) -> int | str:
    """Only plain decimals are numbers: ``010``, ``0x1f`` and ``1_000`` are not what they seem.

    They stay text, which is right where text is wanted and refused where a number is.
    """
    try:
        number = int(text[:20])
    except ValueError:
        return text
    return number if str(number) == text else text
