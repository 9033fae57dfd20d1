"""What differs between the APIs that callers speak: how a request is read and how its answer is written.

Everything between, from the key to the record, is the same for all; see `appliance.gateway.answering`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from appliance.config import LimitsSection
from appliance.gateway.assembly import Assembly
from appliance.gateway.parameters import Asked, Endpoint
from appliance.gateway.problems import Problem
from appliance.gateway.reading import Said
from media.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What an answer says about itself in every part.

    Attributes:
        began: The clock's monotonic seconds when the request came.
        with_usage: The caller asked for usage at the end of a stream.
        answers: How many answers the caller asked for.
    """

    endpoint: Endpoint
    request_id: str
    model: str
    clock: Clock
    began: float
    with_usage: bool
    answers: int = 1


class Writer(Protocol):
    """Writes one answer. Bytes of no length are not sent."""

    @property
    def mimetype(self) -> str:
        """Of a stream."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Of a stream."""
        ...

    def whole(self, assembly: Assembly) -> Mapping[str, Any]:
        """Return the body of an answer that is not streamed."""
        ...

    def opening(self) -> bytes:
        """Return what comes before the engine said anything."""
        ...

    def piece(self, piece: Said) -> bytes:
        """Return a piece of the answer."""
        ...

    def ending(self, assembly: Assembly) -> Iterator[bytes]:
        """Yield what ends a whole answer."""
        ...

    def failed(self, problem: Problem) -> bytes:
        """Return what ends an answer that broke off."""
        ...


class Dialect(Protocol):
    """One API."""

    def read(self, untrusted: Mapping[str, Any], *, endpoint: Endpoint, limits: LimitsSection) -> Asked:
        """Check every parameter of a request.

        Raises:
            Problem: One is unknown, of a wrong type or out of range.
        """
        ...

    def writer(self, about: About) -> Writer:
        """Return what writes one answer."""
        ...
