"""Whether a request fits what the model reads: told by its length where that alone tells, and else by the engine."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from appliance.errors import EngineRefusedError
from appliance.gateway.fleet import Fleet
from appliance.gateway.parameters import Asked
from appliance.gateway.problems import Problem
from appliance.serve.client import EngineClient

# A token covers at least one byte of text; a chat template adds a few around each message and each call of a function,
# and says once how functions are called.
_TEMPLATE_TOKENS: Final = 32
_TOOLS_TOKENS: Final = 256
MOST_CHARACTERS: Final = 128
"""Of one token (ADR 94): the longest ones of vocabularies in use are as many spaces; of words it is four or five."""
_T = TypeVar("_T")


def require_possible(asked: Asked, most: int, *, context: int = 0) -> None:
    """Return where a request may fit: before anything is done that takes longer with its length.

    Args:
        asked: The request as it came.
        most: The tokens that it may have.
        context: Those that the model reads at all; 0 where that is not known.

    Raises:
        Problem: Not even of the longest tokens would it have so few.
    """
    most = min(most, context) if context else most
    for one in asked.of_one_prompt():
        characters = sum(map(len, _texts(one)))
        if characters > most * MOST_CHARACTERS:
            message = (
                f"The request has {characters} characters, more than {most} tokens hold; the limit is {most} tokens."
            )
            raise _too_long(one, message)


def require_readable(text: str, most: int) -> None:
    """Return where one text to make a vector of may fit; likewise.

    Raises:
        Problem: It cannot.
    """
    if len(text) > most * MOST_CHARACTERS:
        message = f"An input has {len(text)} characters, more than {most} tokens hold; the limit is {most} tokens."
        raise Problem(400, "context_length_exceeded", message, param="input")


def fitting(asked: Asked, upstream: Fleet, most: int, left: Callable[[], bool]) -> int:
    """Return how many tokens a prompt has at most; the engine counts only where its length alone does not tell.

    Raises:
        Problem: They are above the input limit.
    """
    messages = [message.to_engine() for message in asked.messages]
    calls = [call for message in asked.messages for call in message.tool_calls]
    tools = _told_tools(asked)
    around = _TEMPLATE_TOKENS * (len(messages) + len(calls) + 1) + (_TOOLS_TOKENS if tools else 0)
    at_most = sum(len(text.encode()) for text in _texts(asked)) + around
    if at_most <= most:
        return at_most
    count = told_by(
        upstream,
        lambda engine: (
            engine.tokenize(messages=messages, tools=tools) if messages else engine.tokenize(prompt=asked.prompt)
        ),
        left,
    )
    if count is None:  # it cannot count for us, and keeps its own context limit
        return at_most
    if count > most:
        raise _too_long(asked, f"The request has {count} tokens; the limit is {most}.")
    return count


def told_by(upstream: Fleet, question: Callable[[EngineClient], _T], left: Callable[[], bool]) -> _T | None:
    """Return what an engine says of itself; None from another's, which does not know the question."""
    try:
        return upstream.ask(question, left=left)
    except EngineRefusedError as error:
        if error.http_status != 404:
            raise
        return None


def _texts(asked: Asked) -> Iterator[str]:
    """Yield what an engine is told of one prompt, each text once."""
    yield asked.prompt
    for message in asked.messages:
        yield message.content or ""
        for call in message.tool_calls:
            yield f"{call.name}{_spread(call.arguments)}"
    if tools := _told_tools(asked):
        yield json.dumps(list(tools), ensure_ascii=False)


def _told_tools(asked: Asked) -> tuple[Mapping[str, Any], ...]:
    return () if asked.tool_choice == "none" else asked.tools


def _spread(arguments: str) -> str:
    """Return JSON text as templates write it, with spaces between its parts; other text as it is."""
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False)
    except (ValueError, RecursionError):
        return arguments


def _too_long(asked: Asked, message: str) -> Problem:
    return Problem(400, "context_length_exceeded", message, param="messages" if asked.messages else "prompt")
