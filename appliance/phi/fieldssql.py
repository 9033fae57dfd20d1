"""Reads rows that stand in a text as SQL: `INSERT INTO patients (name, mrn) VALUES ('…', '…'), …`, and what COPY takes.

Each row is one tree of fields, named by its columns, which the statement names or the table's own above it; the table
says whose they are. Where a program hands the values in behind the statement, these are the row. A condition with words
(`last_name LIKE '…'`, `mrn IN ('…', '…')`) is a tree, too.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from appliance.phi.fields import Fields, Node, Scalar
from appliance.phi.fieldvalues import trimmed

_TABLE: Final = r"(?P<table>[\w.\"`\[\]$#]{1,120}+)\s{0,40}"
_INSERT: Final = re.compile(
    rf"(?i:\b(?:insert|replace)\b[a-z \t\n]{{0,40}}?\binto)\s{{1,40}}{_TABLE}"
    r"(?:\((?P<columns>[^()]{1,2000}+)\)\s{0,40})?"
    r"(?i:output\s[^()'\";]{1,200}?\s)?(?i:values?\s{0,40}\(|select\s{1,40}(?=[Nn]?['0-9]))"
)
_COPY: Final = re.compile(
    rf"(?i:\bcopy)\s{{1,8}}{_TABLE}\((?P<columns>[^()\n]{{1,2000}}+)\)\s{{1,8}}(?i:from stdin)[^\n]{{0,120}}\n"
)
_CREATE: Final = re.compile(rf"(?i:\bcreate[a-z ]{{1,20}}table\s{{1,8}}(?:if not exists\s{{1,8}})?){_TABLE}\(")
_CONDITION: Final = re.compile(r"(?i:\b(?:i?like|in|between))\s{0,8}(?P<opened>\()?\s{0,8}(?=[NEne]?'|[0-9]|\")")
_PREFIX: Final = re.compile(r"(?:[NEne](?='))?")
_KEY: Final = re.compile(r"(?<![\w.])(?P<key>[A-Za-z_][\w.]{0,60}+)[\"`\])]{0,3}\s{1,8}(?i:not\s{1,8})?\Z", re.ASCII)
_LONGEST_KEY: Final = 80
_TOKEN: Final = re.compile(
    # A quote that nothing closes is a string until the end, so that no text is read again for each of its quotes.
    r"'(?P<single>(?:[^'\\]|\\.|'')*+)'?|\"(?P<double>(?:[^\"\\]|\\.)*+)\"?|`(?P<name>[^`\n]{1,80}+)`"
    r"|(?P<mark>[(),;\[\]])|(?P<bare>[^\s'\"`(),;\[\]]{1,400}+)",
    re.DOTALL,
)
_NEXT_ROW: Final = re.compile(r"\s{0,80}+,(?:\s|--[^\n]{0,200}\n){0,80}+[(\[]")
# Between a statement with places for values and these: the end of its string, and the bracket of several rows.
_TO_VALUES: Final = re.compile(r"[^()\[\]'\"`]{0,120}+[\"'`]{1,3}\s{0,40},\s{0,40}(?:\[\s{0,40}(?=[(\[]))?[(\[]")
_OF_STATEMENTS: Final = frozenset({"insert", "select", "update", "delete", "create"})
_DEEPEST, _MOST = 8, 10_000
_SIGNS: Final = "%_"
_AROUND: Final = " \t\r\n\"'`[]"


class _Row(NamedTuple):
    """What stands between two brackets, parted by commas, None where that is no value; and where it ends."""

    values: Sequence[Scalar | None]
    end: int


def trees_in(text: str) -> Iterator[Node]:
    """Yield each row of a text's statements, and each of its conditions."""
    if "alue" in text or "ALUE" in text or "elect" in text or "ELECT" in text:
        yield from _inserted(text)
    if "stdin" in text or "STDIN" in text:
        yield from _copied(text)
    if "where" in text or "WHERE" in text:
        yield from _conditions(text)


def _inserted(text: str) -> Iterator[Node]:
    created: dict[str, list[str]] | None = None
    done = 0
    for statement in _INSERT.finditer(text):
        if statement.start() < done:
            continue
        table = _plain(statement["table"])
        if statement["columns"] is not None:
            columns = [*map(_plain, statement["columns"].split(","))]
        else:
            # What a dump writes, which names the columns where it makes the table.
            created = _created(text) if created is None else created
            columns = created.get(table, [])
        row = _row(text, statement.end(), len(columns))
        if not any(row.values) and (handed_in := _TO_VALUES.match(text, row.end)) is not None:
            row = _row(text, handed_in.end(), len(columns))
        yield _tree(table, columns, row.values)
        while (following := _NEXT_ROW.match(text, row.end)) is not None:
            row = _row(text, following.end(), len(columns))
            yield _tree(table, columns, row.values)
        done = row.end


