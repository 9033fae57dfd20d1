"""From a `VerifiedRelease` to a release that waits to be published: room, then bytes, then the record.

Takes nothing but a `VerifiedRelease`. Bytes of the medium are read and proven for every file, also for those that the
store has already; an object of an earlier release is hashed again before it is relied on, and replaced when it does not
hold. Until everything is proven, nothing below `objects/` or `releases/` is touched.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from appliance.errors import NoSpaceError, StoreDamagedError
from appliance.store.cargo import Cargo, StoredPiece
from appliance.store.carry import Carrier
from appliance.store.content import FORMAT, ContentStore
from appliance.store.damage import TensorsOf, missing_volumes
from appliance.store.incoming import Incoming
from appliance.store.kept import forget_volumes, keep_volumes
from appliance.store.kept_small import KEPT, SUMMED
from appliance.store.loading import Load, loads
from appliance.store.tensors import TensorNames, TensorsOnMedium, has_tensors
from appliance.store.writing import writing
from appliance.verify.steps import Check, OnStep, unheard
from appliance.verify.verified import VerifiedRelease
from media import layout
from media.errors import MediaError, MissingVolumeError, UnreadableError

_SPARE_BYTES: Final = 64 * 2**20

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestFacts:
    """What was read, written and found to be there already, in bytes and files."""

    read_bytes: int
    written_bytes: int
    reused_files: int
    resumed_files: int


def ingest(
    verified: VerifiedRelease,
    store: ContentStore,
    *,
    received_at: str,
    full: bool,
    progress: Progress,
    on_step: OnStep = unheard,
) -> IngestFacts:
    """Bring a release into the store, up to the point where `publish` makes it visible.

    Args:
        verified: What the verifier allowed.
        store: The store, locked by the caller.
        received_at: Time of this receive, for the store's record.
        full: Ignore the journal of an interrupted receive and prove everything again.
        progress: Called with bytes done, bytes in all, and the file in hand.
        on_step: Called when the bytes begin, after there was room.

    Raises:
        BaseMissingError: The store lacks what a delta set takes for granted; nothing was written.
        MediaError: Bytes are not what was signed, or cannot be read. Unless they could not be read, what was stored is
            in quarantine.
        StoreDamagedError: The store's own files, which a delta set builds on, are not what they were; what was carried
            is kept.
        NoSpaceError: There is not enough room; `why` has both numbers.
        MissingVolumeError: Volumes are not there yet; those that are were proven and are kept.
        StoreWriteError: The store cannot be written.
    """
    loaded = loads(verified, store)
    cargo = [each.cargo for each in loaded]
    code = "" if verified.missing else verified.code
    incoming = Incoming.begin(store, code=code, payload_digest=verified.terms.payload_digest, full=full)
    try:
        if full:
            forget_volumes(incoming)
        _require_room(cargo, incoming)
        on_step(Check.BYTES)
        facts, absent = _carry(loaded, incoming, store, progress=_counted(cargo, progress))
        if missing := absent | set(verified.missing):  # some were kept before, and the disk does not give it back
            keep_volumes(verified, incoming)
            raise _still_missing(verified, missing, facts)
        kept = incoming.stage(_small_files(verified))
        incoming.place_objects({each.sha256 for each in cargo})
        incoming.complete({**_record(verified, received_at=received_at), KEPT: kept, SUMMED: True})
    except (UnreadableError, MissingVolumeError):
        raise
    except MediaError:
        incoming.refuse()
        raise
    finally:
        incoming.close()
    return facts


def check(verified: VerifiedRelease, *, progress: Progress) -> IngestFacts:
    """Read and prove every byte of the medium; nothing is written.

    Raises:
        MediaError: Bytes are not what was signed, or cannot be read.
    """
    cargo = [each for load in loads(verified, None) for each in load.carried]
    carrier = Carrier(None, _counted(cargo, progress))
    for each in cargo:
        carrier.check(each, lingers=has_tensors(each.path))
    try:
        carrier.run()
        _require_sound(carrier, TensorsOnMedium(carrier))
    finally:
        carrier.let_go()
    facts = IngestFacts(read_bytes=carrier.read_bytes, written_bytes=0, reused_files=0, resumed_files=0)
    if verified.missing:
        raise _still_missing(verified, set(verified.missing), facts)
    return facts


def _carry(
    loaded: list[Load], incoming: Incoming, store: ContentStore, *, progress: Callable[[int, str], None]
) -> tuple[IngestFacts, set[int]]:
    """Carry all that is to be read; return the facts, and the volumes that blocks were missing from."""
    reused = resumed = 0
    held = _held(loaded, incoming, store, progress)
    begun: set[str] = set()
    carrier = Carrier(incoming, progress)
    for load in loaded:
        each = load.cargo
        if each.sha256 in begun:  # the same content under a second name: its own bytes are proven too
            _check(carrier, load, progress)
        elif incoming.has_proven(each.sha256, each.length):
            begun.add(each.sha256)
            resumed += 1
            progress(each.length, each.path)
            continue
        elif each.sha256 in held:
            reused += 1
            _check(carrier, load, progress, told=not load.carried)
        else:
            carrier.store(each)
        begun.add(each.sha256)
    carrier.run()
    _require_sound(carrier, TensorNames(carrier, incoming))
    facts = IngestFacts(
        read_bytes=carrier.read_bytes,
        written_bytes=carrier.written_bytes,
        reused_files=reused,
        resumed_files=resumed,
    )
    return facts, carrier.damage.absent


def _still_missing(verified: VerifiedRelease, missing: set[int], facts: IngestFacts) -> MissingVolumeError:
    there = {bag.info.number for bag in verified.bags}
    error = missing_volumes(missing, there - missing, count=len(verified.index.volumes))
    error.details = {
        **(error.details or {}),
        "read_bytes": facts.read_bytes,
        "written_bytes": facts.written_bytes,
    }
    return error


def _held(
    loaded: list[Load], incoming: Incoming, store: ContentStore, progress: Callable[[int, str], None]
) -> set[str]:
    """Return the names of objects of earlier releases that the disk gives back as what this release says they are.

    Of files that no volume carries this is all the reading there is, so it is told as progress.
    """
    left_out = {load.cargo.path for load in loaded if not load.carried}
    prover = Carrier(None, lambda length, path: progress(length, path) if path in left_out else None)
    asked: dict[str, Cargo] = {}
    for each in (load.cargo for load in loaded):
        if each.sha256 in asked or incoming.has_proven(each.sha256, each.length):
            continue
        if store.holds(each.sha256, each.length):
            piece = StoredPiece(place=store.object_path(each.sha256), sha256=each.sha256, length=each.length)
            asked[each.sha256] = Cargo.in_pieces(
                path=each.path, sha256=each.sha256, length=each.length, blocks=each.blocks, pieces=[piece]
            )
            prover.check(asked[each.sha256])
    prover.run()
    return {sha256 for sha256, each in asked.items() if len(prover.proven(each)) == len(each.origins)}


def _check(carrier: Carrier, load: Load, progress: Callable[[int, str], None], *, told: bool = False) -> None:
    """Plan to prove what the volumes have of a target whose object is there, proven a moment ago.

    The rest of it is progress, unless that was told while the object was proven.
    """
    for each in load.carried:
        carrier.check(each)
    left_out = load.cargo.length - load.carried_bytes
    if left_out and not told:
        progress(left_out, load.cargo.path)


def _require_sound(carrier: Carrier, tensors_of: TensorsOf) -> None:
    if not carrier.damage.count:
        return
    error = carrier.damage.error(tensors_of)
    if all(isinstance(each.cargo.origins[each.number].piece, StoredPiece) for each in carrier.damage.blocks):
        damaged = StoreDamagedError(
            what=f"the base of this delta set does not hold: {error.what}",
            why=error.why,
            fix="check the disk, then receive the full set of this release, or a delta set made from a new inventory",
        )
        damaged.details = error.details
        raise damaged
    raise error


def _require_room(cargo: list[Cargo], incoming: Incoming) -> None:
    wanted = {each.sha256: each.length for each in cargo}
    needed = _SPARE_BYTES + sum(length - incoming.held_bytes(sha256, length) for sha256, length in wanted.items())
    with writing("the new release"):
        facts = os.statvfs(incoming.folder)
    free = facts.f_bavail * facts.f_frsize
    if needed > free:
        raise NoSpaceError(
            what="the store has not enough room for this release",
            why=f"it needs {needed} bytes, {free} are free",
            fix=f"make room for {needed - free} bytes more, then receive again",
        )


def _small_files(verified: VerifiedRelease) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Yield path and pieces of the release's own files, one after another, so that all can be verified again later."""
    first = verified.bags[0]
    for path in first.tags:
        if path.startswith((f"{layout.METADATA}/", f"{layout.ATTEST}/", f"{layout.CHECK}/")):
            yield path, first.bag.pieces(path)
    own = (layout.TAG_MANIFEST, layout.MANIFEST, layout.BAGIT, layout.BAG_INFO)
    for bag, custody in zip(verified.bags, verified.custody, strict=True):
        number = bag.info.number
        for path in (*own, *bag.bag.signatures):
            yield f"volumes/{number}/{path}", bag.bag.pieces(path)
        for name, content in custody.files.items():
            yield f"{layout.CUSTODY}/{number}/{name}", (content,)


def _record(verified: VerifiedRelease, *, received_at: str) -> dict[str, Any]:
    files = {
        path: {"kind": target.kind, "length": target.length, "sha256": target.sha256}
        for path, target in verified.payload.items()
    }
    return {**verified.to_json(), "format": FORMAT, "received_at": received_at, "files": files}


def _counted(cargo: list[Cargo], progress: Progress) -> Callable[[int, str], None]:
    total = sum(each.length for each in cargo)
    done = 0
    lock = threading.Lock()

    def add(length: int, path: str) -> None:
        nonlocal done
        with lock:
            done += length
            progress(done, total, path)

    return add
