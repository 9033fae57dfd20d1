"""A model that answers with another beside it, for embeddings or to guess: one version, two files, two licences."""

from pathlib import Path
from typing import Any

import pytest

from appliance.registry.descriptor import ModelDescriptor
from bundler.build import build_in
from bundler.errors import RecipeError, ScanError
from bundler.recipe import Recipe
from bundler.workfolder import WorkFolder
from media.canonical import loads
from tests.support.payload import gguf, recipe_folder, sha256
from tests.support.workshop import workshop

TABLE = """embedding = {{ license = "{license}", origin = "made by the tests", source = \
{{ kind = "file", path = "{name}", license_path = "VECTORS", sha256 = "{sha256}" }} }}
"""


def recipe_in(
    folder: Path,
    *,
    license_name: str = "MIT",
    name: str = "vectors.gguf",
    n_ctx: int = 512,
    table: str = "embedding = {}",
) -> Recipe:
    path = recipe_folder(folder)
    (folder / name).write_bytes(gguf(metadata={"llama.embedding_length": 48}))
    (folder / "VECTORS").write_bytes(b"Terms of the vectors.\n")
    said = TABLE.format(license=license_name, name=name, sha256=sha256(folder / name)).replace("\\\n", "")
    text = path.read_text()
    assert "runtime = { n_ctx = 256 }" in text
    runtime = table.replace("{}", f"{{ n_ctx = {n_ctx} }}")
    text = text.replace("runtime = { n_ctx = 256 }", f"{said}runtime = {{ n_ctx = 256, {runtime} }}")
    return Recipe.parse(text.encode(), folder=folder)


def test_the_version_names_both_files_and_its_vectors_are_the_second_ones(tmp_path: Path) -> None:
    work = WorkFolder(root=tmp_path / "work")

    build_in(workshop(tmp_path / "shop"), recipe_in(tmp_path / "recipe", n_ctx=2048), work)

    folder = work.data / "models/tiny"
    descriptor = ModelDescriptor.from_bytes((folder / "descriptor.json").read_bytes())
    record = loads((folder / "provenance.json").read_bytes())
    own = descriptor.embedding_weights
    assert own is not None
    assert descriptor.runtime.embedding is not None
    assert (own.path, own.sha256) == ("data/models/tiny/vectors.gguf", sha256(folder / "vectors.gguf"))
    assert descriptor.runtime.embedding.dimensions == 48
    assert descriptor.weights_digest == sha256(folder / "tiny.gguf")
    assert (folder / "LICENSE-embedding").read_bytes() == b"Terms of the vectors.\n"
    assert record["embedding"]["sha256"] == own.sha256


def test_terms_that_nobody_accepted_stop_the_build(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"provenance\.json may not travel: license-terms"):
        build_in(
            workshop(tmp_path / "shop"),
            recipe_in(tmp_path / "recipe", license_name="CC-BY-NC-4.0"),
            WorkFolder(root=tmp_path / "work"),
        )


def test_what_is_no_gguf_file_and_vectors_that_nobody_asks_for_are_refused(tmp_path: Path) -> None:
    other = recipe_in(tmp_path / "one", name="vectors.safetensors")

    with pytest.raises(RecipeError, match="does not bring one GGUF file"):
        build_in(workshop(tmp_path / "shop"), other, WorkFolder(root=tmp_path / "work"))
    with pytest.raises(RecipeError, match=r"runtime\.embedding"):
        recipe_in(tmp_path / "two", table="n_batch = 256")


DRAFT = """draft = {{ license = "{license}", origin = "made by the tests", source = \
{{ kind = "file", path = "small.gguf", license_path = "SMALL", sha256 = "{sha256}" }} }}
"""


def drafting_recipe(
    folder: Path,
    *,
    license_name: str = "MIT",
    vocabulary: str = "",
    table: str = "llama_cpp = { draft_tokens = 4 }",
    names_it: bool = True,
) -> Recipe:
    path = recipe_folder(folder)
    more = {"tokenizer.ggml.tokens": vocabulary} if vocabulary else {}
    (folder / "small.gguf").write_bytes(gguf(metadata={"general.name": "small", **more}, template=""))
    (folder / "SMALL").write_bytes(b"Terms of the small one.\n")
    said = DRAFT.format(license=license_name, sha256=sha256(folder / "small.gguf")).replace("\\\n", "")
    runtime = f"runtime = {{ n_ctx = 256{table and ', '}{table} }}"
    text = path.read_text().replace("runtime = { n_ctx = 256 }", f"{said if names_it else ''}{runtime}")
    return Recipe.parse(text.encode(), folder=folder)


def test_a_draft_model_is_part_of_the_version_under_its_own_licence(tmp_path: Path) -> None:
    work = WorkFolder(root=tmp_path / "work")

    build_in(workshop(tmp_path / "shop"), drafting_recipe(tmp_path / "recipe"), work)

    folder = work.data / "models/tiny"
    descriptor = ModelDescriptor.from_bytes((folder / "descriptor.json").read_bytes())
    record = loads((folder / "provenance.json").read_bytes())
    assert descriptor.draft_weights is not None
    assert descriptor.draft_weights.sha256 == sha256(folder / "small.gguf") == record["draft"]["sha256"]
    assert descriptor.runtime.llama.draft_tokens == 4
    assert descriptor.weights_digest == sha256(folder / "tiny.gguf")
    assert (folder / "LICENSE-draft").read_bytes() == b"Terms of the small one.\n"


def test_a_draft_model_of_another_vocabulary_or_of_terms_that_nobody_accepted_stops_the_build(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="another vocabulary"):
        build_in(
            workshop(tmp_path / "a shop"),
            drafting_recipe(tmp_path / "one", vocabulary="others"),
            WorkFolder(root=tmp_path / "work"),
        )
    with pytest.raises(ScanError, match=r"provenance\.json may not travel: license-terms"):
        build_in(
            workshop(tmp_path / "shop"),
            drafting_recipe(tmp_path / "two", license_name="CC-BY-NC-4.0"),
            WorkFolder(root=tmp_path / "other"),
        )


@pytest.mark.parametrize("said", [{"table": ""}, {"names_it": False}])
def test_a_draft_model_and_how_much_it_guesses_are_said_together(tmp_path: Path, said: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="draft_tokens"):
        drafting_recipe(tmp_path, **said)
