"""What every engine promises the gateway (design.md 5). The fake keeps it, and so must llama.cpp's and any real one.

llama.cpp's engine is here over the tests' decoder (``scheduler``). A real engine is tested by naming its socket:
``SEALIFT_ENGINE_SOCKET=/run/…/engine-test-0123456789ab.sock pytest …``. What an engine need not offer (functions,
forms, probabilities, vectors) it does as asked, or refuses by its name: nothing is passed over in silence.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from appliance.errors import EngineRefusedError
from appliance.gateway.connections import EngineConnection
from appliance.gateway.enginefigures import OWN
from appliance.serve.client import EngineClient
from appliance.serve.engine import BEYOND_OPENAI
from media.errors import SealiftError
from tests.support.echo_engine import echo_engine
from tests.support.engine import FakeEngine, Script, fake_engine

REAL = os.environ.get("SEALIFT_ENGINE_SOCKET", "")
ENGINES = ["fake", "scheduler", *(["real"] if REAL else [])]
# The fewest tokens of a question that the engine may read in one step, which nobody can end in its middle.
STEP_TOKENS = int(os.environ.get("SEALIFT_ENGINE_STEP_TOKENS", "0"))
# What a real engine must do of what need not be offered, with commas; "any" where either will do.
REAL_OFFERS = os.environ.get("SEALIFT_ENGINE_OFFERS", "any")
OFFERS = {"fake": "logprobs,response_format,tools,embeddings", "scheduler": "logprobs,response_format,tools"}
PATIENCE_SECONDS = 60.0
_SOON_SECONDS = 0.25
_READING_SECONDS = 12.0  # long beside the quarter second within which a caller leaves, and no longer than that needs
_MANY_STEPS = 4
_COUNTED = {"vllm:generation_tokens", "vllm:prompt_tokens"}
_OF_USAGE = ("completion_tokens", "prompt_tokens")
_T = TypeVar("_T")
_TRIED_WORDS = 256
_TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
CHAT = {"messages": [{"role": "user", "content": "Count from one to twenty in words, please."}]}
CITIES = ("Paris", "Rome")
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": [*CITIES]}},
    "required": ["city"],
    "additionalProperties": False,
}
STORY = {"messages": [{"role": "user", "content": "Tell a long story about the sea."}]}
GREEDY = {"temperature": 0, "seed": 1, "max_tokens": 24}


@pytest.fixture(params=ENGINES)
def fake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FakeEngine | None]:
    """The fake that is asked; none where the engine is another."""
    if request.param != "fake":
        yield None
        return
    with fake_engine(tmp_path / "engine.sock") as engine:
        yield engine


@pytest.fixture
def path(request: pytest.FixtureRequest, fake: FakeEngine | None, tmp_path: Path) -> Iterator[Path]:
    """The socket of the engine that is asked."""
    if fake is not None:
        yield fake.path
    elif "scheduler" in request.node.callspec.params.values():
        with echo_engine(tmp_path / "engine.sock", source=_TEMPLATE):
            yield tmp_path / "engine.sock"
    else:
        yield Path(REAL)


@pytest.fixture
def client(path: Path) -> Iterator[EngineClient]:
    with EngineClient(path, read_seconds=PATIENCE_SECONDS) as client:
        yield client


@pytest.fixture
def offers(request: pytest.FixtureRequest) -> str:
    """What the engine that is asked must do of what need not be offered."""
    return OFFERS.get(request.node.callspec.params["fake"], REAL_OFFERS)


def _offered(name: str, offers: str, ask: Callable[[], _T]) -> _T | None:
    """Return what an engine does that offers it; None of one that refused it by its name."""
    answer, refused = None, None
    try:
        answer = ask()
    except EngineRefusedError as error:
        refused = error
    assert offers == "any" or (name in offers.split(",")) is (refused is None), refused
    assert refused is None or (refused.http_status, refused.engine_param) == (400, name)
    return answer


def _text(answer: dict[str, Any]) -> str:
    choice = answer["choices"][0]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


def _streamed(events: list[dict[str, Any]]) -> str:
    choices = [choice for event in events for choice in event["choices"]]
    return "".join(one["delta"].get("content") or "" if "delta" in one else one["text"] for one in choices)


def _running(client: EngineClient, fake: FakeEngine | None) -> int:
    """Return how many answers are being made or wait; fail where a real engine does not say."""
    if fake is not None:
        return int(fake.started.is_set() and not fake.cancelled.is_set())
    load = client.load()
    assert load is not None
    return sum(load)


def _require_none_runs(client: EngineClient, fake: FakeEngine | None, *, within_seconds: float) -> None:
    end = time.monotonic() + within_seconds
    while _running(client, fake):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_it_is_healthy_and_says_what_it_serves(client: EngineClient) -> None:
    status = client.status()

    assert client.health()
    assert status.state == "ready"
    assert len(status.model_digest) == len(status.weights_digest) == 64
    assert status.n_ctx >= 64
    assert client.models()["data"]


def test_a_chat_is_answered_with_text_a_reason_and_counts(client: EngineClient) -> None:
    answer = client.chat({**CHAT, **GREEDY})

    usage = answer["usage"]
    assert _text(answer)
    assert answer["choices"][0]["finish_reason"] in {"stop", "length"}
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert 1 <= usage["completion_tokens"] <= 24


def test_a_stream_says_the_same_with_one_reason_and_the_counts_last(client: EngineClient) -> None:
    whole = client.chat({**CHAT, **GREEDY})

    events = list(client.chat_stream({**CHAT, **GREEDY, "stream_options": {"include_usage": True}}))

    reasons = [choice["finish_reason"] for event in events for choice in event["choices"] if choice["finish_reason"]]
    assert _streamed(events) == _text(whole)
    assert reasons == [whole["choices"][0]["finish_reason"]]
    assert events[0]["choices"][0]["delta"].get("role") == "assistant"
    assert events[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]


def test_a_completion_is_answered_whole_and_streamed(client: EngineClient) -> None:
    body = {"prompt": "Once upon a time there was", **GREEDY}

    whole = client.complete(body)
    events = list(client.complete_stream({**body, "stream_options": {"include_usage": True}}))

    assert _text(whole)
    assert _streamed(events) == _text(whole)
    assert events[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]


def test_the_limit_of_tokens_is_kept_and_named_as_the_reason(client: EngineClient) -> None:
    answer = client.chat({**CHAT, **GREEDY, "max_tokens": 3})

    assert answer["usage"]["completion_tokens"] == 3
    assert answer["choices"][0]["finish_reason"] == "length"


def test_where_one_token_alone_may_be_drawn_it_is_the_likeliest(client: EngineClient) -> None:
    likeliest = _text(client.chat({**CHAT, **GREEDY}))
    warm = {**CHAT, **GREEDY, "temperature": 1.5}

    takes = client.status().takes
    assert takes <= set(BEYOND_OPENAI)
    for name in ("top_k", "min_p"):
        if name in takes:
            assert _text(client.chat({**warm, name: 1})) == likeliest
        else:
            with pytest.raises(EngineRefusedError) as refused:
                client.chat({**warm, name: 1})
            assert refused.value.http_status == 400
    assert _text(client.chat({**CHAT, **GREEDY})) == likeliest


def test_a_stop_text_ends_the_answer_and_is_not_part_of_it(client: EngineClient) -> None:
    whole = _text(client.chat({**CHAT, **GREEDY}))
    middle = len(whole) // 2
    stop = whole[middle : middle + 4]

    for stops in (stop, ["never said by anyone", stop]):
        answer = client.chat({**CHAT, **GREEDY, "stop": stops})
        events = list(client.chat_stream({**CHAT, **GREEDY, "stop": stops}))

        assert _text(answer) == whole[: whole.index(stop)]
        assert _streamed(events) == _text(answer)
        assert answer["choices"][0]["finish_reason"] == "stop"


def test_the_same_seed_gives_the_same_answer(client: EngineClient) -> None:
    body = {**CHAT, "max_tokens": 12, "temperature": 0.9, "top_p": 0.9, "seed": 7}

    assert _text(client.chat(body)) == _text(client.chat(body))


def test_several_answers_have_an_end_each_and_are_counted_together(client: EngineClient) -> None:
    body = {**CHAT, "max_tokens": 6, "temperature": 0.9, "seed": 7, "n": 2, "stream_options": {"include_usage": True}}

    whole = client.chat(body)
    events = list(client.chat_stream(body))

    streamed = [choice for event in events for choice in event["choices"]]
    for choices in (whole["choices"], [one for one in streamed if one["finish_reason"]]):
        assert sorted(one["index"] for one in choices) == [0, 1]
        assert {one["finish_reason"] for one in choices} <= {"stop", "length"}
    assert {one["index"] for one in streamed} == {0, 1}
    for usage in (whole["usage"], events[-1]["usage"]):
        assert 2 <= usage["completion_tokens"] <= 12
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_probabilities_are_those_of_the_tokens_that_were_said(client: EngineClient, offers: str) -> None:
    body = {**CHAT, **GREEDY, "max_tokens": 6, "logprobs": True, "top_logprobs": 2}

    answer = _offered("logprobs", offers, lambda: client.chat(body))
    if answer is None:
        return
    events = list(client.chat_stream({**body, "stream_options": {"include_usage": True}}))

    chunks = [choice["logprobs"] for event in events for choice in event["choices"] if choice.get("logprobs")]
    for told in (answer["choices"][0]["logprobs"]["content"], [one for chunk in chunks for one in chunk["content"]]):
        assert "".join(one["token"] for one in told).strip() == _text(answer).strip()
        assert 1 <= len(told) <= answer["usage"]["completion_tokens"]
        for one in told:
            likeliest = max(other["logprob"] for other in one["top_logprobs"])
            assert one["logprob"] <= 0
            assert one["logprob"] >= likeliest - 1e-3  # at temperature 0 the likeliest is said
            assert 1 <= len(one["top_logprobs"]) <= 3


def test_an_answer_keeps_the_form_that_was_asked_for(client: EngineClient, offers: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
    body = {**CHAT, **GREEDY, "max_tokens": 192, "response_format": form}

    answer = _offered("response_format", offers, lambda: client.chat(body))

    if answer is not None:
        is_cut = answer["choices"][0]["finish_reason"] == "length"
        _require_city(_text(answer), is_cut=is_cut)
        assert _streamed(list(client.chat_stream(body))) == _text(answer)


def _require_city(text: str, *, is_cut: bool) -> None:
    """Require one of the cities in its form; where the answer was cut, as in white space without end, a beginning."""
    if not is_cut:
        assert json.loads(text) in [{"city": city} for city in CITIES]
        return
    begins = "".join(text.split())
    assert begins.startswith('{"city":')
    assert any(json.dumps({"city": city}, separators=(",", ":")).startswith(begins) for city in CITIES)


def test_a_function_that_must_be_called_is_called(client: EngineClient, offers: str) -> None:
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": CITY}}]
    named = {"type": "function", "function": {"name": "look_up"}}
    body = {**CHAT, **GREEDY, "max_tokens": 192, "tools": tools, "tool_choice": named}

    answer = _offered("tools", offers, lambda: client.chat(body))

    if answer is not None:
        (call,) = answer["choices"][0]["message"]["tool_calls"]
        reason = answer["choices"][0]["finish_reason"]
        assert reason in {"stop", "tool_calls", "length"}
        assert call["function"]["name"] == "look_up"
        _require_city(call["function"]["arguments"], is_cut=reason == "length")


def test_texts_become_vectors_of_one_length(client: EngineClient, offers: str) -> None:
    vectors: tuple[tuple[float, ...], ...] = ()
    refused = None
    try:
        vectors = client.embed(["the sea", "a lighthouse", "the sea"])
    except EngineRefusedError as error:
        refused = error

    assert offers == "any" or ("embeddings" in offers.split(",")) is (refused is None), refused
    if refused is not None:
        assert (refused.http_status, refused.engine_code) == (404, "unsupported_model")
        return
    assert vectors[0] == pytest.approx(vectors[2], abs=1e-4)
    assert vectors[0] != pytest.approx(vectors[1], abs=1e-4)


def _counted(path: Path) -> tuple[str, dict[str, float]]:
    """Return what an engine says of itself, and how many tokens it says that it read and wrote."""
    connection = EngineConnection(path, connect_seconds=10, read_seconds=10)
    try:
        connection.ask("GET", "/metrics", headers={})
        response = connection.respond()
        told = b"".join(iter(response.read, b"")).decode()
    finally:
        connection.close()
    assert response.status == 200
    tokens = {one.told: one.read(told) or 0.0 for one in OWN if one.told in _COUNTED}
    assert set(tokens) == _COUNTED
    return told, tokens


def test_its_metrics_count_what_it_read_and_wrote_and_quote_nobody(client: EngineClient, path: Path) -> None:
    _, before = _counted(path)
    usage = client.complete({"prompt": "Zyxwv cormorant", **GREEDY})["usage"]
    wanted = {name: before[name] + usage[of] for name, of in zip(sorted(_COUNTED), _OF_USAGE, strict=True)}

    ends = time.monotonic() + PATIENCE_SECONDS
    while (told := _counted(path))[1] != wanted and time.monotonic() < ends:
        time.sleep(0.05)

    assert told[1] == wanted
    assert "cormorant" not in told[0].lower()


def test_tokens_are_counted_with_and_without_the_template(client: EngineClient) -> None:
    short, long = client.tokenize(prompt="one two"), client.tokenize(prompt="one two three four five six")

    assert 0 < short < long
    assert client.tokenize(messages=[{"role": "user", "content": "one two"}]) > short


def test_counting_a_chat_gives_what_its_answer_says_it_read(client: EngineClient) -> None:
    answer = client.chat({**CHAT, **GREEDY, "max_tokens": 1})

    assert client.tokenize(messages=CHAT["messages"]) == answer["usage"]["prompt_tokens"]


def test_continuations_are_scored_in_their_order(client: EngineClient) -> None:
    prompt = "The quick brown fox jumps over the lazy dog. The quick brown fox jumps over the lazy"

    likely, unlikely = client.score(prompt, [" dog", " xylophone quantum"])

    assert likely.tokens >= 1
    assert likely.log_likelihood <= 0
    assert likely.log_likelihood > unlikely.log_likelihood


def test_a_prompt_that_does_not_fit_is_refused_by_name(client: EngineClient) -> None:
    words = "word " * (client.status().n_ctx + 16)

    with pytest.raises(EngineRefusedError) as caught:
        client.chat({"messages": [{"role": "user", "content": words}], **GREEDY})

    assert (caught.value.http_status, caught.value.engine_code) == (400, "context_length_exceeded")


@pytest.mark.parametrize("body", [{}, {"messages": []}, {"messages": "no list"}])
def test_a_malformed_request_is_refused(client: EngineClient, body: dict[str, Any]) -> None:
    with pytest.raises(EngineRefusedError) as caught:
        client.chat(body)

    assert caught.value.http_status == 400


def test_a_caller_that_leaves_frees_the_engine(client: EngineClient, fake: FakeEngine | None) -> None:
    """Where nothing is cancelled, the answers go on for longer than this test waits.

    A fake's answer is held for 20 seconds. How long a real engine's takes is measured.
    """
    body = {**STORY, "temperature": 0, "max_tokens": 512}
    began = time.monotonic()
    if fake is None:
        list(client.chat_stream(body))
    patience_seconds = 15.0 if fake else max(1.0, (time.monotonic() - began) / 2)

    for _ in range(3):
        if fake:
            fake.started.clear()
            fake.cancelled.clear()
            fake.script = Script(hold=threading.Event())
        stream = client.chat_stream(body)
        next(stream)
        assert fake is None or _running(client, fake) == 1
        stream.close()

        _require_none_runs(client, fake, within_seconds=patience_seconds)

    if fake:
        fake.script = Script()
    assert _text(client.chat({**CHAT, **GREEDY, "max_tokens": 2}))


@pytest.mark.timeout(600)
def test_a_caller_that_leaves_while_its_question_is_read_frees_the_engine(
    client: EngineClient, fake: FakeEngine | None, path: Path
) -> None:
    """How long a real engine reads is measured with one question like it, whose length is chosen by its pace."""
    if fake:
        pytest.skip("a fake reads nothing")
    each = max(client.tokenize(messages=[{"role": "user", "content": "word " * 100}]) / 100, 1.0)
    fits = int((client.status().n_ctx - 128) / each)
    tried = min(fits, _TRIED_WORDS)
    pace = _reading_seconds(path, "None " + "word " * tried) / tried
    words = "word " * min(fits, max(int(_READING_SECONDS / pace), int(_MANY_STEPS * STEP_TOKENS / each)))
    reading_seconds = _reading_seconds(path, "One " + words)
    if reading_seconds < _SOON_SECONDS:
        return  # a stand-in has read it before anybody can leave

    body = _read_only("Two " + words)
    leaving = EngineClient(path, read_seconds=reading_seconds / 8)
    with leaving, pytest.raises(SealiftError):
        leaving.chat(body)

    _require_none_runs(client, fake, within_seconds=max(1.0, reading_seconds / 4))
    with EngineClient(path, read_seconds=4 * PATIENCE_SECONDS) as patient:
        usage = patient.chat(body)["usage"]
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    assert cached < usage["prompt_tokens"] / 2  # it was not read to its end


def _read_only(question: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 1}


def _reading_seconds(path: Path, question: str) -> float:
    began = time.monotonic()
    with EngineClient(path, read_seconds=4 * PATIENCE_SECONDS) as patient:  # a slow machine reads for minutes
        patient.chat(_read_only(question))
    return time.monotonic() - began


def test_several_callers_are_answered_at_once(client: EngineClient) -> None:
    answers: list[str] = []

    def ask() -> None:
        answers.append(_streamed(list(client.chat_stream({**CHAT, **GREEDY, "max_tokens": 8}))))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)

    assert len(answers) == 4
    assert all(answers)
