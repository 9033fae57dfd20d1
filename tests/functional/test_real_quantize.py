"""llama.cpp's own quantizing, with the engine that an earlier build left in the cache of this machine."""

from pathlib import Path

import pytest

from bundler.cache import Cache, default_root
from bundler.enginetools import EngineTools
from bundler.gguf_header import read as read_gguf
from bundler.quantlevels import LEVELS, LevelName
from bundler.recipe import ModelSection, Recipe
from bundler.recipe_sources import QuantizeSection
from bundler.sources import llama_wheel, wheels
from bundler.sources.quantize import quantize
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
    assert derivation.tensors != {"F32": 5}


def test_the_same_parent_and_level_give_the_same_bytes(tmp_path: Path, tools: EngineTools) -> None:
    parent = tmp_path / "parent.gguf"
    parent.write_bytes(tiny_weights())
    model, wanted = section(tmp_path, "Q4_K_M")

    made = [
        quantize(model, wanted, parent, cache=Cache(root=tmp_path / name), engine=tools)[0] for name in ("one", "two")
    ]

    assert file_sha256(made[0]) == file_sha256(made[1])
