"""The one JSON codec: what it refuses, how fast, and what its field readers promise."""

import time
from enum import StrEnum
from typing import Any

import pytest

from media import canonical, limits
from media.errors import LimitExceededError, MalformedError


def test_values_are_written_as_rfc_8785_says() -> None:
    value = {"€": "Euro Sign", "\r": "Carriage Return", "1": "One", "😀": "Emoji", "\ufb33": "Dalet", "ö": [None, True]}

    assert canonical.dumps(value).decode() == (
        '{"\\r":"Carriage Return","1":"One","ö":[null,true],"€":"Euro Sign","😀":"Emoji","\ufb33":"Dalet"}'
    )


def test_nothing_follows_the_value() -> None:
    assert canonical.dumps({}) == b"{}"


@pytest.mark.parametrize(
    "value", [1.5, [1.0], {"a": float("nan")}, {1: 2}, {"a": object()}, 2**53, {"\ud800": 1}, ["\udfff"], b"bytes"]
)
def test_values_without_a_canonical_form_are_refused(value: Any) -> None:
    with pytest.raises(MalformedError):
        canonical.dumps(value)


def test_a_value_that_contains_itself_or_is_too_deep_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: list[Any] = []
    for _ in range(limits.JSON_DEPTH):
        deep = [deep]

    for value in (circle, deep):
        with pytest.raises(MalformedError):
            canonical.dumps(value, allow_floats=True)


@pytest.mark.parametrize(
    "untrusted",
    [
        b"",
        b" ",
        b"{",
        b"[1,]",
        b"{}{}",
        b"1 2",
        b"'a'",
        b"{'a':1}",
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'[{"b":{"a":1,"a":2}}]',
        b"1.0",
        b"1e3",
        b"-0",
        b"01",
        b"+1",
        b"0x10",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"9007199254740992",
        b"-9007199254740992",
        b"1" + b"0" * 5000,
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'{"\\udead":1}',
        b'["\\uD83D"]',
        b'"\x01"',
        b'"\n"',
        b'"\\x41"',
        b'"\xff"',
        b'"\xc0\xaf"',
        b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        b"{}\x00",
        b"/* */{}",
        b"]" + b"[" * (limits.JSON_DEPTH + 1),
        b"[]" * limits.JSON_DEPTH + b"]]",
        b"[" * (limits.JSON_DEPTH + 1) + b"]" * (limits.JSON_DEPTH + 1),
        b'{"a":' * (limits.JSON_DEPTH + 1) + b"1" + b"}" * (limits.JSON_DEPTH + 1),
    ],
)
def test_bytes_that_two_readers_could_understand_differently_are_refused(untrusted: bytes) -> None:
    with pytest.raises(MalformedError):
        canonical.loads(untrusted)


@pytest.mark.parametrize(
    ("untrusted", "value"),
    [
        (b"null", None),
        (b' {"a" : [1, -2, true] }\n', {"a": [1, -2, True]}),
        (b"9007199254740991", 2**53 - 1),
        (b"-9007199254740991", 1 - 2**53),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"\\\\ud800"', "\\ud800"),
        (b'"[[[["', "[[[["),
        (b"[" * limits.JSON_DEPTH + b"]" * limits.JSON_DEPTH, None),
        (b"[[]," + b"[" * (limits.JSON_DEPTH - 1) + b"]" * limits.JSON_DEPTH, None),
        (b"[" + b'"' + b"[" * 100 + b'"' + b',"\\"[[{{"]', None),
    ],
)
def test_plain_json_is_read(untrusted: bytes, value: Any) -> None:
    read = canonical.loads(untrusted)

    assert value is None or read == value


def test_a_document_at_the_limit_is_read_and_one_above_is_not() -> None:
    document = b'"' + b"x" * 98 + b'"'

    assert canonical.loads(document, max_bytes=100)
    with pytest.raises(LimitExceededError):
        canonical.loads(document, max_bytes=99)


