"""lm-eval's own program against the test stage of the demo, with a real model and a developer's key."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.functional.test_demo import shell
from tests.support.capitals import evaluated

VERSION: Final = "smollm2-135m-instruct-q8_0"
CITIES: Final = {"France": "Paris", "Germany": "Berlin", "Spain": "Madrid", "Italy": "Rome", "Austria": "Vienna"}

# It installs the harness first, which takes minutes on a busy machine without a cache.
pytestmark = [pytest.mark.demo, pytest.mark.timeout(800)]


@pytest.fixture
def address() -> Iterator[str]:
    """The test stage's address, with the demo's version of eight bits lent in it."""
    told = shell("sealift run-units --background").stdout
    try:
        shell(f"sealift stage load {VERSION} --as iris")
        yield re.findall(r"^test: (http://\S+)$", told, flags=re.MULTILINE)[0]
        shell(f"sealift stage unload {VERSION} --as iris")
    finally:
        shell("sealift run-units --stop")


def test_the_harness_evaluates_a_version_that_nobody_promoted(address: str, tmp_path: Path) -> None:
    created = shell("sealift keys create --stage test --department 'app team' --owner lm-eval --json")
    rows = [{"country": country, "capital": city} for country, city in CITIES.items()]
    question = "What is the capital of {{country}}? Answer with the name of the city."

    share = evaluated(tmp_path, rows, question, url=address, model="test", key=json.loads(created.stdout)["key"])

    assert share >= 0.5
