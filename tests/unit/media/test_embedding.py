"""The profile's table for embeddings, in a descriptor: read strictly, in the digest only where it is said."""

from typing import Any

import pytest

from appliance.registry.descriptor import ModelDescriptor
from media import canonical
from media.embedding import EmbeddingProfile
from media.errors import MalformedError
from tests.support.versions import version_files

TABLE = {"pooling": "mean", "n_ctx": 512, "dimensions": 384, "matryoshka": False}


def descriptor(table: Any = None, *, own_file: bool = False) -> ModelDescriptor:
    fields = canonical.mapping(canonical.loads(version_files()["data/models/tiny/descriptor.json"]), "descriptor")
    if table is not None:
        fields["runtime"] = {**fields["runtime"], "embedding": table}
    if own_file:
        more = {"path": "data/models/tiny/minilm.gguf", "role": "embedding", "sha256": "cd" * 32, "length": 9}
        fields["files"] = [*fields["files"], more]
    return ModelDescriptor.from_bytes(canonical.dumps(fields))


def test_a_version_without_it_makes_none_and_keeps_its_digest() -> None:
    assert descriptor().runtime.embedding is None
    assert descriptor().embedding_weights is None
    assert descriptor().model_digest != descriptor(TABLE).model_digest


def test_what_is_written_is_read() -> None:
    profile = descriptor(TABLE).runtime.embedding

    assert profile == EmbeddingProfile(pooling="mean", n_ctx=512, dimensions=384)
    assert profile.to_json() == TABLE


def test_vectors_come_from_the_weights_themselves_or_from_a_file_of_their_own() -> None:
    own = descriptor(TABLE, own_file=True)

    assert descriptor(TABLE).embedding_weights == descriptor(TABLE).weights[0]
    assert own.embedding_weights is not None
    assert own.embedding_weights.path.endswith("minilm.gguf")
    assert own.weights_digest == descriptor().weights_digest, "the weights are those that chat"


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        {},
        {**TABLE, "more": 1},
        {**TABLE, "pooling": "max"},
        {**TABLE, "pooling": None},
        {**TABLE, "n_ctx": 0},
        {**TABLE, "n_ctx": True},
        {**TABLE, "dimensions": 65_537},
        {**TABLE, "matryoshka": 1},
    ],
)
def test_what_is_no_such_table_is_refused(wrong: Any) -> None:
    with pytest.raises(MalformedError):
        descriptor(wrong)
