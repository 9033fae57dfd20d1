"""Vectors as an engine gave them: untrusted until each is there, finite, in its place and as long as the profile says.

They cross the gateway as 32-bit floats; what a caller reads as numbers, as base64 and after a cut is the same vector.
"""

import array
import base64
import binascii
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from appliance.gateway.reading import MOST_TOKENS, FinishReason, Usage, broken

_FLOAT: Final = "f"
_FLOAT_BYTES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One vector as little-endian 32-bit floats, and how many tokens were read for it; None where nobody counted."""

    raw: bytes
    tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """What a caller gets; a `Delivery`."""

    made: tuple[bytes, ...]
    usage: Usage | None
    finish_reason: FinishReason | None = None
    unknown_tokens: int = 0
    cut: int = 0

    def delivered(self) -> str:
        """Return what `response_hmac` is made over: each vector in base64, a line feed between them."""
        return "\n".join(packed(raw) for raw in self.made)

    def thoughts(self) -> str:
        """Return nothing: vectors are not thought about."""
        return ""


def read_vectors(
    untrusted: Mapping[str, Any], *, count: int, dimensions: int, most_tokens: int = MOST_TOKENS
) -> tuple[tuple[Made, ...], int | None]:
    """Return an engine's vectors in the order they were asked for, and how many tokens it read.

    Args:
        untrusted: What it answers.
        count: How many were asked for.
        dimensions: How many numbers each has.
        most_tokens: How many tokens one text may have; its key would pay for more.

    Raises:
        EngineProtocolError: One is missing, comes twice, is of another length or holds what is no finite number; or
            more was read than there can be.
    """
    rows = untrusted.get("data")
    if not isinstance(rows, list) or len(rows) != count:
        raise broken("there are not as many vectors as texts")
    found: dict[int, Made] = {}
    for row in rows:
        index = row.get("index") if isinstance(row, dict) else None
        if type(index) is not int or not 0 <= index < count or index in found:
            raise broken("a vector has no place of its own")
        raw, tokens = _raw(row.get("embedding"), dimensions), _count(row.get("tokens"), most=most_tokens)
        found[index] = Made(raw=raw, tokens=tokens)
    usage = untrusted.get("usage")
    most = min(count * most_tokens, MOST_TOKENS)
    total = _count(usage.get("prompt_tokens"), most=most) if isinstance(usage, dict) else None
    return tuple(found[index] for index in range(count)), total


def cut(raw: bytes, dimensions: int) -> bytes:
    """Return the beginning of a vector, of length 1 again."""
    if len(raw) == dimensions * _FLOAT_BYTES:
        return raw
    part = numbers(raw)[:dimensions]
    length = math.sqrt(math.fsum(one * one for one in part))
    return _bytes_of([one / length for one in part] if length else part)


def numbers(raw: bytes) -> list[float]:
    """Return a vector's numbers."""
    values = array.array(_FLOAT)
    values.frombytes(raw)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()


def packed(raw: bytes) -> str:
    """Return a vector as OpenAI encodes it."""
    return base64.b64encode(raw).decode("ascii")


def _raw(untrusted: object, dimensions: int) -> bytes:
    if isinstance(untrusted, str):
        try:
            raw = base64.b64decode(untrusted, validate=True)
        except (binascii.Error, ValueError):
            raise broken("a vector is not base64") from None
    elif isinstance(untrusted, list) and all(isinstance(one, float | int) for one in untrusted):
        try:
            raw = _bytes_of(untrusted)
        except (OverflowError, TypeError):
            raise broken("a vector holds what is no number") from None
    else:
        raise broken("a vector is none")
    if len(raw) != dimensions * _FLOAT_BYTES:
        raise broken("a vector has another length than the profile says")
    if not all(math.isfinite(one) for one in numbers(raw)):
        raise broken("a vector holds what is no finite number")
    return raw


def _bytes_of(values: Sequence[float]) -> bytes:
    packed_values = array.array(_FLOAT, values)
    if sys.byteorder == "big":
        packed_values.byteswap()
    return packed_values.tobytes()


def _count(untrusted: object, *, most: int) -> int | None:
    if untrusted is None:
        return None
    if type(untrusted) is not int or not 0 <= untrusted <= most:
        raise broken("its counts do not count")
    return untrusted
