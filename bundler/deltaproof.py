"""Proof, before the trip, that a delta set applies: every target put together from what is carried and what is held.

By digest always: blocks and whole files that the receiver says it has are those that the release needs. Byte for byte
for every file whose older content lies on this machine: its blocks are read from there and from what is carried, and
hashed as the receiver will hash them.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bundler.deltaplan import Gap, gaps
from bundler.holdings import Holdings
from bundler.measure import Progress, no_progress
from media import layout
from media.deltabase import Run
from media.digest import payload_digest, same
from media.errors import BaseMissingError, DigestMismatchError, UnreadableError
from media.release import Target
from media.volume import Part, VolumeIndex

_NAMED_GAPS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was proven.

    Args:
        files: Payload files of the release.
        bytes: Of them.
        carried_bytes: What the set carries below data/.
        carried_files: Parts and whole files that it carries.
        by_bytes: Files that were put together and hashed here.
        by_digest: Files that rest on the digests of what the receiver holds.
        payload_digest: Of the release, computed anew from what was put together.
    """

    files: int
    bytes: int
    carried_bytes: int
    carried_files: int
    by_bytes: int
    by_digest: int
    payload_digest: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields a program reads."""
        return asdict(self)

    def to_text(self) -> str:
        """Return what a person reads."""
        share = 100 * self.carried_bytes / self.bytes if self.bytes else 0.0
        return (
            f"it carries {self.carried_bytes:,} of {self.bytes:,} bytes ({share:.1f} %) and gives all "
            f"{self.files} files: {self.by_bytes} put together here byte for byte, {self.by_digest} by digest"
        )


def require_applies(index: VolumeIndex, targets: Mapping[str, Target], holdings: Holdings) -> None:
    """Refuse a delta set that the receiver could not complete, naming what it lacks.

    Raises:
        BaseMissingError: It lacks something; `why` names files, block ranges and bytes.
    """
    if found := gaps(index, targets, holdings):
        raise BaseMissingError(
            what=f"the delta set does not apply at {holdings.site}: {_total(found)} are missing there",
            why="; ".join(gap.to_text() for gap in found[:_NAMED_GAPS])
            + (f"; {len(found) - _NAMED_GAPS} more" if len(found) > _NAMED_GAPS else ""),
            fix="plan it again from a new inventory, or send the full medium: sealift-bundler write WORK FOLDER...",
        )


def prove(
    index: VolumeIndex,
    targets: Mapping[str, Target],
    holdings: Holdings,
    *,
    carried: Path,
    copies: Mapping[str, Path],
    progress: Progress = no_progress,
) -> Proof:
    """Put every target together and return what was proven.

    Args:
        index: Of the delta set.
        targets: Of the release.
        holdings: What the receiver has.
        carried: The folder below which `data/...` has the carried blocks at their places.
        copies: Older files of which this machine has a copy, by digest.
        progress: Called with bytes done, bytes in all, and the file in hand.

    Raises:
        BaseMissingError: The receiver lacks something.
        DigestMismatchError: What was put together is not what was signed.
        UnreadableError: A file cannot be read.
    """
    require_applies(index, targets, holdings)
    payload = [target for path, target in sorted(targets.items()) if path.startswith(f"{layout.DATA}/")]
    pieces = index.pieces()
    total, done = sum(target.length for target in payload), 0
    built: list[tuple[str, int, str]] = []
    by_bytes = 0
    for target in payload:
        own = pieces.get(target.path, [])
        needed = {piece.object for piece in own if isinstance(piece, Run)} or ({target.sha256} if not own else set())
        if needed <= copies.keys():
            source = carried / target.path
            built.append((target.path, target.length, _put_together(target, own, source, copies)))
            by_bytes += 1
        else:
            built.append((target.path, target.length, target.sha256))
        done += target.length
        progress(done, total, target.path)
    found = payload_digest(built)
    if not same(found, index.payload_digest):
        raise DigestMismatchError(
            what="what was put together is not the release that was signed",
            why=f"expected payload {index.payload_digest[:12]}, found {found[:12]}",
            fix="plan the delta set again; send the full medium if it happens twice",
        )
    parts = [part for volume in index.volumes for part in volume.parts]
    return Proof(
        files=len(payload),
        bytes=total,
        carried_bytes=sum(part.length for part in parts),
        carried_files=len(parts),
        by_bytes=by_bytes,
        by_digest=len(payload) - by_bytes,
        payload_digest=found,
    )


def _put_together(target: Target, pieces: Sequence[Part | Run], carried: Path, copies: Mapping[str, Path]) -> str:
    """Return the whole file's digest; every block is compared on the way."""
    whole = hashlib.sha256()
    for number, (place, block) in enumerate(_blocks(target, pieces, carried, copies)):
        whole.update(block)
        found = hashlib.sha256(block).hexdigest()
        if not same(found, target.blocks[number]):
            raise DigestMismatchError(
                what=f"block {number} of {target.path} is not what was signed, as it lies in {place}",
                why=f"expected {target.blocks[number][:12]}, found {found[:12]}",
                fix="restore that folder; until then plan without it, or send the full medium",
            )
    if not same(whole.hexdigest(), target.sha256):
        raise DigestMismatchError(
            what=f"{target.path}, put together, is not what was signed",
            why=f"expected {target.sha256[:12]}, found {whole.hexdigest()[:12]}",
            fix="build the release again",
        )
    return whole.hexdigest()


def _blocks(
    target: Target, pieces: Sequence[Part | Run], carried: Path, copies: Mapping[str, Path]
) -> Iterator[tuple[str, bytes]]:
    """Yield the blocks in order, each with the place that people know it by."""
    own: Sequence[Part | Run] = pieces or (
        [Run(target=target.path, first=0, last=len(target.blocks) - 1, object=target.sha256, block=0)]
        if target.blocks
        else []
    )
    for piece in own:
        if isinstance(piece, Run):
            place, file, shift = "the copy of the earlier release", copies[piece.object], piece.block - piece.first
        else:
            place, file, shift = "what is carried", carried, 0
        if target.length:
            for number in range(piece.first, piece.last + 1):
                yield place, _read(file, number + shift, target.block_length(number))


def _read(file: Path, block: int, length: int) -> bytes:
    try:
        with file.open("rb", buffering=0) as source:
            source.seek(block * layout.BLOCK_BYTES)
            pieces = []
            while length and (piece := source.read(length)):
                pieces.append(piece)
                length -= len(piece)
    except OSError as error:
        raise UnreadableError(what=f"{file.name} cannot be read", why=error.strerror or "input/output error") from error
    return b"".join(pieces)


def _total(found: Sequence[Gap]) -> str:
    return f"{sum(gap.length for gap in found):,} bytes"
