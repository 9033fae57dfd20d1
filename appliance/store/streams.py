"""Which block is read next: in the order of the medium, each device by as many threads as do it good.

A stick, a disc or a spinning disk is read by one thread at a time, from front to back; a fast device by all. Two sticks
in two ports are read side by side.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from appliance.store.cargo import AnyPiece, Piece

Task = Callable[[memoryview, Callable[[], None]], None]


@dataclass(slots=True)
class _Stream:
    width: int
    waiting: deque[Task] = field(default_factory=deque)
    readers: int = 0


class Streams:
    """Tasks of all devices. A task gets its thread's buffer, and a function to call when it has read its last byte."""

    def __init__(self, *, threads: int) -> None:
        self._threads = threads
        self._streams: dict[Hashable, _Stream] = {}
        self._changed = threading.Condition()
        self._is_stopped = False

    def put(self, piece: AnyPiece, task: Task) -> None:
        """Queue a task that reads from this piece."""
        stream = self._streams.get(piece.device)
        if stream is None:
            stream = self._streams[piece.device] = _Stream(1 if is_one_by_one(piece) else self._threads)
        stream.waiting.append(task)

    def work(self, buffer: memoryview) -> None:
        """Do tasks with this buffer until none is left, or the work was stopped."""
        while (found := self._take()) is not None:
            stream, task = found
            release = _Once(partial(self._release, stream))
            try:
                task(buffer, release)
            finally:
                release()

    def stop(self) -> None:
        """Let no task begin any more."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def _take(self) -> tuple[_Stream, Task] | None:
        with self._changed:
            while not self._is_stopped:
                waiting = [stream for stream in self._streams.values() if stream.waiting]
                if not waiting:
                    return None
                free = [stream for stream in waiting if stream.readers < stream.width]
                if free:
                    stream = min(free, key=lambda each: each.readers)
                    stream.readers += 1
                    return stream, stream.waiting.popleft()
                self._changed.wait()
            return None

    def _release(self, stream: _Stream) -> None:
        with self._changed:
            stream.readers -= 1
            self._changed.notify_all()


class _Once:
    """Calls a function the first time."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function: Callable[[], None] | None = function

    def __call__(self) -> None:
        function, self._function = self._function, None
        if function is not None:
            function()


def is_one_by_one(piece: AnyPiece) -> bool:
    """Tell whether a piece's device is better read by one thread, from front to back."""
    return isinstance(piece, Piece) and is_slow(piece.medium.device)


def reads_ahead(piece: AnyPiece) -> bool:
    """Tell whether a piece's device does well to be asked ahead: one thread reads it, through the kernel's cache.

    A file system of another program may pass the cache by, so that what was asked ahead would be read twice.
    """
    return isinstance(piece, Piece) and is_slow(piece.medium.device) and is_block_device(piece.medium.device)


@cache
def is_block_device(number: int, blocks: Path = Path("/sys/dev/block")) -> bool:
    """Tell whether the kernel knows a block device of this number."""
    return (blocks / f"{os.major(number)}:{os.minor(number)}").exists()


@cache
def is_slow(number: int, blocks: Path = Path("/sys/dev/block")) -> bool:
    """Tell whether a device is plugged in by USB, optical, a card, spinning, or not known.

    Args:
        number: The device's.
        blocks: Where the kernel describes block devices.
    """
    try:
        device = (blocks / f"{os.major(number)}:{os.minor(number)}").resolve(strict=True)
        whole = device if (device / "queue").is_dir() else device.parent
        spins = (whole / "queue/rotational").read_text().strip() == "1"
    except OSError:  # no block device: memory, or a file system of another program
        return True
    if any(part.startswith("usb") for part in device.parts) or whole.name.startswith(("sr", "fd", "mmcblk")):
        return True
    # A virtual disk says that it spins, whatever it lies on.
    return spins and not any(part.startswith("virtio") for part in device.parts)
