"""What tables of a recipe may say together, kinds of releases, patient data, and the line of a fault."""

from pathlib import Path

import pytest

from bundler.errors import RecipeError
from bundler.recipe import Recipe
from bundler.recipe_lines import line_of
from tests.support.payload import recipe_text
from tests.support.recipes import HEAD, TARGET, for_vllm, security_update, server_alone, two_sites

ROOT = Path(__file__).resolve().parents[3]
SERVER = HEAD.format(name="s").replace("[release]", '[release]\nsites = ["a"]\nkind = "server"') + TARGET
UPDATE = SERVER.replace('"server"', '"security-update"\nbase = 5') + '[update]\nwheels = "urgent.txt"\n'


def parsed(text: str, folder: Path = Path()) -> Recipe:
    return Recipe.parse(text.encode(), folder=folder)


def refused(text: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        parsed(text)
    return caught.value


def line_in(error: RecipeError, text: str) -> str:
    """Return the line of the recipe that an error names."""
    number = int(error.why.removeprefix("line ").partition(":")[0])
    return text.splitlines()[number - 1]


EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.toml") if "\n[release]" in path.read_text())


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_recipe_to_copy_is_in_order(name: str) -> None:
    assert Recipe.load(ROOT / "examples" / name).releases()


def test_each_site_gets_its_targets_and_all_models_unless_it_names_some(tmp_path: Path) -> None:
    north, south = Recipe.load(two_sites(tmp_path, weights_bytes=1024)).releases()

    assert [model.name for model in north.models] == ["shared"]
    assert [model.name for model in south.models] == ["shared", "own"]
    assert [machine.glibc for machine in (*north.machines, *south.machines)] == ["2.36", "2.35"]
    assert south.demanded_rehearsal == "answered-on-cpu"


def test_one_recipe_holds_models_of_both_engines(tmp_path: Path) -> None:
    recipe = Recipe.load(for_vllm(tmp_path / "recipe", tmp_path / "index"))

    assert recipe.engines == ("engine-llama-cpp", "engine-vllm")
    assert recipe.lock("engine-vllm") == tmp_path / "recipe" / "engine-vllm.txt"


@pytest.mark.parametrize(
    "source",
    [
        'kind = "folder", path = "ward", license_path = "LICENSE", files = { "model.safetensors" = "SHA" }',
        'kind = "file", path = "model.safetensors", license_path = "LICENSE", sha256 = "SHA"',
        'kind = "http", urls = ["https://example.org/model.safetensors"], license_path = "LICENSE", sha256 = "SHA"',
        (
            f'kind = "huggingface", repo = "a/b", revision = "{"a" * 40}", license_path = "LICENSE", '
            'files = { "model.safetensors" = "SHA" }'
        ),
    ],
    ids=["folder", "file", "http", "hub"],
)
def test_safetensors_for_llama_cpp_are_refused_before_anything_is_fetched(source: str) -> None:
    text = recipe_text("0" * 64)
    line = next(each for each in text.splitlines() if each.startswith("source = {"))
    wrong = text.replace(line, f"source = {{ {source.replace('SHA', '0' * 64)} }}")

    error = refused(wrong)

    assert "llama.cpp loads GGUF" in error.what
    assert "docs/operator/models.md" in error.fix


def test_a_recipe_without_models_is_one_of_the_server_alone(tmp_path: Path) -> None:
    assert Recipe.load(server_alone(tmp_path)).kind == "server"
    assert parsed(SERVER.replace('kind = "server"\n', "")).kind == "server"
    assert parsed(SERVER).unchanged == ("models", "engines")


def test_a_security_update_says_what_it_leaves_unchanged(tmp_path: Path) -> None:
    recipe = Recipe.load(security_update(tmp_path / "recipe", tmp_path / "index"))

    assert recipe.unchanged == (
        *("models", "engines", "the server's own code", "playbooks and units", "Debian packages"),
    )
    with_debs = parsed(UPDATE + '[debs]\npackages = ["openssl"]\n')
    assert "Debian packages" not in with_debs.unchanged


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (UPDATE + recipe_text().partition("[[models]]")[1] + recipe_text().partition("[[models]]")[2], "models: a sec"),
        (UPDATE + '[locks]\nserver = "server.txt"\n', "locks: a security update does not change this"),
        (UPDATE.replace("base = 5", ""), "release.base: it is missing"),
        (UPDATE.replace("base = 5", "base = 7"), "release.base: it is not below serial"),
        (UPDATE.partition("[update]")[0], "update: a security update brings debs, wheels or both"),
        (UPDATE.replace("security-update", "server"), "update: only a security update has it"),
        (UPDATE + 'environments = ["engine-llama-cpp"]\n', "update.environments.0: "),
        (SERVER.replace('"server"', '"full"'), "release.kind: a full release carries models"),
        (recipe_text(release='kind = "server"'), "models: a release of the server carries none"),
        (recipe_text(release="base = 2"), "release.base: a full release stands alone"),
        (recipe_text(release='kind = "patch"'), "release.kind: "),
        (SERVER.replace('sites = ["a"]\n', ""), "release.sites: no site is named"),
        (SERVER + "[[site]]\n" + 'name = "b"\ntargets = ["ward"]\n', "release.sites: the recipe has"),
        (SERVER + "[[target]]\nprofile = 'x'\n", "target: the recipe has [[targets]] too"),
        (recipe_text(more='[[models]]\nname = "tiny"\n'), "models.1.version: "),
        (SERVER + "[[accept_licences]]\nlicense = 'Llama-3.1'\n", "accept_licences.0.reason: "),
    ],
)
def test_what_does_not_go_together_is_refused_by_its_key(text: str, what: str) -> None:
    assert refused(text).what.startswith(what)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('targets = ["ward"]', 'targets = ["cart"]', "site.0.targets: cart is not in the recipe"),
        ('models = ["shared"]', 'models = ["other"]', "site.0.models: other is not in the recipe"),
        ('name = "south"', 'name = "north"', "site.1.name: north is there twice"),
        ('targets = ["rack"]', 'targets = ["rack", "ward"]', "site.1.targets: all targets of one release"),
        ('targets = ["rack"]', 'targets = ["ward"]', "target: rack is for no site"),
        ("policy = { rehearsal =", "policy = { level =", "site.1.policy.level: not a key of a recipe"),
        ("answered-on-cpu", "perfect", "site.1.policy.rehearsal: "),
    ],
)
def test_sites_that_do_not_fit_are_refused_by_their_key(tmp_path: Path, old: str, new: str, what: str) -> None:
    text = two_sites(tmp_path, weights_bytes=1024).read_text()
    assert old in text

    assert refused(text.replace(old, new)).what.startswith(what)


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ('census_list = "x.csv"', "release.census_list"),
        ('patient-notes = "x.csv"', "release.patient-notes"),
        ('own_evals = "x"', "release.own_evals"),
        ('mrns = ["1"]', "release.mrns"),
    ],
)
def test_keys_about_patients_are_refused_with_where_to_import(more: str, key: str) -> None:
    text = recipe_text(release=more)

    error = refused(text)

    assert error.what == f"{key}: patient data does not start on the connected side"
    assert line_in(error, text) == more
    assert "appliance" in error.fix


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('evals = ["tasks.jsonl"]', 'evals = ["tasks.jsonl", "site-evals.jsonl"]'),
        ('evals = ["tasks.jsonl"]', 'evals = ["data/annotated_notes.jsonl"]'),
        ('path = "tiny.gguf"', 'path = "ward-census.csv"'),
    ],
)
def test_files_named_like_patient_data_are_refused(old: str, new: str) -> None:
    error = refused(recipe_text().replace(old, new))

    assert error.what.startswith("models.0.")
    assert "patient data" in error.what


