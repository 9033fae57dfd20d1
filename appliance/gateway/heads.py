"""gunicorn's worker with threads, which gives a thread to no caller whose request has no whole head.

gunicorn's own gives one to whoever connects, for as long as each next byte takes: as many callers as there are threads,
who need no key for it, and nobody is answered. Here its main thread waits for heads, for all at once, and for those who
were answered last to hang up, which gunicorn's own does for each by itself.
"""

import errno
import select
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from typing import Any, Final

from gunicorn import http
from gunicorn.sock import ssl_wrap_socket
from gunicorn.workers.gthread import TConn, ThreadWorker

from appliance.gateway.bodywaits import BodyWaits, BoundedUnreader

HEAD_SECONDS: Final = 15
# A stopping worker reads what is under way already, as gunicorn's own does with kept connections.
_PARTING_SECONDS: Final = 2
_PARTING_BYTES: Final = 64 * 1024
# What an answer left unread of a body is read off for so long; after that the connection is not kept.
_DRAIN_SECONDS: Final = 0.1
_SWEEP_SECONDS: Final = 0.25
# No file or memory is left for another connection; where nobody can make room it is tried again after so long.
_FULL: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_FULL_SECONDS: Final = 0.05
_WAITS: Final = object()


class HeadWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Serves whole heads, each of which has `HEAD_SECONDS` from its first byte, a connection's first from its start.

    Where connections are as many as there may be, or no file is left for another, that whose head is unfinished for
    longest makes room, or the one that was kept for longest. At most half of the threads wait for bodies that come
    slowly.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._waits = BodyWaits(max(1, self.cfg.threads // 2))
        # Both as the poller has them, each with when it is closed; for the main thread alone.
        self._unfinished: dict[TConn, float] = {}
        self._parting: dict[TConn, float] = {}
        self._newcomer: TConn | None = None
        self._is_full = False
        self._swept = 0.0

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Do what the poller says, then make room where no more connections can be had.

        Not in between: whoever is closed then may be one of those that the poller has named already.
        """
        super().wait_for_and_dispatch_events(timeout)
        while self.alive and (self._is_full or self.nr_conns >= self.worker_connections) and self._make_room():
            self._is_full = False
        if self._is_full:  # all that there are are being answered
            self._is_full = False
            time.sleep(_FULL_SECONDS)

    def accept(self, listener: socket.socket) -> None:
        """Take a connection, for which no thread waits."""
        try:
            caller, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self._is_full = True
            return
        self.nr_conns += 1
        conn = TConn(self.cfg, caller, address, listener.getsockname())
        if is_readable(caller):
            self.enqueue_req(conn)
        else:
            self._await_head(conn)
        self._newcomer = conn

    def on_client_socket_readable(self, conn: TConn, client: Any) -> None:
        """Go on with a kept connection, as gunicorn's own does."""
        if conn in self.keepalived_conns:
            super().on_client_socket_readable(conn, client)

    def handle(self, conn: TConn) -> Any:
        """Serve a request where its head is whole (HTTP/1.1 alone); return what `finish_request` goes on with."""
        try:
            if conn.parser is None:
                self._begin(conn)
            is_whole = conn.parser.unreader.has_head()
        except (BlockingIOError, ssl.SSLWantReadError):
            return _WAITS
        except OSError:  # the caller reset it, or speaks no TLS that is wanted here
            return False
        if not is_whole:
            return False
        conn.head_by = None
        kept = super().handle(conn)
        if kept is True:
            conn.parser.unreader.hold_what_is_decrypted()
        return kept

    def finish_request(self, conn: TConn, fs: "Future[Any]") -> None:
        """Go on with a connection that a thread gave back: wait for a head, keep it, or part with it."""
        failed = fs.cancelled() or fs.exception() is not None
        result = False if failed else fs.result()
        if result is _WAITS:
            self._await_head(conn)
        elif result:
            super().finish_request(conn, fs)
        else:
            self._part(conn)

    def murder_pending(self) -> None:
        """Close connections whose head did not come in time, and those whose callers do not hang up."""
        now = time.monotonic()
        if now - self._swept < _SWEEP_SECONDS:
            return
        self._swept = now
        for waiting in (self._unfinished, self._parting):
            for conn in [one for one, until in waiting.items() if until <= now]:
                self._close(conn, waiting)

    def _keepalive_after(self, conn: TConn, keepalive: Any) -> bool:
        """Tell whether a connection may be kept: no thread waits for a body that nobody reads."""
        return bool(keepalive) and bool(conn.parser.finish_body(deadline=time.monotonic() + _DRAIN_SECONDS))

    def _cap_keepalive(self, deadline: float) -> None:
        super()._cap_keepalive(deadline)
        for conn, until in self._unfinished.items():
            self._unfinished[conn] = conn.head_by = min(until, deadline)

    def _begin(self, conn: TConn) -> None:
        """Make a connection's parser as gunicorn's own does, but wait for nobody who shakes hands."""
        conn.sock.setblocking(False)
        if self.cfg.is_ssl:
            if not isinstance(conn.sock, ssl.SSLSocket):
                conn.sock = ssl_wrap_socket(conn.sock, self.cfg)
            conn.sock.do_handshake()
        conn.parser = http.get_parser(self.cfg, conn.sock, conn.client)
        conn.parser.unreader = BoundedUnreader(conn.sock, self._waits)
        conn.initialized = True

    def _await_head(self, conn: TConn) -> None:
        now = time.monotonic()
        if getattr(conn, "head_by", None) is None:
            conn.head_by = now + HEAD_SECONDS
        if not self.alive:
            conn.head_by = min(conn.head_by, now + _PARTING_SECONDS)
        if conn.head_by <= now:  # a thread had it in hand whenever the others were looked through
            self._end(conn)
        else:
            self._watch(conn, self._unfinished, conn.head_by, self._on_bytes)

    def _on_bytes(self, conn: TConn, _sock: Any) -> None:
        if self._unfinished.pop(conn, None) is not None:
            self.poller.unregister(conn.sock)
            self.enqueue_req(conn)

    def _part(self, conn: TConn) -> None:
        """Say that nothing more comes; close when the caller did so, or soon, so that it can read its answer."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._end(conn)
            return
        conn.read_off = 0
        self._watch(conn, self._parting, time.monotonic() + _PARTING_SECONDS, self._on_last_bytes)

    def _on_last_bytes(self, conn: TConn, _sock: Any) -> None:
        if conn not in self._parting:
            return
        read = 0
        with suppress(OSError):
            read = len(conn.sock.recv(_PARTING_BYTES))
        conn.read_off += read
        if not read or conn.read_off >= _PARTING_BYTES:
            self._close(conn, self._parting)

    def _watch(
        self, conn: TConn, waiting: dict[TConn, float], until: float, on_readable: Callable[[TConn, Any], None]
    ) -> None:
        try:
            conn.sock.setblocking(False)
            self.poller.register(conn.sock, EVENT_READ, partial(on_readable, conn))
        except (OSError, ValueError):
            self._end(conn)
        else:
            waiting[conn] = until

    def _make_room(self) -> bool:
        """Close a connection other than the last one that came; tell whether there was one to close."""
        for waiting in (self._parting, self._unfinished):
            if others := waiting.keys() - {self._newcomer}:
                self._close(min(others, key=waiting.__getitem__), waiting)
                return True
        if self.keepalived_conns:
            self._forget(self.keepalived_conns.popleft())
            return True
        return False

    def _close(self, conn: TConn, waiting: dict[TConn, float]) -> None:
        del waiting[conn]
        self._forget(conn)

    def _forget(self, conn: TConn) -> None:
        with suppress(OSError, KeyError, ValueError):
            self.poller.unregister(conn.sock)
        self._end(conn)

    def _end(self, conn: TConn) -> None:
        self.nr_conns -= 1
        conn.close()


def is_readable(sock: socket.socket, *, milliseconds: int = 0) -> bool:
    """Tell whether bytes, or an end, of a caller are there or come within so long."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(milliseconds))
