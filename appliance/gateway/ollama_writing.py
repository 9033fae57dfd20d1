"""Answers in the shapes that Ollama's clients expect: one JSON object a line, durations in nanoseconds.

Source: Ollama's API documentation (docs/api.md of its repository). A tool call is sent whole, with its arguments as an
object, before the line that ends the answer.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from appliance.gateway.assembly import Assembly
from appliance.gateway.body import value_of
from appliance.gateway.dialect import About
from appliance.gateway.ollama_words import own_name
from appliance.gateway.problems import Problem
from appliance.gateway.reading import Said, Text, Thought
from media.clock import to_text

PREFIX: Final = "/api/"
"""Refusals of routes below this have Ollama's shape."""
MIMETYPE: Final = "application/x-ndjson"
_NANOSECONDS: Final = 10**9


class LineWriter:
    """Writes one answer.

    Args:
        about: The answer.
        is_chat: Whether it is said as a message (`/api/chat`) or as a text (`/api/generate`).
    """

    mimetype = MIMETYPE
    headers: Mapping[str, str] = {"cache-control": "no-cache", "x-accel-buffering": "no"}

    def __init__(self, about: About, *, is_chat: bool) -> None:
        self._about = about
        self._is_chat = is_chat
        self._first: float | None = None

    def whole(self, assembly: Assembly) -> Mapping[str, Any]:
        """Return the body of an answer that is not streamed."""
        thoughts = assembly.answers[0].thoughts
        return self._object(assembly.text, calls_of(assembly), thoughts=thoughts) | self._end(assembly)

    def opening(self) -> bytes:
        """Return nothing: the first line has text."""
        return b""

    def piece(self, piece: Said) -> bytes:
        """Return a line of text or of thoughts; a tool call is not said in pieces."""
        if self._first is None:
            self._first = self._about.clock.monotonic()
        if isinstance(piece, Thought):
            return _line(self._object("", thoughts=piece.text) | {"done": False})
        return _line(self._object(piece.text) | {"done": False}) if isinstance(piece, Text) else b""

    def ending(self, assembly: Assembly) -> Iterator[bytes]:
        """Yield the tool calls, if there are any, and the line that ends the answer."""
        calls = calls_of(assembly)
        if calls:
            yield _line(self._object("", calls) | {"done": False})
        yield _line(self._object("") | self._end(assembly))

    def failed(self, problem: Problem) -> bytes:
        """Return the line that clients raise an error for."""
        return _line(refusal(in_own_words(problem, is_chat=self._is_chat)))

    def _object(self, text: str, calls: list[dict[str, Any]] | None = None, *, thoughts: str = "") -> dict[str, Any]:
        about: dict[str, Any] = {"model": self._about.model, "created_at": to_text(self._about.clock.now())}
        thought = {"thinking": thoughts} if thoughts else {}
        if not self._is_chat:
            return about | {"response": text, **thought}
        called = {"tool_calls": calls} if calls else {}
        return about | {"message": {"role": "assistant", "content": text, **thought, **called}}

    def _end(self, assembly: Assembly) -> dict[str, Any]:
        now = self._about.clock.monotonic()
        # When the first token of a whole answer came is known to nobody: all its time counts as making it, so that
        # tokens per second are never said to be more than they were.
        first = self._about.began if self._first is None else self._first
        counted = {}
        if assembly.usage is not None:
            counted = {
                "prompt_eval_count": assembly.usage.prompt_tokens,
                "eval_count": assembly.usage.completion_tokens,
            }
            if assembly.usage.dropped_tokens:
                counted["dropped_tokens"] = assembly.usage.dropped_tokens
        return {
            "done": True,
            "done_reason": "length" if assembly.finish_reason == "length" else "stop",
            "total_duration": round((now - self._about.began) * _NANOSECONDS),
            "load_duration": 0,
            "prompt_eval_duration": round((first - self._about.began) * _NANOSECONDS),
            "eval_duration": round((now - first) * _NANOSECONDS),
            **counted,
        }


def calls_of(assembly: Assembly) -> list[dict[str, Any]]:
    """Return the tool calls of an answer with arguments as objects; text that is no object is named `arguments`."""
    return [
        {"function": {"name": call.name, "arguments": _arguments("".join(call.arguments))}}
        for _, call in sorted(assembly.calls.items())
    ]


def refusal(problem: Problem) -> dict[str, Any]:
    """Return the body of a refusal: a text, and beside it the code and the parameter.

    The text names the parameter, too: it is all that Ollama's clients show.
    """
    text = problem.message if problem.param is None else f"{problem.message} ({problem.param})"
    return {"error": text, "code": problem.code, "param": problem.param}


def in_own_words(problem: Problem, *, is_chat: bool, has_system: bool = False) -> Problem:
    """Return a refusal whose parameter is named as the caller wrote it; see `own_name`."""
    # A name that nobody knows here is the caller's own already, even where it is one of OpenAI's.
    if problem.param is not None and problem.code != "unknown_parameter":
        problem.param = own_name(problem.param, is_chat=is_chat, has_system=has_system)
    return problem


def _arguments(text: str) -> dict[str, Any]:
    try:
        value = value_of(text or "{}")
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"arguments": text}


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"
