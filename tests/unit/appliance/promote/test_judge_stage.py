"""What developers try in the test stage says nothing of how fast production is: the judge does not learn from it."""

from datetime import UTC, datetime

from appliance.audit.memory import MemoryLedger
from appliance.promote.canary import Canary
from appliance.promote.judging import SPEED, Judge
from appliance.promote.terms import Terms
from tests.support.ledger import DIGEST_A, DIGEST_B

BEFORE, DURING = 220, 40


def asked(ledger: MemoryLedger, number: int, milliseconds: int, *, arm: str, **more: str) -> None:
    request_id = f"req_{number}"
    body = {"request_id": request_id, "arm": arm, "bucket": number * 37 % 10000, "stream": False, **more}
    sequence = ledger.append("request.intent", {**body, "assigned": "share"}).sequence
    outcome = {"status": 200, "outcome": "ok", "latency_ms": milliseconds, "ttft_ms": None}
    ledger.append("request.outcome", {"request_id": request_id, "intent_sequence": sequence, **outcome, **more})


def slow_answers(*, tried: int) -> int:
    """Return how many of production's answers count as slow, after so many very slow ones of the test stage."""
    ledger = MemoryLedger()
    for number in range(BEFORE):
        asked(ledger, number, 100, arm="production")
    for number in range(tried):
        asked(ledger, 1000 + number, 60_000, arm="test", stage="test")
    started = ledger.append("note.made", {}).sequence
    terms = Terms(version=DIGEST_B, percent=20, hours=48, watch_hours=48)
    at = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
    canary = Canary(terms=terms, number=1, sequence=started, control=DIGEST_A, started=at, offset=0)
    for number in range(DURING):
        asked(ledger, 2000 + number, 5000, arm="production" if number % 2 else "canary")
    streams = {str(one["stream"]): one for one in Judge(ledger, canary).read().to_json()["streams"]}
    production = streams[SPEED]["production"]
    assert isinstance(production, dict)
    return int(production["faults"])


def test_slow_answers_of_the_test_stage_do_not_move_what_counts_as_slow() -> None:
    assert slow_answers(tried=600) == slow_answers(tried=0) > 0
