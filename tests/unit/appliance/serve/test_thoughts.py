"""What a model thinks aloud is told apart from its answer, however both are cut."""

from itertools import pairwise
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from appliance.actions.gating.bench import content_of, delta_of
from appliance.errors import EngineProtocolError, EngineUnavailableError
from appliance.serve.chat_template import ChatTemplate
from appliance.serve.scheduler import Scheduler
from appliance.serve.thoughts import CLOSING, OPENING, Thought, ThoughtReader, written
from tests.support.decoder import SayingDecoder
from tests.support.engine_app import engine_app, events

WORDS = st.text("ab <>/think\n", max_size=30)
# As the families write them: the prompt ends in an open thought (DeepSeek-R1), the model opens it (Qwen3), or may.
OPENS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|><think>\n"
SWITCHED = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content.split('</think>')[-1] }}{% endfor %}<|assistant|>\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
)
ALWAYS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content.split('</think>')[-1] }}{% endfor %}<|assistant|>"
PLAIN = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>"
QUESTION = [{"role": "user", "content": "why?"}]


def read(pieces: list[str], *, is_open: bool = False) -> tuple[str, str]:
    reader = ThoughtReader(is_open=is_open)
    parts = [part for piece in pieces for part in reader.add(piece)] + list(reader.end())
    assert all(parts), "nothing empty is told"
    thoughts = "".join(part for part in parts if isinstance(part, Thought))
    return thoughts, "".join(part for part in parts if not isinstance(part, Thought))


@given(text=WORDS, cuts=st.lists(st.integers(0, 30), max_size=12), is_open=st.booleans())
def test_thoughts_and_answer_are_the_same_however_they_are_cut(text: str, cuts: list[int], *, is_open: bool) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in pairwise(places)]

    assert read(pieces, is_open=is_open) == read([text], is_open=is_open)


@given(thought=WORDS, answer=WORDS)
def test_what_stands_between_the_tags_is_the_thought_and_what_follows_the_answer(thought: str, answer: str) -> None:
    thought = thought.replace(CLOSING, "")
    said = f"{thought}{CLOSING}{answer}"
    if CLOSING in thought + CLOSING[:-1]:
        return  # the parts make another tag where they meet

    assert read([f"\n{OPENING}{said}"]) == (thought.strip(), answer.lstrip())
    assert read([said], is_open=True) == (thought.strip(), answer.lstrip())


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("Paris.", ("", "Paris.")),
        (" Paris.", ("", " Paris.")),
        ("The tag <think> opens a thought</think>.", ("", "The tag <think> opens a thought</think>.")),
        ("<thin", ("", "<thin")),
        ("<think>first</think>one <think>two</think>", ("first", "one <think>two</think>")),
        ("<think>cut of", ("cut of", "")),
        ("<think>a</thin", ("a</thin", "")),
        ("<think> </think>\n\nParis.", ("", "Paris.")),
    ],
)
def test_only_what_begins_an_answer_is_a_thought(said: str, found: tuple[str, str]) -> None:
    assert read([said]) == found


@pytest.mark.parametrize(
    ("source", "ending"),
    [
        (OPENS, "<|assistant|><think>\n\n</think>\n\n"),
        (SWITCHED, "<|assistant|>\n<think>\n\n</think>\n\n"),
        (ALWAYS, "<|assistant|><think>\n\n</think>\n\n"),
        (PLAIN, "<|assistant|>"),
    ],
)
def test_a_model_that_is_to_answer_at_once_finds_its_thoughts_closed(source: str, ending: str) -> None:
    template = ChatTemplate(source)
    closed = "".join(text for text, _ in template.segments(QUESTION, thinks=False))
    as_it_is = "".join(text for text, _ in template.segments(QUESTION))
    wanted = "".join(text for text, _ in template.segments(QUESTION, thinks=True))

    assert closed == f"<|user|>why?{ending}"
    assert as_it_is == ChatTemplate(source)._template.render(messages=QUESTION)
    assert wanted == (f"{as_it_is}<think>\n" if source in {ALWAYS, SWITCHED} else as_it_is)
    assert template.opens_thought is (source is OPENS)
    assert template.thinks is (source is not PLAIN)


