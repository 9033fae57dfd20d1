"""Connections to an engine's Unix socket, kept while idle and looked at before they are used again."""

import http.client
import select
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from appliance.boundedsocket import BoundedSocket

_IDLE: Final = 64


class EngineConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket; `kept` says that an answer was read on it before. See `EngineConnections`."""

    def __init__(
        self, path: Path, *, connect_seconds: float, read_seconds: float, goes_on: Callable[[], bool] | None = None
    ) -> None:
        super().__init__("localhost", timeout=read_seconds)
        self._goes_on = goes_on
        self._path = path
        self._connect_seconds = connect_seconds
        self._read_seconds = read_seconds
        self._socket: BoundedSocket | None = None
        self._held: list[bytes] | None = None
        self.kept = False

    def connect(self) -> None:
        """Open the socket."""
        connection = BoundedSocket(self._connect_seconds)
        try:
            connection.connect(str(self._path))
            connection.wait_at_most(self._read_seconds, goes_on=self._goes_on)
        except BaseException:
            connection.close()
            raise
        # http.client lets go of `sock` when the engine says that it will close; cancelling must still reach it.
        self.sock = self._socket = connection

    def ask(self, route: str, *, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a request in one piece; `http.client` alone sends head and body apart, and an engine wakes for each.

        Raises:
            OSError: Nobody listens, or the connection broke.
        """
        held: list[bytes] = []
        self._held = held
        try:
            self.request("POST", route, body=body, headers=headers)
        finally:
            self._held = None
        self.send(b"".join(held))

    def send(self, data: Any) -> None:
        """Send bytes, or hold them for `ask`; see `http.client`."""
        if self._held is None:
            super().send(data)
        else:
            self._held.append(data)

    def wait_at_most(self, seconds: float | None) -> None:
        """Bound the next reads; None restores the usual bound."""
        if self._socket is not None:
            # An engine that keeps no connections has closed it, and all it said is read.
            with suppress(OSError):
                if seconds is None:
                    self._socket.wait_at_most(self._read_seconds, goes_on=self._goes_on)
                else:
                    self._socket.wait_at_most(seconds)

    def fileno(self) -> int:
        """Return what can be read when the engine says something; -1 where it is not connected."""
        return -1 if self._socket is None else self._socket.fileno()

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
    """The connections to one engine; safe for threads. After `close` it opens connections still, but keeps none.

    Args:
        path: Where the engine listens.
        connect_seconds: How long a connection may take.
        read_seconds: The longest silence between two reads of an answer.
        goes_on: Asked after such a silence, whether the engine is well; while it is, its answer is waited for.
    """

    def __init__(
        self, path: Path, *, connect_seconds: float, read_seconds: float, goes_on: Callable[[], bool] | None = None
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
