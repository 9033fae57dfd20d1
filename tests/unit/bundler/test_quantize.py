import json
import re
import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import pytest

from bundler.artifact import Material
from bundler.cache import Cache
from bundler.enginetools import EngineTools
from bundler.errors import BuildError, RecipeError
from bundler.process import Progress
from bundler.quantlevels import LEVELS, LevelName, advice, refusal
from bundler.recipe import ModelSection, Recipe
from bundler.scan import scan
from bundler.sources import modelfiles
from bundler.sources.weights import PinnedFile, PinnedModel, quantized
from bundler.sources.wheels import ChosenWheel
from media.digest import file_sha256
from tests.support.payload import recipe_folder
from tests.support.tinyweights import tiny_weights


@dataclass(kw_only=True)
class StandIn:
    """An engine whose interpreter copies a file instead of quantizing."""

    folder: Path
    makes: bytes
    code: int = 0
    version: str = "0.3.36"
    wheel_sha256: str = "b" * 64
    used: list[str] = field(default_factory=list)

    def python(self, *, progress: Progress) -> Path:
        del progress
        self.used.append(self.version)
        (self.folder / "made").write_bytes(self.makes)
        script = self.folder / "python"
        script.write_text(
            f"#!{sys.executable}\nimport shutil, sys\nprint('llama.cpp says why')\n"
            f"shutil.copy({str(self.folder / 'made')!r}, sys.argv[4])\n"
            f"assert sys.argv[1] == '-I' and len(sys.argv) == 8\nsys.exit({self.code})\n"
        )
        script.chmod(0o700)
        return script


def model(folder: Path, more: str = "", *, name: str = "tiny") -> tuple[Recipe, ModelSection]:
    path = recipe_folder(folder)
    text = path.read_text().replace('quantization = "F32"', 'quantization = "Q2_K"')
    text = text.replace("runtime =", f'quantize = {{ level = "Q2_K"{more} }}\nruntime =')
    text = text.replace('name = "tiny"', f'name = "{name}"')
    recipe = Recipe.parse(text.encode(), folder=folder)
    return recipe, recipe.models[0]


def pinned(folder: Path, content: bytes, *, names: tuple[str, ...] = ("big.gguf",)) -> PinnedModel:
    for name in names:
        (folder / name).write_bytes(content)
    return PinnedModel(
        files=tuple(PinnedFile(name=name, path=folder / name) for name in names),
        license_text=b"Yours.\n",
        material=Material(uri="pkg:pypi/big@1", sha256="a" * 64),
    )


def test_every_level_that_a_recipe_may_name_has_its_own_number() -> None:
    assert set(LEVELS) == set(get_args(LevelName))
    assert len({level.file_type for level in LEVELS.values()}) == len(LEVELS) == 13


@pytest.mark.parametrize("name", ["Q2_K", "Q3_K_S", "Q4_0"])
def test_levels_that_are_not_recommended_say_so(name: str) -> None:
    assert advice(name).startswith(f"{name} is not recommended: about ")


def test_only_four_levels_need_a_word() -> None:
    assert [name for name in LEVELS if advice(name)] == ["Q2_K", "Q3_K_S", "Q3_K_M", "Q4_0"]
    assert "only if necessary" in advice("Q3_K_M")
    assert advice("AWQ 4-bit") == ""


def test_quantized_weights_are_traced_to_their_parent_and_made_once(tmp_path: Path) -> None:
    recipe, section = model(tmp_path)
    engine, cache = StandIn(folder=tmp_path, makes=tiny_weights(file_type=10)), Cache(root=tmp_path / "cache")
    parent = pinned(tmp_path, tiny_weights())

    first = quantized(section, parent, cache=cache, engine=lambda: engine)
    second = quantized(section, parent, cache=cache, engine=lambda: engine)

    assert first == second
    assert engine.used == ["0.3.36"]
    brought = modelfiles.gather(recipe, section, first, environment="e" * 64)
    record = json.loads(next(item for item in brought.artifacts if item.target.endswith("provenance.json")).read())
    assert record["package"] == "pkg:pypi/big@1"
    assert record["files"] == {"tiny.Q2_K.gguf": file_sha256(first.files[0].path)}
    assert record["derived_from"] == {
        "parent": "big.gguf",
        "parent_sha256": file_sha256(tmp_path / "big.gguf"),
        "parent_types": ["F32"],
        "level": "Q2_K",
        "tool": "llama-cpp-python 0.3.36 llama_model_quantize",
        "tool_sha256": "b" * 64,
        "parameters": {"file_type": 10, "allow_requantize": False},
        "weights": 213248,
        "tensors": {"F32": 5},
        "tensor_types": dict.fromkeys(
            [
                "blk.0.attn_q.weight",
                "blk.0.attn_v.weight",
                "blk.0.ffn_down.weight",
                "output.weight",
                "token_embd.weight",
            ],
            "F32",
        ),
        "fell_back": {"columns_of": 256, "tensors": {}},
        "requantized": False,
        "not_for_production": "Q2_K is not recommended: loss of quality significant",
    }
    weights = next(item for item in brought.artifacts if item.kind == "weights")
    assert weights.component.purl == "pkg:generic/tiny@1"
    assert weights.component.parent_purl == "pkg:pypi/big@1"
    parent_sha256 = file_sha256(tmp_path / "big.gguf")
    assert [(each.uri, each.sha256) for each in brought.materials] == [
        ("pkg:pypi/big@1", "a" * 64),
        ("urn:sealift:quantized:Q2_K", parent_sha256),
    ]
    assert " s" in brought.materials[1].note


