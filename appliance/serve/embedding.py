"""Embeddings of the engine: `/v1/embeddings` on its socket, in a context of their own beside the one that answers.

A request is cut into batches, and one batch runs between two steps of those who are answering
(`Scheduler.between_steps`): two contexts at once would stall each other's threads, and a long list of texts holds
nobody up for longer than one batch. Between batches it is looked whether the caller is still there.
"""

import array
import base64
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from appliance.errors import EngineProtocolError
from appliance.serve.scheduler import Scheduler

MOST_INPUTS: Final = 2048
_FLOATS: Final = "f"


class Embedder(Protocol):
    """Weights that make vectors. Called by one thread only, but for `tokenize`."""

    @property
    def dimensions(self) -> int:
        """How many numbers a vector has."""
        ...

    @property
    def context_tokens(self) -> int:
        """How many tokens one text may have, special ones among them."""
        ...

    @property
    def batch_tokens(self) -> int:
        """How many tokens one batch takes; at least `context_tokens`."""
        ...

    @property
    def batch_texts(self) -> int:
        """How many texts one batch takes."""
        ...

    @property
    def vocabulary(self) -> int:
        """How many tokens there are; their numbers are below it."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of a text with what the model expects around them; nothing in it becomes a special one."""
        ...

    def embed(self, texts: Sequence[Sequence[int]], has_left: Callable[[], bool]) -> list[list[float]]:
        """Return one vector for each text of one batch, as the model makes it.

        Args:
            texts: Their tokens.
            has_left: Whether the caller is gone, asked before and often within; then it ends.

        Raises:
            EngineProtocolError: The library reported a failure, or the caller left.
        """
        ...


class NotEmbeddedError(Exception):
    """A request for embeddings that the engine does not take.

    Args:
        code: As in the error's body.
        message: For people, without a word of the request.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """What serves `/v1/embeddings` of one loaded version."""

    embedder: Embedder
    scheduler: Scheduler
    model_digest: str

    def answer(self, body: Mapping[str, Any], has_left: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        """Return the body of an answer in OpenAI's shape; each vector has length 1 and says how many tokens it read.

        Args:
            body: `input` (a text, a list of texts, tokens, lists of tokens) and `encoding_format` (float, base64).
            has_left: Whether the caller is gone, asked before each batch and within it.

        Raises:
            NotEmbeddedError: The request is not one, or a text is too long.
            EngineProtocolError: A batch failed, or the caller left.
        """
        is_base64 = _is_base64(body)
        texts = [self._tokens(one) for one in _inputs(body)]
        rows = []
        for batch in self._batches(texts):
            vectors = self.scheduler.between_steps(partial(self.embedder.embed, batch, has_left))
            rows += [_unit(vector) for vector in vectors]
        count = sum(len(text) for text in texts)
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": to_base64(vector) if is_base64 else vector,
                "tokens": len(text),
            }
            for index, (vector, text) in enumerate(zip(rows, texts, strict=True))
        ]
        usage = {"prompt_tokens": count, "total_tokens": count}
        return {"object": "list", "model": self.model_digest, "data": data, "usage": usage}

    def _tokens(self, untrusted: object) -> list[int]:
        if isinstance(untrusted, str):
            tokens = self.embedder.tokenize(untrusted)
        elif isinstance(untrusted, list) and all(
            type(one) is int and 0 <= one < self.embedder.vocabulary for one in untrusted
        ):
            tokens = list(untrusted)
        else:
            raise NotEmbeddedError("invalid_value", "an input is a text or a list of the model's tokens")
        if not tokens:
            raise NotEmbeddedError("invalid_value", "an input is empty")
        if len(tokens) > self.embedder.context_tokens:
            raise NotEmbeddedError(
                "context_length_exceeded", f"{len(tokens)} tokens, {self.embedder.context_tokens} fit"
            )
        return tokens

    def _batches(self, texts: Sequence[list[int]]) -> Iterator[list[list[int]]]:
        batch: list[list[int]] = []
        held = 0
        for text in texts:
            if batch and (held + len(text) > self.embedder.batch_tokens or len(batch) >= self.embedder.batch_texts):
                yield batch
                batch, held = [], 0
            batch.append(text)
            held += len(text)
        if batch:
            yield batch


def left() -> EngineProtocolError:
    """Return the error for a batch whose caller is gone."""
    return EngineProtocolError(what="the caller left", why="embeddings", fix="ask again")


def to_base64(vector: Sequence[float]) -> str:
    """Return a vector as OpenAI encodes it: 32-bit floats, little-endian."""
    numbers = array.array(_FLOATS, vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode("ascii")


def _unit(vector: Sequence[float]) -> list[float]:
    length = math.sqrt(math.fsum(one * one for one in vector))
    if not math.isfinite(length) or length == 0:
        raise EngineProtocolError(what="a vector has no direction", why="its length is 0 or none", fix="report it")
    return [one / length for one in vector]


def _inputs(body: Mapping[str, Any]) -> list[Any]:
    untrusted = body.get("input")
    if isinstance(untrusted, str) or (isinstance(untrusted, list) and untrusted and type(untrusted[0]) is int):
        untrusted = [untrusted]
    if not isinstance(untrusted, list) or not 1 <= len(untrusted) <= MOST_INPUTS:
        raise NotEmbeddedError("invalid_value", f"input is a text or a list of 1 to {MOST_INPUTS}")
    return untrusted


def _is_base64(body: Mapping[str, Any]) -> bool:
    encoding = body.get("encoding_format", "float")
    if encoding not in ("float", "base64"):  # a tuple: what cannot be hashed is refused, too
        raise NotEmbeddedError("invalid_value", "encoding_format is float or base64")
    return bool(encoding == "base64")
