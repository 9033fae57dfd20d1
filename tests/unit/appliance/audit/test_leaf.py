import json
from types import MappingProxyType
from typing import Any

import pytest
import rfc8785

from appliance.audit.leaf import Leaf, Via, encode, encode_body, require_kind
from appliance.errors import LedgerDamagedError, LedgerRefusedError

GOOD: dict[str, Any] = {
    "schema": 1,
    "origin": "sealift/demo/0a1b2c3d",
    "sequence": 5,
    "time": "2026-11-20T08:00:00Z",
    "kind": "request.intent",
    "via": {"door": "ledger-gateway", "uid": 1000},
    "body": {"b": 1, "a": [True, None, "ü"], "ratio": 0.25},
}


def parts(members: dict[str, Any]) -> dict[str, Any]:
    via = Via(**members["via"])
    body = encode_body(members["kind"], members["body"])
    return {**{name: members[name] for name in ("origin", "sequence", "time", "kind")}, "via": via, "body": body}


def test_a_leaf_is_the_canonical_json_of_its_members() -> None:
    assert encode(**parts(GOOD)) == rfc8785.dumps(GOOD)


def test_a_leaf_of_one_of_several_nodes_names_the_node() -> None:
    of_node = {**GOOD, "via": {**GOOD["via"], "node": "b-2"}}
    raw = encode(**parts(of_node))

    assert raw == rfc8785.dumps(of_node)
    assert Leaf.from_bytes(raw).via == Via(door="ledger-gateway", uid=1000, node="b-2")
    assert Leaf.of_ours(raw, hashed="", chain="").via.node == "b-2"


def test_a_leaf_reads_back_as_it_was_written() -> None:
    raw = encode(**parts(GOOD))

    leaf = Leaf.from_bytes(raw)

    assert (leaf.origin, leaf.sequence, leaf.time, leaf.kind) == (
        "sealift/demo/0a1b2c3d",
        5,
        "2026-11-20T08:00:00Z",
        "request.intent",
    )
    assert leaf.via == Via(door="ledger-gateway", uid=1000)
    assert leaf.body == GOOD["body"]
    assert leaf.raw == raw
    assert Leaf.of_ours(raw, hashed=leaf.hash, chain="") == leaf


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"schema": True},
        {"schema": None},
        {"extra": 1},
        {"sequence": -1},
        {"sequence": "5"},
        {"sequence": True},
        {"time": "2026-11-20 08:00:00"},
        {"time": "2026-13-20T08:00:00Z"},
        {"time": 5},
        {"kind": "Request.Intent"},
        {"kind": "request"},
        {"kind": 7},
        {"origin": "sealift/demo"},
        {"origin": None},
        {"body": []},
        {"body": "text"},
        {"via": {}},
        {"via": "root"},
        {"via": {"door": "ledger-gateway", "uid": -1}},
        {"via": {"door": "ledger-gateway", "uid": 1, "pid": 2}},
        {"via": {"door": 3, "uid": 1}},
        {"via": {"door": "ledger-gateway", "node": "", "uid": 1}},
        {"via": {"door": "ledger-gateway", "node": "B", "uid": 1}},
    ],
)
def test_any_other_form_is_damage(change: dict[str, Any]) -> None:
    with pytest.raises(LedgerDamagedError):
        Leaf.from_bytes(rfc8785.dumps({**GOOD, **change}))


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_every_member_is_needed(missing: str) -> None:
    with pytest.raises(LedgerDamagedError):
        Leaf.from_bytes(rfc8785.dumps({name: value for name, value in GOOD.items() if name != missing}))


def test_the_same_values_in_another_form_are_damage() -> None:
    for untrusted in (
        json.dumps(GOOD).encode(),
        json.dumps(GOOD, sort_keys=True, separators=(",", ":")).encode(),
        rfc8785.dumps(GOOD) + b"\n",
        b" " + rfc8785.dumps(GOOD),
        rfc8785.dumps(GOOD).replace(b'{"a":', b'{"a":1,"a":'),
        rfc8785.dumps(GOOD).replace(b"0.25", b"0.250"),
    ):
        with pytest.raises(LedgerDamagedError):
            Leaf.from_bytes(untrusted)


def test_a_very_long_leaf_is_refused_without_parsing() -> None:
    with pytest.raises(LedgerDamagedError):
        Leaf.from_bytes(b"[" * (3 * 1024 * 1024))


def test_bytes_that_are_no_leaf_are_damage_for_a_reader_in_a_hurry_too() -> None:
    for untrusted in (b"", b"{}", b"[]", b"\xff", b'{"origin":1}', b"[" * 100000):
        with pytest.raises(LedgerDamagedError):
            Leaf.of_ours(untrusted, hashed="", chain="")


@pytest.mark.parametrize(
    "body",
    [
        {"b": "ä", "a": "é"},
        {"\ufb33": 1, "\U0001f600": 2, "z": 3, "€": 4},
        {"control": '\x00\x1f\x7f"\\/\b\f\n\r\t\u2028'},
        {"float": 1e21, "small": 1e-7, "zero": -0.0, "whole": 3.0},
        {"deep": [[[{"x": ()}]]]},
        {},
    ],
)
def test_bodies_have_the_one_form_of_rfc_8785(body: dict[str, Any]) -> None:
    if any(isinstance(value, float) and abs(value) > 2**53 for value in body.values()):
        with pytest.raises(LedgerRefusedError):
            encode_body("a.b", body)
        return

    assert encode_body("a.b", body) == rfc8785.dumps(body)


def test_mappings_that_are_no_dictionaries_are_welcome() -> None:
    inner = MappingProxyType({"y": 1, "ü": 2})

    assert encode_body("a.b", MappingProxyType({"x": inner})) == '{"x":{"y":1,"ü":2}}'.encode()
    assert encode_body("a.b", MappingProxyType({"x": MappingProxyType({"y": 1})})) == b'{"x":{"y":1}}'


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"a": {"b": 2**53}}, "body.a.b"),
        ({"a": -(2**53)}, "body.a"),
        ({"a": 10**400}, "body.a"),
        ({"a": float("nan")}, "body.a"),
        ({"a": [float("inf")]}, "body.a[]"),
        ({"a": b"bytes"}, "bytes"),
        ({"a": {1: 2}}, "body.a"),
        ({"a": object()}, "object"),
        ({"a": "\ud800"}, ""),
        ({"\ud800": 1}, ""),
        ({"a": "x" * (1024 * 1024)}, "limit"),
        ([], "object"),
    ],
)
def test_what_has_no_place_in_a_record_is_refused_by_name(body: Any, where: str) -> None:
    with pytest.raises(LedgerRefusedError) as caught:
        encode_body("a.b", body)

    assert where in caught.value.why


def test_nesting_has_a_limit() -> None:
    body: dict[str, Any] = {}
    for _ in range(40):
        body = {"a": body}

    with pytest.raises(LedgerRefusedError):
        encode_body("a.b", body)


@pytest.mark.parametrize(
    "kind", ["", "a", "A.b", "a.", ".a", "a..b", "a.b.c.d.e", "a b.c", "a.b\n", "a." + "x" * 40, 5, None]
)
def test_kinds_are_words_joined_by_dots(kind: object) -> None:
    with pytest.raises(LedgerRefusedError):
        require_kind(kind)


def test_ordinary_kinds_pass() -> None:
    assert [require_kind(kind) for kind in ("request.intent", "promotion.rolled-back", "a.b.c")]
