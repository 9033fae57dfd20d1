"""Reads the trees of fields that stand in a text as YAML: lines `key:` with what is indented below them, and lists.

A note has such lines, too (`Medications:` with a list below), so a tree is read only from a field on that says
something of people, as far as lines are indented below it; and where a field says whose a block of lines is, as `mrn`
and `resourceType: Patient` do, from the first of these lines to the last.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from appliance.phi.fields import AS_TOKEN, DEEPEST, KEYS, Container, Fields, Node, Scalar, plain_key
from appliance.phi.fieldvalues import trimmed

# What may follow a key whose value is below it: how that is written, what it is called, and a comment.
_BELOW: Final = r"(?:[|>][0-9+-]{0,2}|[&!]\S{1,40})?[ \r]{0,4}(?:#[ !-][^\n]{0,80})?"
_OPENS: Final = re.compile(rf":[ \r]{{0,4}}{_BELOW}\n")
_NOTHING: Final = re.compile(_BELOW)
_LINE: Final = re.compile(
    r"(?P<indent> *)(?P<item>- +|-(?=\r?\Z))?"
    r"(?:(?P<key>[A-Za-z_][\w .-]{0,40}|\"[\w .-]{1,40}\"|'[\w .-]{1,40}'):(?=\s|\Z))?(?P<rest>.*)"
)
_FLOW: Final = re.compile(rf"{AS_TOKEN}|[^\[\],]+")
# A value that begins with a token is none: what stood there began with an identifier.
_IS_FLOW: Final = re.compile(rf"\s*(?!{AS_TOKEN})\[")
# What an interface's description begins with says that the contact in it is no patient's.
_BEGIN: Final = KEYS | {"info"}
_OF_A_BLOCK: Final = re.compile(
    r"^ {0,80}(?:- {1,3})?(?i:(?:patient|pt)?[ _-]?(?:mrn|ssn|dob|sex|gender|birth[ _-]?date|date[ _-]?of[ _-]?birth"
    r"|medical[ _-]?record[ _-]?number)|resource_?type): {1,8}(?=\S)",
    re.MULTILINE,
)
# A number that goes on in words: a sentence of a note, in which other rules tell the one from the other.
_GOES_ON: Final = re.compile(r"[0-9][^\n]{0,80}?(?: [A-Za-z]{2,}|[,;] )")
# How a line of a program ends that looks like one of a tree.
_OF_CODE: Final = re.compile(r"[^\n]*[,;{}()][ \t\r]*(?:\n|\Z)")
_LONGEST_BEGIN: Final = 128
_AROUND: Final = " \t\r\"'\u201c\u201d\u201e\u2018\u2019"


class _Entry(NamedTuple):
    """A part of a line: the dash of an item, a key and what follows it, or a value alone."""

    column: int
    mark: str
    key: str
    start: int
    end: int
    line: int


def trees_in(text: str) -> Iterator[Node]:
    """Yield each tree of fields in a text, in order, from a field on that says something of people."""
    done = 0
    for opened in _OPENS.finditer(text):
        begin = text.rfind("\n", 0, opened.start()) + 1
        if begin < done or opened.start() - begin > _LONGEST_BEGIN:
            continue
        if plain_key(text[begin : opened.start()].lstrip(" -")) in _BEGIN:
            root = Fields()
            done = _read(text, begin, root)
            yield root
    if ": " in text:
        yield from _blocks(text)


def _blocks(text: str) -> Iterator[Node]:
    """Yield each tree of the lines around a field that says whose they are."""
    done = 0
    for said in _OF_A_BLOCK.finditer(text):
        if said.start() < done:
            continue
        begin = said.start()
        while begin > done and _is_of_a_tree(text, above := max(done, text.rfind("\n", done, begin - 1) + 1)):
            begin = above
        done = begin
        while done <= said.start():
            root = Fields()
            done = _read(text, done, root, is_block=True)
            yield root


def _is_of_a_tree(text: str, begin: int) -> bool:
    """Tell whether a line may be one of a tree: it has a key or a dash, or is indented."""
    line = _LINE.match(text, begin)
    if line is None or not line[0].strip() or _OF_CODE.match(text, begin):
        return False
    return bool(line["indent"]) or line["key"] is not None or line["item"] is not None


def _is_below(text: str, begin: int) -> bool:
    """Tell whether a line stands right below another that is not empty."""
    return bool(text[text.rfind("\n", 0, begin - 1) + 1 : begin].strip())


def _read(text: str, begin: int, root: Fields, *, is_block: bool = False) -> int:
    """Read into `root` the tree whose first field stands in the line from a place on; return where it ends.

    Of a block the fields beside the first one are read, too, up to a line that is empty or none of a tree.
    """
    # The column from which on what is in each of them stands, and what a key or a dash is still to hold.
    open_ones: list[tuple[int, Container]] = []
    awaited: tuple[int, str | None] | None = None
    for entry in _entries(text, begin):
        if not open_ones:
            if entry.mark == ":":
                open_ones.append((entry.column, root))
                awaited = _taken(text, entry, root, is_block=is_block)
            continue
        first = open_ones[0][0]
        is_beside = entry.column == first and entry.mark != "-" and not (is_block and entry.mark)
        is_apart = is_block and not (_is_of_a_tree(text, entry.line) and _is_below(text, entry.line))
        if entry.column < first or is_beside or is_apart or len(open_ones) > DEEPEST:
            return entry.line
        while len(open_ones) > 1 and _is_over(*open_ones[-1], entry):
            open_ones.pop()
        if awaited is not None:
            column, key = awaited
            if entry.column > column or (entry.column == column and entry.mark == "-" and key is not None):
                inner: Container = Fields() if entry.mark == ":" else []
                _put(open_ones[-1][1], key, inner)
                open_ones.append((entry.column, inner))
        awaited = _taken(text, entry, open_ones[-1][1], is_block=is_block)
    return len(text)


def _is_over(column: int, container: Container, entry: _Entry) -> bool:
    """Tell whether what an entry begins no longer belongs to a container."""
    return column > entry.column or (column == entry.column and entry.mark == ":" and isinstance(container, list))


def _taken(text: str, entry: _Entry, into: Container, *, is_block: bool) -> tuple[int, str | None] | None:
    """Put what an entry says into where it lies; return what the next lines are to hold where it says nothing."""
    if entry.mark == "-":
        return (entry.column, None)
    if (entry.mark == ":") != isinstance(into, Fields):
        return None
    key = entry.key if entry.mark == ":" else None
    if _NOTHING.fullmatch(text[entry.start : entry.end].strip()):
        return (entry.column, key)
    if is_block and _GOES_ON.search(text, entry.start, entry.end):
        _put(into, key, Scalar(entry.start, entry.start, ""))
    elif _IS_FLOW.match(text, entry.start, entry.end):
        parts = _FLOW.finditer(text[entry.start : entry.end])
        _put(into, key, [_scalar(text, entry.start + one.start(), entry.start + one.end()) for one in parts])
    else:
        _put(into, key, _scalar(text, entry.start, entry.end))
    return None


def _entries(text: str, at: int) -> Iterator[_Entry]:
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        # Of a pattern each part of which may be missing.
        if (line := _LINE.match(text[at:end])) is not None and line[0].strip():
            column = line.end("indent")
            if line["item"] is not None:
                yield _Entry(column, "-", "", at, at, at)
                column = line.end("item")
            if line["key"] is not None or line["rest"].strip():
                mark = "" if line["key"] is None else ":"
                yield _Entry(column, mark, line["key"] or "", at + line.start("rest"), end, at)
        at = end + 1


def _scalar(text: str, start: int, end: int) -> Scalar:
    raw = text[start:end].split(" #", 1)[0]
    begin, value = trimmed(raw, start, _AROUND)
    return Scalar(begin, begin + len(value), value, in_quotes=raw.lstrip()[:1] in {'"', "'"})


def _put(into: Container, key: str | None, node: Node) -> None:
    if isinstance(into, list):
        into.append(node)
    elif key is not None:
        into.pairs.append((key, node))
