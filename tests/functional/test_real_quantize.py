"""llama.cpp's own quantizing, with the engine that an earlier build left in the cache of this machine."""

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.promote.comparison import Said, compare
from appliance.promote.taskset import TaskSet
from appliance.registry.reference import Reference
from bundler.cache import Cache, default_root
from bundler.enginetools import EngineTools
from bundler.gguf_header import read as read_gguf
from bundler.quantlevels import LEVELS, LevelName, room
from bundler.recipe import ModelSection, Recipe
from bundler.recipe_runtime import RuntimeSection
from bundler.recipe_sources import QuantizeSection
from bundler.sources import llama_wheel, reference, wheels
from bundler.sources.quantize import Derivation, quantize
from bundler.sources.reference import Examiner
from bundler.sources.wheels import Locked
from bundler.target import WheelTarget
from media.digest import file_sha256
from tests.support.payload import recipe
from tests.support.tinyweights import tiny_weights

pytestmark = pytest.mark.demo  # installing the engine takes seconds; the wheel is what `make demo` built

ROOT = Path(__file__).resolve().parents[2]


class _NothingCachedError(Exception):
    pass


def no_fetch(requirements: str, target: WheelTarget, folder: Path) -> None:
    raise _NothingCachedError


def cached_wheel(package: Locked) -> Path:
    found = sorted(default_root().glob(f"{llama_wheel.PACKAGE}/{package.version}-*/*.whl"))
    if not found:
        raise _NothingCachedError
    return found[0]


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> EngineTools:
    target = Recipe.load(ROOT / "examples/demo.toml").target
    lock = ROOT / "requirements/engine-llama-cpp.txt"
    needed = wheels.needed(wheels.parse_lock(lock.read_text(), label=lock.name), target, label=lock.name)
    try:
        chosen = wheels.obtain(
            needed,
            target,
            cache=Cache(root=default_root()),
            fetch=no_fetch,
            built={llama_wheel.PACKAGE: cached_wheel},
        )
    except _NothingCachedError:
        pytest.skip("no engine wheel is cached; build the demo once")
    return EngineTools.of(chosen, target, Cache(root=tmp_path_factory.mktemp("cache")))


def section(folder: Path, level: LevelName) -> tuple[ModelSection, QuantizeSection]:
    return recipe(folder).models[0], QuantizeSection(level=level)


@pytest.mark.parametrize("level", LEVELS)
def test_llama_cpp_makes_every_level_and_its_header_says_so(
    tmp_path: Path, tools: EngineTools, level: LevelName
) -> None:
    parent = tmp_path / "parent.gguf"
    parent.write_bytes(tiny_weights())
    model, wanted = section(tmp_path, level)

    made, derivation = quantize(model, wanted, parent, cache=Cache(root=tmp_path / "cache"), engine=tools)

    assert read_gguf(made).metadata["general.file_type"] == LEVELS[level].file_type
    assert made.stat().st_size < parent.stat().st_size
    assert derivation.parent_sha256 == file_sha256(parent)
    assert set(derivation.types.values()) != {"F32"}
    assert derivation.fell_back == ()


def test_the_same_parent_and_level_give_the_same_bytes(tmp_path: Path, tools: EngineTools) -> None:
    parent = tmp_path / "parent.gguf"
    parent.write_bytes(tiny_weights())
    model, wanted = section(tmp_path, "Q4_K_M")

    made = [
        quantize(model, wanted, parent, cache=Cache(root=tmp_path / name), engine=tools)[0] for name in ("one", "two")
    ]

    assert file_sha256(made[0]) == file_sha256(made[1])


SMOLLM2 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


@pytest.fixture(scope="module")
def smollm2() -> Path:
    found = Cache(root=default_root()).find(SMOLLM2)
    if found is None:
        pytest.skip("the demo's model is not cached; build the demo once")
    return found


@pytest.mark.parametrize(
    ("level", "most_millinats"), [("Q8_0", 2000), ("Q5_K_M", 2000), ("Q4_K_M", 2000), ("IQ4_NL", 4000)]
)
def test_a_real_model_is_quantized_and_says_nearly_what_its_parent_says(
    tmp_path: Path, tools: EngineTools, smollm2: Path, level: LevelName, most_millinats: int
) -> None:
    """Its matrices have 576 and 1536 columns, so K-quants fall back on the first."""
    whole, model = asked_model(tmp_path)
    wanted = QuantizeSection(level=level, allow_requantize=True)

    made, derivation = quantize(model, wanted, smollm2, cache=Cache(root=tmp_path / "cache"), engine=tools)

    header = read_gguf(made)
    assert header.metadata["general.file_type"] == LEVELS[level].file_type
    assert derivation.is_second
    matrices = [tensor for tensor in header.tensors if len(tensor.shape) > 1]
    assert set(derivation.types) == {tensor.name for tensor in matrices}
    odd = {tensor.name for tensor in matrices if tensor.shape[0] % 256}
    assert set(derivation.fell_back) == (odd if "_K" in level else set())
    assert made.stat().st_size <= room(level, weights=header.parameters, other_bytes=4 * 2**20)

    parent, child = (said(whole, model, weights, derivation, tools, tmp_path) for weights in (smollm2, made))
    tasks = TaskSet.from_bytes(whole.beside(model.evals[0]).read_bytes())
    found = compare(tasks, [Said(nats=tuple(one / 1000 for one in item.millinats)) for item in child.items], parent)
    assert found is not None
    assert (found.items, found.parent_sha256) == (len(tasks.items), SMOLLM2)
    assert found.agreement >= 800
    assert found.difference is not None
    assert 0 < abs(found.difference) < most_millinats


def asked_model(folder: Path) -> tuple[Recipe, ModelSection]:
    whole = recipe(folder)
    tasks = (ROOT / "examples/evals/demo-tasks.jsonl").read_text().splitlines()
    multiple_choice = [line for line in tasks if '"kind":"contains"' not in line]
    (folder / "tasks.jsonl").write_text("\n".join(multiple_choice) + "\n")
    changes = {"evals": ("tasks.jsonl",), "runtime": RuntimeSection(n_ctx=512, n_batch=512, n_seq_max=2)}
    return whole, whole.models[0].model_copy(update=changes)


def said(
    whole: Recipe, model: ModelSection, weights: Path, derivation: Derivation, tools: EngineTools, folder: Path
) -> Reference:
    """Return what weights say, asked by the code of this checkout in the engine's own environment."""
    made = reference.make(
        whole,
        model,
        parent=weights,
        derivation=replace(derivation, parent_sha256=file_sha256(weights)),
        template=read_gguf(weights).chat_template.encode(),
        examiner=Examiner(engine=tools, name=llama_wheel.PACKAGE, code=ROOT),
        cache=Cache(root=folder / "cache"),
    )
    return Reference.from_bytes(made.artifacts[0].read())
