"""Limits for a number of people: the figures asked for, what a version gives of them, and what falls short."""

from dataclasses import replace

import pytest

from appliance import config as configuration
from appliance.actions.crowding import CrowdFacts
from appliance.install import answers
from appliance.registry.crowds import crowd
from appliance.registry.memory import Room
from media.errors import UsageError
from tests.property.appliance.test_answers import GOOD

GIB = 2**30
ENOUGH = CrowdFacts(
    asked=crowd(50),
    at_once=64,
    request_tokens=5120,
    needs_bytes=100 * GIB,
    room=Room(total=256 * GIB, available=256 * GIB),
    engines=2,
)


@pytest.mark.parametrize(
    ("people", "scale", "at_once", "waiting", "seconds", "per_minute"),
    [
        (1, "small", 16, 16, 30, 600),
        (10, "small", 16, 16, 30, 600),
        (49, "small", 16, 49, 30, 600),
        (50, "medium", 64, 64, 30, 3000),
        (200, "medium", 64, 200, 30, 3000),
        (201, "large", 256, 256, 60, 6000),
        (1000, "large", 256, 1000, 60, 6000),
        (5000, "large", 256, 1024, 60, 6000),
    ],
)
def test_each_scale_has_limits_of_its_own_that_a_site_file_takes(
    people: int, scale: str, at_once: int, waiting: int, seconds: int, per_minute: int
) -> None:
    found = crowd(people)

    assert (found.scale, found.answers_at_once, found.tokens) == (scale, at_once, at_once * 5120)
    assert found.limits == {
        "concurrent_requests": at_once,
        "queue_length": waiting,
        "queue_seconds": seconds,
        "requests_per_minute": per_minute,
        "input_tokens": 4096,
        "default_max_tokens": 1024,
    }
    facts = replace(ENOUGH, asked=found, at_once=1024)
    assert configuration.parse(f'site = "s"\n{facts.site_file}'.encode()).limits.queue_length == waiting


@pytest.mark.parametrize("people", [0, -1, 100_001])
def test_nobody_and_a_city_are_refused(people: int) -> None:
    with pytest.raises(UsageError):
        crowd(people)


def test_a_version_that_gives_all_of_it_falls_short_of_nothing() -> None:
    assert ENOUGH.short == ()
    assert ENOUGH.limits == crowd(50).limits


def test_no_more_run_at_once_than_the_version_answers_and_no_prompt_is_longer_than_it_takes() -> None:
    small = replace(ENOUGH, at_once=8, request_tokens=2048)

    assert small.limits["concurrent_requests"] == 8
    assert small.limits["input_tokens"] + small.limits["default_max_tokens"] == 2048
    assert ["n_seq_max" in one or "n_ctx" in one for one in small.short] == [True, True]


def test_memory_that_does_not_hold_the_cache_of_all_engines_is_named_with_both_numbers() -> None:
    (said,) = replace(ENOUGH, needs_bytes=110 * GIB).short  # two of them; engines may take 85 % of 256

    assert str(220 * 1024) in said
    assert str(int(256 * 0.85 * 1024)) in said
    assert replace(ENOUGH, needs_bytes=None).short == ()


def test_a_file_of_answers_sets_them_and_leaves_them_alone_without_a_number() -> None:
    alone = answers.from_values(GOOD).config(None)
    asked = answers.from_values(GOOD | {"capacity": {"people": 1000}}).config(alone)

    assert (alone.limits.concurrent_requests, asked.limits.concurrent_requests) == (64, 256)
    assert (asked.limits.queue_length, asked.limits.message_characters) == (1000, alone.limits.message_characters)
