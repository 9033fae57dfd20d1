"""Connections to an engine's Unix socket, kept while idle and looked at before they are used again."""

import email.parser
import http.client
import re
import select
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

_IDLE: Final = 64
_LONGEST_LINE: Final = 65536
_MOST_LINES: Final = 100
_PLAIN: Final = re.compile(rb"([!#-'*+\-.0-9A-Z^-z|~]+):[ \t]*([^\r\n]*)\r\n")


class EngineConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket; `kept` says that an answer was read on it before."""

    def __init__(self, path: Path, *, connect_seconds: float, read_seconds: float) -> None:
        super().__init__("localhost", timeout=read_seconds)
        self._path = path
        self._connect_seconds = connect_seconds
        self._read_seconds = read_seconds
        self._socket: socket.socket | None = None
        self._begun: http.client.HTTPResponse | None = None
        self.kept = False

    def post(self, route: str, content: bytes, headers: Mapping[str, str]) -> None:
        """Send a request, as `request` does, but in one piece and without a look at each of our own words.

        Raises:
            OSError: It cannot be sent.
        """
        if self.sock is None:
            self.connect()
        named = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST {route} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n{named}\r\n"
        self.sock.sendall(head.encode("ascii") + content)

    def begun(self) -> http.client.HTTPResponse:
        """Wait for the answer to what was posted, as `getresponse` does.

        Raises:
            OSError: The engine went away or stayed silent for too long.
            http.client.HTTPException: It does not speak HTTP.
        """
        response = _Response(self.sock, method="POST")
        try:
            response.begin()
        except ConnectionError:
            response.close()
            self.close()
            raise
        except BaseException:
            response.close()
            raise
        if response.will_close:
            self.close()
        self._begun = response
        return response

    def close(self) -> None:
        """Close the connection, and what was begun on it: its answer has the socket, too."""
        super().close()
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.close()

    def connect(self) -> None:
        """Open the socket."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.settimeout(self._connect_seconds)
        try:
            connection.connect(str(self._path))
        except OSError:
            connection.close()
            raise
        connection.settimeout(self._read_seconds)
        # http.client lets go of `sock` when the engine says that it will close; cancelling must still reach it.
        self.sock = self._socket = connection

    def wait_at_most(self, seconds: float | None) -> None:
        """Bound the next reads; None restores the usual bound."""
        if self._socket is not None:
            # An engine that keeps no connections has closed it, and all it said is read.
            with suppress(OSError):
                self._socket.settimeout(self._read_seconds if seconds is None else seconds)

    def shut_down(self) -> None:
        """End both directions at once, from any thread: a read that waits returns."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def is_alive(self) -> bool:
        """Tell whether the engine has neither closed nor said anything unasked."""
        if self.sock is None:
            return False
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)


class EngineConnections:
    """The connections to one engine; safe for threads.

    Args:
        path: Where the engine listens.
        connect_seconds: How long a connection may take.
        read_seconds: The longest silence between two reads of an answer.
    """

    def __init__(self, path: Path, *, connect_seconds: float, read_seconds: float) -> None:
        self._path = path
        self._connect_seconds = connect_seconds
        self._read_seconds = read_seconds
        self._idle: list[EngineConnection] = []

    def fresh(self) -> EngineConnection:
        """Return a connection that nobody used."""
        return EngineConnection(self._path, connect_seconds=self._connect_seconds, read_seconds=self._read_seconds)

    def take(self) -> EngineConnection:
        """Return a connection that was kept and still lives, or a fresh one."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if connection.is_alive():
                return connection
            connection.close()
        return self.fresh()

    def keep(self, connection: EngineConnection) -> None:
        """Take back a connection whose answer was read to its end."""
        connection.kept = True
        if len(self._idle) < _IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Drop the idle connections."""
        while self._idle:
            self._idle.pop().close()


class _Response(http.client.HTTPResponse):
    """An answer whose head is read at a quarter of the cost: http.client hands each to a parser of e-mail."""

    _method: str
    _read_status: Callable[[], tuple[str, int, str]]
    _check_close: Callable[[], bool]

    def begin(self) -> None:
        """Read the head; every rule is http.client's."""
        version, status, reason = self._read_status()
        while status == http.client.CONTINUE:
            self._lines()
            version, status, reason = self._read_status()
        if not version.startswith(("HTTP/1.", "HTTP/0.9")):
            raise http.client.UnknownProtocol(version)
        self.code = self.status = status
        self.reason = reason.strip()
        self.version = 10 if version in {"HTTP/1.0", "HTTP/0.9"} else 11
        self.headers = self.msg = _headers(self._lines())
        self.chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        self.chunk_left = None
        self.will_close = self._check_close()
        self.length = None if self.chunked else _length(self.headers.get("content-length", ""))
        if status < 200 or status in {http.client.NO_CONTENT, http.client.NOT_MODIFIED}:
            self.length = 0
        self.will_close = self.will_close or (not self.chunked and self.length is None)

    def _lines(self) -> list[bytes]:
        """Return the lines of a head, without the empty one that ends it."""
        lines: list[bytes] = []
        while (line := self.fp.readline(_LONGEST_LINE + 1)) not in {b"\r\n", b"\n", b""}:
            if len(line) > _LONGEST_LINE:
                raise http.client.LineTooLong("header line")
            lines.append(line)
            if len(lines) >= _MOST_LINES:
                raise http.client.HTTPException(f"got more than {_MOST_LINES} headers")
        return lines


def _headers(lines: list[bytes]) -> http.client.HTTPMessage:
    found = http.client.HTTPMessage()
    for line in lines:
        parts = _PLAIN.fullmatch(line)
        if parts is None:  # folded, or no header at all: http.client's own way decides
            text = b"".join([*lines, b"\r\n"]).decode("iso-8859-1")
            return email.parser.Parser(_class=http.client.HTTPMessage).parsestr(text)
        found.set_raw(parts[1].decode("iso-8859-1"), parts[2].decode("iso-8859-1"))
    return found


def _length(text: str) -> int | None:
    try:
        length = int(text)
    except ValueError:
        return None
    return length if length >= 0 else None
