"""At temperature 0 an answer is the same alone and beside others, in the engine and with the weights of `make demo`.

Steps of another width may round otherwise on some processors (docs/api.md, ADR 8), which shows where two tokens are
nearly as likely: so all answers must begin alike, and most be the same to their ends. In a context that all share,
llama.cpp's attention takes another way for a step of 64 rows or more (`GGML_FA_TILE_Q`), whoever's rows they are; which
steps are so wide depends on how fast the processor reads prompts, so here none is.
"""

from typing import Any

import pytest

from tests.support.real_engine import told_by

pytestmark = pytest.mark.demo

PROGRAM = """
import json, sys, threading
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from appliance.serve import context as contexts
from appliance.serve.curve import measure
from appliance.serve.engine import Generation, Sampling
from appliance.serve.llama_cpp import LlamaCppDecoder
from appliance.serve.scheduler import Scheduler
from media.clock import SystemClock
from media.llamaprofile import LlamaSettings

subjects = ("the sea", "a lighthouse", "winter", "an old map", "bread", "a railway", "chalk", "rain")
found, sure = {}, {}
for name, unified, widest in (("shared", True, 48), ("apart", False, 256)):
    settings = LlamaSettings(kv_unified=unified)
    decoder = LlamaCppDecoder(Path(sys.argv[2]), n_ctx=2048, n_batch=widest, n_seq_max=8, threads=1, settings=settings)
    scheduler = Scheduler(decoder)
    scheduler.calibrate(lambda own: measure(own, clock=SystemClock(), threads=1, seconds=1.0))

    def ask(turn, subject, into, most=24):
        prompt = f"<|im_start|>user\\nWrite about {subject}.<|im_end|>\\n<|im_start|>assistant\\n"
        asked = Generation(
            tokens=decoder.tokenize(prompt, special=True),
            sampling=Sampling(temperature=0),
            max_tokens=most,
            salt=f"{turn} {subject}",
            top_logprobs=2,
        )
        pieces = list(scheduler.submit(asked).pieces())
        into[subject] = "".join(piece.text for piece in pieces)
        likely = [one for piece in pieces for one in piece.likelihoods]
        sure[f"{turn} {subject}"] = [(one.token.hex(), one.top[0][1] - one.top[1][1]) for one in likely]

    alone, again, together = {}, {}, {}
    for turn, into in (("alone", alone), ("again", again)):
        for subject in subjects:
            ask(turn, subject, into)
    steps = scheduler.counts.steps
    threads = [threading.Thread(target=ask, args=("together", subject, together)) for subject in subjects]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found[name] = {"alone": alone, "again": again, "together": together, "steps": scheduler.counts.steps - steps}
    scheduler.stop()

# Four that have 600 tokens in the end, where all share 320.
for name, most_bytes in (("kept", contexts.MOST_SUSPENDED_BYTES), ("read again", 0)):
    decoder = LlamaCppDecoder(Path(sys.argv[2]), n_ctx=320, n_batch=48, n_seq_max=4, threads=1)
    contexts.MOST_SUSPENDED_BYTES = most_bytes
    scheduler = Scheduler(decoder)
    alone, together = {}, {}
    for subject in subjects[:4]:
        ask(f"{name} alone", subject, alone, 130)
    threads = [
        threading.Thread(target=ask, args=(f"{name} together", subject, together, 130)) for subject in subjects[:4]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found[name] = {
        "alone": [sure[f"{name} alone {subject}"] for subject in subjects[:4]],
        "together": [sure[f"{name} together {subject}"] for subject in subjects[:4]],
        "preempted": scheduler.counts.preempted,
    }
    scheduler.stop()
print("FOUND " + json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return told_by(PROGRAM, tmp_path_factory.mktemp("alone"))


@pytest.mark.parametrize("contexts", ["shared", "apart"])
def test_an_answer_is_the_same_alone_and_beside_others(found: Any, contexts: str) -> None:
    told = found[contexts]

    assert told["alone"] == told["again"]
    same = [subject for subject, text in told["alone"].items() if told["together"][subject] == text]
    assert len(same) >= 6, same
    assert all(told["together"][subject][:12] == text[:12] != "" for subject, text in told["alone"].items())
    assert len(set(told["alone"].values())) == 8
    assert told["steps"] < 8 * 24, "they shared steps"


@pytest.mark.parametrize("way", ["kept", "read again"])
def test_answers_that_outgrow_a_context_end_as_they_do_alone(found: Any, way: str) -> None:
    told = found[way]

    assert told["preempted"] >= 1
    for beside, alone in zip(told["together"], told["alone"], strict=True):
        assert len(beside) == len(alone) == 130
        first = next((gap for (word, _), (own_word, gap) in zip(beside, alone, strict=True) if word != own_word), 0)
        assert first < 0.5, "another word only where two were nearly as likely: cells in another order round otherwise"
