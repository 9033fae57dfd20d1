"""What is carried: one target, what it must hash to, and where its bytes lie on which volumes."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from appliance.store.pipeline import SLAB_BYTES
from appliance.verify.medium import Content, Medium
from media import layout
from media.errors import DigestMismatchError

_NEW_COPY: Final = (
    "ask the sender to run `sealift-bundler remake WORK MEDIUM --volume N` for this volume; "
    "what was proven is kept and not read again"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One file on one volume that holds consecutive blocks of a target."""

    medium: Medium
    path: str
    length: int

    @property
    def where(self) -> str:
        """What errors call it."""
        return f"{self.medium.label}: {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cargo:
    """One target to carry. `pieces` are in block order; each but the last ends at a block's end."""

    path: str
    sha256: str
    length: int
    blocks: tuple[str, ...]
    pieces: tuple[Piece, ...]

    def block_length(self, number: int) -> int:
        """Return how many bytes block `number` has."""
        return min(layout.BLOCK_BYTES, self.length - number * layout.BLOCK_BYTES)

    def chunks(self, number: int) -> Iterator[tuple[int, int]]:
        """Yield offset in the target and length of each slab-sized piece of block `number`."""
        offset = number * layout.BLOCK_BYTES
        end = offset + self.block_length(number)
        while offset < end:
            length = min(SLAB_BYTES, end - offset)
            yield offset, length
            offset += length


class Reader:
    """Reads a cargo's pieces in order from the first block wanted: each opened once, exactly as long as signed.

    `where` names the piece in hand, for errors.
    """

    def __init__(self, cargo: Cargo, first_block: int) -> None:
        skip = first_block * layout.BLOCK_BYTES
        self._waiting: list[tuple[Piece, int]] = []
        for piece in cargo.pieces:
            if skip < piece.length or (piece.length == 0 and not skip):
                self._waiting.append((piece, skip))
                skip = 0
            else:
                skip -= piece.length
        self._piece: Piece | None = None
        self._content: Content | None = None
        self._left = 0
        self.where = cargo.path

    def fill(self, view: memoryview) -> None:
        """Fill the whole view with the next bytes.

        Raises:
            DigestMismatchError: A piece is not as long as signed.
            MediaError: It is missing, no plain file, or cannot be read.
        """
        while view:
            if not self._left:
                self._next()
            piece, content = self._in_hand()
            try:
                got = os.readv(content.descriptor, [view[: self._left]])
            except OSError as error:
                raise piece.medium.unreadable(piece.path, error) from error
            if not got:
                raise self._wrong_length(piece, "it ends too early")
            self._left -= got
            view = view[got:]

    def require_end(self) -> None:
        """Refuse bytes after the last one that was signed.

        Raises:
            DigestMismatchError: A piece grew.
            UnreadableError: The medium cannot be read.
        """
        while self._waiting:  # nothing but empty pieces can be left
            self._next()
        self._require_piece_end()

    def forget(self) -> None:
        """Let the page cache drop what was read: the services that are running have a better use for it."""
        if self._content is not None:
            os.posix_fadvise(self._content.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Close the piece in hand."""
        if self._content is not None:
            os.close(self._content.descriptor)
            self._content = None

    def _next(self) -> None:
        self._require_piece_end()
        self.close()
        piece, skip = self._waiting.pop(0)
        self._piece, self.where = piece, piece.where
        self._content = piece.medium.open_content(piece.path)
        if self._content.size != piece.length:
            raise self._wrong_length(piece, f"expected {piece.length} bytes, found {self._content.size}")
        os.posix_fadvise(self._content.descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        if skip:
            os.lseek(self._content.descriptor, skip, os.SEEK_SET)
        self._left = piece.length - skip

    def _require_piece_end(self) -> None:
        if self._content is None or self._piece is None:
            return
        try:
            more = os.read(self._content.descriptor, 1)
        except OSError as error:
            raise self._piece.medium.unreadable(self._piece.path, error) from error
        if more:
            raise self._wrong_length(self._piece, "it grew while it was read")

    def _in_hand(self) -> tuple[Piece, Content]:
        if self._piece is None or self._content is None:
            message = "no piece is open"
            raise RuntimeError(message)
        return self._piece, self._content

    @staticmethod
    def _wrong_length(piece: Piece, why: str) -> DigestMismatchError:
        return DigestMismatchError(what=f"{piece.where} is not as long as signed", why=why, fix=_NEW_COPY)


def damaged_block(cargo: Cargo, number: int, *, where: str, found: str) -> DigestMismatchError:
    """Return the error for a block that is not what was signed; it names the bytes."""
    first = number * layout.BLOCK_BYTES
    last = first + cargo.block_length(number) - 1
    return DigestMismatchError(
        what=f"{where} is damaged: bytes {first} to {last} of {cargo.path}",
        why=f"expected sha256 {cargo.blocks[number][:12]}, found {found[:12]}",
        fix=_NEW_COPY,
    )


def damaged_whole(cargo: Cargo, *, found: str) -> DigestMismatchError:
    """Return the error for a file whose blocks are as signed and whose whole is not."""
    return DigestMismatchError(
        what=f"{cargo.path} does not hash to its signed digest though its blocks do",
        why=f"expected sha256 {cargo.sha256[:12]}, found {found[:12]}",
        fix="the release was built wrongly: tell the sender",
    )
