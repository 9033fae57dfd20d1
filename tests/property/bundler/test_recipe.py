import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.errors import RecipeError
from bundler.recipe import Recipe
from tests.support.payload import recipe_text

TEXT = recipe_text()
KEYS = st.sampled_from(
    ["format", "release", "targets", "models", "debs", "scan", "locks", "name", "serial", "sites", "source", "x"]
)
VALUES = st.recursive(
    st.integers() | st.booleans() | st.text(max_size=8) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


def toml(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case dict():
            return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(toml(item) for item in value) + "]"
        case str():
            return '"' + "".join(c if c.isalnum() and c.isascii() else f"\\U{ord(c):08x}" for c in value) + '"'
        case _:
            return str(value)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_recipe_or_an_error_of_the_recipe(data: bytes) -> None:
    with pytest.raises(RecipeError):
        Recipe.parse(data, folder=Path())


@given(st.dictionaries(KEYS, VALUES, max_size=5).filter(lambda data: "\ud800" not in str(data)))
def test_any_toml_is_a_recipe_or_an_error_of_the_recipe(data: dict[str, Any]) -> None:
    text = "\n".join(f"{key} = {toml(value)}" for key, value in data.items())

    with pytest.raises(RecipeError) as caught:
        Recipe.parse(text.encode(errors="surrogatepass"), folder=Path())

    assert caught.value.what


@given(st.integers(0, len(TEXT) - 1), st.integers(0, 20), st.text(max_size=6))
def test_a_damaged_recipe_is_a_recipe_or_an_error_of_the_recipe(at: int, cut: int, put: str) -> None:
    damaged = (TEXT[:at] + put + TEXT[at + cut :]).encode(errors="replace")

    with contextlib.suppress(RecipeError):
        assert Recipe.parse(damaged, folder=Path()).format == 1
