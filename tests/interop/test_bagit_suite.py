"""The Library of Congress's BagIt conformance suite against our reader and the stand-alone verifier on the medium.

What the suite calls invalid is refused, and so is what it warns of. What it calls valid is accepted, except where our
profile of RFC 8493 is narrower; each exception names its rule in docs/format.md.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from tests.support.bagit_cases import Case, cases
from tests.support.medium import SimulatedMedium, make_medium, tiny_payload
from tests.support.receiving import copy_here

pytestmark = pytest.mark.interop

ROOT = Path(__file__).resolve().parents[2]
CASES = list(cases())
NOT_LOOKED_AT = {"FMT-54"}  # the second opinion takes bag-info.txt for a page for people (FMT-55)


def second_opinion(medium: SimulatedMedium) -> int:
    command = [sys.executable, "-I", str(ROOT / "bundler/check/verify.py"), *map(str, medium.volumes)]
    bare = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    return subprocess.run(command, env=bare, capture_output=True, check=False).returncode


def as_parameter(case: Case) -> ParameterSet:
    return pytest.param(case, id=case.name)


@pytest.mark.parametrize("case", [as_parameter(case) for case in CASES])
def test_a_case_of_the_suite_ends_as_our_profile_says(tmp_path: Path, case: Case) -> None:
    medium = make_medium(tmp_path / "m", volumes=1)
    case.apply(medium)

    code, lines = copy_here(medium, None)

    assert code in case.codes, lines[-1]
    assert (second_opinion(medium) == 0) == (code == 0 or case.rule in NOT_LOOKED_AT)


@pytest.mark.parametrize("name", ["v0.97/valid/bag-in-a-bag", "v0.97/valid/minimal-bag"])
def test_a_bag_within_the_payload_is_payload(tmp_path: Path, name: str) -> None:
    below = "data/bag" if name.endswith("bag-in-a-bag") else "data/data"
    inner = {
        f"{below}/bagit.txt": b"BagIt-Version: 0.97\nTag-File-Character-Encoding: UTF-8\n",
        f"{below}/manifest-md5.txt": b"00000000000000000000000000000000  data/hello.txt\n",
        f"{below}/fetch.txt": b"https://localhost:8989/x - data/hello.txt\n",
        f"{below}/data/hello.txt": b"hello\n",
    }
    medium = make_medium(tmp_path / "m", files={**tiny_payload(), **inner})

    assert copy_here(medium, None)[0] == 0
    assert second_opinion(medium) == 0


def test_every_exception_from_what_the_suite_accepts_names_a_rule_of_the_format() -> None:
    rules = set(re.findall(r"\*\*(FMT-\d+)\*\*", (ROOT / "docs/format.md").read_text("utf-8")))

    assert {case.rule for case in CASES if case.rule} <= rules
    assert not [case.name for case in CASES if "/valid/" in case.name and 0 not in case.codes and not case.rule]
