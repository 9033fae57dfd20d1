"""Says in which line of a TOML file a dotted key stands, where that is certain.

`tomllib` forgets lines. This walks the text once, skipping strings and comments, and notes where each table begins and
each key is set. A key inside an inline table or a list stands where the statement around it begins. Whatever is written
in a way this does not follow gives no line instead of a wrong one.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

Key = str | int
_PART: Final = re.compile(r"""\s*([A-Za-z0-9_-]+|"[^"\\\n]*"|'[^'\n]*')\s*(\.|$)""")
_OPENERS: Final = {"[": 1, "{": 1, "]": -1, "}": -1}


def line_of(text: str, path: Sequence[Key]) -> int | None:
    """Return the line, counted from 1, of the statement that sets a key or of the nearest table around it.

    Args:
        text: TOML that `tomllib` has read.
        path: Parts of the dotted key; whole numbers count the tables of one name, from 0.
    """
    places = _places(text)
    for length in range(len(path), 0, -1):
        found = places.get(tuple(path[:length]))
        if found is not None:
            return found or None
    return None


def _places(text: str) -> dict[tuple[Key, ...], int]:
    """Return the line of every statement by its path; 0 where two statements seem to have one path."""
    places: dict[tuple[Key, ...], int] = {}
    counts: dict[tuple[Key, ...], int] = {}
    table: tuple[Key, ...] = ()
    for line, statement in _statements(text):
        is_table = statement.startswith("[")
        is_list = statement.startswith("[[")
        head = statement.strip("[] \t") if is_table else statement.partition("=")[0]
        parts = _parts(head)
        if parts is None:
            return {}
        if not is_table:
            path = (*table, *parts)
        elif is_list:
            above = _indexed(parts[:-1], counts)
            name = (*above, parts[-1])
            counts[name] = counts.get(name, -1) + 1
            path = table = (*name, counts[name])
        else:
            path = table = _indexed(parts, counts)
        places[path] = 0 if path in places else line
    return places


def _indexed(parts: Sequence[str], counts: dict[tuple[Key, ...], int]) -> tuple[Key, ...]:
    """Return the path of a table with the number of the last entry behind each list of tables."""
    path: tuple[Key, ...] = ()
    for part in parts:
        path = (*path, part)
        if path in counts:
            path = (*path, counts[path])
    return path


def _parts(head: str) -> tuple[str, ...] | None:
    found: list[str] = []
    at = 0
    head = head.strip()
    while at < len(head):
        matched = _PART.match(head, at)
        if matched is None:
            return None
        found.append(matched[1].strip("\"'"))
        at = matched.end()
    return tuple(found) or None


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield each table header and each `key = value` with the line it begins in; strings in it are cut short."""
    line, at, depth, start, kept = 1, 0, 0, 0, ""
    while at < len(text):
        char = text[at]
        if char == "#":
            at = text.find("\n", at)
            at = len(text) if at < 0 else at
            continue
        if char in "\"'":
            end = _string_end(text, at)
            kept += text[at:end] if "\n" not in text[at:end] else char * 2
            start = start or line
            line += text.count("\n", at, end)
            at = end
            continue
        if char == "\n":
            is_header = kept.lstrip().startswith("[") and "=" not in kept
            if kept.strip() and (depth == 0 or is_header):
                yield start, kept.strip()
                start, kept, depth = 0, "", 0
            line += 1
        else:
            depth += _OPENERS.get(char, 0)
            start = start or (line if not char.isspace() else 0)
            kept += char
        at += 1
    if kept.strip():
        yield start, kept.strip()


def _string_end(text: str, at: int) -> int:
    quote = text[at]
    delimiter = quote * 3 if text.startswith(quote * 3, at) else quote
    at += len(delimiter)
    while at < len(text):
        if text[at] == "\\" and quote == '"':
            at += 2
        elif text.startswith(delimiter, at):
            at += len(delimiter)
            while len(delimiter) == 3 and text.startswith(quote, at):
                at += 1
            return at
        else:
            at += 1
    return len(text)
