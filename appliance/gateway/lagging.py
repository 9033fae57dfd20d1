"""Callers who read more slowly than answers come: what is kept for them, for how many, and how slow they may be.

An engine's words are read to their end whatever a caller does, so that the place goes to the next one. They are kept as
the engine said them and put together when the caller takes more, so what the ledger calls delivered was. Memory and
threads are bounded: beyond the bounds an engine waits for its caller, who holds the place as long, and is hurried where
somebody waits for one. A whole answer is there before its caller reads: who reads it slowly counts among the others,
and is hurried where there is no room.
"""

import errno
import select
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from enum import Enum, auto
from typing import Final

from appliance.gateway.disconnect import SILENCE_SECONDS
from appliance.gateway.reading import CallPiece, Part, Text, Thought
from appliance.gateway.wellness import never
from media.clock import Clock

MOST_CALLERS: Final = 64
MOST_HURRIED: Final = 64
_MOST_BYTES: Final = 256 * 1024 * 1024
_TIMES_WHAT_IS_LEFT: Final = 3
# What a part takes beside its text, and about what an event is longer than its text.
_PART_BYTES: Final = 256
_LIKELIHOOD_BYTES: Final = 128
_SLICE_BYTES: Final = 32 * 1024
_LEAST_BYTES_A_SECOND: Final = 4096
# Who is hurried is to read as over a line of a megabit, as bodies come where too many are waited for.
_HURRIED_SECONDS: Final = 5
_HURRIED_BYTES_A_SECOND: Final = 128 * 1024
# Who was waited for so long, in all, reads slowly; a fast one leaves its socket full for moments.
_SLOW_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.25
_MILLISECONDS: Final = 1000


WHOSE: Final = "sealift.whose"
"""What of a request's environment says whose key it came with and how many bytes its answer takes: see `Paced`."""
NOBODYS: Final = ("", 0)


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


class _Room:
    """So many callers of all keys, and so many bytes for them together."""

    def __init__(self, *, callers: int, size: int) -> None:
        self.callers = _Shared(callers)
        self.bytes = _Shared(size)

    def has_taken(self, key_id: str, size: int) -> bool:
        if not self.callers.has_taken(key_id, 1):
            return False
        if self.bytes.has_taken(key_id, size):
            return True
        self.callers.give_back(key_id, 1)
        return False

    def give_back(self, key_id: str, size: int) -> None:
        self.callers.give_back(key_id, 1)
        self.bytes.give_back(key_id, size)


class Patience(Enum):
    """How a slow reader of a whole answer is waited for: as everybody, hurried, or not."""

    USUAL = auto()
    HURRIED = auto()
    NONE = auto()


class Lagging:
    """What one process keeps for callers who lag; safe for threads.

    A key alone has at most three quarters of each bound, and each that comes behind it three quarters of what is left.
    Keys that come together have as much each, the less the more they are. Where each takes all that it may before the
    next one comes, so many come to nothing at last: of 64 callers four keys have 48, 12, 3 and 1, and a fifth finds
    room only when one of them lets some go. Until then its engine waits for its callers.

    Whole answers and streams share that. Slow readers of whole answers beyond it are hurried, as many again and by the
    same parts; further ones are not waited for, so that no key has all threads, nor all memory.

    Args:
        most_callers: How many may be given the rest when their engines are done: each holds a thread.
        most_bytes: How much is kept for all of them together, about.
        most_hurried: How many may be hurried through whole answers, who hold a thread each, and as many bytes.
    """

    def __init__(
        self, *, most_callers: int = MOST_CALLERS, most_bytes: int = _MOST_BYTES, most_hurried: int = MOST_HURRIED
    ) -> None:
        self._lock = threading.Lock()
        self._unhurried = _Room(callers=most_callers, size=most_bytes)
        self._hurried = _Room(callers=most_hurried, size=most_bytes)

    def has_kept(self, size: int, key_id: str = "") -> bool:
        """Return whether so many bytes more may be kept for a key; then they count until `let_go`."""
        with self._lock:
            return self._unhurried.bytes.has_taken(key_id, size)

    def has_entered(self, key_id: str = "") -> bool:
        """Return whether one more caller of a key may be given the rest without a place; counts until `leave`."""
        with self._lock:
            return self._unhurried.callers.has_taken(key_id, 1)

    def let_go(self, size: int, key_id: str = "") -> None:
        """Count bytes no more."""
        with self._lock:
            self._unhurried.bytes.give_back(key_id, size)

    def leave(self, key_id: str = "") -> None:
        """Count a caller no more."""
        with self._lock:
            self._unhurried.callers.give_back(key_id, 1)

    def enter_whole(self, size: int, key_id: str = "") -> Patience:
        """Count one more slow reader of a whole answer, which takes so many bytes; tell how it is waited for.

        Count it no more by `leave_whole`, with what this returned.
        """
        with self._lock:
            if self._unhurried.has_taken(key_id, size):
                return Patience.USUAL
            return Patience.HURRIED if self._hurried.has_taken(key_id, size) else Patience.NONE

    def leave_whole(self, patience: Patience, size: int, key_id: str = "") -> None:
        """Count a reader of a whole answer no more."""
        if patience is Patience.NONE:
            return
        with self._lock:
            (self._unhurried if patience is Patience.USUAL else self._hurried).give_back(key_id, size)


