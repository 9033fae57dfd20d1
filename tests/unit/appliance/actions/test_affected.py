"""What keys in doubt reach: which versions are in production, in whichever line."""

from appliance.actions import affected
from appliance.audit.memory import MemoryLedger


def test_what_each_line_serves_by_its_last_record_is_in_production() -> None:
    ledger = MemoryLedger()

    def after(kind: str, **body: object) -> set[str]:
        ledger.append(f"promotion.{kind}", {"approvals": [], "person": "ana", **body})
        return affected._in_production(ledger)

    assert after("made", model_digest="a") == {"a"}
    assert after("made", model_digest="b", line=2) == {"a", "b"}
    assert after("made", model_digest="c") == {"c", "b"}
    assert after("stopped", line=2) == {"c"}
    assert after("rolled-back", model_digest="b", line=2) == {"b", "c"}
    assert after("stopped", line=1) == {"b"}
    assert after("rolled-back", model_digest="a") == {"a", "b"}
    assert after("stopped") == set()
    assert after("made", model_digest="b", line=2) == {"b"}
