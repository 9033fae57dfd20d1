"""A recipe that says a model makes embeddings: what the weights know of it goes into what is approved."""

from pathlib import Path

import pytest

from appliance.registry.descriptor import ModelDescriptor
from bundler.cache import Cache
from bundler.errors import RecipeError
from bundler.recipe import Recipe
from bundler.sources import modelfiles, weights
from media.embedding import EmbeddingProfile
from tests.support.payload import gguf, recipe_folder, sha256
from tests.unit.bundler.sources.test_model_sources import ENVIRONMENT, no_fetch


def described(folder: Path, embedding: str, *, length: int | None = 64) -> ModelDescriptor:
    """Return the descriptor of the small recipe with such a table, over weights that say this length."""
    path = recipe_folder(folder)
    before = sha256(folder / "tiny.gguf")
    (folder / "tiny.gguf").write_bytes(gguf(metadata={} if length is None else {"llama.embedding_length": length}))
    text = path.read_text().replace(before, sha256(folder / "tiny.gguf"))
    assert "runtime = { n_ctx = 256 }" in text
    text = text.replace("runtime = { n_ctx = 256 }", f"runtime = {{ n_ctx = 256, embedding = {embedding} }}")
    recipe = Recipe.parse(text.encode(), folder=folder)
    pinned = weights.obtain(recipe, recipe.models[0], cache=Cache(root=folder / "cache"), fetch=no_fetch)
    brought = modelfiles.gather(recipe, recipe.models[0], pinned, environment=ENVIRONMENT)
    return ModelDescriptor.from_bytes(
        next(one.read() for one in brought.artifacts if one.target.endswith("descriptor.json"))
    )


def test_the_profile_is_what_the_recipe_says_and_the_weights_know(tmp_path: Path) -> None:
    found = described(tmp_path, '{ pooling = "last", n_ctx = 128 }')

    assert found.runtime.embedding == EmbeddingProfile(pooling="last", n_ctx=128, dimensions=64)
    assert found.embedding_weights == found.weights[0]


def test_weights_that_do_not_say_how_long_a_vector_is_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="how long a vector"):
        described(tmp_path, "{}", length=None)


@pytest.mark.parametrize("wrong", ['{ pooling = "max" }', "{ n_ctx = 0 }", "{ n_ctx = 513 }", "{ dimensions = 3 }"])
def test_what_is_out_of_range_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(RecipeError):
        described(tmp_path, wrong)
