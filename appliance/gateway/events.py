"""OpenAI's dialect: its parameters as they are, its answers as server-sent events."""

from collections.abc import Iterator, Mapping
from typing import Any

from appliance.config import LimitsSection
from appliance.gateway import parameters, sse
from appliance.gateway.assembly import Assembly
from appliance.gateway.dialect import About, Writer
from appliance.gateway.parameters import Asked, Endpoint
from appliance.gateway.problems import Problem
from appliance.gateway.reading import Said
from appliance.gateway.shapes import Shape


class OpenAi:
    """The dialect."""

    def read(self, untrusted: Mapping[str, Any], *, endpoint: Endpoint, limits: LimitsSection) -> Asked:
        """Check every parameter of a request; see `parameters.read`."""
        return parameters.read(untrusted, endpoint=endpoint, limits=limits)

    def writer(self, about: About) -> Writer:
        """Return what writes one answer."""
        return EventWriter(
            Shape(
                endpoint=about.endpoint,
                request_id=about.request_id,
                created=int(about.clock.now().timestamp()),
                model=about.model,
                with_usage=about.with_usage,
                answers=about.answers,
            )
        )


class EventWriter:
    """Writes one answer's chunks as events; `[DONE]` only behind a whole answer."""

    mimetype = sse.MIMETYPE
    headers = sse.HEADERS

    def __init__(self, shape: Shape) -> None:
        self._shape = shape

    def whole(self, assembly: Assembly) -> Mapping[str, Any]:
        """Return the body of an answer that is not streamed."""
        return self._shape.whole(assembly)

    def opening(self) -> bytes:
        """Return the chunks that name the role; a completion has none."""
        return b"".join(sse.event(chunk) for chunk in self._shape.opening())

    def piece(self, piece: Said) -> bytes:
        """Return a chunk of the answer."""
        return sse.event(self._shape.piece(piece))

    def ending(self, assembly: Assembly) -> Iterator[bytes]:
        """Yield why it ended, usage where it was asked for, and the end."""
        yield from (sse.event(chunk) for chunk in self._shape.ending(assembly))
        usage = self._shape.usage(assembly)
        if usage is not None:
            yield sse.event(usage)
        yield sse.DONE

    def failed(self, problem: Problem) -> bytes:
        """Return the event that SDKs raise an error for."""
        return sse.event(problem.body())
