"""gunicorn's worker with threads, whose threads wait a moment for the next request of a connection.

gunicorn's own gives a connection back to its main thread after each answer and takes it from there again for the next
request, which wakes two threads. A web server that keeps its connections, or a caller that asks again at once, is met
by the thread that has just answered, unless somebody waits for a thread.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from gunicorn.http.body import LengthReader
from gunicorn.workers.gthread import TConn

from appliance.gateway.heads import HeadWorker, is_readable

_MILLISECONDS: Final = 10
_MOST_OF_IT: Final = 0.8


class LingeringWorker(HeadWorker):
    """Serves the requests of a connection in one thread while each comes soon after the last and threads are left.

    Told to stop, it says so by `on_stop` and waits for answers as gunicorn's own does. Those that have not ended after
    four fifths of that time are broken off by `on_overdue`, so that there is time to tell their callers and to record
    it: what is left at the end is killed.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.on_stop: Callable[[], None] = lambda: None
        self.on_overdue: Callable[[], None] = lambda: None
        self._unserved: deque[TConn] = deque()

    def handle_exit(self, sig: Any, frame: Any) -> None:
        """Begin to stop, as gunicorn's own does."""
        if self.alive:
            self.on_stop()
            overdue = threading.Timer(_MOST_OF_IT * self.cfg.graceful_timeout, self.on_overdue)
            overdue.daemon = True
            overdue.start()
        super().handle_exit(sig, frame)

    def enqueue_req(self, conn: TConn) -> None:
        """Hand a connection to the threads, as gunicorn's own does."""
        self._unserved.append(conn)
        super().enqueue_req(conn)

    def handle(self, conn: TConn) -> Any:
        """Serve a connection in a thread; return what gunicorn's own does: whether it may be kept."""
        self._unserved.popleft()  # threads take them in this order; only how many there are is looked at
        kept = super().handle(conn)
        while kept is True and self.alive and not self._unserved and _goes_on(conn):
            kept = super().handle(conn)
        return kept

    def _keepalive_after(self, conn: TConn, keepalive: Any) -> bool:
        """Tell whether a connection may be kept; a body that was read to its end needs no look at the socket."""
        body = conn.parser.mesg.body
        if keepalive and not body.failed and isinstance(body.reader, LengthReader) and body.reader.length == 0:
            return True
        return bool(super()._keepalive_after(conn, keepalive))


def let_go(_worker: Any, _request: Any, environ: dict[str, Any], _response: Any) -> None:
    """Let go of what a request brought, prompts too; gunicorn's hook `post_request`.

    Its variables hold gunicorn's way to send hints early and Flask's request, which hold them: nothing of it would go
    before Python searches for cycles, some hundred answers later.
    """
    environ.clear()


def _goes_on(conn: TConn) -> bool:
    """Tell whether a request begins within a moment, or the other side hung up; not of one that is read already."""
    if conn.is_http2 or conn.parser.unreader.buf.getvalue():
        return False
    return is_readable(conn.sock, milliseconds=_MILLISECONDS)
