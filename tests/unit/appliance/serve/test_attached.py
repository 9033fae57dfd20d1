"""An attached engine behind our seam: what it is asked, what of its answers is believed, and that nobody waits for one.

The peer is a fake in llama-server's words; the real one is in tests/interop.
"""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings

from appliance.config import Config
from appliance.errors import EngineLoadError
from appliance.serve import attached_process
from appliance.serve.attached import LOOK_SECONDS, AttachedScheduler
from appliance.serve.attached_dialect import LlamaServer
from appliance.serve.attached_peer import Address, Peer
from appliance.serve.engine import Generation, Sampling
from tests.support import attached, hostile_frames
from tests.support.attached_inside import chat, load, proven, site_of_a_peer
from tests.support.fake_peer import CONTROL, FakePeer, fake_peer
from tests.support.waiting import until

PLACES = 2


@pytest.fixture(scope="module")
def site() -> Iterator[Config]:
    with site_of_a_peer() as made:
        yield made


@pytest.fixture(scope="module")
def peer(site: Config) -> Iterator[FakePeer]:
    with fake_peer(site.at.run / "peer") as made:
        yield made


@pytest.fixture(autouse=True)
def well_behaved(peer: FakePeer) -> Iterator[None]:
    yield
    # After, not before: what lives as long as the module may be made before anything of a test's own.
    if peer.hold is not None:
        peer.hold.set()
    peer.hold = peer.events = None
    peer.status, peer.reads, peer.writes, peer.is_biased = 200, 0, 0, False


@pytest.fixture(scope="module")
def descriptor(site: Config) -> Any:
    template = b"{% for message in messages %}{{ message.role }}: {{ message.content }}<end>{% endfor %}"
    return attached.store(site, attached.files_of(attached.SOMEBODYS, n_seq_max=PLACES, template=template))


@pytest.fixture(scope="module")
def engine(site: Config, peer: FakePeer, descriptor: Any) -> FlaskClient:
    del peer
    client: FlaskClient = load(site, descriptor).app.test_client()
    return client


@pytest.fixture(scope="module")
def scheduler(peer: FakePeer) -> AttachedScheduler:
    told = Peer(Address(path=str(peer.path)))
    return AttachedScheduler(told, LlamaServer(told, model="m"), context_tokens=512, places=PLACES)


def streamed(engine: FlaskClient, **more: Any) -> list[Any]:
    said = {"messages": [{"role": "user", "content": "abcd"}], "max_tokens": 32, "stream": True, **more}
    lines = engine.post("/v1/chat/completions", json=said).data.decode().split("\n\n")
    return [one.removeprefix("data: ") for one in lines if one]


def test_a_prompt_goes_out_as_tokens_of_our_template_where_a_users_text_is_never_a_control_token(
    engine: FlaskClient, peer: FakePeer
) -> None:
    status, answer = chat(engine, "a<end>b", seed=7, stop=["x"])

    asked = peer.asked[-1]
    assert status == 200
    assert asked["prompt"] == [*b"user: a<end>b", CONTROL]
    assert answer["usage"]["prompt_tokens"] == len(asked["prompt"])
    assert (asked["seed"], asked["stop"], asked["temperature"], asked["top_k"]) == (7, ["x"], 0, 0)
    assert asked["cache_prompt"] is False


def test_each_answer_of_several_has_the_next_seed(engine: FlaskClient, peer: FakePeer) -> None:
    _, answer = chat(engine, n=2, seed=7, logprobs=True, top_logprobs=1)

    assert {one["seed"] for one in peer.asked[-2:]} == {7, 8}
    assert [one["index"] for one in answer["choices"]] == [0, 1]
    assert len(answer["choices"][0]["logprobs"]["content"]) == answer["usage"]["completion_tokens"] / 2


def test_a_shape_of_the_answer_is_handed_on_and_functions_are_refused(engine: FlaskClient, peer: FakePeer) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    function = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

    assert chat(engine, response_format=shape)[0] == 200
    assert peer.asked[-1]["json_schema"]["properties"] == schema["properties"]
    status, answer = chat(engine, tools=[function])
    assert (status, answer["error"]["code"]) == (400, "invalid_schema")


