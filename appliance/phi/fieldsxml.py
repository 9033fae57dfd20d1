"""Reads the trees of fields that stand in a text as XML or HTML: an element holds its attributes, and text or elements.

A text may hold several, with prose around, and be cut off anywhere; a tag that nothing closes ends with what it is in.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from appliance.phi.columns import Cell, cells_of
from appliance.phi.fields import DEEPEST, Fields, Node, Scalar, identifiers_of
from appliance.phi.fieldvalues import trimmed
from appliance.phi.labelled import Labelled

_TAG: Final = re.compile(
    r"<(?P<ends>/)?(?:[A-Za-z_][\w.-]{0,40}:)?(?P<name>[A-Za-z_][\w.-]{0,60}+)(?P<attributes>[^<>]{0,4000}+)>", re.ASCII
)
_ATTRIBUTE: Final = re.compile(
    r"(?<![\w:.-])(?:[\w.-]{1,40}:)?(?P<name>[\w.-]{1,60}+)\s{0,4}=\s{0,4}"
    r"(?P<mark>[\"'])(?P<value>[^\"']{0,400}+)(?P=mark)",
    re.ASCII,
)
_CONTENT: Final = "content"
_HOLD_NOTHING: Final = frozenset({"br", "hr", "img", "input", "link", "meta", "col", "area"})
_CELLS: Final = frozenset({"th", "td"})
_LONGEST: Final = 400


@dataclass(slots=True)
class _Element:
    """An element that is open: its name, what it holds, and where its text begins, which counts where it is all."""

    name: str
    begins: int
    fields: Fields = field(default_factory=Fields)
    is_leaf: bool = True


def identifiers_in(text: str) -> Iterator[Labelled]:
    """Yield what the elements of a text say of people, and the headings of its tables of those below."""
    for tree in trees_in(text):
        yield from identifiers_of(tree)
        yield from _of_tables(tree)


def _of_tables(node: Node) -> Iterator[Labelled]:
    """Yield what is found in the tables of a tree."""
    if not isinstance(node, Fields):
        return
    for name, held in node.pairs:
        if name.lower() == "table" and isinstance(held, Fields) and (rows := [*_rows_of(held)]):
            yield from cells_of(rows)
        yield from _of_tables(held)


def _rows_of(node: Fields) -> Iterator[Sequence[Cell]]:
    """Yield the rows of a table, each of its cells with its place; not those of a table within it."""
    for name, held in node.pairs:
        if isinstance(held, Fields) and name.lower() == "tr":
            cells = [_text_of(cell) for kind, cell in held.pairs if kind.lower() in _CELLS]
            if cells:
                yield [(one.start, one.text) for one in cells]
        elif isinstance(held, Fields) and name.lower() in {"thead", "tbody", "tfoot"}:
            yield from _rows_of(held)


def _text_of(node: Node) -> Scalar:
    """Return the text of a cell, or the last one of the elements in it."""
    while isinstance(node, Fields) and node.pairs:
        node = node.pairs[-1][1]  # attributes stand before what an element holds
    return node if isinstance(node, Scalar) else Scalar(0, 0, "")


def trees_in(text: str) -> Iterator[Node]:
    """Yield each tree of elements in a text, in order."""
    if "</" not in text and "/>" not in text:
        return
    open_ones: list[_Element] = []
    for tag in _TAG.finditer(text):
        name = tag["name"]
        if tag["ends"]:
            if any(one.name == name for one in open_ones):
                while (ended := open_ones.pop()).name != name:
                    yield from _put(open_ones, ended.name, _held(text, ended, tag.start()))
                yield from _put(open_ones, name, _held(text, ended, tag.start()))
            continue
        if open_ones:
            open_ones[-1].is_leaf = False
        element = _Element(name, tag.end())
        for one in _ATTRIBUTE.finditer(text, *tag.span("attributes")):
            element.fields.pairs.append((one["name"], Scalar(*one.span("value"), one["value"], in_quotes=True)))
        if tag["attributes"].endswith("/") or name.lower() in _HOLD_NOTHING:
            yield from _put(open_ones, name, element.fields)
            continue
        if len(open_ones) == DEEPEST:  # more than in anything real: of most of them the end is missing
            yield from _ended(text, open_ones, tag.start())
        open_ones.append(element)
    yield from _ended(text, open_ones, len(text))


def _ended(text: str, open_ones: list[_Element], end: int) -> Iterator[Node]:
    """Yield what is still open at a place."""
    while open_ones:
        ended = open_ones.pop()
        yield from _put(open_ones, ended.name, _held(text, ended, end))


def _held(text: str, element: _Element, end: int) -> Node:
    """Return what an element holds that ends at a place: a text alone, or its attributes with that or its elements."""
    if not element.is_leaf or end - element.begins > _LONGEST:
        return element.fields
    start, value = trimmed(text[element.begins : end], element.begins)
    content = Scalar(start, start + len(value), value, in_quotes=True)
    if not element.fields.pairs:
        return content
    element.fields.pairs.append((_CONTENT, content))
    return element.fields


def _put(open_ones: list[_Element], name: str, node: Node) -> Iterator[Node]:
    """Put an element into the one that it is in; yield it where that is none.

    What holds nothing says nothing, but for a cell of a table, by which those beside it are counted.
    """
    if isinstance(node, Fields) and not node.pairs and name.lower() not in _CELLS:
        return
    if open_ones:
        open_ones[-1].fields.pairs.append((name, node))
    else:
        yield Fields([(name, node)])
