"""How llama.cpp draws a token where callers say more than a temperature, in the engine that `make demo` shipped."""

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

decoder = LlamaCppDecoder(Path(sys.argv[2]), n_ctx=512, n_batch=256, n_seq_max=1, threads=1)
prompt = decoder.tokenize("One two three. " * 32 + "One", special=False)

def drawn(count, **sampling):
    decoder.release(0)
    decoder.begin(0, Sampling(**sampling))
    rows = [Row(token=t, position=at, sequence=0, wants_logits=at == len(prompt) - 1) for at, t in enumerate(prompt)]
    decoder.decode(rows)
    found = [decoder.sample(0, len(rows) - 1)]
    while len(found) < count:
        decoder.decode([Row(token=found[-1], position=len(prompt) + len(found) - 1, sequence=0, wants_logits=True)])
        found.append(decoder.sample(0, 0))
    return found

hot = [dict(temperature=2.0, seed=seed) for seed in range(24)]
greedy = drawn(24, temperature=0)
print("FOUND " + json.dumps({
    "greedy": greedy,
    "penalised": drawn(24, temperature=0, repeat_penalty=1.8),
    "hot": [drawn(3, **one) for one in hot],
    "one": [drawn(3, top_k=1, **one) for one in hot],
    "likeliest": [drawn(3, min_p=1.0, **one) for one in hot],
    "seeded": [drawn(8, temperature=2.0, seed=seed) for seed in (-1, -1, 2**32 - 1, 2**32 - 1, 7)],
    "several": [drawn(1, top_k=3, **one)[0] for one in hot],
}))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return told_by(PROGRAM, tmp_path_factory.mktemp("drawing"))


def test_a_penalty_ends_what_would_be_said_again_and_again(found: Any) -> None:
    assert len(set(found["greedy"])) < 8
    assert len(set(found["penalised"])) > 2 * len(set(found["greedy"]))


def test_of_one_token_only_the_likeliest_is_drawn_however_hot(found: Any) -> None:
    likeliest = found["greedy"][:3]

    assert any(one != likeliest for one in found["hot"])
    assert all(one == likeliest for one in found["one"])
    assert all(one == likeliest for one in found["likeliest"])


def test_of_three_tokens_no_fourth_is_drawn(found: Any) -> None:
    assert 1 < len(set(found["several"])) <= 3


def test_every_seed_is_one_also_that_which_llama_cpp_reads_as_any(found: Any) -> None:
    below, same_below, last, same_last, other = found["seeded"]

    assert (below, last) == (same_below, same_last)
    assert other not in (below, last)
