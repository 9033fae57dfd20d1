"""llama.cpp's own server (xllamacpp) as an attached engine, with the demo's model: the contract of every engine.

The launcher starts it from an environment that a file of hashes names, stands by it, and translates.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.serve.client import EngineClient
from tests.engines.contract import keeps_the_contract, lets_an_answer_end
from tests.support import attached
from tests.support.engine_process import engine_site
from tests.support.real_engine import shipped_tasks

PATIENCE_SECONDS = 120.0
LONG = {"messages": [{"role": "user", "content": "Tell a long story about the sea."}], "temperature": 0}
QUESTION = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0}
TEMPLATE = (
    b"{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    b"{% endfor %}<|im_start|>assistant\n"
)
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "sure": {"type": "boolean"}},
    "required": ["city", "sure"],
    "additionalProperties": False,
}

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]


@contextmanager
def started() -> Iterator[tuple[Path, "subprocess.Popen[bytes]", Path]]:
    with engine_site() as site:
        files = attached.files_of(
            weights=attached.demo_weights(),
            template=TEMPLATE,
            tasks=shipped_tasks(),
            n_ctx=2048,
            n_batch=512,
            n_seq_max=4,
        )
        descriptor = attached.store(site, files)
        with attached.launched(site, descriptor, python=attached.environment()) as (socket, process):
            yield socket, process, site.at.run / "log"


@pytest.fixture(scope="module")
def engine() -> Iterator[tuple[Path, "subprocess.Popen[bytes]", Path]]:
    with started() as running:
        yield running


@pytest.fixture
def client(engine: tuple[Path, "subprocess.Popen[bytes]", Path]) -> Iterator[EngineClient]:
    with EngineClient(engine[0], read_seconds=PATIENCE_SECONDS) as client:
        yield client


def until(holds: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < PATIENCE_SECONDS
        time.sleep(0.02)


def test_it_keeps_the_contract_of_every_engine(engine: tuple[Path, "subprocess.Popen[bytes]", Path]) -> None:
    keeps_the_contract(engine[0], seconds=300, offers="logprobs,response_format")


def test_told_to_stop_it_lets_an_answer_come_to_its_end() -> None:
    with started() as (socket, process, _):
        lets_an_answer_end(socket, process.terminate, asked=LONG, most=48)
        process.wait(PATIENCE_SECONDS)


def test_one_whose_places_hold_a_part_of_the_context_each_is_refused_at_its_start() -> None:
    """As llama.cpp's server does without `--kv-unified`: prompts that our side let through were refused by it."""
    with engine_site() as site:
        apart = {**attached.SUPERVISED, "module": "tests.support.xllamacpp_apart"}
        files = attached.files_of(
            apart, weights=attached.demo_weights(), template=TEMPLATE, n_ctx=2048, n_batch=512, n_seq_max=4
        )
        told = attached.refused(site, attached.store(site, files), python=attached.environment(), seconds=180)

    assert "each of its places holds 512 tokens, of 2048" in told
    assert "--kv-unified" in told


def test_it_answers_what_it_was_asked(client: EngineClient) -> None:
    answer = client.chat({**QUESTION, "max_tokens": 24})

    assert "Paris" in answer["choices"][0]["message"]["content"]
