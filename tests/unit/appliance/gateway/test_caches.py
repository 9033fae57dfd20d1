"""The gateway's caches: least recently used, bounded by bytes, number and age, emptied where they must be."""

import json
import sys
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest

from appliance.gateway.caches import MOST_ENTRIES, Before, Cache, Caches, Place
from appliance.gateway.calls import Replayed
from appliance.gateway.metrics import Metrics
from appliance.phi.policy import PhiMode
from appliance.sections import CachesSection
from media.clock import FixedClock

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
SMALL = 1000


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def cache_of(clock: FixedClock, metrics: Metrics, *, most_bytes: int = 64 * SMALL) -> Cache[str]:
    return Cache("answers", most_bytes=most_bytes, seconds=60, clock=clock, metrics=metrics)


def place(name: str, *, digest: str = "version", key_id: str = "key") -> Place:
    return Place(digest=name.encode(), key_id=key_id, model_digest=digest)


def test_what_was_not_used_for_longest_leaves_first(clock: FixedClock, metrics: Metrics) -> None:
    cache = cache_of(clock, metrics, most_bytes=8 * 1600)
    for name in "abcdefgh":
        cache.keep(place(name), name, size=SMALL)

    assert cache.find(place("a")) == "a"
    cache.keep(place("i"), "i", size=SMALL)

    assert cache.find(place("a")) == "a", "it was used, so it is not the oldest"
    assert cache.find(place("b")) is None


def test_it_never_holds_more_bytes_than_it_may(clock: FixedClock, metrics: Metrics) -> None:
    cache = cache_of(clock, metrics)
    for number in range(500):
        cache.keep(place(str(number % 70)), "x", size=number * 7)
        held = metrics.registry.get_sample_value("sealift_cache_bytes", {"cache": "answers"})
        assert held is not None
        assert held <= 64 * SMALL


def test_a_streamed_answer_takes_the_memory_that_is_counted_for_it(clock: FixedClock, metrics: Metrics) -> None:
    caches = Caches(CachesSection(answers_mib=64), clock=clock, metrics=metrics)
    said = [json.dumps({"choices": [{"index": 0, "delta": {"content": f"word {at}"}}]}) for at in range(2000)]
    tracemalloc.start(16)
    try:
        before = Before(caches.answers, place("a"), lambda: Replayed(tuple(json.loads(one) for one in said)))
        heard = [json.dumps(one) for one in before.start().events()]
        before.keep()
        del before
        # Of what is traced, what was taken from here: threads that other tests left take memory too.
        from_here = tracemalloc.Filter(inclusive=True, filename_pattern=__file__, all_frames=True)
        taken = tracemalloc.take_snapshot().filter_traces([from_here]).traces
        held = sum(one.size for one in taken) - sum(sys.getsizeof(one) for one in heard)
    finally:
        tracemalloc.stop()

    counted = metrics.registry.get_sample_value("sealift_cache_bytes", {"cache": "answers"})
    assert counted is not None
    assert counted / 2 < held < 2 * counted
    again = Before(caches.answers, place("a"), lambda: Replayed(()))
    assert again.result == "hit"
    assert [json.dumps(one) for one in again.start().events()] == heard == said


def test_one_answer_does_not_push_out_all_others(clock: FixedClock, metrics: Metrics) -> None:
    cache = cache_of(clock, metrics)
    cache.keep(place("a"), "a", size=SMALL)

    cache.keep(place("huge"), "huge", size=60 * SMALL)

    assert cache.find(place("huge")) is None
    assert cache.find(place("a")) == "a"


def test_small_entries_are_bounded_by_number(clock: FixedClock, metrics: Metrics) -> None:
    cache = cache_of(clock, metrics, most_bytes=2**30)
    for number in range(MOST_ENTRIES + 3):
        cache.keep(place(str(number)), "x", size=1)

    assert cache.find(place("2")) is None
    assert cache.find(place("3")) == "x"


def test_what_is_too_old_is_not_given_out_however_often_it_was_used(clock: FixedClock, metrics: Metrics) -> None:
    cache = cache_of(clock, metrics)
    cache.keep(place("a"), "a", size=SMALL)

    clock.advance(50)
    assert cache.find(place("a")) == "a"
    clock.advance(11)

    assert cache.find(place("a")) is None
    assert metrics.registry.get_sample_value("sealift_cache_entries", {"cache": "answers"}) == 0


def test_versions_and_keys_take_what_they_said_and_heard_with_them(clock: FixedClock, metrics: Metrics) -> None:
    cache = cache_of(clock, metrics)
    cache.keep(place("a", digest="old", key_id="one"), "a", size=1)
    cache.keep(place("b", digest="new", key_id="one"), "b", size=1)
    cache.keep(place("c", digest="new", key_id="two"), "c", size=1)

    cache.forget(lambda digest, _: digest == "old")
    assert [cache.find(place(name)) for name in "abc"] == [None, "b", "c"]
    cache.forget(lambda _, key_id: key_id == "two")
    assert [cache.find(place(name)) for name in "abc"] == [None, "b", None]


def test_hits_and_misses_are_counted(clock: FixedClock, metrics: Metrics) -> None:
    cache = cache_of(clock, metrics)
    cache.find(place("a"))
    cache.keep(place("a"), "a", size=1)
    cache.find(place("a"))

    def looks(result: str) -> float | None:
        labels = {"cache": "answers", "result": result}
        return metrics.registry.get_sample_value("sealift_cache_lookups_total", labels)

    assert (looks("hit"), looks("miss")) == (1, 1)


def test_a_cache_that_is_off_keeps_and_counts_nothing(clock: FixedClock, metrics: Metrics) -> None:
    cache = cache_of(clock, metrics, most_bytes=0)
    cache.keep(place("a"), "a", size=0)

    assert cache.find(place("a")) is None
    assert (
        metrics.registry.get_sample_value("sealift_cache_lookups_total", {"cache": "answers", "result": "miss"}) is None
    )


def test_places_differ_by_caller_version_policy_mode_and_question(clock: FixedClock, metrics: Metrics) -> None:
    caches = Caches(CachesSection(), clock=clock, metrics=metrics)
    usual: dict[str, Any] = {
        "key_id": "k",
        "model_digest": "d",
        "policy": "p",
        "mode": PhiMode.TOKENISE,
        "asked": {"a": 1, "b": 2},
    }
    others: list[dict[str, Any]] = [
        {"key_id": "l"},
        {"model_digest": "e"},
        {"policy": "q"},
        {"mode": PhiMode.BLOCK},
        {"asked": {"a": 1}},
        {"asked": {"b": 2, "a": 1}},
    ]

    def digest(**changes: object) -> bytes:
        found = caches.place(**{**usual, **changes})
        assert found is not None
        return found.digest

    assert len({digest(), *(digest(**one) for one in others)}) == 1 + len(others)
    assert digest(asked={"a": 1, "b": 2}) == digest()
    assert caches.place(**{**usual, "mode": PhiMode.PASS}) is None
