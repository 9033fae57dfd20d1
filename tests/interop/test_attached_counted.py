"""A launcher that counts tokens itself, with the library `tokenizers`, before peers in others' words.

The launcher, its environment and the library are real; the peers are fakes after the published sources of SGLang
and TensorRT-LLM; the real SGLang needs a card (`tests/engines/test_sglang_attached.py`).
"""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from appliance.serve.client import EngineClient
from media.errors import SealiftError
from tests.engines.contract import keeps_the_contract
from tests.support import attached
from tests.support.engine_process import engine_site
from tests.support.tiny_tokenizer import CONTROL, MARK, tokenizer

PEERS = {
    "openai-text": "tests.support.fake_tgi",
    "sglang": "tests.support.fake_sglang",
    "openai": "tests.support.fake_trtllm",
}
OFFERS = {
    "openai-text": "",
    "sglang": "logprobs,response_format",
    "openai": "logprobs,response_format",
}
TEMPLATE = b"{% for message in messages %}{{ message.role }}: {{ message.content }}<end>{% endfor %}<tool>"
_SEVERAL = """
import json, sys
from appliance.serve.attached_tokens import LocalTokens
tokens = LocalTokens(open(sys.argv[1]).read())
print(json.dumps([tokens.tokenize(sys.argv[2], special=special) for special in (True, False)]))
"""

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]


@contextmanager
def launched(dialect: str, *arguments: str) -> Iterator[tuple[Path, "subprocess.Popen[bytes]"]]:
    supervised = {
        **attached.SUPERVISED,
        "module": PEERS[dialect],
        "arguments": ["--socket", "{socket}", "--model", "{model}", *arguments],
        "dialect": dialect,
    }
    with engine_site() as site:
        files = attached.files_of(supervised, tokenizer=tokenizer(), template=TEMPLATE, n_ctx=2048, n_seq_max=4)
        descriptor = attached.store(site, files)
        python = attached.environment(attached.TOKENIZERS)
        with attached.launched(site, descriptor, python=python) as found:
            yield found


@pytest.fixture(scope="module", params=sorted(PEERS))
def engine(request: pytest.FixtureRequest) -> Iterator[Path]:
    with launched(request.param) as (socket, _):
        yield socket


def test_it_keeps_the_contract_of_every_engine(engine: Path, request: pytest.FixtureRequest) -> None:
    keeps_the_contract(engine, seconds=120, offers=OFFERS[request.node.callspec.params["engine"]])


def test_a_template_has_control_tokens_and_a_user_none(engine: Path) -> None:
    with EngineClient(engine) as client:
        asked = [{"role": "user", "content": "<end>"}]
        assert client.tokenize(prompt="<end><tool>") == len("<end><tool>")
        assert client.tokenize(messages=asked) == len("user: <end>") + 2


def test_the_library_itself_reads_control_tokens_in_our_text_alone(tmp_path: Path) -> None:
    text = "é<end>x<tool>"
    (tmp_path / "tokenizer.json").write_bytes(tokenizer())
    done = subprocess.run(
        [attached.environment(attached.TOKENIZERS), "-c", _SEVERAL, tmp_path / "tokenizer.json", text],
        capture_output=True,
        text=True,
        check=True,
    )

    ours, users = json.loads(done.stdout)
    assert ours == [*"é".encode(), CONTROL, *b"x", MARK]
    assert users == list(text.encode())


@pytest.mark.parametrize("ends", ["asked to stop", "its worker is killed"])
def test_nothing_is_left_of_a_peer_whose_launcher_ended_in_the_middle_of_an_answer(ends: str) -> None:
    with launched("openai", "--busy") as (socket, launcher), EngineClient(socket, read_seconds=60) as client:
        waiting = threading.Thread(target=_ask, args=(client,), daemon=True)
        waiting.start()
        _until(lambda: client.running() == 1)
        started = attached.descendants(launcher.pid)
        assert any("(sleep" in name for name in started.values()), started
        if ends == "its worker is killed":
            os.kill(next(iter(started)), signal.SIGKILL)
            _until(lambda: not _left(started))
    _until(lambda: not _left(started))
    waiting.join(60)


def _ask(client: EngineClient) -> None:
    with suppress(SealiftError):
        list(client.chat_stream({"messages": [{"role": "user", "content": "a"}], "max_tokens": 8}))


def _left(started: dict[int, str]) -> list[str]:
    return [name for pid, name in started.items() if attached.running(pid) == name]


def _until(holds: Callable[[], bool]) -> None:
    ends = time.monotonic() + 40
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.05)
