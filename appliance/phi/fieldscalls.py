"""Identifiers handed to calls whose name or first argument says what they are: setters, builders, columns of SQL.

`patient.setLastName("…")`, `Patient.builder().mrn("…")`, `row.put("mrn", "…")` and `SELECT '…' AS last_name` have no
sign between a name and its value. Those that stand near each other are fields of one tree.
"""

import re
from collections.abc import Iterator
from typing import Final

from appliance.phi.fields import KEYS, Fields, Scalar, identifiers_of
from appliance.phi.labelled import Labelled

_TEXT: Final = r"(?:\"(?P<double>[^\"\\\n]{1,200})\"|'(?P<single>[^'\\\n]{1,200})')"
_CALL: Final = re.compile(
    # The name stands before the bracket, or first within it.
    r"\((?<=\w.)\s{0,3}(?:" + _TEXT + r"\s{0,3}\)"
    r"|[\"'](?P<key>[A-Za-z_][\w. -]{1,40})[\"']\s{0,3},\s{0,3}"
    r"(?:\"(?P<double2>[^\"\\\n]{1,200})\"|'(?P<single2>[^'\\\n]{1,200})')\s{0,3}\))"
)
_NAMED: Final = re.compile(
    r"(?:(?:(?P<whose>[A-Za-z_]\w{0,40}?)(?:\.(?:new)?[bB]uilder)?(?:\(\))?|[)\s])\.|(?<!\w))"
    r"(?P<sets>(?:(?:set|with|add|put)_?|[a-z]\w{0,30}(?:By|_by_))(?=[A-Z_a-z]))?(?P<name>\w{2,41})\($"
)
_COLUMN: Final = re.compile(r"'(?P<value>[^'\n]{1,200})'\s{1,3}[aA][sS]\s{1,3}[\"`\[]?(?P<key>[A-Za-z_]\w{1,40})\b")
_VALUES: Final = ("double", "single", "double2", "single2")
_NEAR: Final = 400
_LONGEST_NAME: Final = 90


def identifiers_in(text: str) -> Iterator[Labelled]:
    """Yield what the calls and the columns of a text say of people."""
    tree: list[tuple[str, Scalar]] = []
    last, of = 0, ""
    for at, end, whose, key, value in _told_in(text):
        if at - last > _NEAR:
            yield from _taken(tree, of)
            tree, of = [], ""
        tree.append((key, value))
        last, of = end, of or whose
    yield from _taken(tree, of)


def _taken(tree: list[tuple[str, Scalar]], whose: str) -> Iterator[Labelled]:
    if tree:
        fields = Fields([*tree])
        yield from identifiers_of(Fields([(whose, fields)]) if whose else fields)


def _told_in(text: str) -> Iterator[tuple[int, int, str, str, Scalar]]:
    """Yield where each starts and ends, whose it is, what it is called, and its value."""
    if '("' in text or "('" in text:
        for call in _CALL.finditer(text):
            which = next(one for one in _VALUES if call[one] is not None)
            start, end = call.span(which)
            value = Scalar(start, end, text[start:end], in_quotes=True)
            named = _NAMED.search(text, max(0, call.start() - _LONGEST_NAME), call.start() + 1)
            whose = "" if named is None else named["whose"] or ""
            if call["key"] is not None:
                yield call.start(), call.end(), whose, call["key"].rpartition(".")[2], value
            elif named is not None and named.start() != named.start("name"):
                yield call.start(), call.end(), whose if _is_of_people(whose) else "", named["name"], value
    if "' AS " in text or "' as " in text:
        for column in _COLUMN.finditer(text):
            start, end = column.span("value")
            value = Scalar(start, end, column["value"], in_quotes=True)
            yield column.start(), column.end(), "", column["key"], value


def _is_of_people(name: str) -> bool:
    return name.lower().removesuffix("builder").strip("_") in KEYS
