"""How often the watch after a cut-over raises a false alarm, and what it finds: simulated request by request."""

import random

import pytest

from appliance.promote.judging import COMPLAINTS, ERRORS, SPEED
from appliance.promote.onearm import OneArm, highest_rate
from appliance.promote.watching import STREAMS

RUNS = 1000
KNOWN, REQUESTS = 2000, 1500
USUAL = {ERRORS: 0.01, SPEED: 0.1, COMPLAINTS: 0.2}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def alarm(draw: random.Random, now: dict[str, float]) -> str:
    """Return the stream that raised an alarm in one watch, or nothing."""
    for name, (alpha, margin) in STREAMS.items():
        part = 10 if name == COMPLAINTS else 1  # few callers say what they think
        faults = sum(draw.random() < USUAL[name] for _ in range(KNOWN // part))
        usual = highest_rate(faults, KNOWN // part, delta=alpha / 2)
        arm = OneArm(rate=usual + margin - usual * margin, alpha=alpha / 2)
        for _ in range(REQUESTS // part):
            arm.take(is_fault=draw.random() < now[name])
        if arm.is_worse:
            return name
    return ""


def share(now: dict[str, float], *, seed: int) -> float:
    """Return how many watches of these rates raised an alarm."""
    draw = random.Random(seed)
    return sum(alarm(draw, now) != "" for _ in range(RUNS)) / RUNS


@pytest.mark.parametrize("margins", [0.0, 1.0])
def test_at_most_one_watch_in_twenty_raises_an_alarm_for_nothing(margins: float) -> None:
    now = {name: rate + margins * STREAMS[name][1] * (1 - rate) for name, rate in USUAL.items()}

    assert share(now, seed=1) <= 0.05


@pytest.mark.parametrize(("stream", "rate"), [(ERRORS, 0.05), (SPEED, 0.3)])
def test_nine_of_ten_of_the_stated_regressions_are_found(stream: str, rate: float) -> None:
    assert share({**USUAL, stream: rate}, seed=2) >= 0.9
