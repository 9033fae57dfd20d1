"""Callers that leave the version to the site's rules: which one answers, and what the record says."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.enginesections import RouterRule
from appliance.gateway.routing import Canary, Rule
from appliance.registry.router import ALIAS, Loaded, Query, decide
from tests.support.engine import fake_engine
from tests.support.gateway import DEPARTMENT, Rig, gateway

OTHER = "ef" * 32
RULES = f"""
[[router.rules]]
name = "elsewhere"
model = "other"
departments = ["nobody"]

[[router.rules]]
name = "summaries"
model = "{OTHER[:12]}"
departments = ["{DEPARTMENT}"]
tasks = ["summarise"]
most_characters = 20
"""


@pytest.fixture
def routed(tmp_path: Path) -> Iterator[Rig]:
    with gateway(tmp_path, more=RULES) as rig, fake_engine(tmp_path / "second.sock", model_digest=OTHER) as second:
        rig.promote(also=("production", ALIAS))
        other = Canary(
            route=replace(rig.route, model_digest=OTHER, socket=second.path), percent=1, offset=0, is_held=False
        )
        rig.routes.split = {"canary": other}
        yield rig


def _ask(rig: Rig, text: str, **headers: str) -> Any:
    return rig.ask({"model": ALIAS, "messages": [{"role": "user", "content": text}]}, **headers)


def test_a_rule_decides_and_the_record_names_it(routed: Rig) -> None:
    answer = _ask(routed, "short", X_Sealift_Task="summarise")
    assert (answer.headers["x-model-version"], answer.headers["x-sealift-rule"]) == (OTHER, "summaries")
    body = routed.bodies("request.intent")[-1]
    assert (body["model_digest"], body["assigned"], body["rule"], body["arm"]) == (
        OTHER,
        "routed",
        "summaries",
        "canary",
    )


@pytest.mark.parametrize(("text", "task"), [("short", ""), ("far longer than the rule allows", "summarise")])
def test_where_no_rule_applies_production_answers(routed: Rig, text: str, task: str) -> None:
    routed.routes.split["canary"] = replace(routed.routes.split["canary"], percent=0)
    answer = _ask(routed, text, X_Sealift_Task=task)
    assert (answer.headers["x-model-version"], "x-sealift-rule" in answer.headers) == (routed.route.model_digest, False)


def test_a_rule_adds_nobody_to_a_canary_on_hold_nor_a_key_that_is_kept_out(routed: Rig) -> None:
    key_id = routed.bodies("request.intent")[-1]["key_id"] if _ask(routed, "short").status_code == 200 else ""
    canary = routed.routes.split["canary"]
    for split in ({"canary": replace(canary, is_held=True)}, {"canary": canary, "rules": {key_id: Rule()}}):
        routed.routes.split = split
        assert _ask(routed, "short", X_Sealift_Task="summarise").headers["x-model-version"] == routed.route.model_digest


def test_every_rule_that_was_looked_at_says_why_not() -> None:
    rules = [RouterRule(name="a", model="gone"), RouterRule(name="b", model="m", classes=["PHI"], least_characters=5)]
    loaded = [Loaded(name="m", version="1", model_digest="ab" * 32)]
    found = decide(rules, Query(data_class="PHI", characters=4), loaded)
    assert [one.why for one in found.considered] == ["that version is not loaded", "4 characters, fewer than 5"]
    assert (found.rule, decide(rules, Query(data_class="PHI", characters=5), loaded).rule) == ("", "b")
