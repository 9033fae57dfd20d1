"""gunicorn's worker with threads, for what any process of this machine may post to: nobody holds a thread for long.

What is not read whole after `SECONDS` is broken off, however slowly bytes come, and a connection that is not kept is
closed without waiting for the other side. Where nothing stands in front, a few posters who never end would otherwise
hold every thread, and then the watchdog's look at them.
"""

import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from gunicorn.workers.gthread import TConn, ThreadWorker

SECONDS: Final = 5.0
_lock: Final = threading.Lock()
# Connections that a thread waits for or reads from, and since when.
_read_since: Final[dict[Any, float]] = {}


def is_read(environ: Mapping[str, Any]) -> None:
    """Note that all of a request was read: answering it may take longer."""
    with _lock:
        _read_since.pop(environ.get("gunicorn.socket"), None)


def break_off(*, now: float) -> None:
    """End what is being read for too long; whoever reads it sees the end of the connection at once."""
    with _lock:
        for connection, since in _read_since.items():
            if now - since >= SECONDS:
                _shut(connection, socket.SHUT_RDWR)


class PostingWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Bounds how long a thread reads one request; the main loop, which turns every second, looks after it."""

    def notify(self) -> None:
        """Give the sign of life of gunicorn's own, and break off what takes too long."""
        super().notify()
        break_off(now=time.monotonic())

    def handle(self, conn: TConn) -> Any:
        """Serve a connection in a thread; return what gunicorn's own does: whether it may be kept."""
        with _lock:
            _read_since[conn.sock] = time.monotonic()
        try:
            kept = super().handle(conn)
        finally:
            with _lock:
                _read_since.pop(conn.sock, None)
        if kept is False:
            # The main thread closes it, and would wait for two seconds for what else comes.
            _shut(conn.sock, socket.SHUT_RD)
        return kept


def _shut(connection: socket.socket, how: int) -> None:
    with suppress(OSError):  # gone already
        connection.shutdown(how)
