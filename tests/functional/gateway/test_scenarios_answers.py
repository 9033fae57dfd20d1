"""What the API tests of other servers ask of an answer's parts, in our words, of the gateway and llama.cpp's engine.

Theirs are named in test_scenarios. Characters that are cut into several tokens, calls that a limit cuts, what an
answer's end tells, and what of a conversation comes back.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.decoder import END, EchoDecoder
from tests.support.echo_engine import echo_engine
from tests.support.echo_gateway import echo_gateway
from tests.support.gateway import MODEL, Rig, events, gateway, said

ASKED: dict[str, Any] = {"role": "user", "content": "abc"}
CHAT: dict[str, Any] = {"model": MODEL, "messages": [ASKED]}
TOOLS: dict[str, Any] = {"tools": [{"type": "function", "function": {"name": "f"}}]}
NAMED: dict[str, Any] = {"type": "function", "function": {"name": "f"}}
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@dataclass
class ByteDecoder(EchoDecoder):
    """Bytes are tokens, and each answer is once more what stands before the bar of its prompt."""

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        return list(text.encode())

    def bytes_of(self, token: int) -> bytes:
        return bytes([token])

    def sample(self, sequence: int, row: int) -> int:
        seen = self.prompts[sequence][: self.last[row].position + 1]
        bar = seen.index(ord("|"))
        done = len(seen) - bar - 1
        return seen[done] if done < bar else END


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("answers")
    with echo_gateway(folder) as running:
        yield running


@pytest.fixture(scope="module")
def by_bytes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("bytes")
    decoder = ByteDecoder(context_tokens=4096, batch_tokens=64, sequences=4)
    with echo_gateway(folder, engine={"decoder": decoder}) as running:
        yield running


def _completed(rig: Rig, **asked: Any) -> Any:
    return rig.ask({"model": MODEL, **asked}, path="/v1/completions")


def test_a_character_of_several_tokens_comes_whole_and_its_tokens_begin_where_it_does(by_bytes: Rig) -> None:
    text = "a\U0001f917b\u5abdc"
    whole = _completed(by_bytes, prompt=f"{text}|", logprobs=0).get_json()["choices"][0]
    stream = events(_completed(by_bytes, prompt=f"{text}|", logprobs=0, stream=True).data)
    chunks = [choice for event in stream[:-1] for choice in event["choices"] if choice["logprobs"]]

    assert whole["text"] == said(stream) == text
    assert [chunk["text"] for chunk in chunks] == list(text)
    places = whole["logprobs"]["text_offset"]
    assert [place for chunk in chunks for place in chunk["logprobs"]["text_offset"]] == places
    assert places == [at for at, letter in enumerate(text) for _ in letter.encode()]


def test_a_stop_text_of_several_bytes_ends_an_answer_before_it(by_bytes: Rig) -> None:
    asked = {"prompt": "a\U0001f917b\u5abdc|", "stop": "\u5abd"}
    whole = _completed(by_bytes, **asked).get_json()["choices"][0]

    assert (whole["text"], whole["finish_reason"]) == ("a\U0001f917b", "stop")
    assert said(events(_completed(by_bytes, **asked, stream=True).data)) == whole["text"]


@pytest.mark.parametrize("most", range(1, 6))
def test_an_answer_that_is_cut_within_a_character_is_valid_and_the_same_streamed(by_bytes: Rig, most: int) -> None:
    asked = {"prompt": "a\U0001f917b|", "max_tokens": most}
    whole = _completed(by_bytes, **asked).get_json()

    assert whole["choices"][0]["finish_reason"] == "length"
    assert whole["usage"]["completion_tokens"] == most
    assert whole["choices"][0]["text"] == said(events(_completed(by_bytes, **asked, stream=True).data))
    assert whole["choices"][0]["text"].rstrip("\ufffd") == ("a" if most < 5 else "a\U0001f917")


def test_an_answer_ends_with_length_where_the_context_is_full(rig: Rig) -> None:
    asked = {**CHAT, "messages": [{"role": "user", "content": "a" * 4080}], "max_tokens": 4096}
    answer = rig.ask(asked).get_json()
    stream = events(rig.ask({**asked, "stream": True}).data)

    assert (answer["choices"][0]["finish_reason"], answer["usage"]["total_tokens"]) == ("length", 4096)
    assert stream[-2]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
@pytest.mark.parametrize(("most", "is_begun"), [(1, False), (10, False), (11, False), (25, False), (45, True)])
def test_of_a_call_that_is_cut_nothing_is_told_as_text(rig: Rig, choice: Any, most: int, *, is_begun: bool) -> None:
    asked = {**CHAT, **TOOLS, "tool_choice": choice, "max_tokens": most}
    answer = rig.ask(asked).get_json()["choices"][0]
    stream = events(rig.ask({**asked, "stream": True}).data)

    assert answer["finish_reason"] == "length"
    assert not answer["message"]["content"]
    assert said(stream) == ""
    assert [one["finish_reason"] for event in stream[:-1] for one in event["choices"]][-1] == "length"
    assert ("tool_calls" in answer["message"]) == is_begun


def test_nothing_empty_comes_between_an_answers_last_words_and_its_end(rig: Rig) -> None:
    stream = events(rig.ask({**CHAT, "stream": True, "stream_options": {"include_usage": True}}).data)

    deltas = [event["choices"][0]["delta"] for event in stream[1:-2]]
    assert deltas == [{"content": "A"}, {"content": "B"}, {"content": "C"}, {}]
    assert (stream[-2]["choices"], stream[-1]) == ([], "[DONE]")


@pytest.mark.parametrize("last", ["so", [{"type": "text", "text": "s"}, {"type": "text", "text": "o"}]])
def test_a_last_message_of_the_assistants_is_a_turn_that_is_over(tmp_path: Path, last: Any) -> None:
    with echo_engine(tmp_path / "ours.sock", source=TEMPLATE) as decoder, gateway(tmp_path) as rig:
        rig.promote(socket=tmp_path / "ours.sock", engine="llama.cpp")
        assert rig.ask({**CHAT, "messages": [ASKED, {"role": "assistant", "content": last}]}).status_code == 200

        (read,) = ["".join(map(chr, tokens)) for tokens in decoder.prompts.values()]
    assert read.startswith("[user]abc[assistant]so[assistant]")


def test_messages_in_an_order_that_the_template_does_not_take_are_the_callers_to_change(tmp_path: Path) -> None:
    refusing = "{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('no') }}"
    source = refusing + "{% endif %}{{ m.content }}{% endfor %}"
    with echo_gateway(tmp_path, engine={"source": source}) as rig:
        system = {"role": "system", "content": "s"}

        assert rig.ask({**CHAT, "messages": [system, ASKED]}).status_code == 200
        refused = rig.ask({**CHAT, "messages": [ASKED, system, ASKED]})
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (400, "messages_refused")
    assert refused.get_json()["error"]["param"] == "messages"


def test_what_clients_keep_in_an_earlier_answer_comes_back_and_is_named(rig: Rig) -> None:
    function = {"name": "f", "arguments": "{}", "parsed_arguments": {"city": "x"}}
    call = {"index": 0, "id": "call_1", "type": "function", "function": function}
    earlier = {"role": "assistant", "content": None, "tool_calls": [call], "parsed": {"x": 1}, "annotations": []}
    messages = [ASKED, earlier, {"role": "tool", "tool_call_id": "call_1", "content": "r"}]

    answer = rig.ask({**CHAT, "messages": messages})
    without = rig.ask({**CHAT, "messages": [ASKED, {**earlier, "parsed": None}, messages[-1]]})

    named = {"messages.tool_calls.function.parsed_arguments", "messages.tool_calls.index"}
    assert set(answer.headers["x-sealift-ignored"].split(", ")) == {*named, "messages.parsed"}
    assert set(without.headers["x-sealift-ignored"].split(", ")) == named
    assert answer.get_json()["choices"] == without.get_json()["choices"]


@pytest.mark.parametrize("arguments", ["", "{}", "no JSON"])
def test_an_earlier_call_may_have_any_text_as_its_arguments(rig: Rig, arguments: str) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    given = {"role": "tool", "tool_call_id": "call_1", "content": "r"}

    answer = rig.ask({**CHAT, "messages": [ASKED, {"role": "assistant", "tool_calls": [call]}, given]})

    assert answer.status_code == 200


def test_ollamas_calls_come_back_with_their_number(rig: Rig) -> None:
    call = {"function": {"index": 0, "name": "f", "arguments": {"z": 1, "a": 2}}}
    messages = [ASKED, {"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "r"}]

    answer = rig.ask({**CHAT, "messages": messages, "stream": False}, path="/api/chat")

    assert answer.status_code == 200
    assert answer.headers["x-sealift-ignored"] == "messages.tool_calls.index"


def test_ollamas_seed_of_minus_one_is_any(tmp_path: Path) -> None:
    with gateway(tmp_path) as rig:
        asked = {**CHAT, "stream": False}
        for options, seed in (({"seed": -1}, None), ({"seed": 7}, 7), ({}, None)):
            assert rig.ask({**asked, "options": options}, path="/api/chat").status_code == 200
            assert rig.engine.last.get("seed") == seed
        rig.ask({**CHAT, "seed": -1})
        assert rig.engine.last["seed"] == -1
