"""A key is shown once and kept as a keyed hash."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from appliance.actions.keys import NewKey, create, list_keys, revoke
from appliance.audit.memory import MemoryLedger
from appliance.errors import KeyMissingError, LedgerUnavailableError
from appliance.keys.files import FileKeys, create_missing
from appliance.state.database import open_state
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
        with pytest.raises(UsageError):
            create(ledger, state, keys, **{"department": "d", "owner": "o", "phi_mode": "pass", **changes})
    for changes in ({"department": " "}, {"owner": "a\nb"}):
        with pytest.raises(MalformedError):
            create(ledger, state, keys, **{"department": "d", "owner": "o", "phi_mode": "pass", **changes})
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
