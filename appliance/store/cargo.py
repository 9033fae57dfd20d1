"""What is carried: one target, what each of its blocks must hash to, and where that block's bytes lie.

A block's origin is a file and an offset in it. The file is a part on a mounted volume, an object that the store has
already, or a part on a volume that is not here today; the digest is the target's own whichever it is.
"""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from appliance.verify.medium import Medium
from media import layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One file on a mounted volume that holds blocks of a target; exactly as long as signed.

    Args:
        medium: The volume.
        path: Below the volume's root.
        length: Bytes.
        volume: The volume's number in the signed index; 0 where there is none.
    """

    medium: Medium
    path: str
    length: int
    volume: int = 0

    @property
    def where(self) -> str:
        """What errors call it."""
        named = f"volume {self.volume} ({self.medium.label})" if self.volume else self.medium.label
        return f"{named}: {self.path}"

    @property
    def device(self) -> Hashable:
        """What it shares with all that is read through one plug."""
        return self.medium.device


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPiece:
    """An object that the store has already and that holds blocks of a target.

    Args:
        place: Where the object lies.
        sha256: Its name.
        length: Bytes.
    """

    place: Path
    sha256: str
    length: int

    @property
    def where(self) -> str:
        """What errors call it."""
        return f"the store: object {self.sha256[:12]}"

    @property
    def device(self) -> Hashable:
        """The store is one place, read by many at a time."""
        return "store"


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsentPiece:
    """A file on a volume that is not mounted; its blocks are left out, and the release stays incomplete."""

    volume: int
    path: str
    length: int

    @property
    def where(self) -> str:
        """What errors call it."""
        return f"volume {self.volume}: {self.path}"

    @property
    def device(self) -> Hashable:
        """Nothing is read from it."""
        return "absent"


AnyPiece = Piece | StoredPiece | AbsentPiece


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a block's bytes begin."""

    piece: AnyPiece
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cargo:
    """One target to carry.

    Args:
        path: The target's, for texts.
        sha256: Of the whole file; the name of the object.
        length: Bytes.
        blocks: SHA-256 of each block; none for an empty file.
        origins: One for each block, and one for an empty file.
    """

    path: str
    sha256: str
    length: int
    blocks: tuple[str, ...]
    origins: tuple[Origin, ...]

    @classmethod
    def in_pieces(
        cls, *, path: str, sha256: str, length: int, blocks: tuple[str, ...], pieces: Iterable[AnyPiece]
    ) -> Self:
        """Return cargo whose blocks lie one after another in these files, each but the last ending at a block's end."""
        origins: list[Origin] = []
        for piece in pieces:
            count = max(-(-piece.length // layout.BLOCK_BYTES), 1)
            origins += [Origin(piece=piece, offset=number * layout.BLOCK_BYTES) for number in range(count)]
        return cls(path=path, sha256=sha256, length=length, blocks=blocks, origins=tuple(origins))

    @property
    def digests(self) -> tuple[str, ...]:
        """What is proven, one for each origin: the blocks, or the whole of a file that has none."""
        return self.blocks or (self.sha256,)

    def block_length(self, number: int) -> int:
        """Return how many bytes block `number` has."""
        return min(layout.BLOCK_BYTES, self.length - self.start(number))

    def start(self, number: int) -> int:
        """Return where block `number` begins in the target."""
        return number * layout.BLOCK_BYTES

    def chunks(self, number: int, most: int) -> Iterator[tuple[int, int]]:
        """Yield offset in the block and length of each piece of block `number` that fits a buffer of `most` bytes.

        An empty file has one chunk of no bytes.
        """
        length = self.block_length(number)
        if not length:
            yield 0, 0
        for offset in range(0, length, most):
            yield offset, min(most, length - offset)
