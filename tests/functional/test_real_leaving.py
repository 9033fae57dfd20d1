"""A step of llama.cpp for one who left ends in the middle, and who comes next is answered as ever.

The engine and the weights of `make demo`, and models of random weights whose memory is one state
(tests/support/tiny_models.py). One step reads a whole long prompt here, for as long as a large model on few cores
takes for a token.
"""

from typing import Any

import pytest

from tests.support.real_engine import told_by

pytestmark = pytest.mark.demo

PROGRAM = """
import json, sys, threading, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from appliance.serve.engine import Generation, Row, Sampling
from appliance.serve.llama_cpp import LlamaCppDecoder
from appliance.serve.scheduler import Scheduler
from media.llamaprofile import LlamaSettings
from tests.support import tiny_models

weights = Path(sys.argv[2])
kinds = {"shared": (weights, True), "apart": (weights, False)}
for kind in ("recurrent", "hybrid"):
    path = weights.with_name(f"{kind}.gguf")
    path.write_bytes(getattr(tiny_models, kind)(weights))
    kinds[kind] = (path, True)
found = {}
for kind, (path, unified) in kinds.items():
    settings = LlamaSettings(kv_unified=unified)
    decoder = LlamaCppDecoder(path, n_ctx=4096, n_batch=1024, n_seq_max=2, threads=1, settings=settings)
    text = decoder.tokenize("The night nurse wrote down who slept and who did not. " * 90, special=False)[:1000]
    first, rest = text[:40], text[40:]

    def step(tokens, at):
        rows = [Row(token, at + place, 0, place == len(tokens) - 1) for place, token in enumerate(tokens)]
        began = time.monotonic()
        is_done = decoder.decode(rows)
        return is_done, time.monotonic() - began

    decoder.begin(0, Sampling(temperature=0))
    step(first, 0)
    step(rest, len(first))
    decoder.cut(0, 0)
    step(first, 0)
    is_done, whole = step(rest, len(first))
    drawn = decoder.sample(0, len(rest) - 1)
    decoder.cut(0, 0)
    step(first, 0)
    leaves = threading.Timer(whole / 4, decoder.halt)
    leaves.start()
    was_done, took = step(rest, len(first))
    leaves.join()
    kept = decoder.cut(0, len(first))
    refused, _ = step(rest[:1], len(first) if kept else 0)
    decoder.go_on()
    decoder.cut(0, len(first) if kept else 0)
    if not kept:
        step(first, 0)
    again, _ = step(rest, len(first))
    own = {
        "wanted": is_done, "left": was_done, "part": took / whole, "kept": kept, "refused": refused, "again": again,
        "same": decoder.sample(0, len(rest) - 1) == drawn,
    }
    decoder.release(0)

    scheduler = Scheduler(decoder)

    def asked(tokens, most):
        sampling = Sampling(temperature=0)
        return scheduler.submit(Generation(tokens=tokens, sampling=sampling, max_tokens=most, salt="ward"))

    own["fresh"] = "".join(piece.text for piece in asked(first, 8).pieces())
    gone = asked(text[::-1], 8)
    while not scheduler.running:
        time.sleep(0.001)
    time.sleep(0.02)
    gone.cancel()
    reasons = {piece.finish_reason for piece in gone.pieces()}
    own["reasons"] = sorted(reason or "" for reason in reasons)
    own["after"] = "".join(piece.text for piece in asked(first, 8).pieces())
    scheduler.stop()
    found[kind] = own
print("FOUND " + json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return told_by(PROGRAM, tmp_path_factory.mktemp("leaving"))


@pytest.mark.parametrize("kind", ["shared", "apart", "recurrent", "hybrid"])
def test_a_step_that_nobody_wants_ends_in_the_middle(found: dict[str, Any], kind: str) -> None:
    own = found[kind]
    assert own["wanted"]
    assert not own["left"]
    assert own["part"] < 0.75
    assert not own["refused"], "no step is made while none is wanted"


@pytest.mark.parametrize("kind", ["shared", "apart", "recurrent", "hybrid"])
def test_what_comes_after_it_is_what_would_have_come(found: dict[str, Any], kind: str) -> None:
    own = found[kind]
    assert own["again"]
    assert own["same"]
    assert own["kept"] == (kind in {"shared", "apart"}), "where the memory is one state, all of it is read again"


@pytest.mark.parametrize("kind", ["shared", "apart", "recurrent", "hybrid"])
def test_whoever_comes_next_is_answered_as_ever(found: dict[str, Any], kind: str) -> None:
    assert found[kind]["reasons"] == ["cancelled"]
    assert found[kind]["after"] == found[kind]["fresh"] != ""
