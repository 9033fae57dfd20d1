"""What a box must have shown when things went wrong on it: the facts of both parts of `faults.py`, each a test."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.box, pytest.mark.timeout(840)]
FAULTS = (
    "every killed service is back within 10 seconds",
    "nothing acknowledged was lost by the kills",
    "nothing acknowledged was lost by the cut",
    "nothing was answered without a record on a full disk",
    "the ledger verifies afterwards",
    "receiving onto a full disk ends with 30",
    "a box that lost records stops",
    "and did not take the medium",
    "the preview names what stays",
    "the preview changed nothing",
    "what went is what was announced",
    "no unit of Sealift is left",
    "no program of Sealift is left",
    "what proves the past is there",
    "the packet filter still holds",
    "nobody was told that it is done",
    "a first install that was cut off is finished by the same command",
    "every question was asked",
    "what was typed before is offered",
    "each person has a code",
    "the authority has a fingerprint",
    "capacity was measured",
    "no code was written down",
    "all units run after it",
    "a second setup measures nothing anew",
    "its codes are new",
    "then nothing is left to do",
    "doctor finds what is so, and no more",
    "it is not ready before a promotion",
    "the report is written",
)
UPGRADE = (
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


@cache
def facts(part: str) -> dict[str, Any]:
    if os.geteuid() != 0:
        pytest.skip("the box is a container of its own, and only root can start one")
    subprocess.run([sys.executable, "tests/box/faults.py", part], cwd=ROOT, check=False)
    found: dict[str, Any] = json.loads((ROOT / f"build/box-{part}/summary.json").read_text())
    return found


@pytest.mark.box_faults
def test_everything_held_when_it_broke() -> None:
    assert facts("faults")["ok"], [name for name, value in facts("faults").items() if value is False]


@pytest.mark.box_faults
@pytest.mark.parametrize("name", FAULTS)
def test_the_broken_box_showed_that(name: str) -> None:
    assert facts("faults")[name] is True


@pytest.mark.box_upgrade
def test_everything_held_when_it_was_upgraded() -> None:
    assert facts("upgrade")["ok"], [name for name, value in facts("upgrade").items() if value is False]


@pytest.mark.box_upgrade
@pytest.mark.parametrize("name", UPGRADE)
def test_the_upgraded_box_showed_that(name: str) -> None:
    assert facts("upgrade")[name] is True
