"""An attached engine that speaks as SGLang does: what it is asked, what is believed, and when it is not used.

The peer is a fake after SGLang's published sources; the real one is `tests/engines/test_sglang_attached.py`.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance import config as configuration
from appliance.config import Config
from appliance.errors import EngineLoadError, EngineProtocolError
from appliance.serve.attached import AttachedScheduler
from appliance.serve.attached_peer import Address, Peer
from appliance.serve.attached_sglang import Sglang
from appliance.serve.attached_tokens import LocalTokens
from appliance.serve.engine import Generation, Sampling
from tests.support import attached, tiny_tokenizer
from tests.support.attached_inside import chat, load, site_of_a_peer
from tests.support.engine_process import engine_site
from tests.support.fake_sglang import FakeSglang, fake_sglang
from tests.support.hostile_frames import VALUES
from tests.support.tiny_tokenizer import CONTROL, tokenizer

PLACES = 2
SOMEBODYS = {**attached.SOMEBODYS, "dialect": "sglang"}
TEMPLATE = b"{% for message in messages %}{{ message.role }}: {{ message.content }}<end>{% endfor %}"


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
def peer(site: Config) -> Iterator[FakeSglang]:
    with fake_sglang(site.at.run / "peer") as made:
        yield made


@pytest.fixture(autouse=True)
def well_behaved(peer: FakeSglang) -> Iterator[None]:
    usual = dict(peer.settings)
    yield
    if peer.hold is not None:
        peer.hold.set()
    peer.hold = peer.events = peer.scored = None
    peer.settings, peer.is_old, peer.is_certain = usual, False, False


@pytest.fixture(scope="module")
def descriptor(site: Config) -> Any:
    files = attached.files_of(SOMEBODYS, tokenizer=tokenizer(), n_seq_max=PLACES, template=TEMPLATE)
    return attached.store(site, files)


@pytest.fixture(scope="module")
def engine(site: Config, peer: FakeSglang, descriptor: Any) -> FlaskClient:
    del peer
    client: FlaskClient = load(site, descriptor).app.test_client()
    return client


@pytest.fixture(scope="module")
def sglang(peer: FakeSglang) -> Sglang:
    return Sglang(Peer(Address(path=str(peer.path))), LocalTokens(tokenizer().decode()), model="m")


@pytest.fixture(scope="module")
def scheduler(peer: FakeSglang, sglang: Sglang) -> AttachedScheduler:
    return AttachedScheduler(Peer(Address(path=str(peer.path))), sglang, context_tokens=512, places=PLACES)


def test_a_prompt_goes_out_as_tokens_that_were_counted_here(engine: FlaskClient, peer: FakeSglang) -> None:
    status, answer = chat(engine, "a<end>b", seed=-1, stop=["x"])

    route, asked = peer.asked[-1]
    assert status == 200
    assert route == "/v1/completions"
    assert asked["prompt"] == [*b"user: a<end>b", CONTROL]
    assert answer["usage"]["prompt_tokens"] == len(asked["prompt"])
    assert (asked["seed"], asked["stop"], asked["temperature"], asked["top_k"]) == (2**31 - 1, ["x"], 0, -1)
    counted = engine.post("/sealift/v1/tokenize", json={"prompt": "a<end>b"}).get_json()
    assert counted == {"tokens": len("a<end>b")}


def test_values_are_said_as_it_takes_them(sglang: Sglang) -> None:
    sampling = Sampling(temperature=0.5, top_p=0, top_k=40, repeat_penalty=1.25, logit_bias=((65, -3.0),), grammar="{}")
    asked = sglang.question(Generation(tokens=[65], max_tokens=8, sampling=sampling), index=3)
    wide = sglang.question(Generation(tokens=[65], max_tokens=8, sampling=Sampling(top_p=2, top_k=40)), index=0)

    assert (asked["top_p"], asked["top_k"], asked["seed"]) == (1, 1, 3)
    assert (asked["repetition_penalty"], asked["logit_bias"], asked["json_schema"]) == (1.25, {"65": -3.0}, "{}")
    assert (wide["top_p"], wide["top_k"]) == (1, 40)
    assert not {"stop", "logit_bias", "json_schema", "logprobs"} & wide.keys()


def test_a_shape_is_handed_on_as_text(engine: FlaskClient, peer: FakeSglang) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}

    assert chat(engine, response_format=shape)[0] == 200
    assert json.loads(peer.asked[-1][1]["json_schema"])["properties"] == schema["properties"]


def test_likelihoods_are_told_where_they_are_the_models_own(engine: FlaskClient, peer: FakeSglang) -> None:
    status, answer = chat(engine, logprobs=True, top_logprobs=1)

    told = answer["choices"][0]["logprobs"]["content"]
    assert (status, peer.asked[-1][1]["logprobs"]) == (200, 1)
    assert len(told) == answer["usage"]["completion_tokens"]
    assert told[0]["logprob"] == -0.25
    assert [one["logprob"] for one in told[0]["top_logprobs"]] == [-0.25]
    assert chat(engine, logprobs=True)[0] == 200
    assert peer.asked[-1][1]["logprobs"] == 0


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": 0.5},
        {"logit_bias": {"65": 1}},
        {"frequency_penalty": 1},
        {"presence_penalty": -1},
        {"response_format": {"type": "json_object"}},
    ],
    ids=str,
)
def test_likelihoods_that_something_else_decides_are_refused(
    engine: FlaskClient, peer: FakeSglang, more: dict[str, Any]
) -> None:
    before = len(peer.asked)
    status, answer = chat(engine, logprobs=True, **more)

    assert (status, answer["error"]["param"]) == (400, "logprobs")
    assert chat(engine, **more)[0] == 200
    assert len(peer.asked) == before + 1


def test_what_it_would_refuse_is_refused_by_name(engine: FlaskClient, peer: FakeSglang) -> None:
    before = len(peer.asked)

    assert chat(engine, presence_penalty=3)[1]["error"]["param"] == "presence_penalty"
    assert chat(engine, logit_bias={"258": 1})[1]["error"]["param"] == "logit_bias"
    assert len(peer.asked) == before


def test_what_would_end_it_never_gets_there_and_its_status_says_so(engine: FlaskClient, peer: FakeSglang) -> None:
    before = len(peer.asked)
    status, answer = chat(engine, min_p=0.1)

    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "unsupported_parameter", "min_p")
    assert len(peer.asked) == before
    assert chat(engine, min_p=0)[0] == 200
    assert engine.get("/sealift/v1/status").get_json()["takes"] == ["top_k", "repetition_penalty"]


def test_continuations_are_scored_in_one_question_each(scheduler: AttachedScheduler, peer: FakeSglang) -> None:
    before = len(peer.asked)
    likely, unlikely = scheduler.score([65, 66], [[65], [67, 68]])

    routes, asked = zip(*peer.asked[before:], strict=True)
    assert (likely, unlikely) == (-0.5, -10.0)
    assert routes == ("/generate", "/generate")
    assert [one["input_ids"] for one in asked] == [[65, 66, 65], [65, 66, 67, 68]]
    assert asked[0]["logprob_start_len"] == 1
    assert asked[0]["sampling_params"]["temperature"] == 1


def test_nothing_can_be_scored_after_nothing(engine: FlaskClient) -> None:
    answer = engine.post("/sealift/v1/score", json={"prompt": "", "continuations": ["a"]})

    assert (answer.status_code, answer.get_json()["error"]["code"]) == (400, "empty_prompt")


@pytest.mark.parametrize(
    "told",
    [
        [],
        None,
        [[-1, 65, None]],
        [[None, 66, None], [-1.0, 65, None], [-1.0, 65, None]],
        [[None, 66, None], [-1.0, 67, None]],
        [[None, 66, None], [-1.0, True, None]],
        [[None, 66, None], [None, 65, None]],
        [[None, 66, None], ["x", 65, None]],
        [[None, 66, None], [0.5, 65, None]],
        [[None, 66, None], [-(10**400), 65, None]],
        [[None, 66, None], [-1.0]],
        [[None, 66, None], 5],
    ],
    ids=lambda told: str(told)[:60],
)
def test_likelihoods_of_something_else_are_a_broken_contract(sglang: Sglang, peer: FakeSglang, told: Any) -> None:
    peer.scored = {"text": "", "meta_info": {"input_token_logprobs": told}}

    with pytest.raises(EngineProtocolError, match="broke its contract"):
        sglang.likelihood([66], [65])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.fixed_dictionaries({}, optional={"meta_info": st.fixed_dictionaries(
    {}, optional={"input_token_logprobs": VALUES | st.lists(st.tuples(VALUES, st.just(65), VALUES), max_size=3)}
) | VALUES}) | VALUES)  # fmt: skip
def test_a_hostile_answer_about_likelihoods_is_a_share_or_a_broken_contract(
    sglang: Sglang, peer: FakeSglang, said: Any
) -> None:
    peer.scored = said if said is not None else b"null"
    try:
        found = sglang.likelihood([65], [65])
    except EngineProtocolError:
        return
    assert found <= 0


def test_its_settings_are_asked_for_by_either_name(sglang: Sglang, peer: FakeSglang) -> None:
    sglang.require_fit(context_tokens=512)
    peer.is_old = True
    sglang.require_fit(context_tokens=512)


@pytest.mark.parametrize(("all_at_once", "held"), [(100_000, 1024), (1024, 1024), (700, 700), (512, 512)])
def test_its_places_have_a_context_each_as_far_as_it_says_that_it_holds_them(
    sglang: Sglang, peer: FakeSglang, all_at_once: int, held: int
) -> None:
    peer.settings = {**peer.settings, "max_total_num_tokens": all_at_once}

    sglang.require_fit(context_tokens=512)

    assert sglang.held(context_tokens=512, places=2) == held


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"disable_radix_cache": False}, "--disable-radix-cache"),
        ({"disable_radix_cache": None}, "--disable-radix-cache"),
        ({"disable_radix_cache": 1}, "--disable-radix-cache"),
        ({"enable_deterministic_inference": False}, "--enable-deterministic-inference"),
        ({"skip_tokenizer_init": True}, "without --skip-tokenizer-init"),
        ({"max_total_num_tokens": 511}, "n_ctx"),
        ({"max_req_input_len": 511}, "n_ctx"),
        ({"max_req_input_len": None}, "n_ctx"),
    ],
    ids=str,
)
def test_one_that_is_set_up_otherwise_is_not_used(
    site: Config, peer: FakeSglang, descriptor: Any, said: dict[str, Any], named: str
) -> None:
    peer.settings = {**peer.settings, **said}

    with pytest.raises(EngineLoadError, match="not set up") as caught:
        load(site, descriptor)
    assert named in caught.value.fix


def test_one_that_says_nothing_of_likelihoods_or_that_all_is_certain_is_refused(
    site: Config, peer: FakeSglang, descriptor: Any
) -> None:
    peer.is_certain = True
    with pytest.raises(EngineLoadError, match="cannot be validated"):
        load(site, descriptor)
    peer.is_certain = False
    peer.scored = {"text": "", "meta_info": {}}
    with pytest.raises(EngineLoadError, match="does not answer as it should"):
        load(site, descriptor)


def test_a_version_without_a_tokenizer_is_refused(peer: FakeSglang) -> None:
    with engine_site() as made:
        text = made.at.config_file.read_text() + f'[engine]\nattached = "unix:{peer.path}"\n'
        bare = attached.store(made, attached.files_of(SOMEBODYS, template=TEMPLATE))

        with pytest.raises(EngineLoadError, match=r"brings no tokenizer\.json"):
            load(configuration.parse(text.encode()), bare)


@pytest.mark.parametrize(
    "events",
    [
        (),
        ({"choices": [{"index": 0, "text": "x", "finish_reason": "abort"}]},),
        ({"choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]}, b"data: [DONE]\n\n"),
        ({"error": {"message": "it quotes a prompt"}}, b"data: [DONE]\n\n"),
        ({"object": "error", "message": "it quotes a prompt"},),
    ],
    ids=["breaks off", "aborted", "does not count", "error", "another error"],
)
def test_a_broken_answer_is_an_error_that_quotes_nobody(
    engine: FlaskClient, peer: FakeSglang, events: tuple[Any, ...]
) -> None:
    peer.events = events
    status, answer = chat(engine)
    peer.events = None

    assert status == 500
    assert "quotes" not in json.dumps(answer)
    assert chat(engine)[0] == 200


@pytest.mark.parametrize(
    "logprobs",
    [
        {"tokens": ["a"], "token_logprobs": []},
        {"tokens": ["a"], "token_logprobs": [None]},
        {"tokens": [5], "token_logprobs": [-1.0]},
        {"tokens": "a", "token_logprobs": [-1.0]},
        {"tokens": ["a", "b"], "token_logprobs": [-1.0, -1.0], "top_logprobs": [{}]},
        {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [{"b": "c"}]},
    ],
    ids=str,
)
def test_likelihoods_of_no_form_are_a_broken_contract(sglang: Sglang, logprobs: Any) -> None:
    with pytest.raises(EngineProtocolError):
        sglang.part_of({"choices": [{"index": 0, "text": "a", "logprobs": logprobs}]}, top=1)
