"""docs/operator/targets.md and PROBE-2 name what a probe holds, and no other."""

import re
from pathlib import Path

from bundler.probe.questions import QUESTIONS
from tests.support.probes import probe

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "operator/targets.md").read_text(encoding="utf-8")
FORMAT = (DOCS / "format.md").read_text(encoding="utf-8")


def test_the_page_names_every_question_of_the_form_in_order() -> None:
    asked = re.search(r"Questions are (.+?);", PAGE, re.DOTALL)

    assert asked is not None
    assert re.findall(r"`([a-z_]+)`", asked[1]) == [question.key for question in QUESTIONS]


def test_the_format_names_every_field_of_a_probe() -> None:
    rule = re.search(r"^\* \*\*PROBE-2\*\* (.+?)^\*", FORMAT, re.DOTALL | re.MULTILINE)

    assert rule is not None
    assert set(re.findall(r"`([a-z_]+)`", rule[1])) == set(probe().to_json())
