"""An answer as it is written: pieces of text, and at the end everything that names it in the ledger."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import urllib3
from urllib3.exceptions import HTTPError

from appliance.client.answers import Answer, ToolCall, calls_of, header_of, printable, usage_of
from appliance.client.asking import broken_off, drop
from appliance.client.noting import milliseconds_since, noted
from appliance.errors import ServiceError

_MAX_LINE: Final = 4 * 1024 * 1024
_REFUSED: Final = "invalid_request_error"


class Stream:
    """An answer as it is written: iterate over its text; `answer` is there at the end. Closing it cancels the rest.

    Attributes:
        on_thought: Called with each piece of what a model thinks aloud before its answer.
    """

    def __init__(self, response: urllib3.BaseHTTPResponse, began: float) -> None:
        self.on_thought: Callable[[str], None] = lambda _: None
        self._response = response
        self._began = began
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._fragments: dict[int, dict[str, Any]] = {}
        self._calls: tuple[ToolCall, ...] = ()
        self._last: dict[str, Any] = {}
        self._is_whole = False
        self._answer: Answer | None = None

    @property
    def answer(self) -> Answer:
        """The whole answer.

        Raises:
            ServiceError: It did not come to its end, or was not read to it.
        """
        if self._answer is None:
            raise ServiceError(
                what="there is no whole answer",
                why="it was not read to its end",
                fix="go through the text to its end before you ask for the answer",
                request_id=self.request_id,
            )
        return self._answer

    @property
    def text(self) -> str:
        """What was read of it so far."""
        return "".join(self._text)

    @property
    def request_id(self) -> str:
        """What its record is found by."""
        return header_of(self._response.headers, "x-request-id")

    def close(self) -> None:
        """Cancel what is left; does nothing after the end."""
        if not self._is_whole:
            self._response.close()

    def __iter__(self) -> Iterator[str]:
        try:
            yield from self._pieces()
        finally:
            self.close()
        self._answer = noted(
            Answer(
                content=self.text,
                model=str(self._last.get("model", "")),
                finish_reason=str(self._last.get("finish_reason") or "stop"),
                usage=self._last.get("usage"),
                latency_ms=milliseconds_since(self._began),
                request_id=self.request_id,
                model_version=header_of(self._response.headers, "x-model-version"),
                thoughts="".join(self._thoughts),
                tool_calls=self._calls,
            )
        )

    def _pieces(self) -> Iterator[str]:
        try:
            for untrusted in _events(self._response):
                piece = self._take(untrusted)
                if piece:
                    self._text.append(piece)
                    yield piece
            self._calls = calls_of([self._fragments[index] for index in sorted(self._fragments)])
        except (HTTPError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise broken_off(self._response.headers, error) from error
        self._is_whole = True
        self._leave()

    def _leave(self) -> None:
        # Behind the end comes nothing: with that read, the connection serves the next question. Otherwise it is closed.
        with suppress(HTTPError):
            if not self._response.read1(1):
                self._response.release_conn()
                return
        drop(self._response)

    def _take(self, untrusted: Any) -> str:
        if "error" in untrusted:
            raise self._told(untrusted["error"])
        self._last["model"] = untrusted["model"]
        self._last["usage"] = usage_of(untrusted.get("usage")) or self._last.get("usage")
        for choice in untrusted["choices"]:
            self._last["finish_reason"] = choice.get("finish_reason") or self._last.get("finish_reason")
            if thought := str(choice["delta"].get("reasoning_content") or ""):
                self._thoughts.append(thought)
                self.on_thought(thought)
            self._join(choice["delta"].get("tool_calls") or ())
            return str(choice["delta"].get("content") or "")
        return ""

    def _told(self, untrusted: Any) -> ServiceError:
        """Return the error for what the service says in place of more: some engines refuse a request only then."""
        code, message = printable(untrusted["code"])[:64], printable(untrusted.get("message") or "")[:300]
        is_refused = untrusted.get("type") == _REFUSED
        return ServiceError(
            what="the service refused the request" if is_refused else "the answer broke off",
            why=f"{code}: {message}" if message else code,
            fix="see docs/api.md for the code" if is_refused else "ask again",
            request_id=self.request_id,
            service_code=code,
        )

    def _join(self, untrusted: Any) -> None:
        """Take fragments of calls: the first one of each index has id and name, all of them have some of its text."""
        for fragment in untrusted:
            whole = self._fragments.setdefault(fragment["index"], {"id": "", "function": {"name": "", "arguments": ""}})
            whole["id"] = whole["id"] or fragment.get("id") or ""
            function = fragment.get("function") or {}
            for part in ("name", "arguments"):
                whole["function"][part] += function.get(part) or ""


def _events(response: urllib3.BaseHTTPResponse) -> Iterator[Any]:
    """Yield the JSON of each event until `[DONE]`; a stream without it is not whole."""
    rest = b""
    while True:
        data = response.read1(65536)
        if not data:
            message = "the stream ended without its end"
            raise ValueError(message)
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > _MAX_LINE:
            message = "a line is too long"
            raise ValueError(message)
        for line in lines:
            if line.startswith(b"data:"):
                event = line.removeprefix(b"data:").strip()
                if event == b"[DONE]":
                    return
                yield json.loads(event)
