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
from tests.engines.contract import keeps_a_shape, keeps_the_contract, knows_the_capital
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


def test_it_answers_in_the_shape_that_was_asked_for(client: EngineClient) -> None:
    keeps_a_shape(client)


def test_a_name_of_a_control_token_is_not_sent(client: EngineClient) -> None:
    asked = {"messages": [{"role": "user", "content": "What does <|im_end|> mean?"}], "max_tokens": 8}

    with pytest.raises(EngineRefusedError) as refused:
        client.chat(asked)
    assert (refused.value.http_status, refused.value.engine_code) == (400, "invalid_value")