def test_weights_from_the_cache_name_the_wheel_that_made_them(tmp_path: Path) -> None:
    """An engine of the same version may be built anew, and did not make them."""
    _, section = model(tmp_path)
    engine, cache = StandIn(folder=tmp_path, makes=tiny_weights(file_type=10)), Cache(root=tmp_path / "cache")
    parent = pinned(tmp_path, tiny_weights())
    first = quantized(section, parent, cache=cache, engine=lambda: engine)

    second = quantized(section, parent, cache=cache, engine=lambda: replace(engine, wheel_sha256="c" * 64))

    assert first.derivation is not None
    assert first.derivation.tool_sha256 == "b" * 64
    assert second.derivation == first.derivation


def test_weights_under_another_models_name_are_compared_too(tmp_path: Path) -> None:
    """Of two names one may have changed on the disk."""
    (tmp_path / "other").mkdir()
    section, other = model(tmp_path)[1], model(tmp_path / "other", name="zebra")[1]
    engine, cache = StandIn(folder=tmp_path, makes=tiny_weights(file_type=10)), Cache(root=tmp_path / "cache")
    parent = pinned(tmp_path, tiny_weights())
    quantized(section, parent, cache=cache, engine=lambda: engine)
    named = quantized(other, parent, cache=cache, engine=lambda: engine).files[0].path
    changed = bytearray(named.read_bytes())
    changed[-1] ^= 1
    named.unlink()
    named.write_bytes(changed)

    again = quantized(other, parent, cache=cache, engine=lambda: engine).files[0].path

    assert (again.name, again.read_bytes()) == ("zebra.Q2_K.gguf", engine.makes)


def test_another_version_of_the_engine_makes_the_weights_anew(tmp_path: Path) -> None:
    _, section = model(tmp_path)
    engine, cache = StandIn(folder=tmp_path, makes=tiny_weights(file_type=10)), Cache(root=tmp_path / "cache")
    parent = pinned(tmp_path, tiny_weights())
    quantized(section, parent, cache=cache, engine=lambda: engine)

    engine.version = "0.4.0"
    quantized(section, parent, cache=cache, engine=lambda: engine)

    assert engine.used == ["0.3.36", "0.4.0"]


def test_a_level_that_is_not_recommended_is_listed_for_the_people_who_sign(tmp_path: Path) -> None:
    recipe, section = model(tmp_path)
    engine = StandIn(folder=tmp_path, makes=tiny_weights(file_type=10))
    made = quantized(
        section, pinned(tmp_path, tiny_weights()), cache=Cache(root=tmp_path / "cache"), engine=lambda: engine
    )

    report = scan(modelfiles.gather(recipe, section, made, environment="e" * 64).artifacts)

    assert [(found.rule, found.path) for found in report.findings] == [
        ("quantization", "data/models/tiny/provenance.json")
    ]
    assert "not recommended" in report.findings[0].detail
    assert report.findings[0].reason == "listed for the people who sign"


