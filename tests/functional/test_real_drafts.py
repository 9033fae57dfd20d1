"""Guesses in the engine that `make demo` shipped: fewer steps, and the same answer."""

from typing import Any

import pytest

from tests.support.real_engine import told_by

pytestmark = pytest.mark.demo

# The weights guess for themselves, since no smaller model of their vocabulary is at hand: nearly every guess is right.
PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from appliance.serve.drafting import Drafter
from appliance.serve.engine import Generation, Sampling
from appliance.serve.llama_cpp import LlamaCppDecoder
from appliance.serve.scheduler import Scheduler
from media.clock import SystemClock

def opened(sequences):
    return LlamaCppDecoder(Path(sys.argv[2]), n_ctx=512, n_batch=128, n_seq_max=sequences, threads=1)

found = {}
for name in ("plain", "drafted"):
    decoder = opened(2)
    drafter = Drafter.beside(decoder, opened(1), most=4, clock=SystemClock()) if name == "drafted" else None
    scheduler = Scheduler(decoder, drafter=drafter)
    answers = []
    for prompt, sampling in (
        ("The ward has twelve beds. The night nurse wrote that", Sampling(temperature=0)),
        ("Repeat: one two three four five six seven eight. one two three", Sampling(temperature=0)),
        ("The ward has twelve beds. The night nurse wrote that", Sampling(temperature=0.8, seed=5)),
    ):
        tokens = decoder.tokenize(prompt, special=False)
        pieces = scheduler.submit(Generation(tokens=tokens, max_tokens=24, sampling=sampling)).pieces()
        answers.append("".join(piece.text for piece in pieces))
    counts = scheduler.counts
    scheduler.stop()
    found[name] = {"answers": answers, "steps": counts.steps, "guessed": counts.guessed, "kept": counts.kept}
print("FOUND " + json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return told_by(PROGRAM, tmp_path_factory.mktemp("drafts"))


def test_answers_are_the_same_where_rounding_is(found: Any) -> None:
    # Steps of another width may round otherwise on some processors, so only their beginnings must agree.
    for plain, drafted in zip(found["plain"]["answers"], found["drafted"]["answers"], strict=True):
        assert drafted[:12] == plain[:12] != ""


def test_guesses_of_the_same_weights_are_kept_and_save_steps(found: Any) -> None:
    plain, drafted = found["plain"], found["drafted"]

    assert (plain["guessed"], plain["kept"]) == (0, 0)
    assert drafted["kept"] > 0.6 * drafted["guessed"] > 0
    assert drafted["steps"] < plain["steps"] - 8
