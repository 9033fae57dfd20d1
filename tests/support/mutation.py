"""Strategies that bend something valid: bytes and JSON values that are almost right."""

import copy
from typing import Any

from hypothesis import strategies as st

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["0f" * 32, "AB" * 20, "ab" * 20, "data/x", "../x", "2026-11-20T08:00:00Z", "", "\ud800", "\x00"])
)

json_values: st.SearchStrategy[Any] = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)

# What `canonical.dumps` may be given: no floats, no lone surrogates, exact integers.
_TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
canonical_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | _TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_TEXTS, inner, max_size=5),
    max_leaves=20,
)


@st.composite
def bent_bytes(draw: st.DrawFn, valid: bytes) -> bytes:
    """Return the bytes with a few of them changed, inserted, doubled or taken away; sometimes with none."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        what = draw(st.sampled_from(["flip", "insert", "remove", "double", "cut"]))
        if what == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif what == "remove":
            del data[at : at + draw(st.integers(1, 8))]
        elif what == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 40))]
        elif what == "cut":
            del data[at:]
    return bytes(data)


@st.composite
def bent_json(draw: st.DrawFn, valid: Any) -> Any:
    """Return the JSON value with a few of its parts replaced, added, doubled or taken away."""
    value = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        at: Any = value
        parent: Any = None
        key: Any = None
        while isinstance(at, dict | list) and at and draw(st.integers(0, 4)):
            parent = at
            key = draw(st.sampled_from(sorted(at))) if isinstance(at, dict) else draw(st.integers(0, len(at) - 1))
            at = at[key]
        if parent is None:
            if isinstance(value, dict):
                value[draw(st.text(max_size=8))] = draw(json_values)
        elif draw(st.booleans()):
            parent[key] = draw(json_values)
        elif isinstance(parent, list):
            parent.insert(0, parent[key]) if draw(st.booleans()) else parent.pop(key)
        else:
            del parent[key]
    return value
