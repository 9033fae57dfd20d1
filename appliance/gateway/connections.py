"""Connections to an engine's Unix socket, kept while idle and looked at before they are used again."""

import errno
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from fcntl import ioctl
from functools import partial
from pathlib import Path
from typing import Final

from appliance.boundedsocket import BoundedSocket
from appliance.gateway.response import EngineResponse

_IDLE: Final = 64
# An engine closes what is idle when it is asked again, or never: later it read the request, and may have died of it.
_CLOSED_SECONDS: Final = 1.0
_QUEUED: Final = struct.Struct("@i")
GoesOn = Callable[[Callable[[], bool]], bool]


class EngineConnection:
    """HTTP over a Unix socket; `kept` says that an answer was read on it before. See `EngineConnections`."""

    def __init__(
        self, path: Path, *, connect_seconds: float, read_seconds: float, goes_on: GoesOn | None = None
    ) -> None:
        self._shut = threading.Event()
        self._goes_on = None if goes_on is None else partial(goes_on, self._shut.is_set)
        self._path = path
        self._connect_seconds = connect_seconds
        self._read_seconds = read_seconds
        self._socket: BoundedSocket | None = None
        self._asked = 0.0
        self.kept = False

    def ask(self, method: str, route: str, *, headers: Mapping[str, str], body: bytes | None = None) -> None:
        """Send a request in one piece: an engine wakes once for it. Connects first where that was not done.

        Args:
            method: Of HTTP.
            route: Of the engine.
            headers: Our own; nothing of a caller's is among them.
            body: What it is asked; None where a request has none.

        Raises:
            OSError: Nobody listens, or the connection broke.
        """
        lines = [f"{method} {route} HTTP/1.1", "Host: localhost", "Accept-Encoding: identity"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join([*lines, "", ""]).encode("ascii")
        connection = self._socket or self._connected()
        self._asked = time.monotonic()
        connection.sendall(head if body is None else head + body)

    def respond(self) -> EngineResponse:
        """Return the response to what was asked, whose head is read.

        Raises:
            OSError, EOFError, HttpParserError: As `EngineResponse`.
        """
        if self._socket is None:
            raise ConnectionResetError("not connected")
        return EngineResponse(self._socket)

    def was_idle(self) -> bool:
        """Tell of a connection that broke whether its idleness explains that: it was kept, and asked just now."""
        return self.kept and time.monotonic() - self._asked < _CLOSED_SECONDS

    def is_queued(self) -> bool:
        """Tell whether the engine has not read all that was asked: a part still lies in its queue (TIOCOUTQ)."""
        if self._socket is None:
            return False
        try:
            queued = ioctl(self._socket, termios.TIOCOUTQ, bytes(_QUEUED.size))
        except OSError:
            return False
        return int(_QUEUED.unpack(queued)[0]) > 0

    def _connected(self) -> BoundedSocket:
        connection = BoundedSocket(self._connect_seconds)
        try:
            connection.connect(str(self._path))
            connection.wait_at_most(self._read_seconds, goes_on=self._goes_on)
        except BaseException:
            connection.close()
            raise
        self._socket = connection
        if self._shut.is_set():  # looked at afterwards: another thread may have ended it just now
            self.shut_down()
        return connection

    def wait_at_most(self, seconds: float | None) -> None:
        """Bound all that is read from here on, together; None restores the usual bound of each read."""
        if self._socket is not None:
            # An engine that keeps no connections has closed it, and all it said is read.
            with suppress(OSError):
                if seconds is None:
                    self._socket.wait_at_most(self._read_seconds, goes_on=self._goes_on)
                else:
                    self._socket.wait_at_most(seconds, in_all=True)

    def fileno(self) -> int:
        """Return what can be read when the engine says something; -1 where it is not connected."""
        return -1 if self._socket is None else self._socket.fileno()

    def shut_down(self) -> None:
        """End both directions at once, from any thread, connected or not yet: a read that waits returns."""
        self._shut.set()
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def is_alive(self) -> bool:
        """Tell whether the engine has neither closed nor said anything unasked."""
        if self._socket is None:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()


def says_unread(error: Exception) -> bool:
    """Tell of what broke a connection whether the engine had not read all that was asked.

    A Unix socket says so when its other end goes, also where nobody had taken the connection yet. An engine that had
    read everything leaves an end of what can be read, whose error has no number.
    """
    return isinstance(error, ConnectionResetError) and error.errno == errno.ECONNRESET


class EngineConnections:
    """The connections to one engine; safe for threads. After `close` it opens connections still, but keeps none.

    Args:
        path: Where the engine listens.
        connect_seconds: How long a connection may take.
        read_seconds: The longest silence between two reads of an answer.
        goes_on: Asked after such a silence, whether the engine is well; while it is, its answer is waited for. It is
            told how to find out that the connection was shut down meanwhile: then nobody waits for its word.
    """

    def __init__(
        self, path: Path, *, connect_seconds: float, read_seconds: float, goes_on: GoesOn | None = None
    ) -> None:
        self._path = path
        self._connect_seconds = connect_seconds
        self._read_seconds = read_seconds
        self._goes_on = goes_on
        self._idle: list[EngineConnection] = []
        self._is_closed = False

    def fresh(self) -> EngineConnection:
        """Return a connection that nobody used."""
        return EngineConnection(
            self._path,
            connect_seconds=self._connect_seconds,
            read_seconds=self._read_seconds,
            goes_on=self._goes_on,
        )

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
        if self._is_closed:  # looked at afterwards: another thread may have closed it just now
            self._drop()

    def close(self) -> None:
        """Drop the idle connections, and those of calls that still run as soon as they are over."""
        self._is_closed = True
        self._drop()

    def _drop(self) -> None:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                return
            connection.close()
