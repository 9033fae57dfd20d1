"""Any bytes become a leaf, a note, a checkpoint, or one of our errors; what is written reads back the same."""

import json
from typing import Any

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit.leaf import Leaf, Via, encode, encode_body
from appliance.audit.note import Checkpoint, VerifierKey, verify
from appliance.errors import LedgerDamagedError, LedgerRefusedError, ProofError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(st.characters(), max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
BODIES = st.dictionaries(st.text(max_size=6), VALUES, max_size=5)


def leaf_of(body: dict[str, Any]) -> bytes:
    encoded = encode_body("a.b", body)
    via = Via(door="ledger-actions", uid=0)
    return encode(
        origin="sealift/demo/0a1b2c3d", sequence=1, time="2026-11-20T08:00:00Z", kind="a.b", via=via, body=encoded
    )


@given(BODIES)
def test_any_body_is_canonical_and_reads_back_or_is_refused(body: dict[str, Any]) -> None:
    try:
        raw = leaf_of(body)
    except LedgerRefusedError:
        return

    assert Leaf.from_bytes(raw).body == json.loads(rfc8785.dumps(body))
    assert encode_body("a.b", body) == rfc8785.dumps(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_leaf_or_damage(untrusted: bytes) -> None:
    try:
        Leaf.from_bytes(untrusted)
    except LedgerDamagedError:
        return
    raise AssertionError(untrusted)


@given(BODIES, st.integers(0, 400), st.integers(1, 255))
def test_no_changed_byte_of_a_leaf_goes_unnoticed(body: dict[str, Any], at: int, mask: int) -> None:
    try:
        raw = bytearray(leaf_of(body))
    except LedgerRefusedError:
        return
    raw[at % len(raw)] ^= mask
    before = Leaf.from_bytes(leaf_of(body))

    try:
        after = Leaf.from_bytes(bytes(raw))
    except LedgerDamagedError:
        return

    assert after.hash != before.hash


LINES = st.lists(st.sampled_from(["", "o", "1", "— k AAAAAAA=", "—", "text", "A" * 43 + "="]) | st.text(max_size=30))


@given(LINES.map("\n".join) | st.text())
def test_any_text_is_a_note_or_no_proof(untrusted: str) -> None:
    for parse in (lambda text: verify(text, []), Checkpoint.from_text, VerifierKey.from_text):
        try:
            parse(untrusted)
        except ProofError:
            continue


@given(st.integers(0, 2**63), st.binary(min_size=32, max_size=32), st.text("abc/-", min_size=1, max_size=20))
def test_checkpoints_read_back_as_they_were_written(size: int, root: bytes, origin: str) -> None:
    checkpoint = Checkpoint(origin=origin, size=size % 10**19, root=root)

    assert Checkpoint.from_text(checkpoint.to_text()) == checkpoint
