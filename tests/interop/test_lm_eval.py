"""lm-eval's own program, `local-chat-completions`, against the test stage: real gateways, an engine that repeats.

With a real model it is tried after the demo (tests/functional/test_demo_lm_eval.py).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.capitals import evaluated
from tests.support.gateway import MODEL
from tests.support.gateway_server import Server, gateway_server
from tests.support.stage_server import CANDIDATE, StageServer, stage_server

# It installs the harness first, which takes minutes on a busy machine without a cache.
pytestmark = [pytest.mark.interop, pytest.mark.timeout(800)]
CITIES: Final = {"France": "Paris", "Germany": "Berlin", "Spain": "Madrid", "Italy": "Rome"}
# The engine says again what it was last told, so half of the cities can be read from the question and half cannot.
QUESTION: Final = "{{hint}} is a city. What is the capital of {{country}}?"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with gateway_server(tmp_path / "site") as running:
        yield running


@pytest.fixture
def stage(server: Server) -> Iterator[StageServer]:
    with stage_server(server) as running:
        running.load()
        running.wait_for(200)
        yield running


def test_the_harness_evaluates_the_version_in_the_test_stage_with_a_test_key(
    server: Server, stage: StageServer, tmp_path: Path
) -> None:
    rows = [
        {"country": country, "capital": city, "hint": city if number % 2 else "Vienna"}
        for number, (country, city) in enumerate(CITIES.items())
    ]
    before = len(server.doors[0].find(kind="request.intent", limit=500))

    share = evaluated(tmp_path, rows, QUESTION, url=stage.url, model=MODEL, key=stage.key)

    assert share == 0.5
    asked = server.doors[0].find(kind="request.intent", limit=500)
    assert len(asked) - before == len(rows)
    assert {leaf.body["model_digest"] for leaf in asked[: len(rows)]} == {CANDIDATE}
