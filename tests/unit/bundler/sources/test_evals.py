from pathlib import Path

import pytest

from bundler.errors import SourceError
from bundler.recipe import Recipe
from bundler.sources import evals
from tests.support.payload import TASKS, recipe_folder

ROOT = Path(__file__).resolve().parents[4]
HEADER = b'{"format":1,"name":"facts","floor":"0.50"}\n'
ITEM = '{"id":"a","kind":"multiple-choice","prompt":"?","choices":["x","y"],"answer":"x"}'


def test_the_tasks_of_the_demo_are_in_order() -> None:
    assert evals.require_tasks((ROOT / "examples/evals/demo-tasks.jsonl").read_bytes(), label="demo") == "demo-tasks"


def test_a_task_set_that_two_models_share_travels_once(tmp_path: Path) -> None:
    recipe = Recipe.load(recipe_folder(tmp_path))
    twin = recipe.models[0].model_copy(update={"name": "twin"})

    brought = evals.gather(recipe, (*recipe.models, twin))

    assert [artifact.target for artifact in brought.artifacts] == ["data/evals/tasks.jsonl"]
    assert brought.artifacts[0].read() == TASKS


def test_two_task_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    recipe = Recipe.load(recipe_folder(tmp_path))
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "tasks.jsonl").write_bytes(TASKS)
    model = recipe.models[0].model_copy(update={"evals": ("tasks.jsonl", "more/tasks.jsonl")})

    with pytest.raises(SourceError, match=r"two eval files are called tasks\.jsonl"):
        evals.gather(recipe, (model,))


def test_a_task_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    recipe = Recipe.load(recipe_folder(tmp_path))
    (tmp_path / "tasks.jsonl").unlink()

    with pytest.raises(SourceError, match=r"tasks\.jsonl cannot be read"):
        evals.gather(recipe, recipe.models)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        HEADER,
        b"\n",
        HEADER + b"{}",
        HEADER + b"[1]",
        HEADER + b"\xff",
        HEADER.replace(b"0.50", b"1.50") + ITEM.encode(),
        HEADER.replace(b'"0.50"', b"0.5") + ITEM.encode(),
        HEADER.replace(b'"format":1', b'"format":2') + ITEM.encode(),
        HEADER + f"{ITEM}\n{ITEM}".encode(),
        HEADER + ITEM.replace('"answer":"x"', '"answer":"z"').encode(),
        HEADER + ITEM.replace('["x","y"]', '["x"]').encode(),
        HEADER + ITEM.replace('["x","y"]', '["x",1]').encode(),
        HEADER + ITEM.replace("multiple-choice", "contains").encode(),
        HEADER + ITEM.replace("multiple-choice", "essay").encode(),
        HEADER + ITEM.replace('"prompt":"?",', "").encode(),
    ],
)
def test_a_task_set_that_breaks_the_format_is_refused(content: bytes) -> None:
    with pytest.raises(SourceError):
        evals.require_tasks(content, label="x")


def test_an_error_names_the_line() -> None:
    with pytest.raises(SourceError, match="x, line 3: the id a is there twice"):
        evals.require_tasks(HEADER + f"{ITEM}\n{ITEM}".encode(), label="x")
