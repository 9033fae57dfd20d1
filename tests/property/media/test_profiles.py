"""The tables of a version's profile, read from any value: settings, or one of our errors."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.attachedprofile import AttachedSettings
from media.embedding import EmbeddingProfile
from media.errors import MediaError
from media.llamaprofile import LlamaSettings
from tests.support.mutation import json_values

EMBEDDING = {"pooling": "mean", "n_ctx": 256, "dimensions": 384, "matryoshka": False}
READERS: dict[str, tuple[Callable[[Any, str], Any], dict[str, Any]]] = {
    "attached": (AttachedSettings.from_json, AttachedSettings().to_json()),
    "embedding": (EmbeddingProfile.from_json, EMBEDDING),
    "llama": (LlamaSettings.from_json, LlamaSettings().to_json()),
}


@pytest.mark.parametrize("name", sorted(READERS))
@given(data=st.data())
def test_any_value_is_a_profile_or_one_of_our_errors(name: str, data: st.DataObject) -> None:
    read, right = READERS[name]
    bent = st.fixed_dictionaries({key: json_values | st.just(value) for key, value in right.items()})

    with suppress(MediaError):
        read(data.draw(json_values | bent), "profile")


@pytest.mark.parametrize("name", sorted(READERS))
def test_what_is_right_is_read_as_it_was_written(name: str) -> None:
    read, right = READERS[name]

    assert read(right, "profile").to_json() == right
