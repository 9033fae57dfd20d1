"""Reads pairs of a name and a value as programs write them: `Patient(name='…', mrn=…)`, `?mrn=…&last_name=…`.

Prints of records, arguments of calls, attributes of XML and HTML, lines of a log, queries of an address, conditions of
SQL and settings are such pairs. Those in one bracket are one tree, and those outside of brackets that stand in one
line; what stands before the bracket says whose they are. What is no text of its own, as a variable, is passed over.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from urllib.parse import unquote_plus

from appliance.phi.fields import DEEPEST, KEYS, Fields, Scalar, identifiers_of
from appliance.phi.labelled import Labelled
from appliance.phi.patterns import PhiClass

_SIGN: Final = re.compile(r"={1,3}>?")
_KEY: Final = re.compile(
    r"(?<![\w.@%+$-])-{0,2}(?P<key>[A-Za-z_@][\w.@-]{0,60}+)(?P<closed>[\"'`\])]{0,3}) {0,3}:?\Z", re.ASCII
)
_LONGEST_KEY: Final = 70
_FLAG: Final = re.compile(r"(?<![\w-])--(?P<key>[A-Za-z][\w-]{0,40}+) {1,2}(?=[\"'0-9A-Z])", re.ASCII)
_SPACES: Final = re.compile(r" {0,3}(?:[fFrRbBuUnNE](?=[\"']))?")
_QUOTED: Final = re.compile(
    r"\"(?P<double>(?:[^\"\\\n]|\\.){0,400}+)(?:\"|\Z)|'(?P<single>(?:[^'\\\n]|\\.|''(?!')){0,400}+)(?:'|\Z)"
)
_IN_QUERY: Final = re.compile(r"[^&\s\"'`<>#;(){}\[\],]{1,200}+")
_BAR: Final = re.compile(r"\||%7[cC]")
_IN_LIST: Final = re.compile(r"[^,;&()\[\]{}<>\"'`\n=]{1,120}+(?=[,)\]])")
_ALONE: Final = re.compile(r"[^\s,;&|()\[\]{}<>\"'`\\]{1,120}+(?![(\[{<\"'`.])")
# What a program has in place of a value: a variable, a parameter, a number in hexadecimal.
_OF_CODE: Final = re.compile(r"[:@$%#?!*&].*|[a-z_][\w.]*|(?=\w*_)[A-Za-z_]\w*|[A-Z]+|\w+(?:\.\w+)+|0x[0-9A-Fa-f]+")
_BRACKET: Final = re.compile(r"[()\[\]{}]|\n[ \t\r]{0,40}\n|\n|<(?=[A-Za-z])|(?<![-=])>")
_CLOSES: Final = {")": "(", "]": "[", "}": "{", ">": "<"}
_BEFORE: Final = re.compile(r"(?:\A|[^\w.])(?P<name>[A-Za-z_][\w.]{0,60}+) ?\Z", re.ASCII)
_TAG: Final = re.compile(r"<(?:[\w.-]{1,40}:)?(?P<name>[A-Za-z][\w.-]{0,60})", re.ASCII)
_PATH: Final = re.compile(r"/(?P<name>[A-Za-z_]{1,40})(?:/_search)?/?\?\Z", re.ASCII)
_LONGEST_NAME: Final = 64
# The last words of what says something of people. Most pairs have none, which costs less to see than to read them.
_TELLING: Final = re.compile(
    "|".join(sorted({key.split()[-1] for key in KEYS} | {"value", "family", "given", "first", "last", "middle"})),
    re.IGNORECASE,
)
_FARTHEST: Final = 1000
"""How far apart two pairs of one bracket may be, so that one that nothing closes holds no later ones."""
_BETWEEN_WORDS: Final = re.compile(r"(?:\+|%20|%2[cC])+")


class _Pair(NamedTuple):
    key: str
    value: Scalar


@dataclass(slots=True)
class _Group:
    """Pairs that stand together, and what they stand in: a bracket and its place."""

    mark: str = ""
    at: int = 0
    last: int = 0
    whose: str = ""
    pairs: list[_Pair] = field(default_factory=list)

    def ends_with_line(self) -> bool:
        """Tell whether the next line is of other fields: in no bracket, and in a block of a program."""
        return self.mark in {"", "{"}


def identifiers_in(text: str) -> Iterator[Labelled]:
    """Yield what the pairs of a text say of people."""
    if "=" in text:
        yield from _of_groups(text)
    if "--" in text:
        for flag in _FLAG.finditer(text):
            value = _value(text, flag.end(), _Group())
            if value is not None:
                yield from identifiers_of(Fields([(flag["key"], value)]))


def _of_groups(text: str) -> Iterator[Labelled]:
    groups = [_Group()]
    read = 0
    for sign in _SIGN.finditer(text):
        if sign.start() < read:
            continue
        key = _KEY.search(text, max(read, sign.start() - _LONGEST_KEY), sign.start())
        if key is None:
            continue
        yield from _moved(text, read, key.start(), groups)
        # Of `p['mrn'] = …` the bracket around the name is over before the value.
        yield from _moved(text, key.end("key"), sign.start(), groups)
        group = groups[-1]
        if group.pairs and key.start() - group.last > _FARTHEST:
            yield from _taken(text, group)
            group.mark = ""
        value = _value(text, sign.end(), group, is_query=_is_query(text, key.start()))
        group.last = read = sign.end()
        if value is not None:
            group.pairs.append(_Pair(_named(text, key, group), value))
            group.last = read = value.end
    for group in groups:
        yield from _taken(text, group)


def _moved(text: str, begin: int, end: int, groups: list[_Group]) -> Iterator[Labelled]:
    """Open and close the groups that brackets and ends of lines open and close; yield what is in those closed."""
    for found in _BRACKET.finditer(text, begin, end):
        mark = found[0]
        if mark in "([{<":
            if len(groups) < DEEPEST:
                groups.append(_Group(mark, found.start(), found.end()))
        elif mark == "\n":
            if groups[-1].ends_with_line():
                yield from _taken(text, groups[-1])
        elif mark[0] == "\n":
            # Behind a line that is empty no bracket counts: one of prose is often open.
            for group in groups:
                yield from _taken(text, group)
            del groups[1:]
        elif any(group.mark == _CLOSES[mark] for group in groups):
            while (group := groups.pop()).mark != _CLOSES[mark]:
                yield from _taken(text, group)
            yield from _taken(text, group)


def _taken(text: str, group: _Group) -> Iterator[Labelled]:
    """Yield what a group's pairs say of people, and leave it empty."""
    pairs, whose = group.pairs, group.whose
    if not pairs:
        return
    group.pairs, group.whose = [], ""
    if not any(_TELLING.search(pair.key) for pair in pairs):
        return
    tree = Fields([(pair.key, pair.value) for pair in pairs])
    whose = whose or _whose(text, group)
    for one in identifiers_of(Fields([(whose, tree)]) if whose else tree):
        if one.phi_class is PhiClass.NAME:
            yield from _words(text, one)
        else:
            yield one


