from datetime import UTC, datetime
from pathlib import Path

import pytest

from bundler.errors import RecipeError
from bundler.recipe import Recipe
from tests.support.payload import recipe_text

ROOT = Path(__file__).resolve().parents[3]


def parsed(text: str) -> Recipe:
    return Recipe.parse(text.encode(), folder=Path())


def refused(text: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        parsed(text)
    return caught.value


@pytest.mark.parametrize("name", ["demo.toml", "box.toml"])
def test_the_recipes_to_copy_are_in_order(name: str) -> None:
    recipe = Recipe.load(ROOT / "examples" / name)

    assert recipe.models[0].name == "smollm2-135m-instruct"
    assert recipe.engines == ("engine-llama-cpp",)


def test_the_recipe_for_vllm_names_a_lock_of_its_own() -> None:
    recipe = Recipe.load(ROOT / "examples" / "vllm.toml")

    assert recipe.engines == ("engine-vllm",)
    assert recipe.lock("engine-vllm") is not None
    assert recipe.lock("server") is None


def test_a_recipe_says_when_it_was_made_and_nothing_else_knows_the_time() -> None:
    recipe = parsed(recipe_text())

    assert recipe.release.created == datetime(2026, 11, 20, 8, tzinfo=UTC)
    assert recipe.source_date_epoch == 1795161600


def test_a_time_of_another_zone_is_kept_in_utc() -> None:
    recipe = parsed(recipe_text().replace("2026-11-20T08:00:00Z", "2026-11-20T10:00:00+02:00"))

    assert recipe.release.created == datetime(2026, 11, 20, 8, tzinfo=UTC)


def test_numbers_of_the_sampling_become_decimal_text() -> None:
    text = recipe_text().replace("n_ctx = 256", "n_ctx = 256, defaults = { temperature = 0.25, top_p = 1 }")

    defaults = parsed(text).models[0].runtime.defaults

    assert (defaults.temperature, defaults.top_p) == ("0.25", "1")


GPU = '\ngpu = "AMD Radeon PRO W7900"'
BACKEND = '[llama_cpp]\nbackend = "vulkan"\n'


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('name = "small"', 'name = "Small"', "release.name"),
        ('name = "small"', 'name = "small"\nsize = 1', "release.size"),
        ("serial = 3", 'serial = "3"', "release.serial"),
        ("serial = 3", "serial = 0", "release.serial"),
        ("serial = 3", "serial = true", "release.serial"),
        ("created = 2026-11-20T08:00:00Z", "created = 2026-11-20T08:00:00", "release.created"),
        ("2027-11-20T08:00:00Z", "2026-11-20T08:00:00Z", "release"),
        ('sites = ["north", "south"]', "sites = []", "release.sites"),
        ('sites = ["north", "south"]', 'sites = ["north", "north"]', "release"),
        ('profile = "single-cpu"', 'profile = "single-cpu"\nglibc = "3.0"', "targets.0.glibc"),
        ('engine = "llama.cpp"', 'engine = "ollama"', "models.0.engine"),
        ('kind = "file"', 'kind = "hub"', "models.0.source"),
        ('path = "tiny.gguf"', 'path = "/tiny.gguf"', "models.0.source.path"),
        ('path = "tiny.gguf"', 'path = "../tiny.gguf"', "models.0.source.path"),
        ('sha256 = "' + "0" * 64, 'sha256 = "' + "A" * 64, "models.0.source.sha256"),
        ('kind = "file", ', 'kind = "file", branch = "main", ', "models.0.source.branch"),
        ("n_ctx = 256", "n_ctx = 1024", "models.0"),
        ("n_ctx = 256", "defaults = { temperature = nan }", "models.0.runtime.defaults.temperature"),
        ("n_ctx = 256", "n_ctx = 256, defaults = { max_tokens = -1 }", "models.0.runtime.defaults.max_tokens"),
        ("n_ctx = 256", "n_ctx = 256, defaults = { max_tokens = 257 }", "models.0"),
        (
            "n_ctx = 256",
            "n_ctx = 256, n_seq_max = 2, defaults = { max_tokens = 129 }, llama_cpp = { kv_unified = false }",
            "models.0",
        ),
        ("n_ctx = 256", "n_ctx = 256, llama_cpp = { n_gpu_layers = -1 }", "models.0"),
        ("n_ctx = 256", "n_ctx = 256, llama_cpp = { num_keep = 129 }", "models.0"),
        ("n_ctx = 256", "n_ctx = 256, n_seq_max = 256", "models.0"),
        (
            "n_ctx = 256",
            'n_ctx = 256, llama_cpp = { tensor_split = ["x"] }',
            "models.0.runtime.llama_cpp.tensor_split.0",
        ),
        ('engine = "llama.cpp"', 'engine = "llama.cpp"\njudges_similarity = true', "models.0"),
        ("format = 1", "format = 2", "format"),
        ("format = 1", "format = 1\nfolder = 'x'", "folder"),
    ],
)
def test_an_error_names_the_dotted_key(old: str, new: str, key: str) -> None:
    text = recipe_text()
    assert old in text

    error = refused(text.replace(old, new, 1))

    assert error.what.partition(":")[0] == key
    assert error.fix