def _created(text: str) -> dict[str, list[str]]:
    """Return the columns of the tables that a text makes: the first word of each part."""
    tables = {}
    done = 0
    for statement in _CREATE.finditer(text):
        if statement.start() < done:
            continue
        columns: list[str] = []
        depth, is_first, done = 1, True, len(text)
        for token in _TOKEN.finditer(text, statement.end()):
            mark = token["mark"] or ""
            depth += (mark == "(") - (mark == ")")
            if not depth or mark == ";":
                done = token.end()
                break
            if is_first and not mark:
                columns.append(_plain(token[0]))
            is_first = mark == "," and depth == 1
        tables[_plain(statement["table"])] = columns
    return tables


def _row(text: str, begin: int, most: int) -> _Row:
    """Return the row that begins behind a bracket. What has more values than columns, or goes on otherwise, ends it."""
    values: list[Scalar | None] = []
    value: Scalar | None = None
    depth = 0
    for token in _TOKEN.finditer(text, begin):
        mark = token["mark"]
        if mark is None:
            if (token["bare"] or "").lower() in _OF_STATEMENTS:
                return _Row([*values, value], token.start())
            # Of a call, as `to_date('…', '…')`, the first text is the value.
            if value is None:
                value = _scalar(token)
        elif mark == "," and not depth:
            values.append(value)
            value = None
        elif mark in "([":
            depth += 1
        elif mark in ")]" and depth:
            depth -= 1
        elif mark != ",":
            return _Row([*values, value], token.end() if mark != ";" else token.start())
        if len(values) > most or depth > _DEEPEST:
            return _Row(values, token.end())
    return _Row([*values, value], len(text))


def _scalar(token: re.Match[str]) -> Scalar | None:
    """Return a text or a number; a variable, a place for a value and the name of a function are none."""
    for quoted in ("single", "double"):
        if token[quoted]:
            start, end = token.span(quoted)
            return Scalar(start, end, token[quoted].replace("''", "'"), in_quotes=True)
    if token["bare"] is None or not token["bare"][0].isdecimal():
        return None
    return Scalar(*token.span(), token[0])


def _copied(text: str) -> Iterator[Node]:
    done = 0
    for statement in _COPY.finditer(text):
        at = statement.end()
        if at < done:
            continue
        columns = [*map(_plain, statement["columns"].split(","))]
        table = _plain(statement["table"])
        while at < len(text):
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            if "\t" not in text[at:end]:
                break
            values = []
            for cell in text[at:end].split("\t"):
                value = cell.removesuffix("\r")
                values.append(Scalar(at, at + len(value), value, in_quotes=True))
                at += len(cell) + 1
            yield _tree(table, columns, values)
            at = end + 1
        done = at


def _conditions(text: str) -> Iterator[Node]:
    done = 0
    for condition in _CONDITION.finditer(text):
        begin = condition.start()
        key = _KEY.search(text, max(done, begin - _LONGEST_KEY), begin) if begin >= done else None
        if key is None:
            continue
        if condition["opened"] is not None:
            values, done = _row(text, condition.end(), _MOST)
        else:
            token = _TOKEN.search(text, _PREFIX.match(text, condition.end()).end())  # type: ignore[union-attr]  # or none
            values, done = (None if token is None else _scalar(token),), condition.end()
        for value in values:
            if value is not None:
                yield Fields([(_plain(key["key"]), _without_signs(value))])


def _without_signs(value: Scalar) -> Scalar:
    """Return a value without the signs of LIKE at its ends."""
    start, text = trimmed(value.text, value.start, _SIGNS)
    end = max(start, value.end - len(value.text) + len(value.text.rstrip(_SIGNS)))
    return value._replace(start=start, end=end, text=text)


def _tree(table: str, columns: Sequence[str], values: Sequence[Scalar | None]) -> Node:
    pairs: list[tuple[str, Node]] = [
        (column, value) for column, value in zip(columns, values, strict=False) if value is not None
    ]
    return Fields([(table, Fields(pairs))])


def _plain(name: str) -> str:
    return name.rpartition(".")[2].strip(_AROUND)