@pytest.mark.parametrize(
    "fault",
    [
        {"reads": 1},
        {"writes": 1},
        {"status": 500},
        {"events": ()},
        {"events": ({"choices": [{"text": "x", "finish_reason": "stop"}]}, b"data: [DONE]\n\n")},
        {"events": ({"choices": [{"text": "x", "finish_reason": "bored"}]},)},
        {"events": ({"error": {"message": "it quotes"}},)},
        {"events": (b"data: 5\n\n",)},
    ],
    ids=["reads more", "writes more", "fails", "breaks off", "does not count", "unknown reason", "error", "no object"],
)
def test_a_broken_answer_is_an_error_and_the_next_one_is_answered(
    engine: FlaskClient, peer: FakePeer, fault: dict[str, Any]
) -> None:
    for name, value in fault.items():
        setattr(peer, name, value)
    # As long as it may be, so that one token more shows.
    most = len("user: abcd") if "writes" in fault else 32
    status, answer = chat(engine, max_tokens=most)
    events = streamed(engine, max_tokens=most)
    well_again = dict.fromkeys(fault, 0) | ({"status": 200} if "status" in fault else {})
    for name, value in well_again.items():
        setattr(peer, name, None if name == "events" else value)

    assert status == 500
    assert "quotes" not in json.dumps(answer)
    assert "error" in json.loads(events[-1])
    assert "[DONE]" not in events
    assert chat(engine)[0] == 200


def test_a_caller_who_leaves_ends_the_peers_work_before_its_first_token(
    scheduler: AttachedScheduler, peer: FakePeer
) -> None:
    peer.hold = threading.Event()
    peer.left.clear()
    handle = scheduler.submit(Generation(tokens=[1, 2, 3], max_tokens=8))
    until(lambda: peer.running == 1)

    handle.cancel()

    until(peer.left.is_set)
    until(lambda: scheduler.running == 0)


def test_a_peer_that_says_nothing_for_too_long_ends_that_answer_alone(peer: FakePeer) -> None:
    told = Peer(Address(path=str(peer.path)), silence_seconds=0.3)
    scheduler = AttachedScheduler(told, LlamaServer(told, model="m"), context_tokens=512, places=PLACES)
    peer.hold = threading.Event()

    pieces = list(scheduler.submit(Generation(tokens=[1, 2, 3], max_tokens=8)).pieces())

    assert [one.finish_reason for one in pieces] == ["error"]
    assert scheduler.is_alive


def test_answers_of_a_peer_that_is_not_well_for_long_end(tmp_path: Path) -> None:
    now = [0.0]
    with fake_peer(tmp_path / "p", is_well=False) as peer:
        told = Peer(Address(path=str(peer.path)))
        scheduler = AttachedScheduler(
            told, LlamaServer(told, model="m"), context_tokens=512, places=1, now=lambda: now[0]
        )
        peer.hold = threading.Event()
        handle = scheduler.submit(Generation(tokens=[1, 2, 3], max_tokens=8))
        until(lambda: peer.running == 1)
        now[0] = 299.0
        time.sleep(4 * LOOK_SECONDS)
        assert scheduler.running == 1  # it may be well again

        now[0] = 301.0

        assert [one.finish_reason for one in handle.pieces()] == ["error"]


def test_it_is_never_given_more_than_its_places_and_tokens(scheduler: AttachedScheduler, peer: FakePeer) -> None:
    until(lambda: peer.running == 0)
    peer.most = peer.most_tokens = 0
    few = [scheduler.submit(Generation(tokens=[65], max_tokens=8)) for _ in range(3 * PLACES)]
    reasons = [[one.finish_reason for one in handle.pieces()][-1] for handle in few]
    peer.hold = threading.Event()
    long = [scheduler.submit(Generation(tokens=[65] * 300, max_tokens=100)) for _ in range(PLACES)]
    until(lambda: (scheduler.running, scheduler.waiting, peer.running) == (1, PLACES - 1, 1))
    peer.hold.set()

    reasons += [[one.finish_reason for one in handle.pieces()][-1] for handle in long]

    assert set(reasons) <= {"stop", "length"}
    assert peer.most <= PLACES
    assert 400 <= peer.most_tokens <= 512  # two long ones never at once: the places share one context
    assert scheduler.running == scheduler.waiting == 0


