import hashlib
import json
import shutil
from pathlib import Path

import pytest

from bundler.cache import Cache
from bundler.errors import RecipeError, SourceError
from bundler.recipe import Recipe
from bundler.sources import modelfiles, weights
from bundler.sources.wheels import Fetch
from bundler.target import WheelTarget
from tests.support.file_server import file_server
from tests.support.payload import gguf, recipe_folder, recipe_text, safetensors, sha256, wheel

ENVIRONMENT = "e" * 64


def no_fetch(requirements: str, target: WheelTarget, folder: Path) -> None:
    del target, folder
    raise AssertionError(requirements)


def obtained(recipe: Recipe, cache: Cache, fetch: Fetch = no_fetch) -> weights.PinnedModel:
    return weights.obtain(recipe, recipe.models[0], cache=cache, fetch=fetch)


def gathered(recipe: Recipe, cache: Cache) -> dict[str, bytes]:
    pinned = obtained(recipe, cache)
    brought = modelfiles.gather(recipe, recipe.models[0], pinned, environment=ENVIRONMENT)
    return {artifact.target.removeprefix("data/models/tiny/"): artifact.read() for artifact in brought.artifacts}


def changed(folder: Path, old: str, new: str) -> Recipe:
    path = recipe_folder(folder)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return Recipe.load(path)


def sourced(folder: Path, source: str) -> Recipe:
    """Return the small recipe with other words for its source."""
    text = recipe_folder(folder).read_text()
    start = text.index("source = ")
    return Recipe.parse(f"{text[:start]}source = {source}{text[text.index(chr(10), start) :]}".encode(), folder=folder)


def packaged(folder: Path) -> tuple[Recipe, Path]:
    """Return a recipe whose weights lie in a wheel, and that wheel."""
    member = "llm_tiny/tiny.gguf"
    file = wheel(folder, "llm-tiny", files={member: gguf(), "llm_tiny-1.0.dist-info/LICENSE": b"Yours.\n"})
    (folder / "tiny.gguf").write_bytes(gguf())
    source = (
        f'{{ kind = "pypi-package", package = "llm-tiny", version = "1.0", wheel_sha256 = "{sha256(file)}", '
        f'member = "{member}", license_member = "llm_tiny-1.0.dist-info/LICENSE", '
        f'sha256 = "{sha256(folder / "tiny.gguf")}" }}'
    )
    text = recipe_text()
    start = text.index("source = ")
    text = f"{text[:start]}source = {source}{text[text.index(chr(10), start) :]}"
    return Recipe.parse(text.encode(), folder=folder), file


def test_a_model_travels_with_licence_template_provenance_and_descriptor(tmp_path: Path) -> None:
    recipe = Recipe.load(recipe_folder(tmp_path))

    files = gathered(recipe, Cache(root=tmp_path / "cache"))

    assert sorted(files) == ["LICENSE", "chat_template.jinja", "descriptor.json", "provenance.json", "tiny.gguf"]
    assert files["chat_template.jinja"] == b"{{ messages[0]['content'] }}"
    assert json.loads(files["descriptor.json"]) == {
        "format": 1,
        "name": "tiny",
        "version": "1",
        "engine": "llama.cpp",
        "environment": ENVIRONMENT,
        "files": [
            {
                "path": "data/models/tiny/tiny.gguf",
                "role": "weights",
                "sha256": sha256(tmp_path / "tiny.gguf"),
                "length": len(files["tiny.gguf"]),
            }
        ],
        "chat_template": {
            "path": "data/models/tiny/chat_template.jinja",
            "sha256": hashlib.sha256(files["chat_template.jinja"]).hexdigest(),
        },
        "system_prompt": "",
        "rules": [],
        "runtime": {
            "n_ctx": 256,
            "n_batch": 512,
            "n_seq_max": 1,
            "defaults": {"temperature": "0.7", "top_p": "0.95"},
        },
        "quantization": "F32",
        "license": "MIT",
        "context_tokens": 512,
    }
    provenance = json.loads(files["provenance.json"])
    assert provenance["download_date"] == "2026-11-20T08:00:00Z"
    assert provenance["sha256"] == sha256(tmp_path / "tiny.gguf")
    # What model governance asks for; approval, deployment and review are the appliance's to say.
    assert {"name", "version", "source", "sha256", "license", "quantization", "created_by"} <= provenance.keys()


def test_weights_that_are_not_the_pinned_ones_fail_the_build(tmp_path: Path) -> None:
    recipe = Recipe.load(recipe_folder(tmp_path))
    (tmp_path / "tiny.gguf").write_bytes(gguf(template="{{ evil }}"))

    with pytest.raises(SourceError, match="not the file that was pinned"):
        obtained(recipe, Cache(root=tmp_path / "cache"))


