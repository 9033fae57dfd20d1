"""What a caller gets: an answer with everything that names it in the ledger."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from appliance.errors import ServiceError

Expected = Literal["text", "json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How many tokens were read and written."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        """Both together (D11)."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A function that the model wants called.

    Attributes:
        id: What the message with the function's answer names (`tool_call_id`).
        name: The function.
        arguments: JSON, as the model wrote it; part of it where the answer was cut at `max_tokens`.
    """

    id: str
    name: str
    arguments: str

    def to_json(self) -> dict[str, Any]:
        """Return it as `tool_calls` of an assistant's message has it, so that it goes back with the conversation."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer.

    Attributes:
        content: The text; mostly empty where functions are called.
        model: The name of the version that answered.
        finish_reason: `stop`, `length` (cut at `max_tokens`) or `tool_calls`.
        usage: None where nobody counted.
        latency_ms: From the question to the last byte, as this client saw it.
        request_id: `sealift prove` finds the record by it.
        model_version: The digest of the version that answered.
        thoughts: What the model thought aloud before it, where it does.
        tool_calls: The functions that the model wants called, in its order; none where it answers by itself.
    """

    content: str
    model: str
    finish_reason: str
    usage: Usage | None
    latency_ms: int
    request_id: str
    model_version: str
    thoughts: str = ""
    tool_calls: tuple[ToolCall, ...] = ()

    @property
    def is_cut(self) -> bool:
        """Whether it ended only because it had reached `max_tokens`."""
        return self.finish_reason == "length"

    def require(self, expected: Expected) -> Any:
        """Return the content if it is what was expected: a text, or the value of JSON (D19).

        Raises:
            ServiceError: It is empty, or no JSON.
        """
        if not self.content.strip():
            raise self._unexpected("it is empty")
        if expected == "text":
            return self.content
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError) as error:
            raise self._unexpected("it is not JSON") from error

    def _unexpected(self, why: str) -> ServiceError:
        return ServiceError(
            what="the answer is not what was expected",
            why=why,
            fix="ask again, with more room or a clearer instruction",
            request_id=self.request_id,
        )


def printable(untrusted: object) -> str:
    """Return what a terminal shows of a service's words: nothing that it would obey."""
    return "".join(letter for letter in str(untrusted) if letter.isprintable())


def header_of(headers: Mapping[str, str], name: str) -> str:
    """Return what a header says, printable; empty where there is none."""
    return printable(headers.get(name, ""))


def answer_of(untrusted: object, headers: Mapping[str, str], *, latency_ms: int) -> Answer:
    """Read a whole answer.

    Raises:
        ServiceError: It is none.
    """
    request_id = header_of(headers, "x-request-id")
    try:
        body: Any = untrusted
        choice = body["choices"][0]
        said = choice["message"] if "message" in choice else {"content": choice["text"]}
        return Answer(
            content=_text(said.get("content") or ""),
            model=_text(body["model"]),
            finish_reason=_text(choice.get("finish_reason") or "stop"),
            usage=usage_of(body.get("usage")),
            latency_ms=latency_ms,
            request_id=request_id,
            model_version=header_of(headers, "x-model-version"),
            thoughts=_text(said.get("reasoning_content") or ""),
            tool_calls=calls_of(said.get("tool_calls")),
        )
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise not_an_answer(request_id) from error


def calls_of(untrusted: Any) -> tuple[ToolCall, ...]:
    """Read calls of functions; none where there are none.

    Raises:
        TypeError, KeyError: They are none.
    """
    return tuple(
        ToolCall(
            id=_text(one["id"]),
            name=_text(one["function"]["name"]),
            arguments=_text(one["function"]["arguments"]),
        )
        for one in untrusted or ()
    )


def usage_of(untrusted: Any) -> Usage | None:
    """Read token counts; None where there are none.

    Raises:
        TypeError, KeyError: They do not count.
    """
    if untrusted is None:
        return None
    prompt, completion = untrusted["prompt_tokens"], untrusted["completion_tokens"]
    if type(prompt) is not int or type(completion) is not int:
        raise TypeError
    return Usage(prompt_tokens=prompt, completion_tokens=completion)


def not_an_answer(request_id: str) -> ServiceError:
    """Return the error for what does not read as an answer."""
    return ServiceError(
        what="the service sent what is no answer",
        why="its shape is wrong",
        fix="check the address: it ends in /v1",
        request_id=request_id,
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
