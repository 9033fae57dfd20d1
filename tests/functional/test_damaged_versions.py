"""Real damaged versions with right digests, under the real engine: each is caught by the gate that is there for it.

The model is the demo's. What is spoiled is made part of a release again, so that only what a version does can show it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from media import gguf, gguf_vocabulary
from tests.support.real_bench import Bench, open_bench
from tests.support.real_engine import shipped_weights

pytestmark = pytest.mark.demo

LLAMA3 = (
    b"{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n{{ message.content }}"
    b"<|eot_id|>{% endfor %}<|start_header_id|>assistant<|end_header_id|>\n\n"
)


@pytest.fixture(scope="module")
def weights() -> bytes:
    return shipped_weights()


@pytest.fixture
def bench(weights: bytes) -> Iterator[Bench]:
    with open_bench(weights) as opened:
        yield opened


def garbled(weights: bytes) -> bytes:
    """Turn each feed-forward matrix by half its blocks: every block is as it was, and none is in its place."""
    header, spoiled = gguf.parse(weights[: 8 * 2**20], size=len(weights)), bytearray(weights)
    for tensor in header.tensors:
        if ".ffn_" in tensor.name and len(tensor.shape) == 2:
            start, half = header.data_offset + tensor.offset, tensor.length // 2
            spoiled[start : start + tensor.length] = (
                weights[start + half : start + tensor.length] + weights[start : start + half]
            )
    return bytes(spoiled)


def retokenized(weights: bytes) -> bytes:
    """Swap the spelling of two common words of one length in the vocabulary."""
    first, second = (len(word).to_bytes(8, "little") + word for word in ("Ġwater".encode(), "Ġhouse".encode()))
    assert weights.count(first) == weights.count(second) == 1
    return weights.replace(first, b"?" * len(first)).replace(second, first).replace(b"?" * len(first), second)


def tokenizer_of(weights: bytes, folder: Path) -> str:
    file = folder / "weights.gguf"
    file.write_bytes(weights)
    try:
        return gguf_vocabulary.read(file).sha256
    finally:
        file.unlink()


def test_the_shipped_version_passes_what_the_damaged_ones_fail(bench: Bench, tmp_path: Path) -> None:
    pins = {"tokenizer_sha256": tokenizer_of(bench.weights, tmp_path)}

    for gate in ("fit", "template", "task-evaluation", "failures", "restart"):
        verdict = bench.judge(gate, pins=pins)
        assert verdict.passed, verdict

    assert verdict.figures["same_answer"] is True


def test_weights_of_garbage_fail_their_tasks(bench: Bench) -> None:
    verdict = bench.judge("task-evaluation", weights=garbled(bench.weights))

    assert not verdict.passed
    assert "guessing" in verdict.why or "are demanded" in verdict.why


def test_a_template_of_another_model_is_caught(bench: Bench) -> None:
    verdict = bench.judge("template", template=LLAMA3)

    assert not verdict.passed
    assert "no token of this model" in verdict.why


def test_a_changed_tokenizer_is_caught_by_what_the_release_pins(bench: Bench, tmp_path: Path) -> None:
    pins = {"tokenizer_sha256": tokenizer_of(bench.weights, tmp_path)}

    verdict = bench.judge("template", weights=retokenized(bench.weights), pins=pins)

    assert not verdict.passed
    assert "tokenizer_sha256" in verdict.why


def test_a_context_that_no_memory_holds_is_caught_before_it_is_loaded(bench: Bench) -> None:
    verdict = bench.judge("fit", n_ctx=2**26)

    assert not verdict.passed
    assert "KV cache" in verdict.why
