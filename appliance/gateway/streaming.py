"""A streamed answer: the chunks in their exact order, the end held back until the outcome is durable.

A web server calls `close` whatever happens to the caller; so the engine is cancelled and the outcome recorded then too.
"""

from collections.abc import Iterator

from appliance.gateway import sse
from appliance.gateway.exchange import Exchange
from appliance.gateway.reading import CallPiece, Text, parts_of
from appliance.gateway.shapes import Shape


class AnswerStream:
    """The body of a streamed response."""

    def __init__(self, exchange: Exchange, shape: Shape) -> None:
        self._exchange = exchange
        self._chunks = self._write(shape)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        """End the answer where it is; does nothing after its end."""
        self._exchange.abandon()

    def _write(self, shape: Shape) -> Iterator[bytes]:
        exchange = self._exchange
        opening = shape.opening()
        if opening is not None:
            yield sse.event(opening)
        try:
            assembly = exchange.assembly()
            for untrusted in exchange.call.events():
                for part in parts_of(untrusted):
                    if isinstance(part, Text | CallPiece):
                        exchange.first_token()
                    for piece in assembly.take(part):
                        yield sse.event(shape.piece(piece))
            for piece in assembly.close():
                yield sse.event(shape.piece(piece))
            exchange.succeed()
        except Exception as error:  # noqa: BLE001 - the web server would log its text, and the caller must be told
            yield sse.event(exchange.fail(error).body())
            return
        yield sse.event(shape.ending(assembly))
        usage = shape.usage(assembly)
        if usage is not None:
            yield sse.event(usage)
        yield sse.DONE
