"""Notices at once that a caller has left, also while nothing is being written, and waits for none for ever.

A web server sees a closed connection only when it writes, which on a CPU engine may be many seconds later; the kernel
tells the moment it happens (EPOLLRDHUP). A caller that shuts down its sending side counts as gone, as behind nginx.
"""

import select
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final
from weakref import WeakSet

from appliance.gateway.wellness import never

SILENCE_SECONDS: Final = 30
_TIMEVAL: Final = struct.Struct("@ll")
_BOUND: Final = _TIMEVAL.pack(SILENCE_SECONDS, 0)
# Connections that have their bounds: one that is kept brings many requests.
_bounded: "WeakSet[socket.socket]" = WeakSet()
_GONE: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


def caller_socket(environ: Mapping[str, Any]) -> socket.socket | None:
    """Return the connection a request came on, where the web server shows it."""
    caller = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    return caller if isinstance(caller, socket.socket) and caller.fileno() >= 0 else None


def leaving(environ: Mapping[str, Any]) -> Callable[[], bool]:
    """Return what tells whether the caller has left: for the thread that has the request, while it is not watched."""
    caller = caller_socket(environ)
    return never if caller is None else lambda: _is_gone(caller.fileno())


def bound_waits(environ: Mapping[str, Any]) -> None:
    """Let no read or write of a request wait longer than `SILENCE_SECONDS` for its caller.

    The kernel keeps these bounds below a web server that has none: a body that does not come, or an answer that nobody
    reads, ends with an error instead of holding a thread for ever.
    """
    caller = caller_socket(environ)
    if caller is not None and caller not in _bounded:
        _bounded.add(caller)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            caller.setsockopt(socket.SOL_SOCKET, option, _BOUND)


class DisconnectWatch:
    """Calls back when a watched socket's peer leaves. The thread starts with the first watch, so after any fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[int, Callable[[], None]] = {}
        self._epoll: select.epoll | None = None
        self._is_ending = False
        self._is_stopping = False

    @property
    def is_ending(self) -> bool:
        """Whether `end` was called: a caller who seems to have left may still be there."""
        return self._is_ending

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called: engines may be stopping, too."""
        return self._is_stopping

    def stop(self) -> None:
        """Note that this process was told to stop; it waits for answers still. A handler of signals may call this."""
        self._is_stopping = True

    def end(self) -> None:
        """Call back for every watched caller and for whoever comes after: this process waits for no answer any more."""
        with self._lock:
            self._is_ending = True
            waiting = list(self._watched.values())
            self._watched.clear()
        for on_gone in waiting:
            on_gone()

    def watch(self, environ: Mapping[str, Any], on_gone: Callable[[], None]) -> Callable[[], None]:
        """Watch the caller's socket; return what ends it, which must be called before the socket is closed."""
        caller = caller_socket(environ)
        if caller is None:
            return lambda: None
        descriptor = caller.fileno()
        with self._lock:
            if is_watched := not self._is_ending:
                epoll = self._started()
                self._watched[descriptor] = on_gone
                try:
                    epoll.register(descriptor, _GONE | select.EPOLLONESHOT)
                except FileExistsError:  # another watch of the same caller
                    epoll.modify(descriptor, _GONE | select.EPOLLONESHOT)
        if not is_watched:
            on_gone()
            return lambda: None
        return lambda: self._stop(descriptor)

    def _stop(self, descriptor: int) -> None:
        with self._lock:
            self._watched.pop(descriptor, None)
            if self._epoll is not None:
                with suppress(OSError, ValueError):
                    self._epoll.unregister(descriptor)

    def _started(self) -> select.epoll:
        if self._epoll is None:
            epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
            try:
                threading.Thread(target=self._run, args=(epoll,), name="disconnect-watch", daemon=True).start()
            except RuntimeError:  # no room for a thread: the next request tries again, or nobody would ever be noticed
                epoll.close()
                raise
            self._epoll = epoll
        return self._epoll

    def _run(self, epoll: select.epoll) -> None:
        while True:
            for descriptor, _ in epoll.poll():
                with self._lock:
                    on_gone = self._watched.get(descriptor)
                    # The event may be of an earlier owner of this number: ask again, and go on watching if so.
                    if on_gone is None or not _is_gone(descriptor):
                        with suppress(OSError):
                            epoll.modify(descriptor, _GONE | select.EPOLLONESHOT)
                        continue
                    del self._watched[descriptor]
                on_gone()


def _is_gone(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLRDHUP)
    return bool(poll.poll(0))
