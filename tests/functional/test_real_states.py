"""Recurrent and hybrid models in the engine that `make demo` shipped: their memory is a state that no part is taken of.
And one whose window slides: llama.cpp gives others the places that it has left.

The models have random weights (tests/support/tiny_models.py), so nearly every token is a surprise, and an answer from a
memory that held a token too much or too few would be another one.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.support.real_bench import open_bench
from tests.support.real_engine import told_by

pytestmark = pytest.mark.demo

PROGRAM = """
import json, sys, threading
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from appliance.registry.memory import need_of_header
from appliance.serve.engine import Generation, Sampling
from appliance.serve.llama_cpp import LlamaCppDecoder
from appliance.serve.scheduler import Scheduler
from media import gguf
from tests.support import tiny_models

source = Path(sys.argv[2])
found = {}
for kind in ("recurrent", "hybrid"):
    path = source.with_name(f"{kind}.gguf")
    path.write_bytes(getattr(tiny_models, kind)(source))
    need = need_of_header(gguf.read(path), length=path.stat().st_size, n_ctx=1024, n_batch=48, answers=3)
    decoder = LlamaCppDecoder(path, n_ctx=1024, n_batch=48, n_seq_max=3, threads=1)
    scheduler = Scheduler(decoder)

    def submit(text, *, salt="", priority=2, tokens=16, top=0):
        return scheduler.submit(
            Generation(
                tokens=text if isinstance(text, list) else decoder.tokenize(text, special=False),
                sampling=Sampling(temperature=0),
                max_tokens=tokens,
                salt=salt,
                priority=priority,
                top_logprobs=top,
            )
        )

    def words(piece):
        return [likely.token.hex() for likely in piece.likelihoods]

    def told(answer):
        return [word for piece in answer.pieces() for word in words(piece)]

    def sure(answer):  # how much likelier each word was than the next one
        likely = [one for piece in answer.pieces() for one in piece.likelihoods]
        return [(one.token.hex(), one.top[0][1] - one.top[1][1]) for one in likely]

    def cached(ask):
        before = scheduler.counts.cached_tokens
        return {"told": ask(), "cached": scheduler.counts.cached_tokens - before}

    long = "The night nurse wrote down who slept and who did not. " * 12
    texts = ["the sea", "a lighthouse in winter", long, "bread"]
    own = {"alone": [told(submit(text)) for text in texts]}
    answers = [submit(text) for text in texts]
    own["together"] = [told(answer) for answer in answers]

    opening = decoder.tokenize(long, special=False)
    goes_on, turns_off = [*opening, *opening[5:9]], [*opening[:-6], *opening[2:12]]
    own["fresh"] = [told(submit(one)) for one in (goes_on, turns_off)]
    told(submit(opening, salt="ward", tokens=1))
    own["goes on"] = cached(lambda: told(submit(goes_on, salt="ward")))
    own["turns off"] = cached(lambda: told(submit(turns_off, salt="ward")))

    begun_alike = [submit(one, salt="other ward") for one in (goes_on, turns_off)]
    own["begun alike"] = [told(answer) for answer in begun_alike]

    # Three that are not urgent have all places; what is urgent takes one, early or late: all end as they would alone.
    own["patient alone"] = [told(submit(text, tokens=48)) for text in texts[:3]]
    own["urgent"], own["patient"] = [], []
    for after in (1, 12, 24):
        patient = [submit(text, tokens=48).pieces() for text in texts[:3]]
        begun = [[] for _ in patient]
        for first, pieces in zip(begun, patient, strict=True):
            while len(first) < after:
                first += words(next(pieces))
        own["urgent"].append(told(submit(texts[3], priority=0)))
        own["patient"].append([
            [*first, *(word for piece in pieces for word in words(piece))]
            for first, pieces in zip(begun, patient, strict=True)
        ])
    own["preempted"] = scheduler.counts.preempted

    # Three that have 1,300 tokens in the end, where all share 1,024.
    grow = [long + text for text in texts[:3]]
    own["large alone"] = [sure(submit(text, tokens=256, top=2)) for text in grow]
    large = [submit(text, tokens=256, top=2) for text in grow]
    own["large"] = [sure(answer) for answer in large]
    own["grown"] = scheduler.counts.preempted - own["preempted"]
    own["cache"] = need.cache
    scheduler.stop()
    found[kind] = own
