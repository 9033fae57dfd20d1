"""Another model than the one of `make demo`, in the engine that it shipped: each kind shows what one alone cannot.

Name its weights, with a chat template beside them: ``SEALIFT_OTHER_GGUF=DIR/weights.gguf pytest -m demo
tests/functional/test_real_others.py``, DIR having `chat_template.jinja`. Gemma 3 270M showed what ADR 75 mends.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.real_bench import Bench, open_bench
from tests.support.real_engine import run_program

WEIGHTS: Final = Path(os.environ.get("SEALIFT_OTHER_GGUF", "/nonexistent"))

pytestmark = [
    pytest.mark.demo,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not WEIGHTS.exists(), reason="name SEALIFT_OTHER_GGUF"),
]

PROGRAM: Final = r"""
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from appliance.serve.engine import Generation, Sampling
from appliance.serve.llama_cpp import LlamaCppDecoder
from appliance.serve.scheduler import Scheduler

weights = Path(sys.argv[2])
decoder = LlamaCppDecoder(weights, n_ctx=4096, n_batch=256, n_seq_max=3, threads=1)
scheduler = Scheduler(decoder)


def submit(tokens, *, salt="", priority=2, most=12):
    return scheduler.submit(
        Generation(
            tokens=tokens, sampling=Sampling(temperature=0), max_tokens=most, salt=salt, priority=priority,
            top_logprobs=0,
        )
    )


def told(answer):
    return [likely.token.hex() for piece in answer.pieces() for likely in piece.likelihoods]


def cached(tokens):
    before = scheduler.counts.cached_tokens
    return {"told": told(submit(tokens, salt="ward")), "cached": scheduler.counts.cached_tokens - before}


notes = "".join(f"Bed {bed} was quiet until {bed % 12 + 1} o'clock and then asked for water. " for bed in range(1, 60))
opening = [*decoder.opening, *decoder.tokenize(notes, special=False)]
# Longer than a window that slides, and cut within it and before.
on, near, far = [*opening, *opening[5:40]], [*opening[:-100], *opening[2:30]], [*opening[:200], *opening[300:360]]
found = {"tokens": len(opening)}
found["fresh"] = [told(submit(one)) for one in (on, near, far)]
told(submit(opening, salt="ward", most=1))
found["again"] = [cached(one) for one in (on, near, far)]
patient = [submit(one, most=40) for one in (on, near, far)]
begun = [answer.pieces() for answer in patient]
for pieces in begun:
    next(pieces)
found["urgent"] = told(submit(opening, priority=0, most=2))
found["lengths"] = [sum(len(piece.likelihoods) for piece in pieces) for pieces in begun]
found["preempted"] = scheduler.counts.preempted
scheduler.stop()
print("FOUND " + json.dumps(found))
"""


@pytest.fixture(scope="module")
def found() -> Any:
    return run_program(PROGRAM, WEIGHTS, seconds=800)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with open_bench(WEIGHTS.read_bytes()) as opened:
        yield opened


def test_what_was_read_before_is_used_and_changes_no_answer(found: Any) -> None:
    assert found["tokens"] > 800
    assert [one["told"] for one in found["again"]] == found["fresh"]
    assert all(one["cached"] for one in found["again"])


def test_an_urgent_question_takes_a_place_and_nobody_loses_an_answer(found: Any) -> None:
    assert found["preempted"] >= 1
    assert found["urgent"]
    assert all(found["lengths"])


@pytest.mark.parametrize("gate", ["fit", "load", "smoke", "template", "restart", "privacy"])
def test_a_version_of_it_passes_the_gates_about_how_it_is_served(bench: Bench, gate: str) -> None:
    verdict = bench.judge(gate, template=WEIGHTS.with_name("chat_template.jinja").read_bytes())

    assert verdict.passed, verdict
