"""A streamed answer: the chunks in their exact order, the end held back until the outcome is durable.

A web server calls `close` whatever happens to the caller; so the engine is cancelled and the outcome recorded then too.
It asks for the next bytes when the last ones are sent, so a caller who reads slowly is waited for here
(`appliance.gateway.lagging`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from appliance.errors import EngineProtocolError
from appliance.gateway.assembly import Assembly
from appliance.gateway.dialect import Writer
from appliance.gateway.exchange import Exchange
from appliance.gateway.lagging import Backlog, CallerLagsError
from appliance.gateway.parameters import Asked
from appliance.gateway.problems import caller_left
from appliance.gateway.reading import Part, Said, Usage, parts_of


class AnswerStream:
    """The body of a streamed response.

    Args:
        exchange: What is answered.
        writer: Writes it.
        asked: What the engine was asked: how many answers, and in which form.
        backlog: What is kept for a caller who reads more slowly than the engine writes.
    """

    def __init__(self, exchange: Exchange, writer: Writer, asked: Asked, backlog: Backlog) -> None:
        self._exchange = exchange
        self._asked = asked
        self._backlog = backlog
        self._broken: Exception | None = None
        self._chunks = (chunk for chunk in self._write(writer) if chunk)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        """End the answer where it is; does nothing after its end."""
        self._backlog.close()
        self._exchange.abandon()

    def _write(self, writer: Writer) -> Iterator[bytes]:
        exchange, backlog = self._exchange, self._backlog
        yield writer.opening()
        try:
            assembly = exchange.assembly()
            assembly.expect(self._asked)
            for part in self._parts():
                # What was counted is known at once, also where its caller takes no more.
                for told in (part,) if isinstance(part, Usage) else backlog.add(part):
                    for piece in self._taken(assembly, told):
                        yield writer.piece(piece)
            for told in backlog.rest(exchange.was_read):
                for piece in self._taken(assembly, told):
                    yield writer.piece(piece)
            if self._broken is not None:  # what came before it is told first
                raise self._broken
            for piece in assembly.close():
                yield writer.piece(piece)
            exchange.succeed()
        except CallerLagsError:
            exchange.fail(caller_left())
            raise
        except Exception as error:  # noqa: BLE001 - the web server would log its text, and the caller must be told
            yield writer.failed(self._asked.in_own_words(exchange.fail(error)))
            return
        yield from writer.ending(assembly)

    def _taken(self, assembly: Assembly, part: Part) -> Iterator[Said]:
        try:
            yield from assembly.take(part)
        except EngineProtocolError:  # it says more than it was asked for
            self._exchange.call.misspoke()
            raise

    def _parts(self) -> Iterator[Part]:
        try:
            for untrusted in self._exchange.call.events():
                yield from self._parts_of(untrusted)
        except Exception as error:  # noqa: BLE001 - of the engine's: raised when what it said before is told
            self._broken = error

    def _parts_of(self, untrusted: Mapping[str, Any]) -> Iterator[Part]:
        try:
            for part in parts_of(untrusted):
                if isinstance(part, Said):
                    self._exchange.first_token()
                yield part
        except EngineProtocolError:
            self._exchange.call.misspoke()
            raise