@pytest.mark.parametrize(
    "bomb",
    [
        b"[" * limits.JSON_BYTES,
        b'"' + b'\\"' * (limits.JSON_BYTES // 2 - 1) + b"\\",
        b"[" * 40 + b'"' * (limits.JSON_BYTES - 40),
        b"[" * 40 + b'\\"' * (limits.JSON_BYTES // 2 - 20),
        b"[]" * (limits.JSON_CONTAINERS // 2),
        b"[]" * (limits.JSON_BYTES // 2),
        b"[" * 40 + b"]" * (limits.JSON_BYTES - 40),
        b"[" * 20 + b"]" * 19 + b"[]," * 20 + b'"",' * (limits.JSON_BYTES // 4),
        b"9" * limits.JSON_BYTES,
        b"[" + b'"\\ud800",' * 1000,
    ],
    ids=[
        "depth",
        "open string",
        "quotes",
        "escapes",
        "pairs",
        "more pairs",
        "closed",
        "strings",
        "digits",
        "surrogates",
    ],
)
def test_a_document_made_to_be_slow_is_refused_quickly(bomb: bytes) -> None:
    started = time.process_time()

    with pytest.raises(MalformedError):
        canonical.loads(bomb)

    assert time.process_time() - started < 1.5


def test_floats_are_read_and_written_only_where_they_are_asked_for() -> None:
    assert canonical.loads(b"[0.7,1e2]", allow_floats=True) == [0.7, 100.0]
    assert canonical.dumps([0.7, 1e21, -0.0], allow_floats=True) == b"[0.7,1e+21,0]"
    for untrusted in (b"1e999", b"-1e999", b"NaN"):
        with pytest.raises(MalformedError):
            canonical.loads(untrusted, allow_floats=True)


@pytest.mark.parametrize("untrusted", [b' {"a":1}', b'{"a":1}\n', b'{"b":1,"a":2}', b'"\\u0061"', b'{"a": 1}'])
def test_a_file_of_the_format_has_one_form(untrusted: bytes) -> None:
    with pytest.raises(MalformedError, match="canonical form"):
        canonical.loads_canonical(untrusted)


def test_the_one_form_is_read() -> None:
    assert canonical.loads_canonical(b'{"a":"\xc3\xa4","b":[]}') == {"a": "ä", "b": []}


class _Colour(StrEnum):
    RED = "red"


def test_field_readers_return_what_they_were_asked_for() -> None:
    assert canonical.mapping({"a": 1}, "x") == {"a": 1}
    assert canonical.array([1], "x") == [1]
    assert canonical.text("Ångström 漢字", "x") == "Ångström 漢字"
    assert canonical.text("", "x", may_be_empty=True) == ""
    assert canonical.text("ab", "x", most=2) == "ab"
    assert canonical.text("a\n\tb", "x", lines=True) == "a\n\tb"
    assert canonical.integer(0, "x") == 0
    assert canonical.boolean(False, "x") is False
    assert canonical.sha256_hex("0f" * 32, "x") == "0f" * 32
    assert canonical.moment("2026-11-20T08:00:00Z", "x").isoformat() == "2026-11-20T08:00:00+00:00"
    assert canonical.one_of("red", _Colour, "x") is _Colour.RED
    assert canonical.exact_keys({"a": 1, "b": 2}, ("a",), ("b", "c"), "x") == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("reader", "value"),
    [
        (canonical.mapping, []),
        (canonical.mapping, None),
        (canonical.array, {}),
        (canonical.array, "ab"),
        (canonical.text, 1),
        (canonical.text, None),
        (canonical.text, ""),
        (canonical.text, "a\nb"),
        (canonical.text, "a\x1b[31m"),
        (canonical.text, "a\x85b"),
        (canonical.text, "a\u2028b"),
        (canonical.text, "abc\u202edef"),
        (canonical.text, "x" * (limits.TEXT_CHARS + 1)),
        (canonical.integer, True),
        (canonical.integer, "1"),
        (canonical.integer, 1.0),
        (canonical.integer, -1),
        (canonical.boolean, 1),
        (canonical.boolean, None),
        (canonical.sha256_hex, "0F" * 32),
        (canonical.sha256_hex, "0f" * 31),
        (canonical.sha256_hex, "0f" * 32 + "\n"),
        (canonical.sha256_hex, "٣" * 64),
        (canonical.sha256_hex, None),
        (canonical.moment, "2026-11-20T08:00:00+00:00"),
        (canonical.moment, "2026-11-20 08:00:00Z"),
        (canonical.moment, "2026-02-30T08:00:00Z"),
        (canonical.moment, "2026-11-20T08:00:00.5Z"),
        (canonical.moment, "٢026-11-20T08:00:00Z"),
        (canonical.moment, 0),
    ],
)
def test_field_readers_refuse_everything_else_and_name_the_field(reader: Any, value: Any) -> None:
    with pytest.raises(MalformedError, match="The seal") as caught:
        reader(value, "The seal")

    assert caught.value.why


def test_field_readers_refuse_values_outside_what_they_were_given() -> None:
    for call in (
        lambda: canonical.array([1, 2], "x", most=1),
        lambda: canonical.text("ab", "x", most=1),
        lambda: canonical.text("a\rb", "x", lines=True),
        lambda: canonical.integer(4, "x", maximum=3),
        lambda: canonical.one_of("blue", _Colour, "x"),
        lambda: canonical.one_of(None, _Colour, "x"),
        lambda: canonical.exact_keys({"a": 1}, ("a", "b"), (), "x"),
        lambda: canonical.exact_keys({"a": 1, "z": 1}, ("a",), ("b",), "x"),
        lambda: canonical.exact_keys([], (), (), "x"),
    ):
        with pytest.raises(MalformedError):
            call()
