"""The statement has one byte form."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from appliance.errors import ApprovalRefusedError
from appliance.promote.statement import Statement
from media.errors import MalformedError, SealiftError
from tests.support.promotion import digest

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
STATEMENT = Statement(
    site="demo",
    model_digest=digest("m"),
    weights_digest=digest("w"),
    evidence_digest=digest("e"),
    policy_digest=digest("p"),
    meaning="zur Freigabe geprüft",
    nonce="0" * 32,
    requested_by="ana-petrova",
    requested_at=NOW,
    expires=NOW + timedelta(hours=72),
)


def test_a_statement_comes_back_from_its_bytes() -> None:
    assert Statement.from_bytes(STATEMENT.to_bytes()) == STATEMENT


def test_a_statement_changes_its_digest_with_every_field() -> None:
    changed = [
        replace(STATEMENT, model_digest=digest("other")),
        replace(STATEMENT, evidence_digest=digest("other")),
        replace(STATEMENT, nonce="1" * 32),
        replace(STATEMENT, expires=NOW),
    ]

    assert len({one.sha256 for one in (STATEMENT, *changed)}) == 5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 3),
        ("type", "sealift/other"),
        ("nonce", "0" * 31),
        ("nonce", "g" * 32),
        ("meaning", ""),
        ("meaning", "two\nlines"),
        ("meaning", "x" * 501),
        ("model_digest", "abc"),
        ("requested_at", "2026-1-20T08:00:00Z"),
        ("expires", "never"),
        ("site", 7),
    ],
)
def test_a_field_of_another_shape_is_refused(field: str, value: object) -> None:
    fields = json.loads(STATEMENT.to_bytes())
    raw = json.dumps({**fields, field: value}, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    with pytest.raises((MalformedError, ApprovalRefusedError)):
        Statement.from_bytes(raw)


def test_a_missing_or_further_field_is_refused() -> None:
    fields = json.loads(STATEMENT.to_bytes())
    without = {name: value for name, value in fields.items() if name != "nonce"}

    for changed in (without, {**fields, "zebra": 1}):
        with pytest.raises(MalformedError):
            Statement.from_bytes(json.dumps(changed, sort_keys=True, separators=(",", ":")).encode())


def test_the_same_fields_in_other_bytes_are_refused() -> None:
    with pytest.raises(SealiftError):
        Statement.from_bytes(json.dumps(json.loads(STATEMENT.to_bytes())).encode())
