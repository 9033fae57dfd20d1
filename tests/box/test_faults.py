"""What a box must have shown when things went wrong on it: facts of `tests/box/faults.py`, a test for each."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.box, pytest.mark.box_faults, pytest.mark.timeout(2300)]
FACTS = (
    "every killed service is back within 10 seconds",
    "nothing acknowledged was lost by the kills",
    "nothing acknowledged was lost by the cut",
    "nothing was answered without a record on a full disk",
    "the ledger verifies afterwards",
    "receiving onto a full disk ends with 30",
    "the next release changes the host",
    "installing onto a full disk ends with 30",
    "the trial was noted before",
    "the boot recorded why",
    "an install that does not answer ends with 51",
    "the release before is in use again",
    "the status says that the box went back",
    "the site file is the one of before",
    "the return is recorded",
    "the page says that the box went back",
    "the next release is installed",
    "nothing is left of the return",
    "and again changes nothing",
    "every target is scraped",
    "a rule that fires shows on the page",
    "and in the journal",
)


@pytest.fixture(scope="session")
def facts() -> dict[str, Any]:
    if os.geteuid() != 0:
        pytest.skip("the box is a container of its own, and only root can start one")
    subprocess.run([sys.executable, "tests/box/faults.py"], cwd=ROOT, check=False)
    found: dict[str, Any] = json.loads((ROOT / "build/box-faults/summary.json").read_text())
    return found


def test_everything_held(facts: dict[str, Any]) -> None:
    assert facts["ok"], [name for name, value in facts.items() if value is False]


@pytest.mark.parametrize("name", FACTS)
def test_the_box_showed_that(facts: dict[str, Any], name: str) -> None:
    assert facts[name] is True
