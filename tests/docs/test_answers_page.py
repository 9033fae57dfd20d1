"""Every answer of a guided install is documented, and nothing else; the example is complete and holds."""

import re
import tomllib
from pathlib import Path

from pydantic import BaseModel

from appliance.install import answers
from appliance.install.answers import Answers
from appliance.install.questions import QUESTIONS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/operator/installing.md"
EXAMPLE = ROOT / "examples/setup-single-cpu.toml"


def keys(model: type[BaseModel], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= keys(kind, f"{prefix}{name}.")
        else:
            found.add(prefix + name)
    return found


def test_the_page_names_exactly_the_answers_that_exist() -> None:
    documented = set(re.findall(r"^\| `([a-z_.]+)` \|", PAGE.read_text(), re.MULTILINE))

    assert documented == keys(Answers)


def test_the_example_gives_every_answer_and_holds() -> None:
    text = EXAMPLE.read_text()
    given = {
        f"{name}.{key}" if isinstance(part, dict) else name
        for name, part in tomllib.loads(text).items()
        for key in (part if isinstance(part, dict) else [name])
    }

    assert given == keys(Answers)
    assert (
        answers.parse(text.replace('name = ""', 'name = "demo-hospital"').encode()).config(None).profile == "single-cpu"
    )


def test_every_question_asks_for_an_answer_that_exists() -> None:
    asked = {prompt.key.removesuffix(".0").removesuffix(".1") for question in QUESTIONS for prompt in question.prompts}

    assert asked <= keys(Answers)
    assert len(QUESTIONS) == 8
