"""Reads the trees of fields that stand in a text as JSON, or as Python, JavaScript, Ruby and PHP print them.

A text may hold several, with prose around, be cut off anywhere, and be wrong: what does not fit is passed over.
"""

import re
from collections.abc import Iterator
from typing import Final

from appliance.phi.fields import AS_TOKEN, DEEPEST, Container, Fields, Node, Scalar

_OPENS: Final = re.compile(rf"[{{\[](?!(?<=\[){AS_TOKEN[2:]})")
_LISTED: Final = re.compile(rf": (?!{AS_TOKEN})\[")
_TOKEN: Final = re.compile(
    # Alone stand the quotes around a tree that is text in another, where its own were escaped before and are not now.
    # A quote that nothing closes is a string until the end, so that no text is read again for each of its quotes.
    # So does one behind which signs stand up to the next: one within a string closed that.
    r"""(?:(?<=[}\]])"|"(?=\s{0,9}[,:{}\[\]][\s,:{}\[\]]{0,20}")|"(?=\s{0,9}[{\[]\s{0,9}(?:[{\[]\s{0,9})?["']\w))|"""
    rf"{AS_TOKEN}|"
    r"""[{}\[\],:;=]|"[^"\\\n]*(?:(?:\\.|\n(?!\s{0,40}[{}\[\]"]))[^"\\\n]*)*"?"""
    # A line that begins as one of a tree is in no string: its quote was an inch.
    r"""|'[^'\\\n]*(?:\\.[^'\\\n]*)*'?|[\w$@.+-]+""",
    re.DOTALL,
)
_MOST_WORDS_OF_PROSE: Final = 6
_LONGEST_VALUE: Final = 400
_KEY_BEFORE: Final = re.compile(
    r"""(?:"([\w .@-]{1,40})"|'([\w .@-]{1,40})'|(?<![\w.@-])([A-Za-z_][\w-]{0,40}))\s{0,3}[:=]\s{0,4}\Z"""
    # As Go, Rust and Node print what is of a type: `Patient { name: … }`.
    r"|(?<![\w.@-])([A-Z]\w{0,40}) ?\Z"
)
_LONGEST_BEFORE: Final = 52
# A call of a function has none between its name and its bracket.
_BETWEEN_WORDS: Final = re.compile(r" {1,3}\(?|\) {0,2}|/")


def trees_in(text: str) -> Iterator[Node]:
    """Yield each tree of fields in a text, in order. The name of the field before a tree's first bracket counts."""
    if "{" not in text and "=>" not in text and (": [" not in text or _LISTED.search(text) is None):
        return
    at = 0
    while (opened := _OPENS.search(text, at)) is not None:
        key = _key_before(text, at, opened.start())
        node, at = _tree(text, opened.start())
        yield node if key is None else Fields([(key, node)])


def _key_before(text: str, after: int, begin: int) -> str | None:
    """Return the name of the field whose value begins at a bracket."""
    # Looked for only where a sign of one stands, since trees may be many.
    before = text[max(after, begin - 4) : begin]
    if not (before.rstrip().endswith((":", "=")) or (text[begin] == "{" and before[-2:].strip()[-1:].isalnum())):
        return None
    found = _KEY_BEFORE.search(text, max(after, begin - _LONGEST_BEFORE), begin)
    return None if found is None else next(filter(None, found.groups()))


def _tree(text: str, begin: int) -> tuple[Node, int]:
    """Return the tree that begins at a bracket, and where it ends. What goes on as prose ends it."""
    root: Container = _empty(text[begin])
    open_ones = [root]
    key: str | None = None
    last: Scalar | None = None
    # How many words without quotes stand one after another. They are one value, or prose.
    words = 0
    end = begin + 1
    for token in _TOKEN.finditer(text, end):
        end = token.end()
        mark = token[0]
        if mark in "{[":
            words = 0
            # What is nested deeper than anything real counts with what it lies in.
            inner = _empty(mark) if len(open_ones) < DEEPEST else open_ones[-1]
            if inner is not open_ones[-1]:
                _put(open_ones[-1], key, inner)
            open_ones.append(inner)
            key, last = None, None
        elif mark in "}]":
            words = 0
            _put_last(open_ones[-1], key, last)
            open_ones.pop()
            if not open_ones:
                return root, end
            key, last = None, None
        elif mark in ",;":
            words = 0
            _put_last(open_ones[-1], key, last)
            key, last = None, None
        elif mark in ":=":
            if key is None and last is not None:
                key, last, words = last.text, None, 0
        elif mark != '"':
            if key is not None and _is_next(text, last, token):
                _put_last(open_ones[-1], key, last)
                key, last = None, None
            last, words = _value(text, token, last, words)
            if words > _MOST_WORDS_OF_PROSE:
                break
    _put_last(open_ones[-1], key, last)
    return root, end


def _empty(mark: str) -> Container:
    return Fields() if mark == "{" else []


def _is_next(text: str, last: Scalar | None, token: re.Match[str]) -> bool:
    """Tell whether a token begins the next field, where lines part these and no comma does."""
    return last is not None and "\n" in text[last.end : token.start()]


def _value(text: str, token: re.Match[str], last: Scalar | None, words: int) -> tuple[Scalar, int]:
    """Return what a token ends, and of how many words without quotes that is. Of quotes the last may be missing."""
    mark, start, end = token[0], token.start(), token.end()
    if last is not None and end - last.start > _LONGEST_VALUE:
        last = None  # it goes on without it, so that no text is taken again for each of its words
    if mark[0] in "\"'":
        inner = mark[1:-1] if len(mark) > 1 and mark[-1] == mark[0] else mark[1:]
        begin, end = start + 1, start + 1 + len(inner)
        if last is not None and last.end == start and text[last.start - 1] == '"':
            begin = last.start
        return Scalar(begin, end, text[begin:end], in_quotes=True), 0
    if last is not None and last.end + 1 == start and text[last.end] == '"':
        start = last.start  # what is in quotes within a string, where its escapes are read
    elif words and last is not None and _BETWEEN_WORDS.fullmatch(text, last.end, start):
        start = last.start
    return Scalar(start, end, text[start:end]), words + 1


def _put_last(into: Container, key: str | None, last: Scalar | None) -> None:
    if last is not None and last.end > last.start:
        _put(into, key, last)


def _put(into: Container, key: str | None, node: Node) -> None:
    if isinstance(into, list):
        # Of fields in a list a brace is missing.
        into.append(node if key is None else Fields([(key, node)]))
    elif key is not None or not isinstance(node, Scalar):
        # A tree within code has no name: `{ return {"mrn": …}; }`.
        into.pairs.append((key or "", node))
