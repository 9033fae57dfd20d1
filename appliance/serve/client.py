"""Speaks to one engine over its Unix socket: OpenAI's routes, and `/sealift/v1/*` for what is ours.

Everything an engine says is untrusted until it has been read here: sizes are capped, events must be JSON objects, and
a stream that stops without `[DONE]` is an error, never a short answer. Nothing of a prompt or an answer gets into an
error's text. Closing the iterator of a stream closes the connection, which is how a caller cancels a generation.

The scoring route, as both sides write it:
``POST /sealift/v1/score {"prompt": text, "continuations": [text, ...]}`` answers
``{"log_likelihoods": [float, ...], "tokens": [int, ...]}`` in the order of the continuations: natural logarithms
summed over each continuation's tokens, given the prompt, and how many tokens that were.
"""

import json
import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as HttpTimeoutError

from appliance.errors import EngineProtocolError, EngineUnavailableError
from appliance.serve.anatomy import UNTOLD, Anatomy
from appliance.serve.curve import Curve
from appliance.serve.events import DONE, EventReader, broken, json_object, refused, too_long, unreachable
from appliance.unixhttp import UnixPool

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
_MOST_NUMBERS: Final = 65_536  # in a vector, as a profile may say
_READ_BYTES: Final = 65536
_JSON: Final = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """What an engine says it is serving. `model_digest` and `weights_digest` were computed by its launcher.

    `takes` names which words beyond OpenAI's it honours, and whether its model thinks aloud, `anatomy` what its files
    say of the model; of a release from before, none.
    """

    model_digest: str
    weights_digest: str
    stage: str
    state: str
    n_ctx: int
    takes: frozenset[str] = frozenset()
    anatomy: Anatomy = UNTOLD


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How likely one continuation is: the sum of its tokens' natural log-likelihoods, and their number."""

    log_likelihood: float
    tokens: int


