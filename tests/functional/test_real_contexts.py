"""Answers with contexts of their own, in the engine that `make demo` shipped: as likely as in a shared one."""

from typing import Any

import pytest

from tests.support.real_engine import told_by

pytestmark = pytest.mark.demo

PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from appliance.serve.engine import Row, Sampling
from appliance.serve.llama_cpp import LlamaCppDecoder
from media.llamaprofile import LlamaSettings

def rows(tokens, sequence, start=0):
    end = len(tokens) - 1
    return [Row(token=t, position=start + at, sequence=sequence, wants_logits=at == end) for at, t in enumerate(tokens)]

found = {}
for name, unified in (("shared", True), ("apart", False)):
    settings = LlamaSettings(kv_unified=unified)
    decoder = LlamaCppDecoder(Path(sys.argv[2]), n_ctx=1024, n_batch=256, n_seq_max=4, threads=1, settings=settings)
    opening = decoder.tokenize("The ward has twelve beds. The night nurse wrote that", special=False)
    one = decoder.tokenize(" all patients slept well", special=False)
    other = decoder.tokenize(" the power failed at", special=False)
    for sequence in range(4):
        decoder.begin(sequence, Sampling(temperature=0))
    told = []
    def likely(row, token):
        told.append(round(decoder.likelihood(row, token, 0).logprob, 3))
    decoder.decode(rows(opening, 0))
    assert decoder.copy(0, 2, len(opening) - 2)
    # What is copied and taken out before a step was never there to be taken: the caller reads it again.
    taken = decoder.suspend(2, most_bytes=1 << 28)
    resumed = decoder.resume(2, taken)
    held = len(opening) - 2 if resumed else 0
    step = [*rows(other, 0, len(opening)), *rows([*opening[held:], *one], 2, held)]
    decoder.decode(step)
    likely(len(other) - 1, one[0])
    likely(len(step) - 1, one[1])
    # Rows come in any order, of sequences that are no neighbours.
    decoder.decode([*rows([one[0]], 2, len(opening) + len(one)), *rows([one[1]], 0, len(opening) + len(other))])
    likely(0, other[0])
    likely(1, other[1])
    assert decoder.cut(2, len(opening)) and decoder.copy(2, 3, len(opening))
    decoder.decode([*rows(other, 3, len(opening)), *rows(one, 2, len(opening))])
    likely(len(other) - 1, one[0])
    likely(len(other) + len(one) - 1, one[1])
    state = decoder.suspend(3, most_bytes=1 << 28)
    assert decoder.resume(3, state)
    decoder.decode(rows([one[2]], 3, len(opening) + len(other)))
    likely(0, one[3])
    # Somebody else had the place in between, for less than a step: what was copied for them is in nobody's way.
    state = decoder.suspend(3, most_bytes=1 << 28)
    assert decoder.copy(2, 3, len(opening) + len(one))
    decoder.release(3)
    read = [*opening, *other, one[2]]
    held = len(read) if decoder.resume(3, state) else 0
    step = [*read[held:], one[3]]
    decoder.decode(rows(step, 3, held))
    likely(len(step) - 1, one[0])
    told.append(round(decoder.score(opening, one), 2))
    found[name] = {"told": told, "most": decoder.request_tokens}
print("FOUND " + json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return told_by(PROGRAM, tmp_path_factory.mktemp("apart"))


def test_the_same_is_as_likely_after_copies_cuts_and_rows_in_any_order(found: Any) -> None:
    shared, apart = found["shared"]["told"], found["apart"]["told"]

    assert len(shared) == 9
    assert apart == pytest.approx(shared, abs=0.05)
    assert len(set(shared)) > 4  # they do differ from one another


def test_each_answer_has_its_part(found: Any) -> None:
    assert (found["shared"]["most"], found["apart"]["most"]) == (1024, 256)
