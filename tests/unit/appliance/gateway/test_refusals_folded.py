"""What one caller is refused by the thousand fills no disk of the records, and each reason is told with its number."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from appliance.errors import LedgerUnavailableError
from appliance.gateway.record import Refusal, Refusals
from media.clock import FixedClock
from tests.support.gateway import NOW

CALLER = "key abcdefgh23"


class _Recorder:
    def __init__(self) -> None:
        self.recorded: list[tuple[Refusal, int]] = []
        self.is_away = False

    @property
    def counted(self) -> list[int]:
        return [repeated for _, repeated in self.recorded]

    def refused(self, refusal: Refusal, *, repeated: int = 1) -> None:
        if self.is_away:
            raise LedgerUnavailableError(what="", why="", fix="")
        self.recorded.append((refusal, repeated))

    def told(self) -> Counter[tuple[str, str, str, str]]:
        """Return how many refusals all records stand for, by what they say of them."""
        told = Counter[tuple[str, str, str, str]]()
        for one, repeated in self.recorded:
            told[one.code, one.endpoint, one.model_digest, one.arm] += repeated
        return told


def _refusal(code: str, endpoint: str = "chat", *, digest: str = "", arm: str = "") -> Refusal:
    return Refusal(
        request_id="req_a",
        endpoint=endpoint,
        key_id="abcdefgh23",
        status=429,
        code=code,
        arm=arm,
        model_digest=digest,
    )


def _desk() -> tuple[Refusals, Any, FixedClock]:
    recorder: Any = _Recorder()
    clock = FixedClock(NOW)
    return Refusals(recorder, clock), recorder, clock


def test_a_flood_at_a_box_that_stands_by_is_one_record_a_second() -> None:
    refusals, recorder, _ = _desk()
    refusal = Refusal(request_id="req_a", endpoint="chat", key_id=None, status=503, code="not_active")

    for _ in range(100):
        refusals.add(refusal, caller="address 192.0.2.1")
    refusals.close()

    assert recorder.counted == [1, 99]


def test_refusals_of_several_reasons_are_counted_apart() -> None:
    """Scenario: a script lists models too often, then spends its day's tokens, then floods the other model.

    Folded by their caller alone, all would be `class_full` of the last model, and the reports would say that.
    """
    refusals, recorder, clock = _desk()
    happened = [
        *[_refusal("rate_limit_exceeded", "models")] * 2,
        *[_refusal("insufficient_quota")] * 50,
        *[_refusal("class_full", "embeddings", digest="sha256:other")] * 3,
        *[_refusal("class_full", "chat", digest="sha256:other")] * 4,
        *[_refusal("class_full", "chat", digest="sha256:other", arm="canary")] * 5,
    ]

    for number, one in enumerate(happened):
        refusals.add(replace(one, request_id=f"req_{number}"), caller=CALLER)
        clock.advance(0.001)
    refusals.close()

    assert recorder.told() == Counter((one.code, one.endpoint, one.model_digest, one.arm) for one in happened)
    assert len(recorder.recorded) == 6, "the first at once, then one for each kind"
    assert [one.request_id for one, _ in recorder.recorded] == [
        "req_0",
        "req_1",
        "req_51",
        "req_54",
        "req_58",
        "req_63",
    ]


@pytest.mark.parametrize("kinds", [1, 4])
def test_one_caller_is_recorded_once_a_second_for_however_many_reasons_it_is_refused(kinds: int) -> None:
    refusals, recorder, clock = _desk()

    for number in range(60 * 20):  # a minute, 20 a second
        refusals.add(_refusal("class_full", f"endpoint-{number % kinds}"), caller=CALLER)
        clock.advance(0.05)
    within = len(recorder.recorded)
    refusals.close()

    assert 55 <= within <= 61
    assert sum(recorder.counted) == 1200
    assert len(recorder.recorded) <= within + kinds


def test_one_callers_reasons_hold_up_nobody_elses_record() -> None:
    refusals, recorder, clock = _desk()
    for number in range(100):
        refusals.add(_refusal("class_full", f"endpoint-{number % 10}"), caller=CALLER)

    refusals.add(_refusal("class_full", "other"), caller="key other")
    refusals.add(_refusal("class_full", "other"), caller="key other")
    clock.advance(1.5)
    refusals.flush()

    assert [repeated for one, repeated in recorder.recorded if one.endpoint == "other"] == [1, 1]


def test_what_the_ledger_does_not_take_stays_counted_by_its_reason() -> None:
    refusals, recorder, clock = _desk()
    for code in ("class_full", "class_full", "insufficient_quota", "insufficient_quota"):
        refusals.add(_refusal(code), caller=CALLER)
    recorder.is_away = True
    clock.advance(2)
    for _ in range(3):
        with pytest.raises(LedgerUnavailableError):
            refusals.flush()

    recorder.is_away = False
    refusals.close()

    assert {code: count for (code, *_), count in recorder.told().items()} == {"class_full": 2, "insufficient_quota": 2}


def test_nothing_of_a_caller_is_kept_once_it_is_refused_no_more() -> None:
    refusals, recorder, clock = _desk()
    refusals.add(_refusal("class_full"), caller=CALLER)
    clock.advance(1.5)
    refusals.flush()

    refusals.add(_refusal("class_full"), caller=CALLER)

    assert recorder.counted == [1, 1], "recorded at once again"