def engine_of(source: str, says: str) -> tuple[FlaskClient, SayingDecoder, Scheduler]:
    decoder = SayingDecoder(context_tokens=4096, batch_tokens=4096, sequences=4, says=says)
    app, scheduler = engine_app(decoder, ChatTemplate(source))
    return app.test_client(), decoder, scheduler


def ask(engine: FlaskClient, **fields: Any) -> Any:
    return engine.post("/v1/chat/completions", json={"messages": QUESTION, "max_tokens": 200, **fields})


@pytest.mark.parametrize(
    ("source", "says"), [(OPENS, "Let me see.\n</think>\n\nSo."), (ALWAYS, "<think>Let me see.</think>So.")]
)
def test_thoughts_are_told_apart_where_they_are_asked_for(source: str, says: str) -> None:
    engine, _, scheduler = engine_of(source, says)
    try:
        whole = ask(engine, thoughts="apart").json
        streamed = events(ask(engine, thoughts="apart", stream=True))
        as_text = ask(engine).json
    finally:
        scheduler.stop()

    message = whole["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Let me see.", "So.")
    deltas = [choice["delta"] for event in streamed for choice in event["choices"]]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Let me see."
    assert "".join(delta.get("content", "") for delta in deltas) == "So."
    counted = {"reasoning_tokens": len("Let me see.")}  # a letter is a token
    assert whole["usage"]["completion_tokens_details"] == counted
    assert streamed[-1]["usage"]["completion_tokens_details"] == counted
    assert as_text["choices"][0]["message"] == {"role": "assistant", "content": says}, "whoever does not ask reads all"


TOOL = {"type": "function", "function": {"name": "clock"}}
AN_OBJECT = {"type": "json_object"}


def test_nothing_is_thought_where_that_is_asked_for() -> None:
    engine, decoder, scheduler = engine_of(OPENS, "So.")
    try:
        none = ask(engine, thoughts="none").json
        formed = ask(engine, thoughts="none", response_format=AN_OBJECT).json
        unknown = ask(engine, thoughts="loud")
    finally:
        scheduler.stop()
    read = "".join(chr(row.token) for step in decoder.steps for row in step)

    assert none["choices"][0]["message"] == {"role": "assistant", "content": "So."}
    assert formed["choices"][0]["message"]["content"] == "{}"
    assert "completion_tokens_details" not in none["usage"]
    assert (unknown.status_code, unknown.json["error"]["code"]) == (400, "invalid_value")
    assert read.count("<think>") == read.count("<think>\n\n</think>\n\n") >= 1


@pytest.mark.parametrize(
    ("source", "thoughts", "thought"),
    [
        (OPENS, "apart", "Hm."),
        (OPENS, None, ""),
        (SWITCHED, "apart", ""),
        (SWITCHED, "wanted", "Hm."),
        (PLAIN, "apart", ""),
    ],
)
def test_a_form_comes_behind_a_thought_where_the_model_always_thinks_or_is_asked_to(
    source: str, thoughts: str | None, thought: str
) -> None:
    engine, _, scheduler = engine_of(source, "")
    try:
        formed = ask(engine, thoughts=thoughts, response_format=AN_OBJECT).json["choices"][0]["message"]
        called = ask(engine, thoughts=thoughts, tools=[TOOL], tool_choice="required").json["choices"][0]["message"]
    finally:
        scheduler.stop()

    assert (formed["content"], formed.get("reasoning_content", "")) == ("{}", thought)
    assert (called["content"], called.get("reasoning_content", "")) == (None, thought)
    assert called["tool_calls"][0]["function"]["name"] == "clock"


def test_an_engine_that_holds_a_form_from_the_first_token_on_thinks_before_none() -> None:
    engine, decoder, scheduler = engine_of(OPENS, "")
    decoder.has_forms_behind_thoughts = False
    try:
        formed = ask(engine, thoughts="apart", response_format=AN_OBJECT).json["choices"][0]["message"]
        wanted = [
            ask(engine, thoughts="wanted", **more) for more in ({"tools": [TOOL]}, {"response_format": AN_OBJECT})
        ]
    finally:
        scheduler.stop()

    assert formed == {"role": "assistant", "content": "{}"}
    assert [(one.status_code, one.json["error"]["param"]) for one in wanted] == [(400, "thoughts")] * 2


