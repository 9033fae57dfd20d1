"""What each person checks of a delta set before sealing it: round one signed the release, not this index."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from bundler.signatory import Ceremony
from bundler.signedmetadata import signed_release
from bundler.volumefiles import volume_index
from bundler.workfolder import WorkFolder
from media import custody, layout
from media.custody import HandOverKind
from media.digest import same
from media.errors import DigestMismatchError, WrongVolumeError
from media.release import Target
from media.volume import Part


def require_sound(work: WorkFolder, *, ceremony: Ceremony) -> None:
    """Pass only for a delta set that a receiver of its base could take: what each person checks before sealing.

    The bytes themselves are compared by `bundler.seal`.

    Raises:
        TrustError: Metadata or a custody entry is not signed by people who may.
        MediaError: Index, targets and blocks differ.
    """
    index = volume_index(work)
    targets, _, _ = signed_release(reader(work), index, ceremony)
    for volume in index.volumes:
        for part in volume.parts:
            _require_blocks(work.candidate / part.target, part, targets[part.target])
        entry = custody.read_entry((work.root / index.sealed_entry(volume.number)).read_bytes(), ceremony.people)
        found = entry.hand_over
        if (found.kind, found.release, found.volume) != (HandOverKind.SEALED, index.release, volume.id):
            raise WrongVolumeError(
                what=f"the sealed entry of volume {volume.number} is about something else",
                why=f"it is about volume {found.volume} of {found.release}",
                fix="make the delta set again",
            )


def reader(work: WorkFolder) -> Callable[[str], bytes]:
    """Return what reads files of release/ from where a work folder keeps them."""
    return lambda name: (work.root / name).read_bytes()


def _require_blocks(path: Path, part: Part, target: Target) -> None:
    with path.open("rb", buffering=0) as reading:
        for number in range(part.first, part.last + 1) if target.length else ():
            reading.seek(number * layout.BLOCK_BYTES)
            require_block(read_block(reading.read, target.block_length(number)), target, number)


def read_block(read: Callable[[int], bytes | None], length: int) -> bytes:
    """Return so many bytes, or fewer where the file ends."""
    pieces = []
    while length and (piece := read(length)):
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


def require_block(block: bytes, target: Target, number: int) -> None:
    """Pass only for the block that people signed.

    Raises:
        DigestMismatchError: It is another.
    """
    found = hashlib.sha256(block).hexdigest()
    if not same(found, target.blocks[number]):
        raise DigestMismatchError(
            what=f"block {number} of {target.path} is not what people signed",
            why=f"expected {target.blocks[number][:12]}, the work folder holds {found[:12]}",
            fix="restore the work folder; do not seal this one",
        )
