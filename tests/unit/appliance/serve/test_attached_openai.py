"""An attached engine that speaks OpenAI's completions: what it is asked, what is tried of it, and when it is not used.

The peer is a fake after the published sources of TensorRT-LLM's server; vLLM's is asked for real in tests/engines.
"""

import json
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.config import Config
from appliance.errors import EngineLoadError, EngineProtocolError
from appliance.serve.attached import AttachedScheduler
from appliance.serve.attached_openai import OpenAI
from appliance.serve.attached_peer import Address, Peer
from appliance.serve.attached_tokens import LocalTokens
from appliance.serve.engine import Generation, Sampling
from tests.support import attached, tiny_tokenizer
from tests.support.attached_inside import chat, load, site_of_a_peer
from tests.support.fake_trtllm import FakeTrtllm, fake_trtllm
from tests.support.hostile_frames import VALUES
from tests.support.tiny_tokenizer import CONTROL, tokenizer
from tests.support.waiting import until

PLACES = 2
CONTEXT = 512
SOMEBODYS = {**attached.SOMEBODYS, "dialect": "openai"}
TEMPLATE = b"{% for message in messages %}{{ message.role }}: {{ message.content }}<end>{% endfor %}"
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
SHAPE = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}


@pytest.fixture(scope="module", autouse=True)
def library() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tokenizers", tiny_tokenizer.library())
        yield


@pytest.fixture(scope="module")
def site() -> Iterator[Config]:
    with site_of_a_peer() as made:
        yield made


@pytest.fixture(scope="module")
def peer(site: Config) -> Iterator[FakeTrtllm]:
    with fake_trtllm(site.at.run / "peer") as made:
        yield made


@pytest.fixture(autouse=True)
def well_behaved(peer: FakeTrtllm) -> Iterator[None]:
    yield
    if peer.hold is not None:
        peer.hold.set()
    peer.hold = peer.events = peer.told = peer.tells_known = None
    peer.models, peer.room, peer.keeps_prompts, peer.keeps_shapes = ("tiny",), 65536, False, True
    peer.minds_bias, peer.is_certain, peer.owner = True, False, "tensorrt_llm"
    peer.asked.clear()


@pytest.fixture(scope="module")
def descriptor(site: Config) -> Any:
    files = attached.files_of(SOMEBODYS, tokenizer=tokenizer(), n_seq_max=PLACES, template=TEMPLATE)
    return attached.store(site, files)


@pytest.fixture(scope="module")
def engine(site: Config, peer: FakeTrtllm, descriptor: Any) -> FlaskClient:
    client: FlaskClient = load(site, descriptor).app.test_client()
    peer.asked.clear()
    return client


@pytest.fixture(scope="module")
def dialect(peer: FakeTrtllm) -> OpenAI:
    made = OpenAI(Peer(Address(path=str(peer.path))), LocalTokens(tokenizer().decode()))
    made.require_fit(context_tokens=CONTEXT)
    peer.asked.clear()  # whoever comes first looks at what it asks itself
    return made


@pytest.fixture(scope="module")
def scheduler(peer: FakeTrtllm, dialect: OpenAI) -> AttachedScheduler:
    return AttachedScheduler(Peer(Address(path=str(peer.path))), dialect, context_tokens=CONTEXT, places=PLACES)


def long_answers(scheduler: AttachedScheduler, peer: FakeTrtllm, *, at_once: int) -> None:
    """Ask for two answers as long as the context; fail where not `at_once` of them are asked of the peer."""
    peer.hold = threading.Event()
    handles = [scheduler.submit(Generation(tokens=[65] * 300, max_tokens=CONTEXT - 300)) for _ in range(PLACES)]
    until(lambda: scheduler.running == at_once and scheduler.waiting == PLACES - at_once)
    peer.hold.set()
    assert {[one.finish_reason for one in handle.pieces()][-1] for handle in handles} <= {"stop", "length"}


def test_each_place_has_a_context_of_its_own(scheduler: AttachedScheduler, peer: FakeTrtllm) -> None:
    """`n_ctx` is the limit of one request there: as many as have a place are asked at once, however long they are."""
    long_answers(scheduler, peer, at_once=PLACES)