def test_words_that_only_sound_alike_pass() -> None:
    text = recipe_text().replace('evals = ["tasks.jsonl"]', 'evals = ["release-notebook.jsonl", "outpatience.jsonl"]')

    assert parsed(text).models[0].evals == ("release-notebook.jsonl", "outpatience.jsonl")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("serial = 3", 'serial = "3"', 'serial = "3"'),
        ("context_tokens = 512", "context_tokens = 1", "context_tokens = 1"),
        ('profile = "single-cpu"', "", "[[targets]]"),
        ("runtime = { n_ctx = 256 }", "runtime = { n_ctx = 1 }", "runtime = { n_ctx = 1 }"),
        ('license = "MIT"', 'rules = [\n  "one",\n  2,\n]\nlicense = "MIT"', "rules = ["),
        ('license = "MIT"', 'system_prompt = """\nserial = 9 # no\n"""\nlicense = 7', "license = 7"),
    ],
)
def test_a_fault_names_the_line_where_it_stands(old: str, new: str, line: str) -> None:
    text = recipe_text().replace(old, new, 1)
    assert text != recipe_text()

    assert line_in(refused(text), text) == line


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("a = 1\n", ("a",), 1),
        ("\n# a = 1\n[t]\n'a b' = 2\n", ("t", "a b"), 4),
        ("[t]\na.b = 2\n", ("t", "a", "b"), 2),
        ("[[t]]\nx = 1\n[[t]]\nx = 2\n", ("t", 1, "x"), 4),
        ("[[t]]\n[t.s]\nx = 1\n[[t]]\n[t.s]\nx = 2\n", ("t", 1, "s", "x"), 6),
        ("[[t]]\n[[t.u]]\nx = 1\n[[t.u]]\nx = 2\n[[t]]\n[[t.u]]\nx = 3\n", ("t", 1, "u", 0, "x"), 8),
        ("a = '''\nb = 1\n'''\nb = 2\n", ("b",), 4),
        ('a = "\\"\\n#"\nb = 2 # "\n', ("b",), 2),
        ('a = """x""""\nb = 2\n', ("b",), 2),
        ("a = [ # one\n  '#', # two\n]\nb = 2\n", ("b",), 4),
        ("a = 1\n", ("b",), None),
        ('"a\\u0062" = 1\nb = 2\n', ("b",), None),
    ],
)
def test_the_line_of_a_key_is_right_or_none(text: str, path: tuple[str | int, ...], expected: int | None) -> None:
    assert line_of(text, path) == expected


