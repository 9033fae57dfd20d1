"""Callers who read more slowly than engines write: what is kept for them, for how many, and how slow they may be.

An engine's words are read to their end whatever a caller does, so that the place goes to the next one; the caller is
given the rest from memory. Memory and threads are bounded: beyond the bounds a caller who does not read holds the
place, as what the kernel takes for it is all there is.
"""

import errno
import select
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from appliance.gateway.disconnect import SILENCE_SECONDS
from appliance.gateway.wellness import never
from media.clock import Clock

MOST_CALLERS: Final = 64
_MOST_BYTES: Final = 256 * 1024 * 1024
_SLICE_BYTES: Final = 32 * 1024
_LEAST_BYTES_A_SECOND: Final = 4096
_LOOK_SECONDS: Final = 0.25
_MILLISECONDS: Final = 1000


class CallerLagsError(BrokenPipeError):
    """A caller reads too slowly to be waited for; a web server drops its connection, as of one that left."""


class Lagging:
    """What one process keeps for callers who lag; safe for threads.

    Args:
        most_callers: How many may be given the rest when their engines are done: each holds a thread.
        most_bytes: How much is kept for all of them together.
    """

    def __init__(self, *, most_callers: int = MOST_CALLERS, most_bytes: int = _MOST_BYTES) -> None:
        self._lock = threading.Lock()
        self._most_callers = most_callers
        self._most_bytes = most_bytes
        self._callers = 0
        self._bytes = 0

    def has_kept(self, size: int) -> bool:
        """Return whether so many bytes more may be kept; then they count until `let_go`."""
        with self._lock:
            if self._bytes + size > self._most_bytes:
                return False
            self._bytes += size
            return True

    def has_entered(self) -> bool:
        """Return whether one more caller may be given the rest without a place; then it counts until `leave`."""
        with self._lock:
            if self._callers == self._most_callers:
                return False
            self._callers += 1
            return True

    def let_go(self, size: int) -> None:
        """Count bytes no more."""
        with self._lock:
            self._bytes -= size

    def leave(self) -> None:
        """Count a caller no more."""
        with self._lock:
            self._callers -= 1


class Reader:
    """One caller, as somebody who reads.

    Args:
        caller: The connection; None where the web server does not show it, which is never slow.
        clock: Its monotonic seconds are used.
        has_left: Whether the caller is known to have left, or this process waits for nobody any more.
    """

    def __init__(self, caller: socket.socket | None, *, clock: Clock, has_left: Callable[[], bool] = never) -> None:
        self._clock = clock
        self._has_left = has_left
        self._began: float | None = None
        self._sent = 0
        self._poll: select.poll | None = None
        if caller is not None:
            # What the kernel holds is told to be taken at once, and may be read as slowly.
            self._sent = caller.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            self._poll = select.poll()
            self._poll.register(caller, select.POLLOUT)

    def takes(self, seconds: float = 0.0) -> bool:
        """Tell whether it takes bytes within so many seconds; one who left does, as sending then tells it."""
        return self._poll is None or bool(self._poll.poll(seconds * _MILLISECONDS))

    def read(self, told: bytes) -> Iterator[bytes]:
        """Yield what is to be sent, slice by slice as the caller takes it.

        Raises:
            CallerLagsError: It was waited for longer than `SILENCE_SECONDS` and a second for each 4,096 bytes that it
                took, those which the kernel holds for it included; or it left.
        """
        if self._began is None:
            self._began = self._clock.monotonic()
        for start in range(0, len(told), _SLICE_BYTES):
            until = self._began + SILENCE_SECONDS + self._sent / _LEAST_BYTES_A_SECOND
            while not self.takes(_LOOK_SECONDS):
                if self._has_left() or self._clock.monotonic() > until:
                    raise CallerLagsError(errno.EPIPE, "the caller does not read")
            piece = told[start : start + _SLICE_BYTES]
            self._sent += len(piece)
            yield piece


class Paced:
    """What a web server sends of an answer that is there as a whole: no faster than its caller reads, and no slower.

    Args:
        told: The answer; closed with this.
        reader: The caller.
    """

    def __init__(self, told: Iterable[bytes], reader: Reader) -> None:
        self._told = told
        self._pieces = (piece for one in told for piece in reader.read(one))

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        """Close what was to be sent."""
        close = getattr(self._told, "close", None)
        if close is not None:
            close()


class Backlog:
    """What is kept for one caller. Use it in one thread, and close it.

    Args:
        reader: The caller.
        lagging: What is kept for all.
    """

    def __init__(self, reader: Reader, lagging: Lagging) -> None:
        self._reader = reader
        self._lagging = lagging
        self._kept: list[bytes] = []
        self._size = 0
        self._is_in = False

    def add(self, piece: bytes) -> bytes:
        """Return what is to leave now: all there is where the caller takes it at once, else nothing.

        Where no more can be kept all there is is returned, too, and its sending waits.
        """
        if not piece or (not self._reader.takes() and self._keeps(piece)):
            return b""
        return self.all_of_it() + piece if self._kept else piece

    def rest(self, free: Callable[[], None]) -> Iterator[bytes]:
        """Yield what is kept when the engine is done, as the caller takes it.

        Args:
            free: Frees the place; called first where there is room among those who are given the rest without one.

        Raises:
            CallerLagsError: As `Reader.read`.
        """
        if not self._kept:
            return
        self._is_in = self._lagging.has_entered()
        if self._is_in:
            free()
        yield from self._reader.read(self.all_of_it())

    def all_of_it(self) -> bytes:
        """Return what is kept, which is to leave at once however long that takes."""
        kept = b"".join(self._kept)
        self._kept.clear()
        self._lagging.let_go(self._size)
        self._size = 0
        return kept

    def close(self) -> None:
        """Give back what is kept, and the place among those who are given the rest; again does nothing."""
        self.all_of_it()
        if self._is_in:
            self._is_in = False
            self._lagging.leave()

    def _keeps(self, piece: bytes) -> bool:
        if not self._lagging.has_kept(len(piece)):
            return False
        self._kept.append(piece)
        self._size += len(piece)
        return True
