"""What cannot fit is told by its length alone, and nothing else is."""

from dataclasses import replace
from typing import Any

import pytest

from appliance.gateway.fitting import MOST_CHARACTERS, require_possible, require_readable
from appliance.gateway.messages import Message
from appliance.gateway.parameters import Asked, Endpoint
from appliance.gateway.problems import Problem

MOST = 100
LONGEST = MOST * MOST_CHARACTERS
CHAT = Asked(endpoint=Endpoint.CHAT, model="m", max_tokens=1)
COMPLETION = Asked(endpoint=Endpoint.COMPLETIONS, model="m", max_tokens=1)


def _chat(*characters: int, **more: Any) -> Asked:
    messages = tuple(Message(role="user", content=" " * each) for each in characters)
    return replace(CHAT, messages=messages, **more)


@pytest.mark.parametrize(
    "asked",
    [
        _chat(LONGEST),
        _chat(LONGEST // 2, LONGEST // 2),
        _chat(LONGEST, tools=({"type": "function"},), tool_choice="none"),
        replace(COMPLETION, prompt="a" * LONGEST, more_prompts=("b" * LONGEST, "c" * LONGEST)),
    ],
    ids=["one", "two", "functions that nobody is told of", "prompts that are asked one by one"],
)
def test_what_the_longest_tokens_could_hold_is_left_to_who_counts(asked: Asked) -> None:
    require_possible(asked, MOST)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (_chat(LONGEST + 1), "messages"),
        (_chat(LONGEST, 1), "messages"),
        (_chat(LONGEST, tools=({"type": "function"},)), "messages"),
        (replace(COMPLETION, prompt="a", more_prompts=("b" * (LONGEST + 1),)), "prompt"),
    ],
)
def test_what_they_could_not_is_refused(asked: Asked, param: str) -> None:
    with pytest.raises(Problem) as refused:
        require_possible(asked, MOST)

    assert (refused.value.status, refused.value.code, refused.value.param) == (400, "context_length_exceeded", param)
    assert "the limit is 100 tokens" in refused.value.message


def test_the_models_own_context_bounds_it_where_that_is_less() -> None:
    require_possible(_chat(LONGEST), MOST, context=2 * MOST)
    with pytest.raises(Problem, match="context_length_exceeded"):
        require_possible(_chat(LONGEST), 2 * MOST, context=MOST - 1)


def test_one_text_to_make_a_vector_of_is_bounded_likewise() -> None:
    require_readable(" " * LONGEST, MOST)
    with pytest.raises(Problem) as refused:
        require_readable(" " * (LONGEST + 1), MOST)

    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input")
