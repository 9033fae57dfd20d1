"""A Unix socket whose waits the kernel bounds.

Python's own bound asks the kernel before each read and write whether it may, and lets another thread go on each time.
"""

import errno
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, Final

_TIMEVAL: Final = struct.Struct("@ll")
_MICROSECONDS: Final = 1_000_000


class BoundedSocket(socket.socket):
    """A stream over a Unix socket; what waits for too long raises `TimeoutError`.

    Args:
        seconds: The bound of each read and each write, at least a microsecond.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self.wait_at_most(seconds)
        except BaseException:
            self.close()
            raise

    def wait_at_most(self, seconds: float, *, goes_on: Callable[[], bool] | None = None, in_all: bool = False) -> None:
        """Bound what follows.

        Args:
            seconds: The bound of each read and each write.
            goes_on: Asked at the bound of a read; where it says so, the read waits as long again.
            in_all: Whether it is the bound of all reads together: whoever says a byte now and then holds nobody.
        """
        self._goes_on = goes_on
        self._end = time.monotonic() + seconds if in_all else None
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._bound(option, seconds)

    def connect(self, address: Any) -> None:
        """Connect; see `socket.socket.connect`."""
        try:
            super().connect(address)
        except BlockingIOError as error:
            raise _timed_out() from error

    def recv(self, *arguments: Any) -> bytes:
        """Read; see `socket.socket.recv`."""
        while True:
            if self._end is not None:
                left = self._end - time.monotonic()
                if left <= 0:
                    raise _timed_out()
                self._bound(socket.SO_RCVTIMEO, left)
            try:
                return super().recv(*arguments)
            except BlockingIOError as error:
                if self._goes_on is None or not self._goes_on():
                    raise _timed_out() from error

    def sendall(self, *arguments: Any) -> None:
        """Write; see `socket.socket.sendall`."""
        try:
            super().sendall(*arguments)
        except BlockingIOError as error:
            raise _timed_out() from error

    def _bound(self, option: int, seconds: float) -> None:
        bound = _TIMEVAL.pack(*divmod(max(round(seconds * _MICROSECONDS), 1), _MICROSECONDS))
        self.setsockopt(socket.SOL_SOCKET, option, bound)


def _timed_out() -> TimeoutError:
    # What the kernel says at the bound is that nothing can be read or written now.
    return TimeoutError(errno.ETIMEDOUT, "timed out")
