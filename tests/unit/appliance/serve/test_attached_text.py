"""An attached engine that takes texts alone: what it is asked, what is tried of it, and when it is not used.

The peer is a fake after the published sources of Hugging Face's TGI; llama.cpp's own server is asked for real, by texts
alone, in tests/interop.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.config import Config
from appliance.errors import EngineLoadError, EngineProtocolError, EngineUnavailableError
from appliance.serve.asking import RefusedError
from appliance.serve.attached_peer import Address, Peer
from appliance.serve.attached_scores import of_echo
from appliance.serve.attached_text import OpenAIText
from appliance.serve.attached_tokens import LocalTokens
from appliance.serve.attached_trials import is_kept
from appliance.serve.attached_words import Part
from appliance.serve.engine import Generation, Sampling
from tests.support import attached, tiny_tokenizer
from tests.support.attached_inside import chat, load, site_of_a_peer
from tests.support.fake_tgi import ALL, TGIS, FakeTgi, fake_tgi
from tests.support.hostile_frames import VALUES
from tests.support.tiny_tokenizer import CONTROL, tokenizer

PLACES = 2
CONTEXT = 256
SOMEBODYS = {**attached.SOMEBODYS, "dialect": "openai-text"}
TEMPLATE = b"{% for message in messages %}{{ message.role }}: {{ message.content }}<end>{% endfor %}"
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
SHAPE = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
FRESH: dict[str, Any] = {
    "knows": TGIS,
    "puts": "",
    "room": 65536,
    "stops": "kept",
    "reads_names": True,
    "reads": True,
    "counts": True,
    "tells_known": 0,
    "token_seconds": 0.0,
    "keeps": False,
    "takes_neutral": False,
    "is_old": False,
    "told": None,
    "hold": None,
    "events": None,
    "status": 200,
    "slips": 0,
}
OPENED = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<end>"}}, {"Sequence": {"id": "A"}}],
    "special_tokens": {"<end>": {"ids": [CONTROL]}},
}


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
def peer(site: Config) -> Iterator[FakeTgi]:
    with fake_tgi(site.at.run / "peer", tells_known=0) as made:
        yield made


@pytest.fixture(autouse=True)
def fresh(peer: FakeTgi) -> Iterator[None]:
    yield
    for name, value in FRESH.items():
        setattr(peer, name, value)
    peer.asked.clear()
    peer.seen.clear()


@pytest.fixture(scope="module")
def descriptor(site: Config) -> Any:
    files = attached.files_of(SOMEBODYS, tokenizer=tokenizer(), n_seq_max=PLACES, n_ctx=CONTEXT, template=TEMPLATE)
    return attached.store(site, files)


@pytest.fixture(scope="module")
def engine(site: Config, peer: FakeTgi, descriptor: Any) -> FlaskClient:
    client: FlaskClient = load(site, descriptor).app.test_client()
    peer.asked.clear()
    return client


def dialect_of(peer: FakeTgi, **changes: Any) -> OpenAIText:
    made = OpenAIText(Peer(Address(path=str(peer.path))), LocalTokens(tokenizer(**changes).decode()))
    made.require_fit(context_tokens=CONTEXT)
    peer.asked.clear()
    return made


def wanted(**sampling: Any) -> Generation:
    return Generation(tokens=[*b"abcd"], max_tokens=8, sampling=Sampling(**{"temperature": 0, **sampling}))


def test_a_prompt_goes_out_as_the_text_of_its_tokens(engine: FlaskClient, peer: FakeTgi) -> None:
    status, answer = chat(engine, "ab", seed=-1)

    route, asked = peer.asked[-1]
    assert (status, route) == (200, "/v1/completions")
    assert asked["prompt"] == "user: ab<end>"
    assert answer["usage"]["prompt_tokens"] == len("user: ab") + 1
    assert answer["choices"][0]["message"]["content"] == "ba :resu"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert asked.keys() == {"model", "prompt", "max_tokens", "temperature", "seed", "stream", "stream_options"} | {
        *("frequency_penalty", "presence_penalty", "repetition_penalty"),
        *("top_p", "top_k", "min_p"),
    }


def test_a_name_of_a_control_token_is_never_sent(engine: FlaskClient, peer: FakeTgi) -> None:
    status, answer = chat(engine, "a<end>b")

    assert (status, answer["error"]["code"]) == (400, "invalid_value")
    assert peer.asked == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=20) | st.sampled_from(["<end>", "<tool>", "x<en", "d>"]))
def test_what_goes_out_is_read_as_what_was_counted_or_it_does_not_go_out(
    engine: FlaskClient, peer: FakeTgi, text: str
) -> None:
    peer.asked.clear()
    status, answer = chat(engine, text)

    kept = text.encode(errors="replace").decode()
    if "<end>" in kept or "<tool>" in kept:
        assert (status, peer.asked) == (400, [])
    else:
        assert status == 200
        assert answer["usage"]["prompt_tokens"] == len(f"user: {kept.strip()}".encode()) + 1 or kept != kept.strip()


@pytest.mark.parametrize("stops", ["kept", "out"])
@pytest.mark.parametrize("is_streamed", [False, True])
def test_an_answer_ends_before_a_stop_text(
    site: Config, peer: FakeTgi, descriptor: Any, stops: str, *, is_streamed: bool
) -> None:
    peer.stops = stops
    found: FlaskClient = load(site, descriptor).app.test_client()

    said = {"messages": [{"role": "user", "content": "abcdef"}], "temperature": 0, "stop": ["cb"]}
    answer = found.post("/v1/chat/completions", json={**said, "stream": is_streamed})
    if is_streamed:
        events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
        choices = [choice for event in events for choice in event["choices"]]
        text = "".join(choice["delta"].get("content") or "" for choice in choices)
        reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    else:
        text = answer.get_json()["choices"][0]["message"]["content"]
        reasons = [answer.get_json()["choices"][0]["finish_reason"]]
    assert (text, reasons) == ("fed", ["stop"])


def test_what_was_held_back_for_a_stop_text_is_told_where_it_is_none(engine: FlaskClient) -> None:
    status, answer = chat(engine, "abc", stop=["resX"])

    assert (status, answer["choices"][0]["message"]["content"]) == (200, "cba :resu")


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"sampling": {"min_p": 0.5}}, "min_p"),
        ({"sampling": {"top_k": 4}}, "top_k"),
        ({"sampling": {"presence_penalty": 0.5}}, "presence_penalty"),
        ({"sampling": {"logit_bias": ((65, 1.0),)}}, "logit_bias"),
        ({"sampling": {"top_p": 0}}, "top_k"),
        ({"sampling": {"grammar": "{}"}}, "response_format"),
        ({"top_logprobs": 1}, "logprobs"),
    ],
    ids=str,
)
def test_a_word_that_it_passes_over_is_refused_by_its_name(peer: FakeTgi, changed: dict[str, Any], param: str) -> None:
    asked = wanted(**changed.get("sampling", {}))
    dialect = dialect_of(peer)

    with pytest.raises(RefusedError) as refused:
        dialect.require_askable(
            Generation(
                tokens=asked.tokens,
                max_tokens=8,
                sampling=asked.sampling,
                **{name: value for name, value in changed.items() if name != "sampling"},
            )
        )
    assert (refused.value.param, dialect.takes) == (param, ("repetition_penalty",))


def test_stop_texts_that_it_passes_over_are_refused(peer: FakeTgi) -> None:
    peer.stops = "passed"

    with pytest.raises(RefusedError) as refused:
        dialect_of(peer).require_askable(Generation(tokens=[65], max_tokens=8, stop=("x",)))
    assert refused.value.param == "stop"


def test_what_is_seen_to_work_is_handed_on(peer: FakeTgi) -> None:
    peer.knows, peer.takes_neutral = ALL, True
    dialect = dialect_of(peer)
    sampling = {"top_k": 4, "min_p": 0.5, "presence_penalty": 0.5, "logit_bias": ((65, 1.0),), "temperature": 1}

    asked = wanted(**sampling)
    dialect.require_askable(asked)
    said = dialect.question(asked, index=3)
    assert (said["top_k"], said["min_p"], said["presence_penalty"], said["logit_bias"]) == (4, 0.5, 0.5, {"65": 1.0})
    assert (said["top_p"], said["repetition_penalty"], said["frequency_penalty"]) == (1, 1, 0)
    assert dialect.takes == ("top_k", "min_p", "repetition_penalty")
    dialect.require_askable(wanted(grammar=json.dumps(SCHEMA)))
    assert dialect.question(wanted(grammar=json.dumps(SCHEMA)), index=0)["response_format"]["type"] == "json_schema"


def test_a_value_that_it_takes_for_nothing_wanted_is_not_said(peer: FakeTgi) -> None:
    dialect = dialect_of(peer)

    assert "top_p" not in dialect.question(wanted(), index=0)
    # What it may know without having shown it: none of its own defaults decides.
    assert dialect.question(wanted(), index=0)["min_p"] == 0
    assert dialect.question(wanted(top_p=0.5), index=0)["top_p"] == 0.5


@pytest.mark.parametrize("way", ["echo", "reads", "bias"])
@pytest.mark.parametrize("puts", ["", "<end>"])
def test_continuations_are_scored_in_whichever_way_it_knows(peer: FakeTgi, way: str, puts: str) -> None:
    peer.reads = way == "reads"
    peer.knows = TGIS | {"echo": {"echo", "logprobs"}, "reads": set(), "bias": {"logit_bias", "logprobs"}}[way]
    peer.puts = puts
    dialect = dialect_of(peer, post_processor=OPENED) if puts else dialect_of(peer)
    before = [CONTROL] * bool(puts)

    assert dialect.likelihood([*before, *b"AB"], [*b"A"]) == -0.5
    assert dialect.likelihood([*before, *b"AB"], [*b"CD"]) == -10.0
    assert len(peer.asked) == (3 if way == "bias" else 2)
    with pytest.raises(RefusedError, match="empty_prompt"):
        dialect.likelihood([], [65])


def test_what_it_puts_before_a_text_is_not_sent_again(peer: FakeTgi) -> None:
    peer.puts = "<end>"
    dialect = dialect_of(peer, post_processor=OPENED)

    asked = dialect.question(Generation(tokens=[CONTROL, *b"ab"], max_tokens=8), index=0)
    assert asked["prompt"] == "ab"
    with pytest.raises(RefusedError):
        dialect.require_askable(Generation(tokens=[*b"ab"], max_tokens=8))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"room": CONTEXT - 1}, "n_ctx"),
        ({"tells_known": 5}, "--no-enable-prefix-caching"),
        ({"tells_known": None, "keeps": True, "token_seconds": 0.0005}, "--no-enable-prefix-caching"),
        ({"knows": TGIS - {"seed"}}, "a way to start it"),
        ({"reads_names": False}, "one that does"),
        ({"reads": False}, "echo with logprobs"),
        ({"puts": "xy"}, "the model's own file"),
    ],
    ids=["room", "says that it knew", "reads sooner", "seeds", "names", "scores", "counts otherwise"],
)
def test_one_that_is_set_up_otherwise_is_not_used(
    site: Config, peer: FakeTgi, descriptor: Any, changed: dict[str, Any], named: str
) -> None:
    for name, value in changed.items():
        setattr(peer, name, value)

    with pytest.raises(EngineLoadError, match="not set up") as caught:
        load(site, descriptor)
    assert named in caught.value.fix


def test_one_that_does_not_say_what_it_knew_is_used_where_its_time_shows_it(
    peer: FakeTgi, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer.tells_known = None
    monkeypatch.setattr("appliance.serve.attached_text.is_kept", lambda *_, **__: False)
    assert dialect_of(peer).takes == ("repetition_penalty",)

    monkeypatch.setattr("appliance.serve.attached_text.is_kept", lambda *_, **__: None)
    with pytest.raises(EngineLoadError) as caught:
        dialect_of(peer)
    assert "prompt_tokens_details" in caught.value.fix


@pytest.mark.parametrize(
    ("long", "again", "found"),
    [(10.0, 10.0, False), (10.0, 1.5, True), (1.5, 1.5, None), (1.0, 0.9, None), (10.0, 7.0, False)],
)
def test_time_shows_whether_a_prompt_was_kept_or_shows_nothing(
    monkeypatch: pytest.MonkeyPatch, long: float, again: float, *, found: bool | None
) -> None:
    now = 0.0
    seen: set[tuple[int, ...]] = set()

    def read(prompt: Any) -> None:
        nonlocal now
        now += 1.0 if len(prompt) == 1 else again if tuple(prompt) in seen else long
        seen.add(tuple(prompt))

    monkeypatch.setattr("appliance.serve.attached_trials.time.monotonic", lambda: now)
    assert is_kept(read, [[1, 1], [2, 2], [3, 3]], short=[0]) is found


def test_one_that_counts_no_stream_is_not_used(site: Config, peer: FakeTgi, descriptor: Any) -> None:
    peer.counts = False

    with pytest.raises(EngineLoadError, match="does not answer as it should") as caught:
        load(site, descriptor)
    assert "not counted" in caught.value.why


def test_one_that_is_busy_is_tried_again_by_its_unit(site: Config, peer: FakeTgi, descriptor: Any) -> None:
    peer.status = 429

    with pytest.raises(EngineUnavailableError):
        load(site, descriptor)


def test_an_echo_without_a_choice_is_a_broken_contract() -> None:
    untrusted = {"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 1}}
    part, tokens = Part(prompt_tokens=2, completion_tokens=1), LocalTokens(tokenizer().decode())

    with pytest.raises(EngineProtocolError, match="broke its contract"):
        of_echo(untrusted, part, [65], prompt_tokens=2, put=0, tokens=tokens, name="x")


def test_what_names_the_end_behind_the_last_words_is_cut_off(peer: FakeTgi) -> None:
    event = {"choices": [{"index": 0, "text": "end.<end>", "finish_reason": "eos_token"}]}
    added = {"choices": [{"index": 0, "text": "<tool>", "finish_reason": "stop"}]}
    dialect = dialect_of(peer)

    assert dialect.part_of(event, top=None).text == "end."
    assert dialect.part_of(added, top=None).text == "<tool>"


def test_a_template_that_never_says_what_the_peer_puts_first_is_not_served() -> None:
    files = attached.files_of(
        SOMEBODYS, tokenizer=tokenizer(post_processor=OPENED), n_seq_max=PLACES, n_ctx=CONTEXT, template=TEMPLATE
    )

    with site_of_a_peer() as own, fake_tgi(own.at.run / "peer", tells_known=0, puts="<end>"):
        descriptor = attached.store(own, files)
        with pytest.raises(EngineLoadError, match="own settings") as caught:
            load(own, descriptor)
    assert "before every text" in caught.value.why


def test_one_that_rounds_otherwise_once_keeps_its_words(peer: FakeTgi) -> None:
    peer.slips = 1

    assert dialect_of(peer).takes == ("repetition_penalty",)


def test_one_without_a_route_for_its_health_is_well_when_it_names_its_model(peer: FakeTgi) -> None:
    peer.is_old = True

    assert Peer(Address(path=str(peer.path))).is_well()


def test_a_versions_own_settings_are_tried_before_anybody_asks(site: Config, peer: FakeTgi, descriptor: Any) -> None:
    peer.knows = TGIS - {"top_p"}

    with pytest.raises(EngineLoadError, match="own settings") as caught:
        load(site, descriptor)
    assert caught.value.why.startswith("top_p: ")


@pytest.fixture(scope="module", params=["echo", "reads"])
def scoring(request: pytest.FixtureRequest, peer: FakeTgi) -> OpenAIText:
    peer.reads = request.param == "reads"
    peer.knows = TGIS | ({"echo", "logprobs"} if request.param == "echo" else set())
    return dialect_of(peer)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=VALUES | st.fixed_dictionaries({}, optional={
    "tokens": VALUES | st.just(["A", "B", "x"]),
    "token_logprobs": VALUES | st.lists(VALUES, min_size=3, max_size=3),
    "details": st.fixed_dictionaries({"prefill": st.lists(VALUES | st.fixed_dictionaries(
        {"id": st.sampled_from([65, 66]), "logprob": VALUES}), max_size=2)}),
}))  # fmt: skip
def test_a_hostile_answer_about_likelihoods_is_a_share_or_a_broken_contract(
    scoring: OpenAIText, peer: FakeTgi, said: Any
) -> None:
    peer.knows, peer.told = ALL, said if isinstance(said, dict) else {"tokens": said}
    try:
        found = scoring.likelihood([65], [66])
    except EngineProtocolError:
        return
    assert found <= 0
