"""What was recorded of one API key, from its first record on, in either order."""

from datetime import UTC, datetime
from typing import Any

import pytest

from appliance.actions.auditing import ofkey
from appliance.actions.auditing.ofkey import records_of
from appliance.audit.memory import MemoryLedger
from media.clock import FixedClock
from tests.support.ledger import bodies


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> MemoryLedger:
    monkeypatch.setattr(ofkey, "_PAGE", 3)
    made = MemoryLedger(FixedClock(datetime(2026, 11, 20, tzinfo=UTC)))
    for turn in range(5):
        made.append("clock.seen", {"turn": turn})
    for key in ("k1", "k2"):
        made.append("key.created", {**bodies()["key.created"], "key_id": key})
    for turn in range(7):
        made.append("request.intent", {"key_id": f"k{1 + turn % 2}", "turn": turn})
    return made


def told(ledger: MemoryLedger, **named: Any) -> list[Any]:
    asked = {"kind": None, "limit": 50, "newest_first": True, **named}
    return [leaf.body.get("turn", leaf.kind) for leaf in records_of(ledger, asked.pop("key", "k1"), **asked)]


def test_the_records_of_a_key_come_in_order_from_its_own_first_one_on(ledger: MemoryLedger) -> None:
    assert told(ledger) == [6, 4, 2, 0, "key.created"]
    assert told(ledger, newest_first=False) == ["key.created", 0, 2, 4, 6]
    assert told(ledger, key="k2") == [5, 3, 1, "key.created"]
    assert told(ledger, key="nobody") == []


def test_a_limit_and_a_kind_or_family_choose_among_them(ledger: MemoryLedger) -> None:
    assert told(ledger, limit=2) == [6, 4]
    assert told(ledger, kind="request.") == [6, 4, 2, 0]
    assert told(ledger, kind="request.intent", limit=1, newest_first=False) == [0]
    assert told(ledger, kind="key.created") == ["key.created"]
    assert told(ledger, kind="request") == []