def test_weights_that_are_quantized_already_need_a_word_in_the_recipe_and_are_listed(tmp_path: Path) -> None:
    last, shape = b"ffn_down.weight", (256, 256)
    again = tiny_weights().replace(last + _f32(shape), last + _q8(shape))[: 256 * 256 // 32 * 34 - 256 * 256 * 4]
    engine, cache = StandIn(folder=tmp_path, makes=tiny_weights(file_type=10)), Cache(root=tmp_path / "cache")
    _, section = model(tmp_path)

    with pytest.raises(RecipeError, match=r"models\.tiny\.quantize\.allow_requantize"):
        quantized(section, pinned(tmp_path, again), cache=cache, engine=lambda: engine)

    recipe, section = model(tmp_path, ", allow_requantize = true")
    made = quantized(section, pinned(tmp_path, again), cache=cache, engine=lambda: engine)
    report = scan(modelfiles.gather(recipe, section, made, environment="e" * 64).artifacts)
    assert [found.rule for found in report.findings] == ["quantization", "quantization"]
    assert "twice" in report.findings[1].detail


def _f32(shape: tuple[int, ...]) -> bytes:
    return _tensor(shape, 0)


def _q8(shape: tuple[int, ...]) -> bytes:
    return _tensor(shape, 8)


def _tensor(shape: tuple[int, ...], kind: int) -> bytes:
    sizes = b"".join(size.to_bytes(8, "little") for size in shape)
    return len(shape).to_bytes(4, "little") + sizes + kind.to_bytes(4, "little")


def test_a_child_is_named_by_the_recipe_also_where_another_model_had_it_made(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (_, section), (_, other) = model(tmp_path), model(tmp_path / "other", name="other")
    engine, cache = StandIn(folder=tmp_path, makes=tiny_weights(file_type=10)), Cache(root=tmp_path / "cache")
    parent = pinned(tmp_path, tiny_weights())

    names = [
        quantized(each, parent, cache=cache, engine=lambda: engine).files[0].path.name
        for each in (other, section, other)
    ]

    assert names == ["other.Q2_K.gguf", "tiny.Q2_K.gguf", "other.Q2_K.gguf"]
    assert engine.used == ["0.3.36"]


def test_an_engine_that_makes_another_level_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    _, section = model(tmp_path)
    engine, cache = StandIn(folder=tmp_path, makes=tiny_weights(file_type=7)), Cache(root=tmp_path / "cache")

    with pytest.raises(BuildError, match="not of level Q2_K"):
        quantized(section, pinned(tmp_path, tiny_weights()), cache=cache, engine=lambda: engine)

    assert not cache.folder("files").exists()


def test_a_disk_without_room_is_found_before_the_engine_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, section = model(tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    with pytest.raises(BuildError, match="no room") as caught:
        quantized(
            section,
            pinned(tmp_path, tiny_weights()),
            cache=Cache(root=tmp_path / "cache"),
            engine=lambda: StandIn(folder=tmp_path, makes=b"", code=1),
        )

    assert re.fullmatch(r"it may take [0-9]{7} bytes, 1000 are free where the cache is", caught.value.why)


@pytest.mark.parametrize("level", LEVELS)
def test_levels_that_are_refused_for_production_say_why(level: LevelName) -> None:
    assert bool(refusal(level)) == (level in {"Q2_K", "Q3_K_S", "Q4_0"})


def test_an_engine_that_fails_is_quoted(tmp_path: Path) -> None:
    _, section = model(tmp_path)
    engine = StandIn(folder=tmp_path, makes=b"", code=1)

    with pytest.raises(BuildError, match=r"models\.tiny: .* Q2_K") as caught:
        quantized(
            section, pinned(tmp_path, tiny_weights()), cache=Cache(root=tmp_path / "cache"), engine=lambda: engine
        )

    assert "llama.cpp says why" in caught.value.why


@pytest.mark.parametrize("names", [("a.gguf", "b.gguf"), ("a.safetensors",)])
def test_only_one_gguf_file_is_quantized(tmp_path: Path, names: tuple[str, ...]) -> None:
    _, section = model(tmp_path)
    parent = pinned(tmp_path, tiny_weights(), names=names)

    with pytest.raises(RecipeError, match=r"models\.tiny\.quantize"):
        quantized(section, parent, cache=Cache(root=tmp_path / "cache"), engine=lambda: pytest.fail("not needed"))


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('level = "Q2_K"', 'level = "IQ1_S"', "models.0.quantize.level"),
        ('quantization = "Q2_K"', 'quantization = "Q4_K_M"', "models.0"),
        ('engine = "llama.cpp"', 'engine = "vllm"', "models.0"),
        ('level = "Q2_K"', 'level = "Q2_K", pure = true', "models.0.quantize.pure"),
    ],
)
def test_a_quantize_section_that_contradicts_the_model_is_refused(tmp_path: Path, old: str, new: str, key: str) -> None:
    text = recipe_folder(tmp_path).read_text().replace('quantization = "F32"', 'quantization = "Q2_K"')
    text = text.replace("runtime =", 'quantize = { level = "Q2_K" }\nruntime =')

    with pytest.raises(RecipeError) as caught:
        Recipe.parse(text.replace(old, new).encode(), folder=tmp_path)

    assert caught.value.what.startswith(f"{key}: ")


def test_a_lock_without_the_engine_cannot_quantize(tmp_path: Path) -> None:
    recipe, _ = model(tmp_path)

    with pytest.raises(BuildError) as caught:
        EngineTools.of((), recipe.target, Cache(root=tmp_path))

    assert "no llama-cpp-python" in caught.value.why


def test_an_engine_for_another_python_cannot_quantize_here(tmp_path: Path) -> None:
    recipe, _ = model(tmp_path)
    engine = ChosenWheel(name="llama-cpp-python", version="0.3.36", file=tmp_path / "x.whl", sha256="b" * 64)
    other = replace(recipe.target, python="3.99")

    with pytest.raises(BuildError) as caught:
        EngineTools.of((engine,), other, Cache(root=tmp_path)).python()

    assert caught.value.fix == "build with Python 3.99"
