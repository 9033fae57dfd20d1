"""Wrapped keys in one file of slots of equal size, so that a key that is destroyed leaves no copy behind.

A database moves rows between pages, journals and a write-ahead log; here a key lies in one place from the first write
to the last, and destroying writes random bytes over exactly that place and waits for the disk. No rename, no
truncation, no second file. On flash media and on file systems that copy on write the old cells may survive: see
docs/operator/retention.md.

    slot: used (1) | name (32) | length (2, big endian) | wrapped key, padded with random bytes
"""

import fcntl
import os
import secrets
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from appliance.errors import KeyMissingError, StoreWriteError

SLOT_BYTES: Final = 512
NAME_BYTES: Final = 32
_HEAD = struct.Struct(f">B{NAME_BYTES}sH")
_MOST: Final = SLOT_BYTES - _HEAD.size


class KeySlots:
    """Wrapped keys by name; one process at a time holds the file.

    Args:
        path: The file; made with mode 0600 when it is absent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, name: bytes) -> bytes:
        """Return a wrapped key.

        Raises:
            KeyMissingError: It was destroyed or never here.
        """
        with self._held() as file:
            for place, used, own, data in _slots(file):
                if used and own == name and place >= 0:
                    return data
        raise _missing("it was destroyed, or never here")

    def names(self) -> frozenset[bytes]:
        """Return the names of all keys that are here."""
        with self._held() as file:
            return frozenset(own for _, used, own, _ in _slots(file) if used)

    def put(self, name: bytes, wrapped: bytes) -> None:
        """Keep a wrapped key under a name that is not taken; it is on the disk when this returns.

        Raises:
            KeyMissingError: The name is taken, or the key does not fit a slot.
            StoreWriteError: The disk refuses.
        """
        if len(name) != NAME_BYTES or len(wrapped) > _MOST:
            raise _missing("it does not fit a slot")
        with self._held() as file:
            free = os.fstat(file).st_size // SLOT_BYTES
            for place, used, own, _ in _slots(file):
                if used and own == name:
                    raise _missing("a key of this name is here")
                free = min(free, place) if not used else free
            padding = secrets.token_bytes(_MOST - len(wrapped))
            _write(file, free, _HEAD.pack(1, name, len(wrapped)) + wrapped + padding)

    def destroy(self, name: bytes) -> bool:
        """Write over a key and wait for the disk; tell whether there was one.

        Raises:
            StoreWriteError: The disk refuses: the key may still be readable.
        """
        with self._held() as file:
            places = [place for place, used, own, _ in _slots(file) if used and own == name]
            for place in places:
                _write(file, place, b"\0" + secrets.token_bytes(SLOT_BYTES - 1))
        return bool(places)

    @contextmanager
    def _held(self) -> Iterator[int]:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _refused(error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)


def _slots(file: int) -> Iterator[tuple[int, bool, bytes, bytes]]:
    count = os.fstat(file).st_size // SLOT_BYTES
    for place in range(count):
        content = os.pread(file, SLOT_BYTES, place * SLOT_BYTES)
        used, name, length = _HEAD.unpack_from(content)
        yield place, used == 1 and length <= _MOST, name, content[_HEAD.size : _HEAD.size + length]


def _write(file: int, place: int, content: bytes) -> None:
    try:
        if os.pwrite(file, content, place * SLOT_BYTES) != SLOT_BYTES:
            raise OSError(28, "the slot was cut")
        os.fsync(file)
    except OSError as error:
        raise _refused(error) from error


def _missing(why: str) -> KeyMissingError:
    return KeyMissingError(
        what="a key of a subject or a record cannot be used", why=why, fix="what it opened is erased"
    )


def _refused(error: OSError) -> StoreWriteError:
    return StoreWriteError(
        what="the file of wrapped keys cannot be written", why=error.strerror or "", fix="make room, then run it again"
    )