class EngineClient:
    """A pool of connections to one engine's socket; safe for threads.

    Args:
        socket_path: Where the engine listens.
        connect_seconds: How long a connection may take.
        read_seconds: The longest silence between two reads of an answer.
        connections: How many idle connections are kept.
    """

    def __init__(
        self, socket_path: Path, *, connect_seconds: float = 5.0, read_seconds: float = 300.0, connections: int = 16
    ) -> None:
        self.path = socket_path
        self._name = socket_path.name
        self._pool = UnixPool(
            socket_path, size=connections, timeout=urllib3.Timeout(connect=connect_seconds, read=read_seconds)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop all idle connections."""
        self._pool.close()

    def health(self) -> bool:
        """Return whether the engine answers and says that it is ready."""
        try:
            response = self._request("GET", "/health", None)
        except EngineUnavailableError:
            return False
        with response:
            response.drain_conn()
            return response.status == 200

    def models(self) -> dict[str, Any]:
        """Return the engine's own list of models."""
        return self._ask("GET", "/v1/models", None)

    def status(self) -> EngineStatus:
        """Return what the engine serves.

        Raises:
            EngineProtocolError: A field is missing or of another type.
        """
        untrusted = self._ask("GET", "/sealift/v1/status", None)
        texts = [untrusted.get(field) for field in ("model_digest", "weights_digest", "stage", "state")]
        n_ctx, takes = untrusted.get("n_ctx"), untrusted.get("takes", [])
        is_whole = all(isinstance(text, str) for text in texts) and isinstance(takes, list)
        if not is_whole or not isinstance(n_ctx, int):
            raise broken(self._name, "its status lacks a field")
        digest, weights, stage, state = (str(text) for text in texts)
        return EngineStatus(
            model_digest=digest,
            weights_digest=weights,
            stage=stage,
            state=state,
            n_ctx=n_ctx,
            takes=frozenset(one for one in takes if isinstance(one, str)),
            anatomy=Anatomy.from_json(untrusted.get("model")),
        )

    def running(self) -> int:
        """Return how many requests the engine is at."""
        untrusted = self._ask("GET", "/sealift/v1/status", None).get("running")
        return untrusted if isinstance(untrusted, int) else 0

    def chat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return one whole answer of `/v1/chat/completions`."""
        return self._ask("POST", "/v1/chat/completions", {**body, "stream": False})

    def chat_stream(self, body: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
        """Yield the events of a streamed chat; returns after `[DONE]`."""
        return self._events("/v1/chat/completions", {**body, "stream": True})

    def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return one whole answer of `/v1/completions`."""
        return self._ask("POST", "/v1/completions", {**body, "stream": False})

    def complete_stream(self, body: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
        """Yield the events of a streamed completion; returns after `[DONE]`."""
        return self._events("/v1/completions", {**body, "stream": True})

    def tokenize(
        self,
        *,
        messages: Sequence[Mapping[str, Any]] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        prompt: str | None = None,
    ) -> int:
        """Return how many tokens the messages (through the chat template, with `tools` told) or the prompt become."""
        body: dict[str, Any] = {"prompt": prompt or ""} if messages is None else {"messages": list(messages)}
        if tools:
            body["tools"] = list(tools)
        untrusted = self._ask("POST", "/sealift/v1/tokenize", body).get("tokens")
        count = len(untrusted) if isinstance(untrusted, list) else untrusted
        if not isinstance(count, int) or count < 0:
            raise broken(self._name, "tokenize named no number of tokens")
        return count

    def token_ids(self, messages: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
        """Return the tokens that the messages become through the chat template, by their numbers.

        Raises:
            EngineProtocolError: The engine names no numbers.
        """
        untrusted = self._ask("POST", "/sealift/v1/tokenize", {"messages": list(messages), "ids": True}).get("tokens")
        if not isinstance(untrusted, list) or not all(type(one) is int and one >= 0 for one in untrusted):
            raise broken(self._name, "tokenize named no tokens")
        return tuple(untrusted)

    def refusal(self, route: str, content: bytes) -> tuple[int, str]:
        """Send any bytes to a route, malformed ones too, and return the status and the error's code ("" for none).

        Raises:
            EngineUnavailableError, EngineProtocolError: The engine went away, or its answer is too long.
        """
        with self._send("POST", route, content) as response:
            untrusted = self._whole_body(response)
        try:
            error = json_object(untrusted, name=self._name).get("error")
        except EngineProtocolError:
            error = None
        code = error.get("code") if isinstance(error, dict) else None
        return response.status, code if isinstance(code, str) else ""

    def load(self) -> tuple[int, int] | None:
        """Return how many answers are being made and how many wait; None where the engine does not say."""
        untrusted = self._ask("GET", "/sealift/v1/status", None)
        running, waiting = untrusted.get("running"), untrusted.get("waiting")
        return (running, waiting) if isinstance(running, int) and isinstance(waiting, int) else None

    def step_curve(self) -> Curve | None:
        """Return how long the engine's steps take by their rows; None where it does not measure them.

        Raises:
            EngineProtocolError: What it says is no curve.
        """
        untrusted = self._ask("GET", "/sealift/v1/status", None).get("step_curve")
        return None if untrusted is None else Curve.from_json(untrusted)

    def score(self, prompt: str, continuations: Sequence[str]) -> tuple[Score, ...]:
        """Return how likely each continuation is after the prompt, in the same order.

        Raises:
            EngineProtocolError: Another number of results, or one that is no finite number.
        """
        untrusted = self._ask("POST", "/sealift/v1/score", {"prompt": prompt, "continuations": list(continuations)})
        likelihoods, tokens = untrusted.get("log_likelihoods"), untrusted.get("tokens")
        if not isinstance(likelihoods, list) or not isinstance(tokens, list):
            raise broken(self._name, "the scores are not lists")
        if len(likelihoods) != len(continuations) or len(tokens) != len(continuations):
            raise broken(self._name, "there are not as many scores as continuations")
        return tuple(self._score(one, count) for one, count in zip(likelihoods, tokens, strict=True))

    def embed(self, texts: Sequence[str]) -> tuple[tuple[float, ...], ...]:
        """Return the vector of each text, in the same order, all of one length.

        Raises:
            EngineProtocolError: Another number of vectors, or one that is none.
        """
        untrusted = self._ask("POST", "/v1/embeddings", {"input": list(texts), "encoding_format": "float"}).get("data")
        rows = untrusted if isinstance(untrusted, list) else []
        vectors = tuple(self._vector(one, at) for at, one in enumerate(rows))
        if len(vectors) != len(texts) or len({len(one) for one in vectors}) > 1:
            raise broken(self._name, "there are not as many vectors as texts, or of several lengths")
        return vectors

    def _vector(self, untrusted: object, at: int) -> tuple[float, ...]:
        fields = untrusted if isinstance(untrusted, dict) else {}
        numbers = fields.get("embedding")
        if fields.get("index") != at or not isinstance(numbers, list) or not 0 < len(numbers) <= _MOST_NUMBERS:
            raise broken(self._name, "an embedding is not where it belongs, or none")
        if any(isinstance(one, bool) or not isinstance(one, int | float) or not _is_finite(one) for one in numbers):
            raise broken(self._name, "an embedding holds what is no finite number")
        return tuple(float(one) for one in numbers)

    def _score(self, untrusted_likelihood: object, untrusted_tokens: object) -> Score:
        if isinstance(untrusted_likelihood, bool) or not isinstance(untrusted_likelihood, int | float):
            raise broken(self._name, "a score is not a number")
        if not _is_finite(untrusted_likelihood) or not isinstance(untrusted_tokens, int):
            raise broken(self._name, "a score is not a finite number of whole tokens")
        return Score(log_likelihood=float(untrusted_likelihood), tokens=untrusted_tokens)

    def _ask(self, method: str, route: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        with self._request(method, route, body) as response:
            untrusted = self._whole_body(response)
            if response.status != 200:
                raise refused(self._name, response.status, untrusted)
        return json_object(untrusted, name=self._name)

    def _events(self, route: str, body: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
        response = self._request("POST", route, body)
        finished = False
        try:
            if response.status != 200:
                raise refused(self._name, response.status, self._whole_body(response))
            reader = EventReader(name=self._name)
            while not finished:
                untrusted = self._some_bytes(response)
                if not untrusted:
                    raise broken(self._name, "a stream ended before [DONE]")
                for event in reader.feed(untrusted):
                    if event is DONE:
                        finished = True
                        break
                    yield event
            response.drain_conn()
        finally:
            if not finished:
                response.close()
            response.release_conn()

    def _request(self, method: str, route: str, body: Mapping[str, Any] | None) -> urllib3.BaseHTTPResponse:
        content = None if body is None else json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        return self._send(method, route, content)

    def _send(self, method: str, route: str, content: bytes | None) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool.urlopen(
                method, route, body=content, headers=_JSON, preload_content=False, decode_content=False, redirect=False
            )
        except HTTPError as error:
            raise unreachable(self._name, error) from error

    def _whole_body(self, response: urllib3.BaseHTTPResponse) -> bytes:
        parts: list[bytes] = []
        size = 0
        while part := self._some_bytes(response):
            size += len(part)
            if size > MAX_ANSWER_BYTES:
                response.close()
                raise too_long(self._name, MAX_ANSWER_BYTES)
            parts.append(part)
        return b"".join(parts)

    def _some_bytes(self, response: urllib3.BaseHTTPResponse) -> bytes:
        try:
            return response.read1(_READ_BYTES)
        except HttpTimeoutError as error:
            raise unreachable(self._name, error) from error
        except (HTTPError, OSError) as error:
            raise broken(self._name, f"it went away in the middle of an answer ({type(error).__name__})") from error


def _is_finite(untrusted: float) -> bool:
    """Tell whether a number is one that a float holds: JSON's whole numbers have no end."""
    try:
        return math.isfinite(untrusted)
    except OverflowError:
        return False
