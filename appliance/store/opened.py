"""Files that blocks are read from: each opened once however many threads read it, and closed after its last block."""

import errno
import os
import threading
from typing import Final

from appliance.store.cargo import AnyPiece, Piece, StoredPiece
from appliance.store.streams import reads_ahead
from appliance.verify.medium import Content
from media.errors import DigestMismatchError, MediaError, UnreadableError

_PROBE_BYTES: Final = 4096


class OpenPiece:
    """One file of a medium or of the store, open from its first block to its last.

    A device that is read by one thread is asked ahead, so that it works while that thread hashes and writes.

    Args:
        piece: Which.
        blocks: How many blocks will be read from it.
        lingers: It stays open behind its last block, until `close`.
    """

    __slots__ = ("_content", "_error", "_hints", "_left", "_lingers", "_lock", "_piece")

    def __init__(self, piece: AnyPiece, blocks: int, *, lingers: bool = False) -> None:
        self._piece = piece
        self._left = blocks
        self._lingers = lingers
        self._lock = threading.Lock()
        self._content: Content | None = None
        self._error: MediaError | None = None
        self._hints = reads_ahead(piece)

    def fill(self, view: memoryview, offset: int) -> None:
        """Fill the whole view with the bytes at `offset`.

        Raises:
            DigestMismatchError: The file is not as long as signed.
            MediaError: It is missing, no plain file, or cannot be read.
        """
        content = self._open()
        while view:
            try:
                got = os.preadv(content.descriptor, [view], offset)
            except OSError as error:
                raise self._unreadable(error) from error
            if not got:
                raise self._wrong_length("it ends too early")
            view, offset = view[got:], offset + got

    def ahead(self, offset: int, length: int) -> None:
        """Ask the device for bytes that will be wanted next, and do not wait for them."""
        if self._hints:
            os.posix_fadvise(self._open().descriptor, offset, length, os.POSIX_FADV_WILLNEED)

    def leave(self, scratch: memoryview, offset: int, length: int) -> None:
        """One block was read, or given up. After the last one the file must end where it was signed to end.

        What was read is dropped from the page cache: the services that are running have a better use for it.

        Raises:
            DigestMismatchError: It grew.
            MediaError: It cannot be read.
        """
        with self._lock:
            content = self._content
            if content is not None:  # while it is certain that no other thread closes it
                os.posix_fadvise(content.descriptor, offset, length, os.POSIX_FADV_DONTNEED)
            self._left -= 1
            if content is None or self._left:
                return
            if not self._lingers:
                self._content = None
        try:
            self._require_end(content, scratch)
        finally:
            if not self._lingers:
                os.close(content.descriptor)

    def duplicate(self) -> int:
        """Return a descriptor of its own for what lingers.

        Raises:
            OSError: It is not open.
        """
        with self._lock:
            if self._content is None:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            return os.dup(self._content.descriptor)

    def close(self) -> None:
        """Close it although blocks of it are left."""
        with self._lock:
            content, self._content = self._content, None
        if content is not None:
            os.close(content.descriptor)

    def _open(self) -> Content:
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._content is None:
                try:
                    self._content = self._opened()
                except MediaError as error:
                    self._error = error
                    raise
            return self._content

    def _opened(self) -> Content:
        content = self._open_file()
        if content.size != self._piece.length:
            os.close(content.descriptor)
            raise self._wrong_length(f"expected {self._piece.length} bytes, found {content.size}")
        os.posix_fadvise(content.descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        return content

    def _open_file(self) -> Content:
        piece = self._piece
        if isinstance(piece, Piece):
            return piece.medium.open_content(piece.path)
        if isinstance(piece, StoredPiece):
            try:
                descriptor = os.open(piece.place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                return Content(descriptor=descriptor, size=os.fstat(descriptor).st_size)
            except OSError as error:
                raise self._unreadable(error) from error
        message = f"{piece.where} is not here"
        raise RuntimeError(message)

    def _require_end(self, content: Content, scratch: memoryview) -> None:
        start = self._piece.length // _PROBE_BYTES * _PROBE_BYTES
        try:
            got = os.preadv(content.descriptor, [scratch[:_PROBE_BYTES]], start)
        except OSError as error:
            raise self._unreadable(error) from error
        if start + got > self._piece.length:
            raise self._wrong_length("it grew while it was read")

    def _unreadable(self, error: OSError) -> UnreadableError:
        if isinstance(self._piece, Piece):
            return self._piece.medium.unreadable(self._piece.path, error)
        return UnreadableError(
            what=f"{self._piece.where} cannot be read",
            why=error.strerror or type(error).__name__,
            fix="check the disk, then receive again",
        )

    def _wrong_length(self, why: str) -> DigestMismatchError:
        return DigestMismatchError(what=f"{self._piece.where} is not as long as signed", why=why)