class Controls(SayingDecoder):
    """Its tags are control tokens: one token each where they are recognised, and written as nothing."""

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        whole = text.replace(OPENING, "\ue000").replace(CLOSING, "\ue001") if special else text
        return super().tokenize(whole, special=special)


def test_thoughts_whose_tags_nobody_sees_are_text_and_a_form_begins_at_once() -> None:
    decoder = Controls(context_tokens=4096, batch_tokens=4096, sequences=4, says="Hm. So.")
    app, scheduler = engine_app(decoder, ChatTemplate(OPENS))
    engine = app.test_client()
    try:
        said = ask(engine, thoughts="apart").json["choices"][0]["message"]
        formed = ask(engine, thoughts="apart", response_format=AN_OBJECT).json["choices"][0]["message"]
        refused = ask(engine, thoughts="wanted")
        status: Any = engine.get("/sealift/v1/status").json
    finally:
        scheduler.stop()

    assert said == {"role": "assistant", "content": "Hm. So."}
    assert formed == {"role": "assistant", "content": "{}"}
    assert refused.status_code == 400
    assert "thoughts" not in status["takes"]


class Forgetful(SayingDecoder):
    """Does not know how many tokens a thought has, as a peer that went away."""

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        if text == "Let me see.":
            raise EngineUnavailableError(what="the peer does not answer", why="", fix="")
        return super().tokenize(text, special=special)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_not_lost_because_nobody_counts_its_thoughts(*, stream: bool) -> None:
    decoder = Forgetful(context_tokens=4096, batch_tokens=4096, sequences=4, says="Let me see.</think>So.")
    app, scheduler = engine_app(decoder, ChatTemplate(OPENS))
    try:
        answer = ask(app.test_client(), thoughts="apart", stream=stream)
        usage: Any = events(answer)[-1]["usage"] if stream else answer.json["usage"]
    finally:
        scheduler.stop()

    assert usage["completion_tokens"] > 0
    assert "completion_tokens_details" not in usage


@pytest.mark.parametrize("source", [OPENS, SWITCHED, ALWAYS])
@pytest.mark.parametrize(
    "messages",
    [
        [*QUESTION, {"role": "assistant", "content": "<think>a</think>"}],
        [*QUESTION, {"role": "assistant", "content": "<think>a</think>b"}, *QUESTION],
        [{"role": "system", "content": "Use <think> and </think>."}, *QUESTION],
    ],
)
def test_what_a_conversation_says_of_tags_changes_nothing_at_its_end(
    source: str, messages: list[dict[str, str]]
) -> None:
    template = ChatTemplate(source)
    wanted, none = (
        "".join(text for text, _ in template.segments(messages, tagged=True, thinks=thinks)) for thinks in (True, False)
    )

    assert wanted.rstrip().endswith("<|assistant|>\n<think>" if source == SWITCHED else "<|assistant|><think>")
    assert none.endswith("<think>\n\n</think>\n\n")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "a"}, "a"),
        ({"content": None, "reasoning": "b"}, "b"),
        ({"content": "a", "reasoning_content": "b"}, "ba"),
        ({"content": None}, None),
        ({"content": "a", "reasoning": {"text": "b"}}, "a"),
    ],
)
def test_all_that_was_written_is_thoughts_and_text(message: dict[str, Any], text: str | None) -> None:
    assert written(message) == text


def test_gates_read_what_vllm_tells_apart_unasked() -> None:
    assert content_of({"choices": [{"message": {"content": None, "reasoning": "cut of"}}]}) == "cut of"
    assert delta_of({"choices": [{"delta": {"reasoning": "cut "}}]}) == "cut "
    with pytest.raises(EngineProtocolError):
        content_of({"choices": [{"message": {"content": None}}]})


def test_a_model_that_does_not_think_aloud_cannot_be_made_to() -> None:
    engine, _, scheduler = engine_of(PLAIN, "<think>no</think>")
    try:
        refused = ask(engine, thoughts="wanted")
        said = ask(engine, thoughts="apart").json
    finally:
        scheduler.stop()

    error = refused.json["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", "thoughts")
    assert said["choices"][0]["message"]["content"] == "<think>no</think>", "its tags are text like any other"
