import json
import sys
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from appliance.registry.reference import Reference
from bundler.cache import Cache
from bundler.errors import BuildError
from bundler.process import Progress
from bundler.recipe import ModelSection, Recipe
from bundler.recipe_sources import ReferenceSection
from bundler.sources.quantize import Derivation
from bundler.sources.reference import Examiner, References, make
from tests.support.payload import recipe

DERIVATION = Derivation(
    parent="big.gguf",
    parent_sha256="a" * 64,
    parent_types=("F16",),
    level="Q8_0",
    tool="llama-cpp-python 0.3.36 llama_model_quantize",
    tool_sha256="b" * 64,
    weights=1,
    allow_requantize=False,
    types={},
    fell_back=(),
    seconds=1,
)


@dataclass(kw_only=True)
class StandIn:
    """An engine whose interpreter prints an answer that was written beforehand, and keeps the job."""

    folder: Path
    answer: str
    code: int = 0
    version: str = "0.3.36"
    wheel_sha256: str = "b" * 64
    used: list[str] = field(default_factory=list)

    def python(self, *, progress: Progress) -> Path:
        del progress
        self.used.append(self.version)
        (self.folder / "answer").write_text(self.answer)
        script = self.folder / "python"
        script.write_text(
            f"#!{sys.executable}\nimport shutil, sys\nassert sys.argv[1:3] == ['-I', '-c']\n"
            f"shutil.copy(sys.argv[5], {str(self.folder / 'job.json')!r})\n"
            f"print('llama.cpp says why', file=sys.stderr)\n"
            f"sys.stdout.write(open({str(self.folder / 'answer')!r}).read())\nsys.exit({self.code})\n"
        )
        script.chmod(0o700)
        return script


def answer(whole: Recipe, **changes: Any) -> str:
    """Return what the real program says to the small recipe's two tasks."""
    content = whole.beside(whole.models[0].evals[0]).read_bytes()
    tasks = [json.loads(line) for line in content.splitlines()[1:]]
    prompts = [sha256(task["prompt"].encode()).hexdigest() for task in tasks]
    items: list[dict[str, Any]] = [
        {"id": "a", "kind": "multiple-choice", "prompt_sha256": prompts[0], "millinats": [-1500, -2250]},
        {
            "id": "b",
            "kind": "contains",
            "prompt_sha256": prompts[1],
            "text": "yes\u2028",
            "text_sha256": sha256("yes\u2028".encode()).hexdigest(),
        },
    ]
    one = {"sha256": sha256(content).hexdigest(), "right": "11", "items": items, **changes}
    return json.dumps({"format": 1, "sets": [one]})


def made(
    whole: Recipe, engine: StandIn, *, model: ModelSection | None = None, derivation: Derivation | None = DERIVATION
) -> References:
    parent = engine.folder / "big.gguf"
    parent.write_bytes(b"weights")
    return make(
        whole,
        model or whole.models[0],
        parent=parent if derivation else None,
        derivation=derivation,
        template=b"{{ t }}",
        examiner=Examiner(engine=engine, name="llama-cpp-python", code=engine.folder / "ours.whl"),
        cache=Cache(root=engine.folder / "cache"),
    )


def test_what_the_parent_says_travels_beside_the_task_set_and_is_asked_once(tmp_path: Path) -> None:
    whole = recipe(tmp_path)
    engine = StandIn(folder=tmp_path, answer=answer(whole))

    first, second = made(whole, engine), made(whole, engine)

    assert first == second
    assert engine.used == ["0.3.36"]
    target = "data/evals/tasks.tiny.reference.jsonl"
    assert first.declared == ({"eval": "data/evals/tasks.jsonl", "path": target},)
    assert (first.artifacts[0].target, first.artifacts[0].kind) == (target, "eval")
    found = Reference.from_bytes(first.artifacts[0].read())
    assert (found.parent_sha256, found.engine) == ("a" * 64, "llama-cpp-python 0.3.36")
    assert found.items[0].millinats == (-1500, -2250)
    assert found.items[1].text == "yes\u2028"
    job = json.loads((tmp_path / "job.json").read_text())
    assert (job["template"], job["n_ctx"]) == ("{{ t }}", whole.models[0].runtime.n_ctx)


def test_another_template_or_engine_asks_again(tmp_path: Path) -> None:
    whole = recipe(tmp_path)
    engine = StandIn(folder=tmp_path, answer=answer(whole))
    made(whole, engine)

    engine.wheel_sha256 = "c" * 64
    made(whole, engine)
    made(whole, engine, model=whole.models[0].model_copy(update={"system_prompt": "Be brief."}))

    runtime = whole.models[0].runtime
    penal = runtime.model_copy(update={"defaults": runtime.defaults.model_copy(update={"repeat_penalty": "1.1"})})
    made(whole, engine, model=whole.models[0].model_copy(update={"runtime": penal}))

    assert len(engine.used) == 4
    assert json.loads((tmp_path / "job.json").read_bytes())["defaults"] == {"repeat_penalty": "1.1"}


@pytest.mark.parametrize(
    ("section", "derivation", "why"),
    [
        (ReferenceSection(), None, "not quantized here"),
        (ReferenceSection(skip="the parent takes a day"), DERIVATION, "the parent takes a day"),
        (ReferenceSection(max_bytes=6), DERIVATION, "7 bytes"),
    ],
)
def test_what_is_not_made_is_declared_with_the_reason(
    tmp_path: Path, section: ReferenceSection, derivation: Derivation | None, why: str
) -> None:
    whole = recipe(tmp_path)
    engine = StandIn(folder=tmp_path, answer="")
    model = whole.models[0].model_copy(update={"reference": section})

    found = made(whole, engine, model=model, derivation=derivation)

    assert found.artifacts == ()
    assert [each["eval"] for each in found.declared] == ["data/evals/tasks.jsonl"]
    assert why in found.declared[0]["not_made"]
    assert engine.used == []


@pytest.mark.parametrize(
    "said",
    [
        "",
        "[]",
        "{}",
        '{"format": 2, "sets": []}',
        '{"format": 1, "sets": []}',
        '{"format": 1, "sets": [{"sha256": 1}]}',
    ],
)
def test_an_answer_that_is_none_fails_the_build_and_is_not_kept(tmp_path: Path, said: str) -> None:
    whole = recipe(tmp_path)

    with pytest.raises(BuildError, match=r"models\.tiny: the reference outputs"):
        made(whole, StandIn(folder=tmp_path, answer=said))

    assert not (tmp_path / "cache/references").exists()


@pytest.mark.parametrize("changes", [{"sha256": "0" * 64}, {"items": []}, {"items": [{"id": "b"}, {"id": "a"}]}])
def test_an_answer_to_other_tasks_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    whole = recipe(tmp_path)

    with pytest.raises(BuildError, match="of other tasks"):
        made(whole, StandIn(folder=tmp_path, answer=answer(whole, **changes)))


def test_an_engine_that_fails_says_how_to_do_without(tmp_path: Path) -> None:
    whole = recipe(tmp_path)

    with pytest.raises(BuildError, match="could not be computed") as caught:
        made(whole, StandIn(folder=tmp_path, answer="", code=1))

    assert "llama.cpp says why" in caught.value.why
    assert "models.reference.skip" in caught.value.fix