@pytest.mark.parametrize("name", ["tiny.gguf", "LICENSE"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    recipe = Recipe.load(recipe_folder(tmp_path))
    (tmp_path / name).unlink()

    with pytest.raises(SourceError, match=name):
        obtained(recipe, Cache(root=tmp_path / "cache"))


def test_weights_in_a_wheel_are_taken_out_once(tmp_path: Path) -> None:
    recipe, file = packaged(tmp_path)
    cache = Cache(root=tmp_path / "cache")

    def fetch(requirements: str, target: WheelTarget, folder: Path) -> None:
        assert requirements == f"llm-tiny==1.0 --hash=sha256:{sha256(file)}\n"
        assert target.glibc == "2.36"
        shutil.copy(file, folder)

    first = obtained(recipe, cache, fetch)
    second = obtained(recipe, cache)

    assert first == second
    assert first.license_text == b"Yours.\n"
    assert first.files[0].path.read_bytes() == gguf()


@pytest.mark.parametrize("name", ["", "llm-other"])
def test_another_wheel_than_the_pinned_one_is_refused(tmp_path: Path, name: str) -> None:
    recipe, _ = packaged(tmp_path)

    def fetch(requirements: str, target: WheelTarget, folder: Path) -> None:
        del requirements, target
        if name:
            wheel(folder, name)

    with pytest.raises(SourceError):
        obtained(recipe, Cache(root=tmp_path / "cache"), fetch)


def test_a_member_that_the_wheel_does_not_have_is_named(tmp_path: Path) -> None:
    recipe, file = packaged(tmp_path)
    source = recipe.models[0].source.model_copy(update={"member": "llm_tiny/other.gguf"})
    model = recipe.models[0].model_copy(update={"source": source})

    def fetch(requirements: str, target: WheelTarget, folder: Path) -> None:
        del requirements, target
        shutil.copy(file, folder)

    with pytest.raises(SourceError, match="llm_tiny/other"):
        weights.obtain(recipe, model, cache=Cache(root=tmp_path / "cache"), fetch=fetch)


def test_a_template_beside_the_recipe_takes_the_place_of_the_one_in_the_weights(tmp_path: Path) -> None:
    recipe = changed(tmp_path, 'engine = "llama.cpp"', 'engine = "llama.cpp"\nchat_template = "t.jinja"')
    (tmp_path / "t.jinja").write_text("{{ ours }}")

    assert gathered(recipe, Cache(root=tmp_path / "cache"))["chat_template.jinja"] == b"{{ ours }}"


def test_weights_without_a_template_need_one(tmp_path: Path) -> None:
    plain = gguf(template="")
    path = recipe_folder(tmp_path)
    old = sha256(tmp_path / "tiny.gguf")
    (tmp_path / "tiny.gguf").write_bytes(plain)
    path.write_text(path.read_text().replace(old, sha256(tmp_path / "tiny.gguf")))

    with pytest.raises(RecipeError, match=r"models\.tiny\.chat_template"):
        gathered(Recipe.load(path), Cache(root=tmp_path / "cache"))


def test_a_context_longer_than_the_models_is_refused(tmp_path: Path) -> None:
    recipe = changed(tmp_path, "context_tokens = 512", "context_tokens = 1024")

    with pytest.raises(RecipeError, match=r"models\.tiny\.context_tokens"):
        gathered(recipe, Cache(root=tmp_path / "cache"))


def test_a_folder_brings_weights_and_configuration(tmp_path: Path) -> None:
    path = recipe_folder(tmp_path)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.safetensors").write_bytes(safetensors({"a": ("U8", (4,), (0, 4))}, data=4))
    (tmp_path / "m" / "config.json").write_text("{}")
    (tmp_path / "t.jinja").write_text("{{ x }}")
    files = ", ".join(f'"{file.name}" = "{sha256(file)}"' for file in sorted((tmp_path / "m").iterdir()))
    text = path.read_text()
    start = text.index("source = ")
    source = f'source = {{ kind = "folder", path = "m", license_path = "LICENSE", files = {{ {files} }} }}'
    text = f"{text[:start]}{source}{text[text.index(chr(10), start) :]}"
    vllm = text.replace('engine = "llama.cpp"', 'engine = "vllm"\nchat_template = "t.jinja"')

    brought = gathered(Recipe.parse(vllm.encode(), folder=tmp_path), Cache(root=tmp_path / "cache"))

    roles = {item["path"]: item["role"] for item in json.loads(brought["descriptor.json"])["files"]}
    assert roles == {"data/models/tiny/config.json": "config", "data/models/tiny/model.safetensors": "weights"}
    with pytest.raises(RecipeError, match="one GGUF file"):
        gathered(Recipe.parse(text.encode(), folder=tmp_path), Cache(root=tmp_path / "cache"))


def test_weights_at_a_url_are_downloaded_and_their_origin_is_recorded(tmp_path: Path) -> None:
    with file_server({"/models/small.gguf": gguf()}) as server:
        recipe_folder(tmp_path)
        url, digest = f"{server.url}/models/small.gguf", sha256(tmp_path / "tiny.gguf")
        recipe = sourced(
            tmp_path, f'{{ kind = "http", urls = ["{url}"], license_path = "LICENSE", sha256 = "{digest}" }}'
        )
        told: list[str] = []

        pinned = weights.obtain(
            recipe, recipe.models[0], cache=Cache(root=tmp_path / "cache"), fetch=no_fetch, progress=told.append
        )

    files = gathered(recipe, Cache(root=tmp_path / "cache"))
    assert [file.name for file in pinned.files] == ["small.gguf"]
    assert json.loads(files["provenance.json"])["package"] == url
    assert told == ["downloading small.gguf, unless the cache has it"]
