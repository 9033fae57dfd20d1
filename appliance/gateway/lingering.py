"""gunicorn's worker with threads, whose threads wait a moment for the next request of a connection.

gunicorn's own gives a connection back to its main thread after each answer and takes it from there again for the next
request, which wakes two threads and costs a tenth of an answer. A web server that keeps its connections, or a caller
that asks again at once, is met by the thread that has just answered.
"""

import select
from typing import Any, Final

from gunicorn.workers.gthread import TConn, ThreadWorker

_MILLISECONDS: Final = 10
# Then others have their turn, however fast one connection asks.
_IN_A_ROW: Final = 32


class LingeringWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Serves up to `_IN_A_ROW` requests of one connection in one thread, where each comes soon after the last."""

    def handle(self, conn: TConn) -> Any:
        """Serve a connection; return what gunicorn's own does: whether it may be kept."""
        kept = super().handle(conn)
        for _ in range(_IN_A_ROW - 1):
            if kept is not True or not self.alive or not _is_readable(conn):
                break
            kept = super().handle(conn)
        return kept


def _is_readable(conn: TConn) -> bool:
    """Tell whether a request begins within a moment, or the other side hung up; not of one that is read already."""
    if conn.is_http2 or conn.parser.unreader.buf.getvalue():
        return False
    poll = select.poll()
    poll.register(conn.sock, select.POLLIN)
    return bool(poll.poll(_MILLISECONDS))