def _words(text: str, name: Labelled) -> Iterator[Labelled]:
    """Yield each word of a name in a query by itself, so that it is known where it stands elsewhere."""
    start = name.start
    for between in _BETWEEN_WORDS.finditer(text, name.start, name.end):
        if between.start() > start:
            yield Labelled(start, between.start(), name.phi_class)
        start = between.end()
    if start < name.end:
        yield Labelled(start, name.end, name.phi_class)


def _whose(text: str, group: _Group) -> str:
    if group.mark == "<":
        found = _TAG.match(text, group.at)
    elif group.mark:
        found = _BEFORE.search(text, max(0, group.at - _LONGEST_NAME), group.at)
    else:
        found = None
    # Of `Patient.objects.create` the class counts, and of `models.Patient`.
    return "" if found is None else next(filter(str.istitle, found["name"].split(".")), found["name"])


def _named(text: str, key: re.Match[str], group: _Group) -> str:
    """Return a pair's name: of `patient.name` the last part; what it is of counts for what stands beside it."""
    whose, _, name = key["key"].rpartition(".")
    if whose:
        group.whose = whose.rpartition(".")[2]
    elif _is_query(text, key.start()) and (
        path := _PATH.search(text, max(0, key.start() - _LONGEST_NAME), key.start())
    ):
        group.whose = path["name"]
    return name or key["key"]


def _is_query(text: str, at: int) -> bool:
    return text[at - 1 : at] in {"?", "&"}


def _value(text: str, at: int, group: _Group, *, is_query: bool = False) -> Scalar | None:
    """Return what follows a sign; None where that is nothing, or of a program."""
    at = _SPACES.match(text, at).end()  # type: ignore[union-attr]  # each part may be missing
    quoted = _QUOTED.match(text, at)
    if quoted is not None:
        start, end = quoted.span("double" if quoted["double"] is not None else "single")
        return Scalar(start, end, text[start:end], in_quotes=True) if end > start else None
    found = None
    if is_query:
        found = _IN_QUERY.match(text, at)
    elif group.mark in {"(", "["}:
        found = _IN_LIST.match(text, at)
    found = found or _ALONE.match(text, at)
    if found is None:
        return None
    raw = found[0].rstrip()
    start = found.start()
    if is_query or text[found.end() : found.end() + 1] == "&":
        # Of FHIR's `system|number` the number counts.
        for bar in _BAR.finditer(raw):
            start = found.start() + bar.end()
        raw = raw[start - found.start() :]
        return Scalar(start, start + len(raw), unquote_plus(raw), in_quotes=True) if raw else None
    if _OF_CODE.fullmatch(raw) is not None:
        return None
    return Scalar(start, start + len(raw), raw)
