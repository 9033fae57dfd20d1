"""What begins an answer and is none of its text: there stop texts end nothing."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.serve.beginning import Beginning
from appliance.serve.engine import Apart
from appliance.serve.speech import Speech
from appliance.serve.thoughts import Thought, ThoughtReader
from appliance.serve.tool_calls import CallReader

CALL = '<tool_call>\n{"name": "weather", "arguments": {"place": "Oslo\\nBergen"}}\n</tool_call>'
THOUGHT = "<think>\nFirst.\n\nThen.\n</think>\n\n"
WORDS = st.sampled_from(["<think>", "</think>", "<tool_call>", "</", "<", "thi", "nk>", "\n", " ", "END", "a", CALL])
TEXTS = st.lists(WORDS, max_size=8).map("".join)
KINDS = st.builds(Apart, thoughts=st.booleans(), is_thinking=st.booleans(), calls=st.booleans())


def _cut(text: str, at: Sequence[int]) -> list[str]:
    places = sorted({min(one, len(text)) for one in at} | {0, len(text)})
    return [text[begin:end] for begin, end in pairwise(places)]


def _said(text: str, stop: str, apart: Apart | None) -> tuple[str, bool]:
    speech, said = Speech((stop,), apart), ""
    for letter in text:
        piece, stopped = speech.add(letter.encode())
        said += piece
        if stopped:
            return said, True
    piece, stopped = speech.end()
    return said + piece, stopped


@given(TEXTS, st.lists(st.integers(0, 60), max_size=6), KINDS)
def test_however_it_is_cut_the_parts_join_to_the_answer_and_the_text_is_what_a_caller_gets(
    text: str, cuts: list[int], apart: Apart
) -> None:
    beginning, aside, told = Beginning(apart), "", ""
    for piece in _cut(text, cuts):
        more, rest = beginning.split(piece)
        assert not (told and more), "what is no text only begins an answer"
        aside, told = aside + more, told + rest
    more, rest = beginning.end()
    aside, told = aside + more, told + rest

    assert aside + told == text
    content = text
    if apart.thoughts:
        reader = ThoughtReader(is_open=apart.is_thinking)
        content = "".join(one for one in [*reader.add(text), *reader.end()] if not isinstance(one, Thought))
    if apart.calls:
        calls = CallReader()
        content = "".join(one for one in calls.add(content) if isinstance(one, str)) + calls.end()
    if content or not apart.calls:
        assert told == content


@pytest.mark.parametrize(
    ("text", "stop", "said", "stopped"),
    [
        (CALL, "\n", CALL, False),
        (CALL, "Bergen", CALL, False),
        (f"{THOUGHT}Yes.\n\nNo.", "\n\n", f"{THOUGHT}Yes.", True),
        (f"{THOUGHT}{CALL}", "\n", f"{THOUGHT}{CALL}", False),
        ("One.\nTwo.", "\n", "One.", True),
        (f"I call {CALL}", "\n", "I call <tool_call>", True),  # text from its beginning on, as callers get it
        ("<thin", "in", "<th", True),
        (f"\t{CALL}", "Bergen", f"\t{CALL.partition('Bergen')[0]}", True),  # behind a tab no grammar keeps a call
    ],
)
def test_a_stop_text_ends_an_answer_only_in_what_its_caller_gets(
    text: str, stop: str, said: str, *, stopped: bool
) -> None:
    assert _said(text, stop, Apart(thoughts=True, calls=True)) == (said, stopped)


def test_where_nothing_is_told_apart_all_is_text() -> None:
    assert _said(THOUGHT, "\n", None) == ("<think>", True)
    assert _said(CALL, "\n", Apart(thoughts=True)) == ("<tool_call>", True)
