"""What rules of a grammar let in, where the library that reads them is not there."""

import itertools
import json
import re
from collections.abc import Mapping
from datetime import date
from typing import Any

import pytest

from appliance.serve.grammar import exact, object_rule, other_name

_PART = re.compile(r'"((?:\\.|[^"\\])*)"|(\[(?:\\.|[^\]\\])*\])|([A-Za-z0-9-]+)|([()|?*])|\s+')


@pytest.mark.parametrize("year", [1, 4, 1900, 1999, 2000, 2023, 2024, 2096, 2100, 2400, 9999])
def test_a_date_is_a_day_that_there_is(year: int) -> None:
    rule = exact({"date": "any"})["date"]
    pattern = re.compile(re.sub(r'["\s]', "", rule))  # as an expression of Python's it reads the same

    for month in range(14):
        for day in range(33):
            text = f"{year:04}-{month:02}-{day:02}"
            assert bool(pattern.fullmatch(text)) == _is_a_day(text), text


def _is_a_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def test_other_rules_stay_as_they_are() -> None:
    assert exact({"root": "date", "time": "x"}) == {"root": "date", "time": "x"}


def _expression(rules: Mapping[str, str], name: str) -> str:
    """Return a rule with all that it names as an expression of Python's."""
    found = []
    for part in _PART.finditer(rules[name]):
        literal, letters, rule, sign = part.groups()
        if literal is not None:
            found.append(re.escape(re.sub(r"\\(U.{8}|.)", lambda one: _meant(one[1]), literal)))
        elif rule is not None:
            found.append(f"(?:{_expression(rules, rule)})")
        else:
            found.append(letters or sign or "")
    return "".join(found)


def _meant(escape: str) -> str:
    return chr(int(escape[1:], 16)) if escape.startswith("U") else escape


def _rules_of(listed: tuple[str, ...], *, required: tuple[str, ...] = (), takes_others: bool) -> dict[str, str]:
    """Return the rules of an object whose listed properties are numbers, and the others true."""
    rules = {"space": '" "?'} | {f"kv-{at}": _literal(f"{json.dumps(one)}:1") for at, one in enumerate(listed)}

    def add(name: str, text: str) -> str:
        assert rules.setdefault(name, text) == text
        return name

    other = ""
    if takes_others:
        other = add("other", f'{other_name(listed, add, "key")} ":true"')
    pairs = {one: f"kv-{at}" for at, one in enumerate(listed)}
    return rules | {"root": object_rule(pairs, required, other, add, "rest")}


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _texts(names: tuple[str, ...], values: tuple[str, ...], most: int) -> list[str]:
    pairs = [f"{json.dumps(name, ensure_ascii=False)}:{value}" for name in names for value in values]
    chosen = itertools.chain.from_iterable(itertools.product(pairs, repeat=many) for many in range(most + 1))
    return [f"{{{','.join(one)}}}" for one in chosen]


@pytest.mark.parametrize("takes_others", [True, False])
@pytest.mark.parametrize("required", [(), ("b",), ("a", "b")])
def test_an_object_has_what_is_listed_once_in_order_and_others_behind(
    required: tuple[str, ...], *, takes_others: bool
) -> None:
    pattern = re.compile(_expression(_rules_of(("a", "b"), required=required, takes_others=takes_others), "root"))
    order = [*required, *(one for one in ("a", "b") if one not in required)]

    for text in _texts(("a", "b", "x"), ("1", "true"), 3):
        pairs: list[tuple[str, Any]] = json.loads(text, object_pairs_hook=list)
        listed = [name for name, _ in pairs if name != "x"]
        fits = all((value == 1 and value is not True) == (name != "x") for name, value in pairs)
        fits = fits and [name for name, _ in pairs][: len(listed)] == listed == [o for o in order if o in listed]
        fits = fits and set(required) <= set(listed) and (takes_others or len(listed) == len(pairs))
        assert bool(pattern.fullmatch(text)) == fits, text


@pytest.mark.parametrize(
    "listed", [("a",), ("a", "ab", "abc", "b"), ("",), ('a"b', "a\\"), ("é", "ée", "-", "]", "^", "\n", "\U0001f600")]
)
def test_a_name_that_is_not_listed_is_any_other_however_it_is_spelled(listed: tuple[str, ...]) -> None:
    pattern = re.compile(_expression(_rules_of(listed, takes_others=True), "key-name"))
    near = {one for name in listed for one in (name, name[:-1], f"{name}x", f"x{name}", f"{name}\\", f'{name}"')}

    for name in {*near, "", "a", "b", "\t", "é", "-", "x y"}:
        written = json.dumps(name, ensure_ascii=False)
        assert bool(pattern.fullmatch(written)) == (name not in listed), name
    for name in listed:
        spelled = "".join(f"\\u{ord(letter):04x}" for letter in name)
        assert not pattern.fullmatch(f'"{spelled}"'), name


def test_a_listed_name_that_nobody_could_write_hides_no_other() -> None:
    pattern = re.compile(_expression(_rules_of(("\x00a", "\x7f"), takes_others=True), "key-name"))

    assert pattern.fullmatch('"a"')
    assert not pattern.fullmatch('"\x00a"')
