"""The engine's `/v1/embeddings` over a deterministic embedder: shapes, batches, refusals, a caller that leaves."""

import base64
import math
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from appliance.errors import EngineProtocolError
from appliance.serve.application import create_engine_app
from appliance.serve.asking import Serving
from appliance.serve.chat_template import ChatTemplate
from appliance.serve.embedding import Embedding, NotEmbeddedError
from appliance.serve.scheduler import Scheduler
from media.clock import SystemClock
from tests.support.decoder import EchoDecoder
from tests.support.vectors import LetterEmbedder

DIGEST = "ab" * 32


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    scheduler = Scheduler(EchoDecoder())
    yield scheduler
    scheduler.stop()


@pytest.fixture
def embedder() -> LetterEmbedder:
    return LetterEmbedder()


@pytest.fixture
def embedding(scheduler: Scheduler, embedder: LetterEmbedder) -> Embedding:
    return Embedding(embedder=embedder, scheduler=scheduler, model_digest=DIGEST)


def client_of(scheduler: Scheduler, embedding: Embedding | None) -> FlaskClient:
    serving = Serving(
        model_digest=DIGEST,
        weights_digest=DIGEST,
        stage="test",
        name="tiny",
        system_prompt="",
        n_ctx=64,
        temperature=0,
        top_p=1,
    )
    return create_engine_app(
        serving,
        decoder=EchoDecoder(),
        scheduler=scheduler,
        template=ChatTemplate("{{ messages }}"),
        clock=SystemClock(),
        embedding=embedding,
    ).test_client()


def asked(client: FlaskClient, text: str, *, status: int = 200) -> dict[str, Any]:
    response = client.post("/v1/embeddings", json={"input": text})
    assert response.status_code == status
    return dict(response.get_json())


def test_vectors_have_length_one_and_come_in_order_with_their_tokens(embedding: Embedding) -> None:
    answer = embedding.answer({"input": ["abc", "hi"]})

    assert [one["index"] for one in answer["data"]] == [0, 1]
    assert [one["tokens"] for one in answer["data"]] == [3, 2]
    assert answer["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    for one in answer["data"]:
        assert math.isclose(math.fsum(number * number for number in one["embedding"]), 1, rel_tol=1e-12)


def test_base64_holds_the_same_numbers_as_32_bit_floats_little_endian(embedding: Embedding) -> None:
    numbers = embedding.answer({"input": "abca"})["data"][0]["embedding"]
    packed = embedding.answer({"input": "abca", "encoding_format": "base64"})["data"][0]["embedding"]

    assert struct.unpack("<8f", base64.b64decode(packed)) == pytest.approx(numbers, rel=1e-6)


def test_tokens_and_text_make_the_same_vector(embedding: Embedding) -> None:
    text = embedding.answer({"input": "abc"})["data"]

    assert embedding.answer({"input": [97, 98, 99]})["data"] == text
    assert embedding.answer({"input": [[97, 98, 99]]})["data"] == text


def test_many_texts_are_cut_into_batches_by_tokens_and_by_texts(embedding: Embedding, embedder: LetterEmbedder) -> None:
    embedding.answer({"input": ["a" * 10, "b" * 10, "c", "d", "e", "f", "g"]})

    assert embedder.batches == [[10], [10, 1, 1, 1], [1, 1]]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": ""},
        {"input": []},
        {"input": [""]},
        {"input": [[]]},
        {"input": ["a", 3]},
        {"input": [3, "a"]},
        {"input": [-1]},
        {"input": [True]},
        {"input": [[0x110000]]},
        {"input": 7},
        {"input": None},
        {"input": ["a"] * 2049},
        {"input": "a", "encoding_format": "hex"},
        {"input": "a", "encoding_format": []},
    ],
)
def test_what_is_no_request_is_refused(embedding: Embedding, body: dict[str, Any]) -> None:
    with pytest.raises(NotEmbeddedError) as refused:
        embedding.answer(body)

    assert refused.value.code == "invalid_value"


def test_a_text_that_does_not_fit_is_refused_before_anything_is_made(
    embedding: Embedding, embedder: LetterEmbedder
) -> None:
    with pytest.raises(NotEmbeddedError) as refused:
        embedding.answer({"input": ["a", "b" * 13]})

    assert refused.value.code == "context_length_exceeded"
    assert embedder.batches == []


def test_a_caller_that_leaves_ends_it_at_the_next_batch(embedding: Embedding, embedder: LetterEmbedder) -> None:
    looks = iter([False, True])

    with pytest.raises(EngineProtocolError):
        embedding.answer({"input": ["a" * 12] * 5}, lambda: next(looks))

    assert len(embedder.batches) == 1


def test_a_vector_without_a_direction_is_a_failure_and_no_answer(
    embedding: Embedding, embedder: LetterEmbedder
) -> None:
    embedder.blank = True

    with pytest.raises(EngineProtocolError):
        embedding.answer({"input": "a"})


def test_the_route_answers_refuses_and_fails_in_openais_shape(
    scheduler: Scheduler, embedding: Embedding, embedder: LetterEmbedder
) -> None:
    client = client_of(scheduler, embedding)

    assert asked(client, "abc")["model"] == DIGEST
    too_long = asked(client, "a" * 13, status=400)
    assert too_long["error"]["code"] == "context_length_exceeded"
    embedder.fail_at_batch = len(embedder.batches)
    assert asked(client, "abc", status=500)["error"]["type"] == "server_error"


def test_a_version_that_makes_none_says_so(scheduler: Scheduler) -> None:
    refused = asked(client_of(scheduler, None), "abc", status=404)

    assert refused["error"]["code"] == "unsupported_model"
