"""What the demo's developer left in the ledger: an answer of the test stage, before anything was promoted."""

import json
from typing import Any

import pytest

from tests.functional.test_demo import shell

pytestmark = pytest.mark.demo


def bodies(kind: str) -> list[dict[str, Any]]:
    listed = json.loads(shell(f"sealift audit list --kind {kind} --limit 1000 --json").stdout)
    return [dict(one["body"], sequence=one["sequence"], door=one["via"]["door"]) for one in listed["leaves"]]


def test_a_developer_was_answered_before_the_version_was_promoted_and_recorded_apart_from_production() -> None:
    tried = [one for one in bodies("request.intent") if one.get("stage") == "test"]
    (promoted, *_) = sorted(one["sequence"] for one in bodies("promotion.made"))

    assert tried
    assert {(one["door"], one["arm"]) for one in tried} == {("ledger-test", "test")}
    assert min(one["sequence"] for one in tried) < promoted
    assert all(one["door"] == "ledger-gateway" for one in bodies("request.intent") if one not in tried)
    refusals = {(one["door"], one["code"]) for one in bodies("request.refused")}
    assert {("ledger-test", "wrong_stage"), ("ledger-gateway", "wrong_stage")} <= refusals
