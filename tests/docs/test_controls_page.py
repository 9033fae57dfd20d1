"""The page of controls is the map, and the map names tests and questions that exist."""

import ast
from functools import cache
from pathlib import Path

from appliance.actions.controls.compared import COMPARED
from appliance.actions.controls.judged import page
from appliance.actions.controls.live import QUESTIONS
from appliance.actions.controls.mapping import packaged

_ROOT = Path(__file__).resolve().parents[2]


@cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse((_ROOT / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_the_page_is_what_the_map_says() -> None:
    assert (_ROOT / "docs" / "controls.md").read_text(encoding="utf-8") == page(packaged())


def test_the_page_says_of_each_framework_what_it_was_compared_with() -> None:
    known = packaged()
    shown = page(known).partition("## Compared with")[2].partition("## Claims")[0]

    assert set(COMPARED) == set(known.frameworks)
    for framework in known.frameworks.values():
        assert f"| {framework.name} | {COMPARED[framework.id].read} | " in shown


def test_every_test_that_the_map_names_exists() -> None:
    named = [test for claim in packaged().claims.values() for test in claim.tests]
    gone = [test for test in named if not (_ROOT / test.partition("::")[0]).is_file()]
    gone += [
        test for test in named if test not in gone and test.partition("::")[2] not in names_in(test.partition("::")[0])
    ]

    assert gone == []
    assert all(claim.tests for claim in packaged().claims.values())


def test_every_question_that_the_map_names_is_asked_and_none_is_asked_for_nothing() -> None:
    named = {name for claim in packaged().claims.values() for name in claim.evidence}

    assert named == set(QUESTIONS)


def test_every_claim_answers_a_control_and_controls_are_named_once() -> None:
    known = packaged()

    assert {name for control in known.controls for name in control.claims} == set(known.claims)
    names = [(control.framework, control.id) for control in known.controls]
    assert len(names) == len(set(names))
    assert {framework for framework, _ in names} == set(known.frameworks)
    assert all(control.claims or control.alone for control in known.controls)
