"""What is wrong with a release's bytes: every bad block, named so that a person can have that volume written again."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.store.cargo import Cargo, Piece
from media.errors import DigestMismatchError, MediaError, MissingVolumeError, UnreadableError

MOST: Final = 1024
"""So many bad blocks are kept, in order of their finding; the rest is counted."""
_MOST_UNREADABLE: Final = 16
_MOST_IN_DETAILS: Final = 64
_MOST_TENSORS_IN_DETAILS: Final = 16
_SHOWN: Final = 4
_SHOWN_TENSORS: Final = 3

TensorsOf = Callable[["BadBlock"], tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BadBlock:
    """One block that did not come as it was signed.

    Args:
        cargo: The target.
        number: Of the block.
        error: What happened: other bytes, another length, or no bytes at all.
        found: SHA-256 of what came; empty where not all of it came.
    """

    cargo: Cargo
    number: int
    error: MediaError
    found: str = ""

    @property
    def volume(self) -> int:
        """The volume's number; 0 where the block did not come from a volume."""
        piece = self.cargo.origins[self.number].piece
        return piece.volume if isinstance(piece, Piece) else 0

    @property
    def first(self) -> int:
        """The first byte in the target."""
        return self.cargo.start(self.number)

    @property
    def last(self) -> int:
        """The last byte in the target."""
        return self.first + max(self.cargo.block_length(self.number), 1) - 1


@dataclass(slots=True)
class Damage:
    """Bad blocks as they are found, by any thread."""

    blocks: list[BadBlock] = field(default_factory=list)
    count: int = 0
    absent: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, block: BadBlock) -> bool:
        """Keep a block; return whether reading on makes sense."""
        with self._lock:
            self.count += 1
            if len(self.blocks) < MOST:
                self.blocks.append(block)
            unreadable = sum(1 for each in self.blocks if isinstance(each.error, UnreadableError))
        return unreadable < _MOST_UNREADABLE

    def miss(self, volume: int) -> None:
        """A block lies on a volume that is not here."""
        with self._lock:
            self.absent.add(volume)

    def error(self, tensors_of: TensorsOf) -> MediaError:
        """Return the one error that names the bad blocks: bytes that differ before bytes that could not be read."""
        found = self._sorted()
        differ = [each for each in found if not isinstance(each.error, UnreadableError)]
        first = (differ or found)[0]
        others = [each for each in found if each is not first]
        listed = "; ".join(_named(each, tensors_of) for each in others[: _SHOWN - 1])
        more = f"; {self.count} bad blocks in all" if self.count > 1 else ""
        also = f"; also {listed}{more}" if listed else more
        what = f"{_where(first)} is damaged: {_bytes(first, tensors_of)}" if first.found else first.error.what
        kind = DigestMismatchError if differ else UnreadableError
        why = f"expected sha256 {_expected(first)}, found {first.found[:12]}" if first.found else first.error.why
        error = kind(what=what, why=f"{why}{also}", fix=_fix(found, differ=bool(differ)))
        error.details = {
            "bad_blocks": self.count,
            "blocks": self.to_json(tensors_of, most=_MOST_IN_DETAILS, most_tensors=_MOST_TENSORS_IN_DETAILS),
        }
        return error

    def to_json(
        self, tensors_of: TensorsOf, *, most: int = MOST, most_tensors: int | None = None
    ) -> list[dict[str, Any]]:
        """Return the bad blocks for a program: volume, file, byte range, tensors; at most so many, sorted."""
        return [
            {
                "volume": each.volume,
                "file": each.cargo.path,
                "first_byte": each.first,
                "last_byte": each.last,
                "readable": not isinstance(each.error, UnreadableError),
                "tensors": list(tensors_of(each)[:most_tensors]),
            }
            for each in self._sorted()[:most]
        ]

    def _sorted(self) -> list[BadBlock]:
        return sorted(self.blocks, key=lambda each: (each.volume, each.cargo.path, each.number))


def missing_volumes(missing: Iterable[int], known: Iterable[int], *, count: int) -> MissingVolumeError:
    """Return the error that asks for the volumes that are still missing, and says what became of the others."""
    lacking, proven = sorted(missing), sorted(known)
    numbers, here = ", ".join(map(str, lacking)), ", ".join(map(str, proven))
    error = MissingVolumeError(
        what=f"volume {numbers} of {count} is still missing",
        why=f"volume {here} was proven to the last byte and is not needed again",
        fix="mount the missing volume and receive again, alone or with the others; `--full` needs all of them",
    )
    error.details = {"volumes": count, "kept": proven, "missing": lacking}
    return error


def _where(block: BadBlock) -> str:
    return block.cargo.origins[block.number].piece.where


def _bytes(block: BadBlock, tensors_of: TensorsOf) -> str:
    tensors = tensors_of(block)
    shown = ", ".join(tensors[:_SHOWN_TENSORS])
    more = f" and {len(tensors) - _SHOWN_TENSORS} more" if len(tensors) > _SHOWN_TENSORS else ""
    named = f" (tensor {shown}{more})" if tensors else ""
    return f"bytes {block.first} to {block.last} of {block.cargo.path}{named}"


def _named(block: BadBlock, tensors_of: TensorsOf) -> str:
    volume = f"volume {block.volume}: " if block.volume else ""
    return f"{volume}{_bytes(block, tensors_of)}"


def _expected(block: BadBlock) -> str:
    return block.cargo.digests[block.number][:12]


def _fix(blocks: list[BadBlock], *, differ: bool) -> str:
    volumes = sorted({each.volume for each in blocks if each.volume})
    if not volumes:
        return "receive again from a medium that carries these bytes, and check the disk"
    commands = ", ".join(f"`sealift-bundler remake WORK MEDIUM --volume {number}`" for number in volumes)
    first = "" if differ else "clean the contacts, try another port or drive and receive again; if it stays so, "
    return f"{first}ask the sender for {commands}; what was proven is kept and not read again"
