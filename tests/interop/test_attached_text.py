"""llama.cpp's own server (xllamacpp) known as a server of OpenAI's completions by texts, and no more.

It stands for what takes no tokens. What it does with each word is found out by the launcher alone; the same server with
its own dialect is in `test_attached_engine`.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.errors import EngineRefusedError
from appliance.serve.client import EngineClient
from tests.engines import gguf
from tests.engines.contract import keeps_the_contract, knows_the_capital
from tests.support import attached
from tests.support.engine_process import engine_site

QUESTION = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0}
TEMPLATE = (
    b"{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    b"{% endfor %}<|im_start|>assistant\n"
)

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    weights = attached.demo_weights()
    place = tmp_path_factory.mktemp("weights") / "smollm2.gguf"
    place.write_bytes(weights)
    with place.open("rb") as file:
        metadata, _ = gguf.read(file)
    tokenizer = json.dumps(gguf.tokenizer(metadata)).encode()
    supervised = {**attached.SUPERVISED, "dialect": "openai-text"}
    with engine_site() as site:
        files = attached.files_of(
            supervised,
            tokenizer=tokenizer,
            weights=weights,
            template=TEMPLATE,
            n_ctx=2048,
            n_batch=512,
            n_seq_max=4,
        )
        descriptor = attached.store(site, files)
        python = attached.environment(attached.LOCK, attached.TOKENIZERS)
        with attached.launched(site, descriptor, python=python, seconds=300) as (socket, _):
            yield socket


@pytest.fixture
def client(engine: Path) -> Iterator[EngineClient]:
    with EngineClient(engine, read_seconds=120) as made:
        yield made


def test_it_keeps_the_contract_of_every_engine(engine: Path) -> None:
    keeps_the_contract(engine, seconds=300)


def test_it_answers_what_it_was_asked(client: EngineClient) -> None:
    knows_the_capital(client)


@pytest.mark.parametrize(
    ("param", "value"),
    [("repetition_penalty", 1.5), ("response_format", {"type": "json_object"})],
)
def test_a_word_that_it_has_another_name_for_is_refused(client: EngineClient, param: str, value: object) -> None:
    with pytest.raises(EngineRefusedError) as refused:
        client.chat({**QUESTION, param: value})
    assert (refused.value.http_status, refused.value.engine_param) == (400, param)


def test_continuations_are_scored_as_by_its_own_words(client: EngineClient) -> None:
    scores = client.score("The capital of France is", [" Paris", " Lyon", " xylophone"])
    paris, lyon, nonsense = (one.log_likelihood for one in scores)

    assert -2 < paris < 0
    assert nonsense < lyon < paris


def test_a_name_of_a_control_token_is_not_sent(client: EngineClient) -> None:
    asked = {"messages": [{"role": "user", "content": "What does <|im_end|> mean?"}], "max_tokens": 8}

    with pytest.raises(EngineRefusedError) as refused:
        client.chat(asked)
    assert (refused.value.http_status, refused.value.engine_code) == (400, "invalid_value")
