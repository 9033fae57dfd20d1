"""Callers who read more slowly than engines write: what is kept for them, for how many, and how slow they may be.

An engine's words are read to their end whatever a caller does, so that the place goes to the next one. They are kept as
the engine said them and put together when the caller takes more, so what the ledger calls delivered was. Memory and
threads are bounded: beyond the bounds an engine waits for its caller, who holds the place as long.
"""

import errno
import select
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from appliance.gateway.disconnect import SILENCE_SECONDS
from appliance.gateway.reading import CallPiece, Part, Text, Thought
from appliance.gateway.wellness import never
from media.clock import Clock

MOST_CALLERS: Final = 64
_MOST_BYTES: Final = 256 * 1024 * 1024
_TIMES_WHAT_IS_LEFT: Final = 3
# What a part takes beside its text, and about what an event is longer than its text.
_PART_BYTES: Final = 256
_LIKELIHOOD_BYTES: Final = 128
_SLICE_BYTES: Final = 32 * 1024
_LEAST_BYTES_A_SECOND: Final = 4096
_LOOK_SECONDS: Final = 0.25
_MILLISECONDS: Final = 1000


class CallerLagsError(BrokenPipeError):
    """A caller reads too slowly to be waited for; a web server drops its connection, as of one that left."""


class _Shared:
    """So many of something for all keys; none has more than three times what was left when it took its last."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._taken = Counter[str]()

    def has_taken(self, key_id: str, count: int) -> bool:
        if count > self._left or self._taken[key_id] + count > _TIMES_WHAT_IS_LEFT * self._left:
            return False
        self._left -= count
        self._taken[key_id] += count
        return True

    def give_back(self, key_id: str, count: int) -> None:
        self._left += count
        self._taken[key_id] -= count
        if not self._taken[key_id]:
            del self._taken[key_id]


class Lagging:
    """What one process keeps for callers who lag; safe for threads.

    A key alone has at most three quarters of each bound, and each that comes behind it three quarters of what is left.
    Keys that come together have as much each, the less the more they are. Where each takes all that it may before the
    next one comes, so many come to nothing at last: of 64 callers four keys have 48, 12, 3 and 1, and a fifth finds
    room only when one of them lets some go. Until then its engine waits for its callers.

    Args:
        most_callers: How many may be given the rest when their engines are done: each holds a thread.
        most_bytes: How much is kept for all of them together, about.
    """

    def __init__(self, *, most_callers: int = MOST_CALLERS, most_bytes: int = _MOST_BYTES) -> None:
        self._lock = threading.Lock()
        self._callers = _Shared(most_callers)
        self._bytes = _Shared(most_bytes)

    def has_kept(self, size: int, key_id: str = "") -> bool:
        """Return whether so many bytes more may be kept for a key; then they count until `let_go`."""
        with self._lock:
            return self._bytes.has_taken(key_id, size)

    def has_entered(self, key_id: str = "") -> bool:
        """Return whether one more caller of a key may be given the rest without a place; counts until `leave`."""
        with self._lock:
            return self._callers.has_taken(key_id, 1)

    def let_go(self, size: int, key_id: str = "") -> None:
        """Count bytes no more."""
        with self._lock:
            self._bytes.give_back(key_id, size)

    def leave(self, key_id: str = "") -> None:
        """Count a caller no more."""
        with self._lock:
            self._callers.give_back(key_id, 1)


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
        self._waited = 0.0
        self._poll: select.poll | None = None
        self._silence = self._allowed = float(SILENCE_SECONDS)
        if caller is not None:
            self._poll = select.poll()
            self._poll.register(caller, select.POLLOUT)
            # What the kernel holds is told to be taken at once, and may be read as slowly.
            self.took(caller.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF))
            self._silence = self._allowed

    def takes(self, seconds: float = 0.0) -> bool:
        """Tell whether it takes bytes within so many seconds; one who left does, as sending then tells it."""
        return self._poll is None or bool(self._poll.poll(seconds * _MILLISECONDS))

    def took(self, size: int) -> None:
        """Note that it was sent so many bytes more, for which it may be waited for longer."""
        self._allowed += size / _LEAST_BYTES_A_SECOND

    def wait(self) -> None:
        """Wait until it takes more.

        Raises:
            CallerLagsError: It was waited for longer than `SILENCE_SECONDS` and a second for each 4,096 bytes that it
                took, those which the kernel holds for it included; at once longer than if it had taken no others; or it
                left.
        """
        began = self._clock.monotonic()
        while not self.takes(_LOOK_SECONDS):
            if self._has_left() or self._clock.monotonic() - began > min(self._silence, self._allowed - self._waited):
                raise CallerLagsError(errno.EPIPE, "the caller does not read")
        self._waited += self._clock.monotonic() - began


class Paced:
    """What a web server sends of an answer that is there as a whole, slice by slice as its caller takes it.

    Args:
        told: The answer; closed with this.
        reader: The caller.
    """

    def __init__(self, told: Iterable[bytes], reader: Reader) -> None:
        self._told = told
        self._reader = reader
        self._slices = self._sliced()

    def __iter__(self) -> Iterator[bytes]:
        return self._slices

    def close(self) -> None:
        """Close what was to be sent."""
        close = getattr(self._told, "close", None)
        if close is not None:
            close()

    def _sliced(self) -> Iterator[bytes]:
        for one in self._told:
            for start in range(0, len(one), _SLICE_BYTES):
                self._reader.wait()
                piece = one[start : start + _SLICE_BYTES]
                self._reader.took(len(piece))
                yield piece


class Backlog:
    """What an engine said and one caller has not taken. Use it in one thread, and close it.

    Args:
        reader: The caller.
        lagging: What is kept for all.
        key_id: Whose key the caller came with.
    """

    def __init__(self, reader: Reader, lagging: Lagging, *, key_id: str = "") -> None:
        self._reader = reader
        self._key_id = key_id
        self._lagging = lagging
        self._kept: deque[tuple[Part, int]] = deque()
        self._is_in = False

    def add(self, part: Part) -> Iterator[Part]:
        """Take what the engine said; yield what is to be told now, each when what came before is sent.

        Raises:
            CallerLagsError: As `Reader.wait`; only where no more can be kept.
        """
        size = _size(part)
        if not self._kept and self._reader.takes():
            self._reader.took(size)
            yield part
            return
        while not self._lagging.has_kept(size, self._key_id):
            self._reader.wait()
            if not self._kept:
                self._reader.took(size)
                yield part
                return
            yield self._next()
        self._kept.append((part, size))
        while self._kept and self._reader.takes():
            yield self._next()

    def rest(self, free: Callable[[], None]) -> Iterator[Part]:
        """Yield what is kept when the engine is done, as the caller takes it.

        Args:
            free: Frees the place; called first where there is room among those who are given the rest without one.

        Raises:
            CallerLagsError: As `Reader.wait`.
        """
        if self._kept and self._lagging.has_entered(self._key_id):
            self._is_in = True
            free()
        while self._kept:
            self._reader.wait()
            yield self._next()

    def close(self) -> None:
        """Give back what is kept, and the place among those who are given the rest; again does nothing."""
        while self._kept:
            self._next()
        if self._is_in:
            self._is_in = False
            self._lagging.leave(self._key_id)

    def _next(self) -> Part:
        part, size = self._kept.popleft()
        self._lagging.let_go(size, self._key_id)
        self._reader.took(size)
        return part


def _size(part: Part) -> int:
    """Return about how many bytes a part takes, and its event has."""
    size = _PART_BYTES
    if isinstance(part, Text):
        size += len(part.text.encode(errors="surrogatepass"))
        size += _LIKELIHOOD_BYTES * sum(1 + len(one.top) for one in part.likelihoods)
    elif isinstance(part, Thought):
        size += len(part.text.encode(errors="surrogatepass"))
    elif isinstance(part, CallPiece):
        size += len(part.arguments.encode(errors="surrogatepass"))
    return size
