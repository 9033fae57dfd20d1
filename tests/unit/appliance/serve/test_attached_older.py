"""What holds of every attached engine whose tokens are counted here: what is queued, who leaves, hostile streams."""

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from appliance.serve.asking import RefusedError
from appliance.serve.attached import AttachedScheduler
from appliance.serve.attached_dialect import Dialect
from appliance.serve.attached_openai import OpenAI
from appliance.serve.attached_peer import Address, Peer
from appliance.serve.attached_sglang import Sglang
from appliance.serve.attached_tokens import LocalTokens
from appliance.serve.engine import Generation, Sampling
from tests.support import hostile_frames, tiny_tokenizer
from tests.support.fake_sglang import FakeSglang, fake_sglang
from tests.support.fake_trtllm import FakeTrtllm, fake_trtllm
from tests.support.tiny_tokenizer import tokenizer
from tests.support.versions import short_folder
from tests.support.waiting import until

PLACES = 2
CONTEXT = 512


@pytest.fixture(scope="module", autouse=True)
def library() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tokenizers", tiny_tokenizer.library())
        yield


@pytest.fixture(scope="module", params=[fake_sglang, fake_trtllm])
def peer(request: pytest.FixtureRequest) -> Iterator[FakeSglang | FakeTrtllm]:
    with short_folder() as folder, request.param(folder / "peer") as made:
        yield made


@pytest.fixture(autouse=True)
def well_behaved(peer: FakeSglang | FakeTrtllm) -> Iterator[None]:
    yield
    if peer.hold is not None:
        peer.hold.set()
    peer.hold = peer.events = None


@pytest.fixture(scope="module")
def scheduler(peer: FakeSglang | FakeTrtllm, library: None) -> AttachedScheduler:
    del library
    told, tokens = Peer(Address(path=str(peer.path))), LocalTokens(tokenizer().decode())
    dialect: Dialect = Sglang(told, tokens, model="m") if isinstance(peer, FakeSglang) else OpenAI(told, tokens)
    dialect.require_fit(context_tokens=CONTEXT)
    return AttachedScheduler(told, dialect, context_tokens=CONTEXT, places=PLACES)


def test_a_caller_who_leaves_ends_its_work(scheduler: AttachedScheduler, peer: FakeSglang | FakeTrtllm) -> None:
    peer.hold = threading.Event()
    peer.left.clear()
    handle = scheduler.submit(Generation(tokens=[1, 2, 3], max_tokens=8))
    until(lambda: scheduler.running == 1)

    handle.cancel()

    until(peer.left.is_set)
    until(lambda: scheduler.running == 0)


def test_nothing_is_queued_that_it_cannot_do(scheduler: AttachedScheduler) -> None:
    with pytest.raises(RefusedError):
        scheduler.submit(Generation(tokens=[65], max_tokens=8, sampling=Sampling(repeat_penalty=3)))
    assert scheduler.waiting == scheduler.running == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=hostile_frames.STREAMS)
def test_hostile_frames_end_in_an_error_or_an_answer_and_never_hang(
    scheduler: AttachedScheduler, peer: FakeSglang | FakeTrtllm, frames: tuple[Any, ...]
) -> None:
    peer.events = frames
    asked = Generation(tokens=[65, 66], max_tokens=8, sampling=Sampling(seed=1, temperature=1), top_logprobs=2)

    pieces = list(scheduler.submit(asked).pieces())

    assert pieces[-1].finish_reason in {"stop", "length", "error"}
    assert all(one.finish_reason is None for one in pieces[:-1])
    assert scheduler.running == 0