def on_gpus(said: str = "llama_cpp = { n_gpu_layers = -1, num_gpu = 1 }", *, more: str = BACKEND) -> str:
    """Return a recipe whose model has layers on GPUs."""
    text = recipe_text(more=more).replace("n_ctx = 256", f"n_ctx = 256, {said}")
    return text.replace('profile = "single-cpu"', 'profile = "single-cpu"' + GPU)


def test_layers_on_gpus_want_a_backend_and_a_machine_with_one() -> None:
    alone = recipe_text(more=BACKEND)
    nobodys = alone.replace('engine = "llama.cpp"', 'engine = "vllm"').replace("n_ctx = 256", "")
    nobodys = nobodys.replace("context_tokens = 512", "context_tokens = 8192")

    assert parsed(on_gpus()).llama_cpp.backend == "vulkan"
    assert parsed(alone).llama_cpp.backend == "vulkan"  # for a version that comes later
    assert "is built for processors alone" in str(refused(on_gpus(more="")))
    assert "no target names a GPU" in str(refused(on_gpus().replace(GPU, "")))
    assert "llama_cpp.backend" in str(refused(nobodys))
    assert "llama_cpp.backend" in str(refused(alone.replace("vulkan", "rocm")))


def test_layers_on_gpus_contradict_by_name_and_shares_become_decimal_text() -> None:
    said = "llama_cpp = { n_gpu_layers = 20, num_gpu = 2, main_gpu = 1, tensor_split = [0.6, 0.4], num_keep = 64 }"
    text = on_gpus(said)

    table = parsed(text).models[0].runtime.llama_cpp

    assert table is not None
    assert (table.settings.tensor_split, table.settings.num_keep) == (("0.6", "0.4"), 64)
    assert "main_gpu is 2" in str(refused(text.replace("main_gpu = 1", "main_gpu = 2")))
    assert "tensor_split has 2 shares for 3 GPUs" in str(refused(text.replace("num_gpu = 2", "num_gpu = 3")))


@pytest.mark.parametrize("word", ["census", "patients", "notes", "site_evals", "annotations"])
def test_patient_data_does_not_start_on_the_connected_side(word: str) -> None:
    error = refused(recipe_text(release=f'{word} = "list.csv"'))

    assert error.what == f"release.{word}: patient data does not start on the connected side"
    assert "appliance" in error.fix


def test_one_release_has_one_set_of_wheels() -> None:
    error = refused(recipe_text(more='[[targets]]\nprofile = "other"\nglibc = "2.35"\n'))

    assert "one python, platform and glibc" in error.what


@pytest.mark.parametrize(
    ("more", "word"),
    [('[[targets]]\nprofile = "single-cpu"\n', "profile"), ("[debs]\npackages = []\n", "debs.packages")],
)
def test_what_is_there_twice_or_empty_is_refused(more: str, word: str) -> None:
    assert word in refused(recipe_text(more=more)).what


def test_a_recipe_that_is_not_there_is_an_error_of_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        Recipe.load(tmp_path / "none.toml")


@pytest.mark.parametrize("text", ["format = ", "a" * 300_000, "x = " + "[" * 5000])
def test_what_is_not_toml_or_too_large_is_refused(text: str) -> None:
    assert "recipe" in refused(text).what


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/m.gguf",
        "https://user@host/m.gguf",
        "https://user:geheim99@host/m.gguf",
        "https://host/m.gguf?token=geheim99",
        "https://host/m.gguf#part",
        "https://host:port/m.gguf",
        "https:///m.gguf",
        "https://host/models/",
        "https://host/.hidden",
        "https://host/a b.gguf",
        "m.gguf",
    ],
)
def test_a_url_that_could_hold_a_secret_or_names_no_file_is_refused(url: str) -> None:
    text = recipe_text().replace('kind = "file", path = "tiny.gguf"', f'kind = "http", urls = ["{url}"]')

    error = refused(text)

    assert error.what.startswith("models.0.source.urls.0: ")
    assert "geheim99" not in f"{error.what}{error.why}{error.fix}"
