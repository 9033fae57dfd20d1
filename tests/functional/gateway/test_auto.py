"""Callers that leave the version to the site's rules: which one answers, and what the record says."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.enginesections import RouterRule
from appliance.gateway.routing import Canary, Rule
from appliance.phi.detect import Detector, Finding, PatternDetector
from appliance.phi.policy import PhiMode
from appliance.registry.router import ALIAS, Loaded, Query, decide
from tests.support.engine import FakeEngine, fake_engine
from tests.support.gateway import DEPARTMENT, MODEL, Rig, gateway, key_text

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
BY_CLASS = f"""
[[router.rules]]
name = "identified"
model = "{OTHER[:12]}"
classes = ["PHI"]

[[router.rules]]
name = "labelled"
model = "{MODEL}"
classes = ["CONFIDENTIAL", "SECRET"]
"""
IDENTIFIED = "Patient: Jane Roe, SSN 123-45-6789"
SAID = {"role": "user", "content": "short"}
SAID_WITH = {"role": "user", "content": IDENTIFIED}


@pytest.fixture
def routed(tmp_path: Path) -> Iterator[Rig]:
    with _site(tmp_path, RULES, percent=1) as (rig, _):
        yield rig


@pytest.fixture
def by_class(tmp_path: Path) -> Iterator[tuple[Rig, FakeEngine]]:
    """Production, and beside it a version that only the rules lead to."""
    with _site(tmp_path, BY_CLASS, percent=0) as (rig, second):
        yield rig, second


class _Counting(PatternDetector):
    """Counts the texts that are searched."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def find(self, text: str) -> Sequence[Finding]:
        """Find what the patterns find."""
        self.texts.append(text)
        return super().find(text)


@contextmanager
def _site(
    folder: Path, rules: str, *, percent: int, detector: Detector | None = None
) -> Iterator[tuple[Rig, FakeEngine]]:
    with (
        gateway(folder, more=rules, detector=detector) as rig,
        fake_engine(folder / "second.sock", model_digest=OTHER) as second,
    ):
        rig.promote(also=("production", ALIAS))
        other = replace(rig.route, model_digest=OTHER, socket=second.path)
        rig.routes.split = {"canary": Canary(route=other, percent=percent, offset=0, is_held=False)}
        yield rig, second


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


@pytest.mark.parametrize("text", [IDENTIFIED, "short"], ids=["a rule applies", "none does"])
def test_a_request_is_searched_for_identifiers_once_for_the_rules_and_the_engine(tmp_path: Path, text: str) -> None:
    with _site(tmp_path, BY_CLASS, percent=0, detector=(searched := _Counting())) as (rig, second):
        answer = _ask(rig, text)

        assert answer.headers.get("x-sealift-rule") == ("identified" if text is IDENTIFIED else None)
        assert [one for one in searched.texts if one == text] == [text]
        told = (second if text is IDENTIFIED else rig.engine).last["messages"][0]["content"]
        assert "123-45-6789" not in told


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


@pytest.mark.parametrize(
    ("label", "text", "rule", "is_second"),
    [
        ("", "short", "", False),
        ("PUBLIC", "short", "", False),
        ("no-such-class", "short", "", False),
        ("CONFIDENTIAL", "short", "labelled", False),
        ("secret", "short", "labelled", False),
        ("PHI", "short", "identified", True),
        (" phi ", "short", "identified", True),
        ("", IDENTIFIED, "identified", True),
        ("PUBLIC", IDENTIFIED, "identified", True),
        ("CONFIDENTIAL", IDENTIFIED, "identified", True),
    ],
)
def test_a_rule_goes_by_the_class_that_a_caller_names_and_before_that_by_identifiers(
    by_class: tuple[Rig, FakeEngine], label: str, text: str, rule: str, *, is_second: bool
) -> None:
    rig, second = by_class

    answer = _ask(rig, text, **({"X_Sealift_Classification": label} if label else {}))

    digest = OTHER if is_second else rig.route.model_digest
    assert (answer.status_code, answer.headers["x-model-version"]) == (200, digest)
    assert answer.headers.get("x-sealift-rule", "") == rule
    assert (len(rig.engine.asked), len(second.asked)) == ((0, 1) if is_second else (1, 0))
    body = rig.bodies("request.intent")[-1]
    assert (body["model_digest"], body.get("rule", "")) == (digest, rule)


@pytest.mark.parametrize("has_stream", [False, True])
@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("chat/completions", {"messages": [SAID_WITH]}),
        ("chat/completions", {"messages": [SAID, {"role": "assistant", "content": "yes"}, SAID_WITH]}),
        ("chat/completions", {"messages": [{"role": "system", "content": IDENTIFIED}, SAID]}),
        ("chat/completions", {"messages": [SAID], "stop": [IDENTIFIED]}),
        ("completions", {"prompt": IDENTIFIED}),
    ],
    ids=["first", "later", "system", "stop", "prompt"],
)
def test_identifiers_lead_to_their_rule_wherever_they_are_in_a_request(
    by_class: tuple[Rig, FakeEngine], path: str, fields: dict[str, Any], *, has_stream: bool
) -> None:
    rig, second = by_class

    answer = rig.ask({"model": ALIAS, "stream": has_stream, **fields}, path=f"/v1/{path}")

    assert (answer.headers["x-model-version"], answer.headers["x-sealift-rule"]) == (OTHER, "identified")
    assert (len(rig.engine.asked), len(second.asked)) == (0, 1)
    assert "123-45-6789" not in json.dumps(second.last)
    assert rig.bodies("request.intent")[-1]["phi"]["ssn"] == 1


def test_identifiers_lead_to_their_rule_for_a_key_that_passes_them_on(by_class: tuple[Rig, FakeEngine]) -> None:
    rig, second = by_class
    key = rig.api_keys.add(key_text("passing234"), mode=PhiMode.PASS)
    asked = {"model": ALIAS, "messages": [SAID_WITH]}

    answer = rig.client.post("/v1/chat/completions", json=asked, headers=rig.headers(key))

    assert (answer.headers["x-model-version"], answer.headers["x-sealift-rule"]) == (OTHER, "identified")
    assert second.last["messages"][-1]["content"] == IDENTIFIED


@pytest.mark.parametrize("label", ["PHI", "CONFIDENTIAL"])
def test_who_names_a_version_gets_it_whatever_the_class(by_class: tuple[Rig, FakeEngine], label: str) -> None:
    rig, second = by_class
    asked = {"model": MODEL, "messages": [SAID_WITH]}

    answer = rig.ask(asked, X_Sealift_Classification=label)

    assert (answer.headers["x-model-version"], "x-sealift-rule" in answer.headers) == (rig.route.model_digest, False)
    assert not second.asked


def test_every_rule_that_was_looked_at_says_why_not() -> None:
    rules = [RouterRule(name="a", model="gone"), RouterRule(name="b", model="m", classes=["PHI"], least_characters=5)]
    loaded = [Loaded(name="m", version="1", model_digest="ab" * 32)]
    found = decide(rules, Query(data_class="PHI", characters=4), loaded)
    assert [one.why for one in found.considered] == ["that version is not loaded", "4 characters, fewer than 5"]
    assert (found.rule, decide(rules, Query(data_class="PHI", characters=5), loaded).rule) == ("", "b")