def test_the_places_of_llama_cpps_own_server_share_a_context_here_too(peer: FakeTrtllm) -> None:
    peer.owner = "llamacpp"
    found = OpenAI(Peer(Address(path=str(peer.path))), LocalTokens(tokenizer().decode()))
    found.require_fit(context_tokens=CONTEXT)
    shared = AttachedScheduler(Peer(Address(path=str(peer.path))), found, context_tokens=CONTEXT, places=PLACES)

    long_answers(shared, peer, at_once=1)


def test_a_prompt_goes_out_as_tokens_that_were_counted_here(engine: FlaskClient, peer: FakeTrtllm) -> None:
    status, answer = chat(engine, "a<end>b", seed=-1, stop=["x"])

    route, asked = peer.asked[-1]
    assert (status, route) == (200, "/v1/completions")
    assert asked["prompt"] == [*b"user: a<end>b", CONTROL]
    assert answer["usage"]["prompt_tokens"] == len(asked["prompt"])
    assert (asked["model"], asked["seed"], asked["stop"], asked["temperature"]) == ("tiny", 2**31 - 1, ["x"], 0)


def test_values_are_said_as_such_servers_take_them(dialect: OpenAI) -> None:
    sampling = Sampling(temperature=0.5, top_p=0, top_k=40, repeat_penalty=1.25, logit_bias=((65, -3.0),))
    asked = dialect.question(Generation(tokens=[65], max_tokens=8, sampling=sampling), index=3)
    wide = dialect.question(Generation(tokens=[65], max_tokens=8, sampling=Sampling(top_p=2)), index=0)

    assert (asked["top_p"], asked["top_k"], asked["seed"]) == (1, 1, 3)
    assert (asked["repetition_penalty"], asked["logit_bias"]) == (1.25, {"65": -3.0})
    assert (wide["top_p"], wide["top_k"], wide["min_p"]) == (1, 0, 0)
    assert not {"stop", "logit_bias", "response_format", "logprobs"} & wide.keys()


def test_it_is_tried_with_a_prompt_as_long_as_the_context_and_with_its_beginning_again(
    dialect: OpenAI, peer: FakeTrtllm
) -> None:
    dialect.require_fit(context_tokens=2048)

    long, again = (one["prompt"] for _, one in peer.asked[:2])
    assert (len(long), len(again)) == (2047, 640)
    assert long[:640] == again


def test_a_shape_is_handed_on_where_it_is_kept(engine: FlaskClient, peer: FakeTrtllm) -> None:
    assert chat(engine, response_format=SHAPE)[0] == 200

    asked = peer.asked[-1][1]["response_format"]
    assert asked["json_schema"]["schema"]["properties"] == SCHEMA["properties"]


@pytest.mark.parametrize("keeps", [False, None], ids=["it says something else", "it refuses"])
def test_a_shape_that_is_not_kept_is_refused(
    site: Config, peer: FakeTrtllm, descriptor: Any, *, keeps: bool | None
) -> None:
    peer.keeps_shapes = keeps
    found: FlaskClient = load(site, descriptor).app.test_client()

    status, answer = chat(found, response_format=SHAPE)
    assert (status, answer["error"]["param"]) == (400, "response_format")
    assert chat(found)[0] == 200


def test_likelihoods_are_told_where_they_are_the_models_own(engine: FlaskClient, peer: FakeTrtllm) -> None:
    status, answer = chat(engine, logprobs=True, top_logprobs=1)

    told = answer["choices"][0]["logprobs"]["content"]
    assert (status, peer.asked[-1][1]["logprobs"]) == (200, 1)
    assert len(told) == answer["usage"]["completion_tokens"]
    assert [one["logprob"] for one in told[0]["top_logprobs"]] == [-0.25]
    status, answer = chat(engine, logprobs=True)
    assert (status, peer.asked[-1][1]["logprobs"]) == (200, 1)
    assert answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []
    assert chat(engine, logprobs=True, temperature=0.5)[1]["error"]["param"] == "logprobs"


def test_continuations_are_scored_a_token_at_a_time(scheduler: AttachedScheduler, peer: FakeTrtllm) -> None:
    likely, unlikely = scheduler.score([65, 66], [[65], [67, 68]])

    asked = [one for _, one in peer.asked]
    assert (likely, unlikely) == (-0.5, -10.0)
    assert [one["prompt"] for one in asked] == [[65, 66], [65, 66], [65, 66, 67]]
    assert [one["logit_bias"] for one in asked] == [{"65": 100.0}, {"67": 100.0}, {"68": 100.0}]
    assert {one["temperature"] for one in asked} == {0}


