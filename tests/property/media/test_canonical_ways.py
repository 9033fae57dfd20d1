"""Most canonical documents are read a shorter way: it takes and refuses exactly what the long one does."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from media import canonical
from media.errors import MediaError

NUMBERS = st.integers(-(2**60), 2**60) | st.sampled_from([2**53 - 1, 2**53, -(2**53), -0.0, 0.5, 1e21, float("nan")])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(st.characters(max_codepoint=0x200), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


def the_long_way(untrusted: bytes, *, allow_floats: bool) -> Any:
    try:
        value = canonical.loads(untrusted, allow_floats=allow_floats)
        return repr(value) if canonical.dumps(value, allow_floats=allow_floats) == untrusted else None
    except MediaError:
        return None


def the_short_way(untrusted: bytes, *, allow_floats: bool) -> Any:
    try:
        return repr(canonical.loads_canonical(untrusted, allow_floats=allow_floats))
    except MediaError:
        return None


@given(
    value=st.dictionaries(st.text(max_size=4), VALUES, max_size=4),
    sort=st.booleans(),
    ascii_only=st.booleans(),
    cut=st.tuples(st.integers(0, 400), st.integers(0, 3), st.sampled_from([b"", b" ", b"0", b"-", b'"', b"\\u0001"])),
    allow_floats=st.booleans(),
)
@example(value={"a": 2**53}, sort=True, ascii_only=False, cut=(400, 0, b""), allow_floats=False)
@example(value={"a": -1}, sort=True, ascii_only=False, cut=(6, 1, b"0"), allow_floats=False)
@example(value={"a": float("nan")}, sort=True, ascii_only=False, cut=(400, 0, b""), allow_floats=True)
def test_both_ways_take_the_same_bytes(
    *, value: dict[str, Any], sort: bool, ascii_only: bool, cut: tuple[int, int, bytes], allow_floats: bool
) -> None:
    text = json.dumps(value, sort_keys=sort, ensure_ascii=ascii_only, separators=(",", ":"))
    untrusted = text.encode(errors="replace")
    at, length, put = cut
    untrusted = untrusted[:at] + put + untrusted[at + length :]

    short = the_short_way(untrusted, allow_floats=allow_floats)
    assert short == the_long_way(untrusted, allow_floats=allow_floats)


def test_what_only_the_long_way_refuses_is_left_to_it() -> None:
    for untrusted in (
        b'{"a":1,"a":1}',
        b'{"a":9007199254740992}',
        b'{"a":-0}',
        b'{"a":NaN}',
        b'{"a":1.0}',
        b'{"b":1,"a":1}',
        b'{"a":1} ',
        b'{"a":"\\u00e4"}',
        b'{"a":' * 40 + b"1" + b"}" * 40,
    ):
        assert the_short_way(untrusted, allow_floats=False) is None, untrusted
        assert the_long_way(untrusted, allow_floats=False) is None, untrusted
