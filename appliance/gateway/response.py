"""What an engine answers over HTTP, read from its socket as it comes and parsed by llhttp.

All of it is untrusted: llhttp refuses what is no HTTP, a head is bounded here, and a body by whoever reads it.
`http.client` parses a head as if it were mail, which was a tenth of what an answer cost the gateway (ADR 73).
"""

from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from appliance.boundedsocket import BoundedSocket

BROKEN: Final = (OSError, EOFError, HttpParserError)
"""What reading raises."""
_CHUNK: Final = 65536
_MOST_HEAD_BYTES: Final = 65536
# Lengths of chunks with what may be said of them, and what may follow the last one.
_MOST_BETWEEN_BYTES: Final = 2 * _CHUNK
_LENGTHS: Final = frozenset({b"content-length", b"transfer-encoding"})
_OK: Final = 200


class EngineResponse:
    """One response. Use it in one thread.

    Args:
        connection: That the request went out on; what comes next there is the response.

    Raises:
        ConnectionResetError: The engine closed it without a word.
        OSError: It broke, or the engine stayed silent for too long.
        EOFError: It ended inside the head.
        HttpParserError: It says no HTTP.
    """

    def __init__(self, connection: BoundedSocket) -> None:
        self.status = 0
        self.is_whole = False
        """Whether all of it was read."""
        self.goes_on = False
        """Whether the connection may carry another request, once this is whole."""
        self._connection = connection
        self._pieces: list[bytes] = []
        self._has_head = self._has_length = False
        self._fault: HttpParserError | None = None
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        try:
            self._read_head()
        except BaseException:
            self.close()
            raise

    def read(self) -> bytes:
        """Return what comes next of the body; nothing once it is whole.

        Raises:
            OSError: The connection broke, or the engine stayed silent for too long.
            EOFError: It ended before the body.
            HttpParserError: The body's form is wrong.
        """
        between = 0
        while not self._pieces and not self.is_whole:
            if self._fault is not None:
                raise self._fault
            read = self._feed()
            between += read
            if between > _MOST_BETWEEN_BYTES and not self._pieces and not self.is_whole:
                raise HttpParserError("what stands between two parts of a body is too long")
            if not read:
                if self._has_length:
                    raise EOFError("ended inside the body")
                # Without a length a body lasts until the connection does.
                self.is_whole = True
                self.close()
        untrusted, self._pieces = b"".join(self._pieces), []
        return untrusted

    def close(self) -> None:
        """Give up what was not read."""
        self._parser = None  # it holds this object, which holds it

    def on_message_begin(self) -> None:
        """Begin a head; called by the parser, as all that follow."""
        self._has_length = False
        if self.is_whole:  # nobody asked for a second response
            self.goes_on = False

    def on_header(self, name: bytes, value: bytes) -> None:  # noqa: ARG002 - as the parser calls it
        """Take one line of the head."""
        if name.lower() in _LENGTHS:
            self._has_length = True

    def on_headers_complete(self) -> None:
        """End the head; one that only says that the answer is coming is followed by another."""
        if self._parser is not None and not self.is_whole:
            self.status = self._parser.get_status_code()
            self._has_head = self.status >= _OK

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if not self.is_whole:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        """End the response."""
        if self._parser is not None and self._has_head and not self.is_whole:
            self.goes_on = self._parser.should_keep_alive()
            self.is_whole = True

    def _read_head(self) -> None:
        size = 0
        while not self._has_head:
            read = self._feed()
            size += read
            if not size:
                raise ConnectionResetError("closed without a word")
            if not read:
                raise EOFError("ended inside the head")
            if size > _MOST_HEAD_BYTES and not self._has_head:
                raise HttpParserError("a head is too long")

    def _feed(self) -> int:
        """Read once and parse it; return how many bytes came."""
        parser = self._parser
        if parser is None:
            raise EOFError("given up")
        untrusted = self._connection.recv(_CHUNK)
        try:
            parser.feed_data(untrusted)
        except HttpParserUpgrade as error:
            if not self.is_whole:
                raise HttpParserError("it speaks another protocol") from error
        except HttpParserError as error:
            if not self._has_head:
                raise
            # What stood before the fault counts; what followed a whole response is nobody's.
            self._fault, self.goes_on = error, False
        if self.is_whole:
            self.close()
        return len(untrusted)
