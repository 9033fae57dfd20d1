"""A promotion's file has one form, and the chain of them has one reading."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import ConflictError, NotPromotedError
from appliance.promote.approvals import Approval
from appliance.promote.folder import PromoterFolder
from appliance.promote.history import Production, replay
from appliance.promote.record import Kind, Promotion
from media.errors import MalformedError
from tests.support.promotion import digest
from tests.unit.appliance.promote.test_statement import STATEMENT

A, B = digest("A"), digest("B")
NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
YES = Approval(person="ana-petrova", name="Ana Petrova", fingerprint="F" * 40, signature=b"signature")


def made(production: Production, version: str, **changes: Any) -> Promotion:
    statement = replace(STATEMENT, model_digest=version, nonce=f"{production.number:032x}")
    promotion = Promotion(
        number=production.number + 1,
        before=production.before,
        kind=Kind.MADE,
        sequence=10 * (production.number + 1),
        leaf_hash=digest("leaf"),
        at=NOW,
        model_digest=version,
        previous=production.current,
        statement=statement.to_bytes().decode(),
        approvals=(YES,),
        requested_by="ana-petrova",
    )
    return replace(promotion, **changes)


def alone(production: Production, kind: Kind, model_digest: str | None, **changes: Any) -> Promotion:
    promotion = replace(made(production, A), kind=kind, model_digest=model_digest, statement="", approvals=())
    return replace(promotion, requested_by="", person="ben-okafor", person_class="operator", reason="worse", **changes)


def with_a_and_b() -> Production:
    production = Production()
    production.take(made(production, A))
    production.take(made(production, B))
    return production


def test_a_promotion_comes_back_from_its_bytes() -> None:
    production = with_a_and_b()

    for promotion in (
        *production.promotions,
        alone(production, Kind.ROLLED_BACK, A),
        alone(production, Kind.STOPPED, None),
    ):
        assert Promotion.from_bytes(promotion.to_bytes()) == promotion


@pytest.mark.parametrize(
    "changes",
    [
        {"statement": ""},
        {"approvals": ()},
        {"requested_by": ""},
        {"reason": "alone"},
        {"model_digest": None},
    ],
)
def test_a_promotion_forward_brings_statement_and_approvals_and_nothing_else(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        Promotion.from_bytes(made(Production(), A, **changes).to_bytes())


@pytest.mark.parametrize("changes", [{"person": ""}, {"reason": ""}, {"person_class": ""}, {"statement": "{}"}])
def test_going_back_brings_a_person_and_a_reason_and_nothing_else(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        Promotion.from_bytes(replace(alone(with_a_and_b(), Kind.ROLLED_BACK, A), **changes).to_bytes())


def test_a_stop_serves_nothing_and_going_back_something() -> None:
    for kind, serves in ((Kind.STOPPED, A), (Kind.ROLLED_BACK, None)):
        with pytest.raises(MalformedError):
            Promotion.from_bytes(alone(with_a_and_b(), kind, serves).to_bytes())


@pytest.mark.parametrize(
    ("field", "value"),
    [("kind", "sideways"), ("number", 0), ("at", "now"), ("leaf_hash", "x"), ("before", "x"), ("approvals", {})],
)
def test_a_field_of_another_shape_is_refused(field: str, value: object) -> None:
    fields = {**json.loads(made(Production(), A).to_bytes()), field: value}

    with pytest.raises(MalformedError):
        Promotion.from_bytes(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode())


def test_the_chain_says_what_serves_and_where_one_may_go_back_to() -> None:
    production = with_a_and_b()

    assert (production.current, production.returnable, production.number) == (B, (A,), 2)
    production.take(alone(production, Kind.ROLLED_BACK, A))
    assert (production.current, production.returnable) == (A, ())
    production.take(alone(production, Kind.STOPPED, None))
    assert (production.current, production.returnable, production.first.is_stopped) == (None, (), True)
    assert replay(production.promotions).current is None


@pytest.mark.parametrize(
    "changes",
    [
        {"number": 4},
        {"before": digest("elsewhere")},
        {"sequence": 20},
        {"previous": A},
        {"model_digest": A},
        {"statement": "{}"},
    ],
)
def test_a_promotion_that_does_not_follow_is_refused(changes: dict[str, Any]) -> None:
    production = with_a_and_b()

    with pytest.raises(NotPromotedError):
        production.take(made(production, digest("C"), **changes))


def test_a_nonce_is_used_once() -> None:
    production = with_a_and_b()
    again = production.promotions[0].statement

    with pytest.raises(NotPromotedError):
        production.take(made(production, A, statement=again))


def test_nothing_is_stopped_twice_and_nothing_unknown_is_gone_back_to() -> None:
    production = with_a_and_b()
    for wrong in (B, digest("C")):
        with pytest.raises(NotPromotedError):
            production.take(alone(production, Kind.ROLLED_BACK, wrong))
    production.take(alone(production, Kind.STOPPED, None))

    with pytest.raises(NotPromotedError):
        production.take(alone(production, Kind.STOPPED, None))


def test_a_promotions_file_is_written_once(tmp_path: Path) -> None:
    folder = PromoterFolder(tmp_path)
    folder.save_promotion(made(Production(), A))

    with pytest.raises(ConflictError):
        folder.save_promotion(made(Production(), A))
    assert [path.name for path in (tmp_path / "promotions").iterdir()] == ["000001.json"]


def test_a_file_that_says_another_number_is_refused(tmp_path: Path) -> None:
    folder = PromoterFolder(tmp_path)
    folder.save_promotion(made(Production(), A))
    (tmp_path / "promotions/000001.json").rename(tmp_path / "promotions/000002.json")
    folder.save_promotion(made(Production(), A))

    with pytest.raises(NotPromotedError):
        folder.production()