@pytest.mark.parametrize(("trained_for", "n_ctx"), [(4096, 4096), (131072, 8192)])
def test_a_model_for_vllm_has_vllms_usual_settings_where_the_recipe_says_nothing(
    trained_for: int, n_ctx: int, tmp_path: Path
) -> None:
    path = for_vllm(tmp_path / "recipe", tmp_path / "index")
    path.write_text(path.read_text().replace("context_tokens = 4096", f"context_tokens = {trained_for}"))
    recipe = Recipe.load(path)

    model = next(each for each in recipe.models if each.engine == "vllm")

    assert (model.runtime.n_ctx, model.runtime.n_batch, model.runtime.n_seq_max) == (n_ctx, 8192, 256)
    assert model.runtime.vllm is not None
    assert model.runtime.vllm.gpu_memory_utilization == "0.90"


def test_an_answers_length_is_for_every_engine_since_the_gateway_keeps_it(tmp_path: Path) -> None:
    path = for_vllm(tmp_path / "recipe", tmp_path / "index")
    said = "runtime = { defaults = { max_tokens = 256 } }"
    path.write_text(path.read_text().replace("[models.source]", f"{said}\n[models.source]", 1))

    model = next(each for each in Recipe.load(path).models if each.engine == "vllm")

    assert model.runtime.defaults.said == {"max_tokens": 256}


@pytest.mark.parametrize(
    ("runtime", "why"),
    [
        ("runtime = { n_seq_max = 8 }", "64 to 512"),
        ("runtime = { n_ctx = 1024 }", "2048 to 131072"),
        ("runtime = { vllm = { tensor_parallel_size = 3 } }", "1, 2, 4, 8"),
        ("runtime = { vllm = { gpu_memory_utilization = 0.99 } }", "0.7 to 0.95"),
        ("runtime = { vllm = { trust_remote_code = true } }", "trust_remote_code"),
        ("runtime = { defaults = { top_k = 40, max_tokens = 256 } }", "top_k is for models that llama.cpp serves"),
        ("runtime = { defaults = { max_tokens = 4097 } }", "4096 tokens that a conversation may have"),
    ],
)
def test_settings_that_a_site_would_refuse_are_never_signed(tmp_path: Path, runtime: str, why: str) -> None:
    path = for_vllm(tmp_path / "recipe", tmp_path / "index")
    path.write_text(path.read_text().replace("[models.source]", f"{runtime}\n[models.source]", 1))

    with pytest.raises(RecipeError) as caught:
        Recipe.load(path)

    assert why in f"{caught.value.what} {caught.value.why}"