class Reader:
    """One caller, as somebody who reads.

    Args:
        caller: The connection; None where the web server does not show it, which is never slow.
        clock: Its monotonic seconds are used.
        has_left: Whether the caller is known to have left, or this process waits for nobody any more.
        is_hurried: Whether others wait for what is held for it; it may change.
    """

    def __init__(
        self,
        caller: socket.socket | None,
        *,
        clock: Clock,
        has_left: Callable[[], bool] = never,
        is_hurried: Callable[[], bool] = never,
    ) -> None:
        self._clock = clock
        self._has_left = has_left
        self._is_hurried = is_hurried
        self._must_hurry = False
        self._waited = self._hurried = 0.0
        self._hurried_allowed = float(_HURRIED_SECONDS)
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
        self._hurried_allowed += size / _HURRIED_BYTES_A_SECOND

    def hurry(self) -> None:
        """Hurry it from now on."""
        self._must_hurry = True

    def is_slow(self) -> bool:
        """Tell whether it was waited for a while, in all, or takes nothing for a moment now."""
        return self._waited > _SLOW_SECONDS or not self.takes(_LOOK_SECONDS)

    def wait(self) -> None:
        """Wait until it takes more.

        Raises:
            CallerLagsError: It was waited for longer than `SILENCE_SECONDS` and a second for each 4,096 bytes that it
                took, those which the kernel holds for it included; at once longer than if it had taken no others; for
                longer than five seconds and one for each 128 KiB while it was hurried; or it left.
        """
        began = looked = self._clock.monotonic()
        while not self.takes(_LOOK_SECONDS):
            looked = self._looked_since(looked)
            is_late = looked - began > min(self._silence, self._allowed - self._waited)
            if is_late or self._hurried > self._hurried_allowed or self._has_left():
                raise CallerLagsError(errno.EPIPE, "the caller does not read")
        self._waited += self._looked_since(looked) - began

    def _looked_since(self, last: float) -> float:
        """Note how long it was hurried since the last look; return when this one is."""
        now = self._clock.monotonic()
        if now > last and (self._must_hurry or self._is_hurried()):
            self._hurried += now - last
        return now


class Paced:
    """What a web server sends of an answer that is there as a whole, slice by slice as its caller takes it.

    A caller who reads slowly counts among those who lag while it does, and is hurried, or broken off, where there is no
    room: its outcome is recorded already.

    Args:
        told: The answer; closed with this.
        reader: The caller.
        lagging: What is kept for all.
        whose: Whose key the caller came with, and about how many bytes the answer takes beside what is sent.
    """

    def __init__(
        self, told: Iterable[bytes], reader: Reader, lagging: Lagging, *, whose: tuple[str, int] = NOBODYS
    ) -> None:
        self._told = told
        self._reader = reader
        self._lagging = lagging
        self._key_id, self._size = whose
        self._patience: Patience | None = None
        self._slices = self._sliced()

    def __iter__(self) -> Iterator[bytes]:
        return self._slices

    def close(self) -> None:
        """Close what was to be sent, and count the caller no more; again does nothing."""
        if self._patience is not None:
            self._lagging.leave_whole(self._patience, self._size, self._key_id)
            self._patience = None
        close = getattr(self._told, "close", None)
        if close is not None:
            close()

    def _sliced(self) -> Iterator[bytes]:
        for one in self._told:
            for start in range(0, len(one), _SLICE_BYTES):
                if not self._reader.takes():
                    if self._patience is None and self._reader.is_slow():
                        self._enter(len(one) - start)
                    self._reader.wait()
                piece = one[start : start + _SLICE_BYTES]
                self._reader.took(len(piece))
                yield piece

    def _enter(self, more: int) -> None:
        self._size += more
        self._patience = self._lagging.enter_whole(self._size, self._key_id)
        if self._patience is Patience.NONE:
            raise CallerLagsError(errno.EPIPE, "the caller does not read, and there is no room for more of them")
        if self._patience is Patience.HURRIED:
            self._reader.hurry()


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

    @property
    def has_room(self) -> bool:
        """Whether the caller is given the rest without a place, so that nobody waits for it."""
        return self._is_in

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