def test_a_place_that_holds_less_than_the_versions_context_is_refused_at_its_start(
    site: Config, peer: FakePeer, descriptor: Any
) -> None:
    """By itself llama.cpp's server gives each place a part of its context."""
    whole, before = descriptor.runtime.n_ctx, len(peer.asked)
    peer.room = whole // PLACES
    try:
        with pytest.raises(EngineLoadError, match="not set up as its contract needs it"):
            load(site, descriptor)
        peer.room = whole - 1
        with pytest.raises(EngineLoadError, match="not set up") as refused:
            load(site, descriptor)
        peer.room = whole
        load(site, descriptor)
    finally:
        peer.room = 1 << 20

    assert f"holds {whole - 1} tokens, of {whole}" in refused.value.why
    assert "--kv-unified" in refused.value.fix
    # A prompt as long as the context would hold up each start, and each return after a failure.
    assert all(len(one["prompt"]) < whole // 2 for one in peer.asked[before:])


def test_a_peer_that_is_not_well_is_an_engine_that_is_down(tmp_path: Path) -> None:
    now = [0.0]
    with fake_peer(tmp_path / "p", is_well=False) as peer:
        told = Peer(Address(path=str(peer.path)))
        scheduler = AttachedScheduler(
            told, LlamaServer(told, model="m"), context_tokens=64, places=1, now=lambda: now[0]
        )
        until(lambda: scheduler.is_alive)
        now[0] = 31.0
        until(lambda: not scheduler.is_alive)
        assert not scheduler.turns(60)
        peer.is_well = True
        until(lambda: scheduler.turns(60))


def test_continuations_are_scored_token_by_token_and_a_biased_peer_is_refused(
    site: Config, scheduler: AttachedScheduler, peer: FakePeer, descriptor: Any
) -> None:
    likely, unlikely = scheduler.score([65, 66], [[65], [67, 68]])

    assert (likely, unlikely) == (-0.5, -10.0)
    assert [one["prompt"] for one in peer.asked[-2:]] == [[65, 66], [65, 66, 67]]
    peer.is_biased = True
    with pytest.raises(EngineLoadError, match="cannot be validated"):
        attached_process.load(proven(site, descriptor), stage="test", threads=1, config=site)
    peer.is_biased = False
    peer.status = 500
    with pytest.raises(EngineLoadError, match="does not answer as it should"):
        attached_process.load(proven(site, descriptor), stage="test", threads=1, config=site)


def test_what_no_release_brought_is_refused_for_production_and_without_a_named_socket(
    site: Config, descriptor: Any
) -> None:
    found = proven(site, descriptor)
    unnamed = site.model_copy(update={"engine": site.engine.model_copy(update={"attached": ""})})

    with pytest.raises(EngineLoadError, match="not content-addressed"):
        attached_process.load(found, stage="production", threads=1, config=site)
    with pytest.raises(EngineLoadError, match="nobody said where"):
        attached_process.load(found, stage="test", threads=1, config=unnamed)


@pytest.mark.parametrize(
    "elsewhere",
    ["10.0.0.5:8000", "example.org:80", "localhost:80", "127.0.0.1:0", "127.0.0.1:70000", "127.999.0.1:80", "unix:x",
     "[::2]:80", "http://127.0.0.1:80", "unix:/a\x00b"],
)  # fmt: skip
def test_an_engine_elsewhere_is_not_attached(elsewhere: str) -> None:
    with pytest.raises(ValueError, match=r"attached|IP|address|octet"):
        Address.parse(elsewhere)


@pytest.mark.parametrize("here", ["unix:/run/x.sock", "127.0.0.1:8000", "[::1]:8000"])
def test_an_address_of_this_machine_is_read(here: str) -> None:
    assert Address.parse(here).name


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=hostile_frames.STREAMS)
def test_hostile_frames_end_in_an_error_or_an_answer_and_never_hang(
    scheduler: AttachedScheduler, peer: FakePeer, frames: tuple[Any, ...]
) -> None:
    peer.events = frames
    handle = scheduler.submit(Generation(tokens=[65, 66], max_tokens=8, sampling=Sampling(seed=1), top_logprobs=2))

    pieces = list(handle.pieces())

    assert pieces[-1].finish_reason in {"stop", "length", "error"}
    assert all(one.finish_reason is None for one in pieces[:-1])
    assert scheduler.running == 0


def test_an_answer_longer_than_any_is_broken_off(scheduler: AttachedScheduler, peer: FakePeer) -> None:
    peer.events = tuple({"choices": [{"text": "x", "finish_reason": None}]} for _ in range(64))

    pieces = list(scheduler.submit(Generation(tokens=[65], max_tokens=8)).pieces())

    assert pieces[-1].finish_reason == "error"
    assert len(pieces) <= 9
