"""From a verified release to what is carried: which blocks come from which volume, and which the store has already.

A delta set names the blocks that it does not carry by the objects that hold them (FMT-82, FMT-83). They are looked for
before a byte is copied, and hashed like all others when they are read: an object that the disk has lost is found here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.store.cargo import AbsentPiece, Cargo, Origin, Piece, StoredPiece
from appliance.store.content import ContentStore
from appliance.verify.verified import VerifiedRelease
from media import layout
from media.deltabase import Run
from media.errors import BaseMissingError
from media.release import Target
from media.volume import Part

_NAMED: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One target of a release.

    Args:
        cargo: All of it, from wherever its blocks lie.
        carried: What of it lies on the volumes, to be proven by itself; the cargo when that is all of it.
        volume: The first volume that has a part of it; 0 when none has.
    """

    cargo: Cargo
    carried: tuple[Cargo, ...]
    volume: int

    @property
    def carried_bytes(self) -> int:
        """How much of it lies on the volumes."""
        return sum(each.length for each in self.carried)


def loads(verified: VerifiedRelease, store: ContentStore | None) -> list[Load]:
    """Return what to carry, volume by volume, so that a reader seeks little.

    Args:
        verified: What the verifier allowed.
        store: Where the base of a delta set lies; None when only what is carried will be read.

    Raises:
        BaseMissingError: The store lacks what a delta set takes for granted; `why` names it.
    """
    index = verified.index
    media = {bag.info.number: bag.bag.medium for bag in verified.bags}
    volumes = {part.path: volume.number for volume in index.volumes for part in volume.parts}
    pieces = index.pieces()

    def on_volume(part: Part) -> Piece | AbsentPiece:
        number = volumes[part.path]
        path = f"{layout.RELEASE}/{part.path}"
        if number not in media or number in verified.kept:
            return AbsentPiece(volume=number, path=path, length=part.length)
        return Piece(medium=media[number], path=path, length=part.length, volume=number)

    if store is not None and index.base is not None:
        _require_base(verified, store)
    found = []
    for path, target in verified.payload.items():
        own = pieces.get(path, [Run(target=path, first=0, last=_last(target), object=target.sha256, block=0)])
        parts = [piece for piece in own if isinstance(piece, Part)]
        origins = tuple(
            origin
            for piece in own
            for origin in (
                _from_volume(on_volume(piece)) if isinstance(piece, Part) else _from_store(piece, target, store)
            )
        )
        cargo = Cargo(path=path, sha256=target.sha256, length=target.length, blocks=target.blocks, origins=origins)
        carried = (cargo,) if len(parts) == len(own) else tuple(_alone(part, target, on_volume(part)) for part in parts)
        found.append(Load(cargo=cargo, carried=carried, volume=volumes[parts[0].path] if parts else 0))
    return sorted(found, key=lambda load: (load.volume, load.cargo.path))


def _last(target: Target) -> int:
    return max(len(target.blocks) - 1, 0)


def _from_volume(piece: Piece | AbsentPiece) -> Iterator[Origin]:
    for number in range(max(-(-piece.length // layout.BLOCK_BYTES), 1)):
        yield Origin(piece=piece, offset=number * layout.BLOCK_BYTES)


def _from_store(run: Run, target: Target, store: ContentStore | None) -> Iterator[Origin]:
    if store is None:
        return
    # Where this very file is there already, it is its own source: the base may be gone by now.
    is_there = store.holds(target.sha256, target.length)
    name, first = (target.sha256, run.first) if is_there else (run.object, run.block)
    piece = StoredPiece(place=store.object_path(name), sha256=name, length=_size(store, name))
    for number in range(run.last - run.first + 1):
        yield Origin(piece=piece, offset=(first + number) * layout.BLOCK_BYTES)


def _size(store: ContentStore, sha256: str) -> int:
    """Return how long an object is; 0 when it is not there."""
    try:
        return store.object_path(sha256).lstat().st_size
    except OSError:
        return 0


def _alone(part: Part, target: Target, piece: Piece | AbsentPiece) -> Cargo:
    """Return a part as a target of its own, to be proven when the rest of its file is not read."""
    blocks = target.blocks[part.first : part.last + 1]
    return Cargo.in_pieces(path=part.path, sha256=part.sha256, length=part.length, blocks=blocks, pieces=[piece])


def _require_base(verified: VerifiedRelease, store: ContentStore) -> None:
    """Pass only when the store has everything that the delta set leaves out, by name and length."""
    index, targets = verified.index, verified.payload
    lacking = [
        (target, 0, _last(target))
        for target in index.held_whole(targets)
        if not store.holds(target.sha256, target.length)
    ]
    for run in index.base.runs if index.base else ():
        target = targets[run.target]
        needed = (run.block + run.last - run.first) * layout.BLOCK_BYTES + target.block_length(run.last)
        if not store.holds(target.sha256, target.length) and _size(store, run.object) < needed:
            lacking.append((target, run.first, run.last))
    if lacking:
        raise _missing(verified, lacking)


def _missing(verified: VerifiedRelease, lacking: Sequence[tuple[Target, int, int]]) -> BaseMissingError:
    base = verified.index.base
    listed = []
    total = 0
    for target, first, last in sorted(lacking, key=lambda each: (each[0].path, each[1])):
        length = min((last + 1) * layout.BLOCK_BYTES, target.length) - first * layout.BLOCK_BYTES
        total += length
        listed.append(f"{target.path} blocks {first} to {last} ({length} bytes)")
    more = f"; {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    serials = ", ".join(map(str, base.serials)) if base else ""
    made_for = f"; the set was made for {base.site} holding serial {serials}" if base else ""
    return BaseMissingError(
        what=f"the store lacks {total} bytes that this delta set takes for granted",
        why="; ".join(listed[:_NAMED]) + more + made_for,
        fix="receive that serial first, or ask for the full set; `sealift export inventory` says what is here",
    )
