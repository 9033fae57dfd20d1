"""What a model thinks aloud, through the whole gateway: told apart, protected, recorded, and left out where asked."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.decoder import SayingDecoder
from tests.support.echo_engine import echo_engine
from tests.support.engine import THINKING_ALOUD, Script
from tests.support.gateway import MODEL, Rig, events, gateway

THINKS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|><think>\n"
QUESTION = "MRN: 12345678, is it known?"
SAYS = "The number is [MRN_1].\n</think>\n\nYes, [MRN_1] is."
THOUGHT, ANSWER = "The number is 12345678.", "Yes, 12345678 is."


@pytest.fixture
def decoder(tmp_path: Path) -> Iterator[SayingDecoder]:
    decoder = SayingDecoder(context_tokens=4096, batch_tokens=4096, sequences=4, says=SAYS)
    with echo_engine(tmp_path / "ours.sock", decoder=decoder, source=THINKS):
        yield decoder


@pytest.fixture
def ours(tmp_path: Path, decoder: SayingDecoder) -> Iterator[Rig]:
    with gateway(tmp_path, caches="answers_mib = 1") as rig:
        rig.promote(socket=tmp_path / "ours.sock", engine="llama.cpp")
        yield rig


def mac(rig: Rig, text: str) -> str:
    return hmac.digest(rig.keys.get("content-hmac").bytes, text.encode(), hashlib.sha256).hex()


def last_prompt(decoder: SayingDecoder) -> str:
    return "".join(chr(row.token) for row in [step for step in decoder.steps if len(step) > 1][-1])


def test_thoughts_are_told_beside_the_answer_with_identifiers_restored_in_both(
    ours: Rig, decoder: SayingDecoder
) -> None:
    whole = ours.chat(QUESTION).get_json()

    message = whole["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == (THOUGHT, ANSWER)
    assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] == len("The number is [MRN_1].")
    assert "12345678" not in last_prompt(decoder)


def test_a_stream_thinks_first_and_then_answers(ours: Rig) -> None:
    stream = events(ours.chat(QUESTION, stream=True, stream_options={"include_usage": True}).data)[:-1]

    deltas = [choice["delta"] for event in stream for choice in event["choices"]]
    kinds = [next(iter(delta), "") for delta in deltas]
    assert kinds[0] == "role"
    assert kinds == sorted(kinds, key=["role", "reasoning_content", "content", ""].index), "never mixed"
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == THOUGHT
    assert "".join(delta.get("content", "") for delta in deltas) == ANSWER
    assert stream[-1]["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0


@pytest.mark.parametrize("says", ["I see [\n</think>\n\nAnswer.", "I see [MRN_1</think>[MRN_1] is."])
def test_what_is_held_back_of_a_thought_comes_before_the_answer(ours: Rig, decoder: SayingDecoder, says: str) -> None:
    decoder.says = says
    whole = ours.chat(QUESTION).get_json()["choices"][0]["message"]
    stream = events(ours.chat(QUESTION, stream=True).data)[:-1]

    deltas = [choice["delta"] for event in stream for choice in event["choices"]]
    kinds = [next(iter(delta), "") for delta in deltas]
    assert kinds == sorted(kinds, key=["role", "reasoning_content", "content", ""].index)
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == whole["reasoning_content"]
    assert "".join(delta.get("content", "") for delta in deltas) == whole["content"]
    assert whole["reasoning_content"] == says.partition("</think>")[0].rstrip()


def test_the_record_binds_the_answer_alone_and_its_thoughts_apart(ours: Rig) -> None:
    ours.chat(QUESTION)
    ours.chat(QUESTION, chat_template_kwargs={"enable_thinking": False})

    thought, answered = ours.bodies("request.outcome")
    assert (thought["response_hmac"], thought["thoughts_hmac"]) == (mac(ours, ANSWER), mac(ours, THOUGHT))
    assert "thoughts_hmac" not in answered


@pytest.mark.parametrize(
    "words", [{"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "none"}], ids=str
)
def test_a_caller_may_have_the_answer_at_once(ours: Rig, decoder: SayingDecoder, words: dict[str, Any]) -> None:
    decoder.says = "Yes."
    message = ours.chat(QUESTION, **words).get_json()["choices"][0]["message"]

    assert message == {"role": "assistant", "content": "Yes.", "refusal": None}
    assert last_prompt(decoder).endswith("<|assistant|><think>\n\n</think>\n\n")


def test_an_answer_from_memory_has_its_thoughts_and_another_wish_another_answer(ours: Rig) -> None:
    first, second = (ours.chat(QUESTION, temperature=0) for _ in range(2))
    third = ours.chat(QUESTION, temperature=0, reasoning_effort="none")

    assert [one.headers["x-sealift-cache"] for one in (first, second, third)] == ["miss", "hit", "miss"]
    assert first.get_json()["choices"] == second.get_json()["choices"]


def test_ollamas_clients_find_thoughts_where_they_look(ours: Rig, decoder: SayingDecoder) -> None:
    asked = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}], "stream": False}
    chat = ours.ask(asked, path="/api/chat").get_json()
    text = ours.ask(
        {"model": MODEL, "prompt": QUESTION, "stream": False, "think": True}, path="/api/generate"
    ).get_json()
    decoder.says = "Yes."
    at_once = ours.ask({**asked, "think": False}, path="/api/chat").get_json()

    assert chat["message"] == {"role": "assistant", "content": ANSWER, "thinking": THOUGHT}
    assert (text["response"], text["thinking"]) == (ANSWER, THOUGHT)
    assert at_once["message"] == {"role": "assistant", "content": "Yes."}


def test_a_model_that_thinks_aloud_is_shown_as_one_and_another_is_not_made_to(ours: Rig, tmp_path: Path) -> None:
    with gateway(tmp_path / "other") as rig:
        shown, other = (one.ask({"model": MODEL}, path="/api/show").get_json()["capabilities"] for one in (ours, rig))
        refused = rig.chat(QUESTION, chat_template_kwargs={"enable_thinking": True})
        intents = rig.bodies("request.intent")

    assert "thinking" in shown
    assert "thinking" not in other
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (400, "unsupported_parameter")
    assert not intents, "nothing was asked of the engine"


@pytest.mark.parametrize(
    ("words", "param"),
    [
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"chat_template_kwargs": {"enable_thinking": 1}}, "chat_template_kwargs.enable_thinking"),
        ({"chat_template_kwargs": {"enable_thinking": []}}, "chat_template_kwargs.enable_thinking"),
        (
            {"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": 0}},
            "chat_template_kwargs.enable_thinking",
        ),
        ({"chat_template_kwargs": {"documents": []}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": "no"}, "chat_template_kwargs"),
        ({"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": True}}, "reasoning_effort"),
    ],
    ids=str,
)
def test_what_nobody_here_keeps_is_refused_by_name(ours: Rig, words: dict[str, Any], param: str) -> None:
    refused = ours.chat(QUESTION, **words)

    assert (refused.status_code, refused.get_json()["error"]["param"]) == (400, param)


def test_earlier_thoughts_that_come_back_are_not_read_and_that_is_said(ours: Rig, decoder: SayingDecoder) -> None:
    said = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two", "reasoning_content": "thrice 12345678"},
        {"role": "user", "content": "four"},
    ]
    openai = ours.ask({"model": MODEL, "messages": said})
    said[1] = {"role": "assistant", "content": "two", "thinking": "thrice"}
    ollama = ours.ask({"model": MODEL, "messages": said, "stream": False}, path="/api/chat")

    assert (openai.status_code, ollama.status_code) == (200, 200)
    assert openai.headers["x-sealift-ignored"] == "messages.reasoning_content"
    assert ollama.headers["x-sealift-ignored"] == "messages.thinking"
    assert "thrice" not in "".join(chr(row.token) for step in decoder.steps for row in step)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_another_engines_thoughts_are_read_by_either_name(rig: Rig, name: str) -> None:
    said = json.loads(json.dumps(THINKING_ALOUD).replace("reasoning_content", name))
    rig.engine.script = Script(events=tuple(said))
    stream = events(rig.chat("why?", stream=True).data)[:-1]

    deltas = [choice["delta"] for event in stream for choice in event["choices"]]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Let me see."
    assert "".join(delta.get("content", "") for delta in deltas) == "So."
