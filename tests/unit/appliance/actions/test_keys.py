"""A key is shown once and kept as a keyed hash."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from appliance.actions.keys import NewKey, Validity, create, in_force, list_keys, purposes, revoke
from appliance.audit.memory import MemoryLedger
from appliance.errors import KeyMissingError, LedgerUnavailableError
from appliance.keys.files import FileKeys, create_missing
from appliance.state.database import open_state
from media.clock import FixedClock
from media.errors import MalformedError, UsageError
from tests.support.promotion import site_config


@pytest.fixture
def keys(tmp_path: Path) -> FileKeys:
    create_missing(tmp_path / "keys")
    return FileKeys(tmp_path / "keys")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Engine]:
    engine = open_state(site_config(tmp_path).at)
    yield engine
    engine.dispose()


def make(ledger: MemoryLedger, state: Engine, keys: FileKeys) -> NewKey:
    return create(ledger, state, keys, department="radiology", owner="Ana", phi_mode="tokenise")


def test_a_key_is_made_recorded_and_kept_only_as_a_keyed_hash(state: Engine, keys: FileKeys) -> None:
    ledger = MemoryLedger()

    made = make(ledger, state, keys)

    assert re.fullmatch(r"sl-[a-z2-7]{10}-[A-Za-z0-9_-]{43}", made.text)
    (leaf,) = ledger.find(kind="key.created")
    assert leaf.body["secret_hmac"] == keys.hmac("api-key-pepper", made.text.encode()).hex()
    assert made.text.encode() not in leaf.raw
    assert made.text not in repr(made)
    assert list_keys(state) == (made.facts,)


def test_what_a_key_is_for_is_recorded_once_and_found_again(state: Engine, keys: FileKeys) -> None:
    ledger = MemoryLedger()
    asked: dict[str, Any] = {"department": "d", "owner": "o", "phi_mode": "pass"}

    care = create(ledger, state, keys, **asked, validity=Validity(purpose="care"))
    create(ledger, state, keys, **asked)

    assert care.facts.to_json()["purpose"] == "care"
    assert purposes(ledger) == {care.facts.key_id: "care"}
    for odd in ("Care", "for care", "x" * 33, "patient:ann", "-", "\u0441are"):
        with pytest.raises(UsageError, match="no word"):
            create(ledger, state, keys, **asked, validity=Validity(purpose=odd))
    assert len(ledger.find(kind="key.created")) == 2


def test_a_revoked_key_stays_in_the_list_and_ends_once(state: Engine, keys: FileKeys) -> None:
    ledger = MemoryLedger()
    made = make(ledger, state, keys)

    for _ in range(2):
        facts = revoke(ledger, state, key_id=made.facts.key_id, reason="left")

    assert facts.revoked_at is not None
    assert len(ledger.find(kind="key.revoked")) == 1


def test_what_is_not_a_mode_a_tier_or_a_name_is_refused(state: Engine, keys: FileKeys) -> None:
    ledger = MemoryLedger()
    for changes in ({"phi_mode": "ignore"}, {"tier": "gold"}):
        asked: dict[str, Any] = {"department": "d", "owner": "o", "phi_mode": "pass", **changes}
        with pytest.raises(UsageError):
            create(ledger, state, keys, **asked)
    for changes in ({"department": " "}, {"owner": "a\nb"}):
        asked = {"department": "d", "owner": "o", "phi_mode": "pass", **changes}
        with pytest.raises(MalformedError):
            create(ledger, state, keys, **asked)
    with pytest.raises(UsageError):
        revoke(ledger, state, key_id="nothing", reason="x")
    assert ledger.find(kind="key.created") == []


def test_without_pepper_or_ledger_there_is_no_key(state: Engine, keys: FileKeys, tmp_path: Path) -> None:
    ledger = MemoryLedger()
    with pytest.raises(KeyMissingError):
        create(ledger, state, FileKeys(tmp_path), department="d", owner="o", phi_mode="pass")
    ledger.available = False
    with pytest.raises(LedgerUnavailableError):
        make(ledger, state, keys)
    assert list_keys(state) == ()


def test_a_key_for_test_always_ends_and_says_so(state: Engine, keys: FileKeys) -> None:
    ledger, clock = MemoryLedger(), FixedClock(datetime(2026, 11, 20, tzinfo=UTC))
    for stage, days in (("test", 0), ("test", 7), ("production", 0), ("production", 365)):
        validity = Validity.of(stage, days, clock)
        create(ledger, state, keys, department="radiology", owner="Ana", phi_mode="tokenise", validity=validity)

    found = {(one.stage, one.expires_at) for one in list_keys(state)}

    assert found == {
        ("test", "2026-12-20T00:00:00Z"),
        ("test", "2026-11-27T00:00:00Z"),
        ("production", None),
        ("production", "2027-11-20T00:00:00Z"),
    }


def test_only_keys_that_callers_may_use_now_are_in_force(state: Engine, keys: FileKeys) -> None:
    ledger, clock = MemoryLedger(), FixedClock(datetime(2026, 11, 20, tzinfo=UTC))
    for days in (0, 7, 365):
        validity = Validity.of("production", days, clock)
        create(ledger, state, keys, department="radiology", owner="Ana", phi_mode="tokenise", validity=validity)
    revoked = make(ledger, state, keys).facts.key_id
    revoke(ledger, state, key_id=revoked, reason="it leaked")

    clock.advance(7 * 86400)

    assert sorted(str(one.expires_at) for one in in_force(state, clock)) == ["2027-11-20T00:00:00Z", "None"]
    assert revoked not in {one.key_id for one in in_force(state, clock)}


@pytest.mark.parametrize(("stage", "days"), [("staging", 0), ("test", -1), ("production", 3661)])
def test_a_stage_or_an_end_that_is_none_makes_no_key(stage: str, days: int) -> None:
    with pytest.raises(UsageError):
        Validity.of(stage, days, FixedClock(datetime(2026, 11, 20, tzinfo=UTC)))


def test_a_key_for_test_says_so_has_the_lowest_tier_and_is_hashed_under_a_pepper_of_its_own(
    state: Engine, keys: FileKeys
) -> None:
    ledger, clock = MemoryLedger(), FixedClock(datetime(2026, 11, 20, tzinfo=UTC))
    asked: dict[str, Any] = {"department": "radiology", "owner": "Ana", "phi_mode": "tokenise"}

    made = create(ledger, state, keys, **asked, validity=Validity.of("test", 0, clock))
    faster = create(ledger, state, keys, **asked, tier="standard", validity=Validity.of("test", 0, clock))

    assert re.fullmatch(r"sl-test-[a-z2-7]{10}-[A-Za-z0-9_-]{43}", made.text)
    assert (made.facts.tier, faster.facts.tier, make(ledger, state, keys).facts.tier) == (
        "basic",
        "standard",
        "standard",
    )
    leaf = ledger.find(kind="key.created", field="key_id", value=made.facts.key_id)[0]
    assert leaf.body["secret_hmac"] == keys.hmac("test-api-key-pepper", made.text.encode()).hex()
    assert leaf.body["secret_hmac"] != keys.hmac("api-key-pepper", made.text.encode()).hex()
