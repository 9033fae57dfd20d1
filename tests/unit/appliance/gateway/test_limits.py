"""Buckets refill evenly, forget the caller seen longest ago, and are told as OpenAI tells them."""

from datetime import UTC, datetime

import pytest

from appliance.gateway.limits import RateLimiter, at_once, ceiling, duration
from media.clock import FixedClock


def _clock() -> FixedClock:
    return FixedClock(datetime(2026, 11, 20, tzinfo=UTC))


def test_a_minutes_worth_may_be_spent_at_once_and_then_refills_evenly() -> None:
    clock = _clock()
    limiter = RateLimiter(clock)

    allowed = [limiter.take("a", per_minute=3).retry_after_seconds is None for _ in range(4)]
    assert allowed == [True, True, True, False]
    refused = limiter.take("a", per_minute=3)
    assert refused.retry_after_seconds == pytest.approx(20)
    assert refused.remaining == 0
    clock.advance(20)
    assert limiter.take("a", per_minute=3).retry_after_seconds is None
    assert limiter.take("a", per_minute=3).retry_after_seconds == pytest.approx(20)
    clock.advance(3600)
    assert limiter.take("a", per_minute=3).remaining == 2


def test_callers_do_not_share_a_bucket_and_few_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.gateway.limits._REMEMBERED_CALLERS", 2)
    limiter = RateLimiter(_clock())

    assert limiter.take("a", per_minute=1).retry_after_seconds is None
    assert limiter.take("b", per_minute=1).retry_after_seconds is None
    assert limiter.take("a", per_minute=1).retry_after_seconds is not None
    limiter.take("c", per_minute=1)
    assert limiter.take("a", per_minute=1).retry_after_seconds is not None
    assert limiter.take("b", per_minute=1).retry_after_seconds is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0ms"), (0.0101, "11ms"), (1, "1s"), (0.9995, "1s"), (59.2, "1m0s"), (59.0, "59s"), (360, "6m0s")],
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_every_tier_has_a_ceiling() -> None:
    tiers = ("basic", "standard", "premium", "unheard-of")

    assert [ceiling(tier, 40) for tier in tiers] == [10, 40, 160, 10]
    assert ceiling("basic", 1) == 1
    assert [at_once(tier, 8) for tier in tiers] == [2, 8, 32, 2]
    assert [at_once(tier, 0) for tier in tiers] == [0] * 4, "no bound where the site names none"
