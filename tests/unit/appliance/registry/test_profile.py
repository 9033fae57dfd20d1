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

    assert (runtime.top_k, runtime.repeat_penalty, runtime.stop) == (0, 1.0, ())
    assert DefaultsSection().said == {}


def test_what_the_recipe_says_is_what_the_descriptor_gives() -> None:
    said = DefaultsSection(top_k=40, repeat_penalty="1.1", stop=("###",)).said

    runtime = descriptor(**said).runtime

    assert (runtime.top_k, runtime.repeat_penalty, runtime.stop) == (40, 1.1, ("###",))
    assert descriptor(**said).model_digest != descriptor().model_digest


@pytest.mark.parametrize(
    "wrong", [{"top_k": -1}, {"top_k": "40"}, {"repeat_penalty": "0"}, {"repeat_penalty": 1}, {"stop": ["a"] * 5}]
)
def test_what_is_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        descriptor(**wrong)
