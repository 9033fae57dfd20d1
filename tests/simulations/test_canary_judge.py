"""How often the judge raises a false alarm, and what it finds: whole canaries, simulated request by request.

Each run is as the judge sees it: three streams, blocks of both arms, arrivals at random. 1,000 runs of each kind, as
long as the judge needs to have seen enough; SEALIFT_SIMULATIONS=large takes longer ones (docs/operator/rollout.md).
"""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from appliance.promote.judging import COMPLAINTS, ENOUGH_REQUESTS, ERRORS, SPEED, STREAMS
from appliance.promote.sequential import Comparison, Outcome

LARGE = os.environ.get("SEALIFT_SIMULATIONS") == "large"
RUNS, REQUESTS = 1000, 1500 if LARGE else ENOUGH_REQUESTS
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 if LARGE else 600)]

Rates = Callable[[str, float], tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Run:
    """One canary: after how many of its requests which stream raised an alarm, if any."""

    requests: int
    stream: str


def canaries(seed: int, rates: Rates, *, runs: int, requests: int) -> Iterator[Run | None]:
    """Yield how each of some canaries ends; `rates` gives both arms' rates of a stream at a time from 0 to 1."""
    draw = random.Random(seed)
    for _ in range(runs):
        yield one_canary(draw, rates, requests=requests)


def one_canary(draw: random.Random, rates: Rates, *, requests: int) -> Run | None:
    comparisons = {name: Comparison(alpha=alpha, margin=margin) for name, (alpha, margin) in STREAMS.items()}
    for number in range(1, requests + 1):
        others = min(1 + int(draw.expovariate(1 / 3.5)), 50)
        for name, comparison in comparisons.items():
            if name == COMPLAINTS and draw.random() > 0.1:
                continue  # few callers say what they think
            usual, canary = rates(name, number / requests)
            production = [Outcome(draw.random() < usual, draw.random() < comparison.margin) for _ in range(others)]
            comparison.take(production, [Outcome(draw.random() < canary)])
            if comparison.is_worse:
                return Run(number, name)
    return None


def share(found: list[Run | None]) -> float:
    """Return how many of the runs raised an alarm."""
    return sum(one is not None for one in found) / len(found)


def the_same(name: str, _: float) -> tuple[float, float]:
    rate = {ERRORS: 0.01, SPEED: 0.1, COMPLAINTS: 0.2}[name]
    return rate, rate


def at_the_margin(name: str, _: float) -> tuple[float, float]:
    """Return the worst case that is no alarm: just as much worse as the margin allows."""
    usual, _ = the_same(name, 0)
    margin = STREAMS[name][1]
    return usual, usual + margin - usual * margin


def a_bad_hour(name: str, at: float) -> tuple[float, float]:
    """Return rates that rise for both arms in the middle of the canary."""
    factor = 4.0 if 0.4 < at < 0.6 else 1.0
    usual, canary = the_same(name, at)
    return min(usual * factor, 1), min(canary * factor, 1)


@pytest.mark.parametrize("rates", [the_same, at_the_margin, a_bad_hour])
def test_at_most_one_canary_in_twenty_is_ended_for_nothing(rates: Rates) -> None:
    found = list(canaries(1, rates, runs=RUNS, requests=REQUESTS))

    assert share(found) <= 0.05


def with_errors(name: str, at: float) -> tuple[float, float]:
    return (0.01, 0.05) if name == ERRORS else the_same(name, at)


def with_slow_answers(name: str, at: float) -> tuple[float, float]:
    return (0.1, 0.3) if name == SPEED else the_same(name, at)


@pytest.mark.parametrize(("rates", "stream"), [(with_errors, ERRORS), (with_slow_answers, SPEED)])
def test_nine_of_ten_of_the_stated_regressions_are_found_within_enough_requests(rates: Rates, stream: str) -> None:
    found = list(canaries(2, rates, runs=RUNS, requests=ENOUGH_REQUESTS))

    assert share(found) >= 0.9
    assert sum(one is not None and one.stream == stream for one in found) >= 0.85 * len(found)


def test_a_version_that_fails_every_second_request_is_ended_within_a_few() -> None:
    found = list(
        canaries(3, lambda name, at: (0.0, 0.5) if name == ERRORS else the_same(name, at), runs=RUNS, requests=60)
    )

    assert all(one is not None for one in found)
    assert sorted(one.requests for one in found if one)[len(found) // 2] <= 15