def test_a_control_token_and_half_a_letter_can_be_scored(scheduler: AttachedScheduler) -> None:
    assert scheduler.score([65], [[CONTROL], ["é".encode()[0]]]) == [-5.0, -5.0]


def test_nothing_can_be_scored_after_nothing(engine: FlaskClient) -> None:
    answer = engine.post("/sealift/v1/score", json={"prompt": "", "continuations": ["a"]})

    assert (answer.status_code, answer.get_json()["error"]["code"]) == (400, "empty_prompt")


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"tokens": [], "token_logprobs": []},
        {"tokens": ["A", "A"], "token_logprobs": [-1.0, -1.0]},
        {"tokens": ["A"], "token_logprobs": [None]},
        {"tokens": ["A"], "token_logprobs": [0.5]},
        {"tokens": ["A"], "token_logprobs": ["x"]},
        {"tokens": [5], "token_logprobs": [-1.0]},
        {"tokens": ["A"], "token_logprobs": [-(10**400)]},
    ],
    ids=lambda told: str(told)[:60],
)
def test_likelihoods_of_no_form_are_a_broken_contract(dialect: OpenAI, peer: FakeTrtllm, told: Any) -> None:
    peer.told = told

    with pytest.raises(EngineProtocolError, match="broke its contract"):
        dialect.likelihood([66], [65])


def test_one_that_says_another_token_than_it_was_made_to_is_a_broken_contract(
    dialect: OpenAI, peer: FakeTrtllm
) -> None:
    peer.minds_bias = False

    with pytest.raises(EngineProtocolError) as caught:
        dialect.likelihood([66], [65])
    assert "made to say" in caught.value.why


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=VALUES | st.fixed_dictionaries({}, optional={
    "tokens": VALUES | st.lists(VALUES, max_size=2),
    "token_logprobs": VALUES | st.lists(VALUES, max_size=2),
    "top_logprobs": VALUES,
}))  # fmt: skip
def test_a_hostile_answer_about_likelihoods_is_a_share_or_a_broken_contract(
    dialect: OpenAI, peer: FakeTrtllm, said: Any
) -> None:
    peer.told = said if said is not None else False
    try:
        found = dialect.likelihood([65], [65])
    except EngineProtocolError:
        return
    assert found <= 0


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"models": ()}, "the version's model alone"),
        ({"models": ("a", "b")}, "the version's model alone"),
        ({"models": (5,)}, "the version's model alone"),
        ({"tells_known": {}}, "--enable-prompt-tokens-details"),
        ({"tells_known": 5}, "--enable-prompt-tokens-details"),
        ({"tells_known": {"cached_tokens": True}}, "--enable-prompt-tokens-details"),
        ({"tells_known": {"cached_tokens": -1}}, "--enable-prompt-tokens-details"),
        ({"tells_known": {"cached_tokens": "0"}}, "--enable-prompt-tokens-details"),
        ({"room": 511}, "n_ctx"),
        ({"keeps_prompts": True}, "--no-enable-prefix-caching"),
    ],
    ids=str,
)
def test_one_that_is_set_up_otherwise_is_not_used(
    site: Config, peer: FakeTrtllm, descriptor: Any, changed: dict[str, Any], named: str
) -> None:
    for name, value in changed.items():
        setattr(peer, name, value)

    with pytest.raises(EngineLoadError, match="not set up") as caught:
        load(site, descriptor)
    assert named in caught.value.fix


def test_one_that_tells_likelihoods_after_the_bias_or_that_minds_none_is_refused(
    site: Config, peer: FakeTrtllm, descriptor: Any
) -> None:
    peer.is_certain = True
    with pytest.raises(EngineLoadError, match="cannot be validated"):
        load(site, descriptor)
    peer.is_certain, peer.minds_bias = False, False
    with pytest.raises(EngineLoadError, match="does not answer as it should"):
        load(site, descriptor)


def test_a_broken_answer_is_an_error_that_quotes_nobody(engine: FlaskClient, peer: FakeTrtllm) -> None:
    for events in ((), ({"error": {"message": "it quotes a prompt"}}, b"data: [DONE]\n\n")):
        peer.events = events
        status, answer = chat(engine)
        assert status == 500
        assert "quotes" not in json.dumps(answer)
    peer.events = None
    assert chat(engine)[0] == 200
