"""The client that programs use: one question or many, whole or as it is written, with the limits the documents name.

Requirements D12 to D19, D23 and D30. Nothing of a question or an answer is logged.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from appliance.client.answers import Answer, answer_of, header_of, not_an_answer
from appliance.client.asking import Asking, read_all
from appliance.client.noting import milliseconds_since, noted
from appliance.client.stream import Stream
from appliance.errors import ServiceError

_CHAT: Final = "/chat/completions"
_PRODUCTION: Final = "production"


class InferenceClient:
    """Asks one box. Safe for threads; a context manager.

    Args:
        base_url: Ends in `/v1`, e.g. ``https://llm.clinic.internal/v1``.
        key: An API key of the box.
        model: A name of `/v1/models`; `production` means whatever is promoted.
        ca_file: The box's own authority.
        timeout_seconds: The longest silence of the service.
        attempts: How often a question is asked at most; see `appliance.client.asking`.
        user: The person behind the questions, recorded as a keyed hash.
        sleep: Waits between two attempts.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        model: str = _PRODUCTION,
        ca_file: Path | None = None,
        timeout_seconds: float = 60.0,
        attempts: int = 3,
        user: str = "",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._asking = Asking(
            base_url, key, ca_file=ca_file, timeout_seconds=timeout_seconds, attempts=attempts, sleep=sleep
        )
        self._model = model
        self._user = user

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop all idle connections."""
        self._asking.close()

    def complete(
        self,
        prompt: str,
        *,
        system: str = "",
        temperature: float = 0.0,
        max_tokens: int = 2048,
        top_p: float = 0.95,
        stop: str | Sequence[str] = (),
    ) -> Answer:
        """Ask one question, with an instruction before it; `stop` is one word that ends the answer, or several.

        Raises:
            ServiceError: It could not be answered.
        """
        said = [{"role": "system", "content": system}] if system else []
        return self.chat(
            [*said, {"role": "user", "content": prompt}],
            temperature=temperature,
            max_tokens=max_tokens,
            top_p=top_p,
            **({"stop": stop if isinstance(stop, str) else list(stop)} if stop else {}),
        )

    def chat(self, messages: Sequence[Mapping[str, Any]], **parameters: Any) -> Answer:
        """Ask with a whole conversation; parameters are those of docs/api.md, for one answer.

        Raises:
            ServiceError: It could not be answered; or `n` asks for several answers, or `stream` for another way to get
                it: then nothing was sent.
        """
        _require_way(parameters, is_stream=False)
        body = {"model": self._model, "messages": [dict(one) for one in messages], **parameters}
        return whole_answer(self._asking, body, user=self._user)

    def stream_complete(self, prompt: str, *, system: str = "", **parameters: Any) -> Stream:
        """Ask one question and get the answer as it is written; the defaults are those of `complete`.

        Raises:
            ServiceError: As of `stream_chat`.
        """
        said = [{"role": "system", "content": system}] if system else []
        defaults = {"temperature": 0.0, "max_tokens": 2048, "top_p": 0.95}
        return self.stream_chat([*said, {"role": "user", "content": prompt}], **defaults | parameters)

    def stream_chat(self, messages: Sequence[Mapping[str, Any]], **parameters: Any) -> Stream:
        """Ask with a whole conversation and get the answer as it is written.

        Raises:
            ServiceError: It was refused before it began; or as of `chat`, and nothing was sent.
        """
        _require_one(parameters)
        _require_way(parameters, is_stream=True)
        began = time.monotonic()
        body = {
            "model": self._model,
            "messages": [dict(one) for one in messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            **parameters,
        }
        return Stream(self._asking.post(_CHAT, body, user=self._user), began)

    def batch(
        self, prompts: Sequence[str], *, at_once: int = 8, **parameters: Any
    ) -> Iterator[tuple[int, Answer | ServiceError]]:
        """Ask many questions side by side; yield number and answer, or what went wrong, in the order of the questions.

        Args:
            prompts: The questions.
            at_once: How many are asked at the same time.
            parameters: As for `complete`.
        """

        def one(prompt: str) -> Answer | ServiceError:
            try:
                return self.complete(prompt, **parameters)
            except ServiceError as error:
                return error

        with ThreadPoolExecutor(max_workers=max(at_once, 1), thread_name_prefix="ask") as pool:
            yield from enumerate(pool.map(one, prompts))


def whole_answer(asking: Asking, body: Mapping[str, Any], *, user: str = "") -> Answer:
    """Return the answer to one question of docs/api.md that asks for no stream, by a way that is there already.

    Raises:
        ServiceError: It could not be answered, or `n` asks for several answers; then nothing was sent.
    """
    _require_one(body)
    began = time.monotonic()
    response = asking.post(_CHAT, body, user=user)
    data = read_all(response)
    try:
        untrusted = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise not_an_answer(header_of(response.headers, "x-request-id")) from error
    return noted(answer_of(untrusted, response.headers, latency_ms=milliseconds_since(began)))


def _require_way(asked: Mapping[str, Any], *, is_stream: bool) -> None:
    # What came another way than it is read would be made, charged, and called no answer.
    if asked.get("stream") not in (None, is_stream):
        raise ServiceError(
            what="this client reads an answer as it was asked for",
            why="stream says another way",
            fix="leave stream out: chat gets an answer whole, stream_chat as it is written",
        )


def _require_one(asked: Mapping[str, Any]) -> None:
    # An `Answer` holds one; of several, those that nobody reads would have been made, charged and dropped in silence.
    if asked.get("n") not in (None, 1):
        raise ServiceError(
            what="this client reads one answer to a question",
            why="n asks for another number",
            fix="leave n out, and ask once for each answer",
        )