print("FOUND " + json.dumps(found))
"""

WINDOWED = """
import json, random, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from appliance.serve.engine import Generation, Sampling
from appliance.serve.llama_cpp import LlamaCppDecoder
from appliance.serve.scheduler import Scheduler
from tests.support import tiny_models

source = Path(sys.argv[2])
path = source.with_name("windowed.gguf")
path.write_bytes(tiny_models.windowed(source, window=32))
decoder = LlamaCppDecoder(path, n_ctx=1024, n_batch=48, n_seq_max=4, threads=1)
scheduler = Scheduler(decoder)


def told(tokens, *, salt="", most=12):
    before = scheduler.counts.cached_tokens
    answer = scheduler.submit(
        Generation(
            tokens=tokens, sampling=Sampling(temperature=0), max_tokens=most, salt=salt, top_logprobs=0
        )
    )
    words = [likely.token.hex() for piece in answer.pieces() for likely in piece.likelihoods]
    return {"told": words, "cached": scheduler.counts.cached_tokens - before}


def text(seed, tokens):
    drawn = random.Random(seed)
    return [drawn.randrange(1000, decoder.vocabulary_tokens) for _ in range(tokens)]


ward = text(1, 300)
# They turn off before the window at the end of what rests, at its end, and not at all.
asked = [[*ward[:150], *text(5, 20)], [*ward[:290], *text(6, 20)], [*ward, *text(7, 20)]]
found = {"fresh": [told(one) for one in asked], "again": []}
for one in asked:
    # The first makes room for the third, which is longer and so takes places of the second.
    told(text(2, 300), salt="another key", most=1)
    told(ward, salt="ward", most=1)
    told(text(3, 500), salt="a third key", most=1)
    found["again"].append(told(one, salt="ward"))
    scheduler.between_steps(scheduler._places.forget)
scheduler.stop()
print("FOUND " + json.dumps(found))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("states")


@pytest.fixture(scope="module")
def found(folder: Path) -> Any:
    return told_by(PROGRAM, folder)


@pytest.fixture(params=["recurrent", "hybrid"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def own(found: Any, kind: str) -> Any:
    return found[kind]


def test_an_answer_is_the_same_alone_and_beside_others(own: Any) -> None:
    assert own["together"] == own["alone"]
    assert len({str(told) for told in own["alone"]}) == 4
    assert all(len(set(told)) > 4 for told in own["alone"])


def test_a_conversation_that_goes_on_is_read_from_where_it_was(own: Any) -> None:
    assert own["goes on"]["told"] == own["fresh"][0]
    assert own["goes on"]["cached"] > 100


def test_one_that_turns_off_is_read_again_since_no_part_of_a_state_can_be_taken(own: Any) -> None:
    assert own["turns off"] == {"told": own["fresh"][1], "cached": 0}


def test_two_at_once_that_begin_alike_do_not_share_a_state(own: Any) -> None:
    assert own["begun alike"] == own["fresh"]


def test_an_answer_that_had_to_wait_for_an_urgent_one_ends_as_it_would_have(own: Any) -> None:
    assert own["preempted"] >= 1
    assert own["urgent"] == [own["alone"][3]] * 3
    assert own["patient"] == [own["patient alone"]] * 3


def test_answers_that_outgrow_a_context_end_as_they_do_alone(own: Any) -> None:
    assert own["grown"] >= 1
    assert all(len(told) == 256 for told in own["large"])
    for beside, alone in zip(own["large"], own["large alone"], strict=True):
        first = next((gap for (word, _), (own_word, gap) in zip(beside, alone, strict=True) if word != own_word), 0)
        assert first < 0.02, "another word only where two were nearly as likely: cells in another order round otherwise"


def test_what_was_read_is_used_only_where_all_of_its_window_is_still_there(tmp_path: Path) -> None:
    found = told_by(WINDOWED, tmp_path)

    assert [one["told"] for one in found["again"]] == [one["told"] for one in found["fresh"]]
    assert [one["cached"] > 200 for one in found["again"]] == [False, True, True]


@pytest.mark.usefixtures("found")
def test_a_version_of_such_a_model_passes_the_gates_about_how_it_is_served(folder: Path, kind: str) -> None:
    with open_bench((folder / f"{kind}.gguf").read_bytes()) as bench:
        for gate in ("fit", "load", "template", "restart", "privacy"):
            verdict = bench.judge(gate)
            assert verdict.passed, verdict
            if gate == "restart":
                assert verdict.figures["same_answer"] is True
