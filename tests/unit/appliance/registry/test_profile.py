"""Sampling in a profile besides temperature and top_p: optional, checked, in the digest only where it is said."""

from typing import Any

import pytest

from appliance.registry.descriptor import ModelDescriptor
from bundler.recipe_runtime import DefaultsSection
from media import canonical
from media.errors import MalformedError
from tests.support.versions import version_files


def descriptor(**defaults: Any) -> ModelDescriptor:
    fields = canonical.mapping(canonical.loads(version_files()["data/models/tiny/descriptor.json"]), "descriptor")
    runtime = canonical.mapping(fields["runtime"], "runtime")
    runtime["defaults"] = {**runtime["defaults"], **defaults}
    return ModelDescriptor.from_bytes(canonical.dumps({**fields, "runtime": runtime}))


def test_a_profile_without_them_is_as_it_was() -> None:
    runtime = descriptor().runtime

    assert (runtime.top_k, runtime.repeat_penalty, runtime.stop, runtime.max_tokens) == (0, 1.0, (), 0)
    assert DefaultsSection().said == {}


def test_what_the_recipe_says_is_what_the_descriptor_gives() -> None:
    said = DefaultsSection(top_k=40, repeat_penalty="1.1", stop=("###",), max_tokens=256).said

    runtime = descriptor(**said).runtime

    assert (runtime.top_k, runtime.repeat_penalty, runtime.stop, runtime.max_tokens) == (40, 1.1, ("###",), 256)
    assert descriptor(**said).model_digest != descriptor().model_digest


def test_a_length_of_its_own_may_be_all_that_a_conversation_may_have_and_no_more() -> None:
    room = descriptor().runtime.request_tokens

    assert descriptor(max_tokens=room).runtime.max_tokens == room
    with pytest.raises(MalformedError, match="max_tokens is out of range"):
        descriptor(max_tokens=room + 1)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"top_k": -1}, {"top_k": "40"}, {"repeat_penalty": "0"}, {"repeat_penalty": 1}, {"stop": ["a"] * 5}),
        *({"max_tokens": -1}, {"max_tokens": "256"}, {"max_tokens": True}),
    ],
)
def test_what_is_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        descriptor(**wrong)
