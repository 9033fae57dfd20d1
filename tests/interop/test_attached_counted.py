"""A launcher that counts tokens itself, with the library `tokenizers`, before peers in others' words.

The launcher, its environment and the library are real; the peers are fakes after the published sources of SGLang
and TensorRT-LLM, because neither was at hand.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.serve.client import EngineClient
from tests.support import attached
from tests.support.engine_process import ROOT, engine_site
from tests.support.tiny_tokenizer import CONTROL, MARK, tokenizer

PEERS = {"sglang": "tests.support.fake_sglang", "openai": "tests.support.fake_trtllm"}
TEMPLATE = b"{% for message in messages %}{{ message.role }}: {{ message.content }}<end>{% endfor %}<tool>"
_SEVERAL = """
import json, sys
from appliance.serve.attached_tokens import LocalTokens
tokens = LocalTokens(open(sys.argv[1]).read())
print(json.dumps([tokens.tokenize(sys.argv[2], special=special) for special in (True, False)]))
"""

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", params=sorted(PEERS))
def engine(request: pytest.FixtureRequest) -> Iterator[Path]:
    supervised = {
        **attached.SUPERVISED,
        "module": PEERS[request.param],
        "arguments": ["--socket", "{socket}", "--model", "{model}"],
        "dialect": request.param,
    }
    with engine_site() as site:
        files = attached.files_of(supervised, tokenizer=tokenizer(), template=TEMPLATE, n_ctx=2048, n_seq_max=4)
        descriptor = attached.store(site, files)
        python = attached.environment(attached.TOKENIZERS)
        with attached.launched(site, descriptor, python=python) as (socket, _):
            yield socket


def test_it_keeps_the_contract_of_every_engine(engine: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/functional/test_engine_contract.py",
         "-k", "real", "--timeout", "120"],
        cwd=ROOT,
        env={**os.environ, "SEALIFT_ENGINE_SOCKET": str(engine)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-6000:]
    assert "skipped" not in done.stdout


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
