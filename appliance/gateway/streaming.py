"""A streamed answer: the chunks in their exact order, the end held back until the outcome is durable.

A web server calls `close` whatever happens to the caller; so the engine is cancelled and the outcome recorded then too.
"""

from collections.abc import Iterator

from appliance.gateway.dialect import Writer
from appliance.gateway.exchange import Exchange
from appliance.gateway.parameters import Asked
from appliance.gateway.reading import Said, parts_of


class AnswerStream:
    """The body of a streamed response.

    Args:
        exchange: What is answered.
        writer: Writes it.
        asked: What the engine was asked: how many answers, and in which form.
    """

    def __init__(self, exchange: Exchange, writer: Writer, asked: Asked) -> None:
        self._exchange = exchange
        self._asked = asked
        self._chunks = (chunk for chunk in self._write(writer) if chunk)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        """End the answer where it is; does nothing after its end."""
        self._exchange.abandon()

    def _write(self, writer: Writer) -> Iterator[bytes]:
        exchange = self._exchange
        yield writer.opening()
        try:
            assembly = exchange.assembly()
            assembly.expect(self._asked)
            for untrusted in exchange.call.events():
                for part in parts_of(untrusted):
                    if isinstance(part, Said):
                        exchange.first_token()
                    for piece in assembly.take(part):
                        yield writer.piece(piece)
            for piece in assembly.close():
                yield writer.piece(piece)
            exchange.succeed()
        except Exception as error:  # noqa: BLE001 - the web server would log its text, and the caller must be told
            yield writer.failed(self._asked.in_own_words(exchange.fail(error)))
            return
        yield from writer.ending(assembly)
