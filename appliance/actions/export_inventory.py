"""The inventory: what the store holds, for a sender who then carries only the rest (EXP-4 to EXP-6).

Every file is hashed again, whole and by blocks, so that no delta set is planned on one that the disk has lost; a file
that does not hold is left out, named here, and then carried anew. What was removed with a deleted version is left out
and is no finding.
"""

import hashlib
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.actions import believing, exporting
from appliance.actions.export_types import ExportType
from appliance.actions.exporting import Export, Written
from appliance.audit.client import open_ledger
from appliance.config import Config
from appliance.keys.opening import open_keys
from appliance.registry.deletion import deleted
from appliance.store.content import ContentStore, StoredFile, StoredRelease
from appliance.store.garbage import excused
from media import canonical, layout, limits
from media.clock import Clock
from media.errors import MediaError
from media.inventory import HeldFile, HeldRelease, Inventory
from media.release import Target, targets_from

DOOR: Final = "ledger-actions"

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An inventory and what had to be left out of it.

    Args:
        inventory: What leaves.
        damaged: Files that the store names and the disk does not give back, by their path in a release.
    """

    inventory: Inventory
    damaged: tuple[str, ...]


def export(
    config: Config,
    folder: Path,
    *,
    clock: Clock,
    agrees: Callable[[Listed, str], bool],
    progress: Progress,
    quick: bool = False,
) -> tuple[Listed, Written | None]:
    """List what the store holds, show it, record it and write it; None when the person did not agree.

    Args:
        config: The site's.
        folder: Where to write the file.
        clock: What time it is.
        agrees: Shows what was left out and the whole text, and returns the answer.
        progress: Called with bytes done, bytes in all, and the file in hand.
        quick: Look at lengths only; the inventory says so.

    Raises:
        ExportRefusedError: It holds what may not leave.
        LedgerUnavailableError: It could not be recorded; nothing was written.
        LimitExceededError: The store holds more than an inventory may list.
        StoreWriteError: It could not be written.
    """
    ledger = open_ledger(config, DOOR, clock=clock)
    try:
        serial = believing.believed(config, ledger, None).serial
        gone = excused(ContentStore(config.at.store), frozenset(deleted(ledger)))
        listed = take(config, clock=clock, serial=serial, quick=quick, progress=progress, removed=gone)
        made = Export(
            kind=ExportType.INVENTORY,
            site=config.site,
            name=f"inventory-{config.site}",
            draft=listed.inventory,
        )
        written = exporting.write(
            made,
            folder,
            ledger=ledger,
            keys=open_keys(config),
            agrees=lambda text: agrees(listed, text),
        )
    finally:
        ledger.close()
    return listed, written


def take(
    config: Config,
    *,
    clock: Clock,
    serial: int,
    quick: bool,
    progress: Progress,
    removed: Collection[str] = (),
) -> Listed:
    """Return the inventory of the store as it is now; objects of `removed` that are not there are not missed.

    It is of the newest releases, as many as a delta set may build on: what older ones alone brought is carried anew.
    """
    store = ContentStore(config.at.store)
    releases = store.releases()[-limits.BASE_SERIALS :]
    wanted: dict[str, tuple[StoredRelease, StoredFile]] = {}
    for stored in releases:
        for file in stored.files.values():
            wanted.setdefault(file.sha256, (stored, file))
    total, done = sum(file.length for _, file in wanted.values()), 0
    held: list[HeldFile] = []
    damaged: list[str] = []
    known: dict[int, dict[str, Target]] = {}
    for sha256, (stored, file) in sorted(wanted.items()):
        path = store.object_path(sha256)
        if sha256 in removed and not path.exists():
            continue
        found = _known(stored, file, known) if quick else _hashed(path)
        if (
            found is None
            or not store.holds(sha256, file.length)
            or (found.sha256, found.length) != (sha256, file.length)
        ):
            damaged.append(file.path)
        else:
            held.append(found)
        done += file.length
        progress(done, total, file.path)
    inventory = Inventory(
        site=config.site,
        at=clock.now().replace(microsecond=0),
        serial=serial,
        hashed=not quick,
        releases=tuple(
            HeldRelease(serial=each.serial, code=each.code, payload_digest=each.payload_digest) for each in releases
        ),
        files=tuple(held),
    )
    return Listed(inventory=inventory, damaged=tuple(sorted(damaged)))


def _hashed(path: Path) -> HeldFile | None:
    """Return what the disk gives back; None when it gives nothing."""
    whole, blocks, length = hashlib.sha256(), [], 0
    try:
        with path.open("rb", buffering=0) as source, ThreadPoolExecutor(max_workers=1) as beside:
            while block := _block(source.read):
                digest = beside.submit(_sha256, block)
                whole.update(block)
                blocks.append(digest.result())
                length += len(block)
    except OSError:
        return None
    return HeldFile(sha256=whole.hexdigest(), length=length, blocks=tuple(blocks))


def _block(read: Callable[[int], bytes | None]) -> bytes:
    pieces, wanted = [], layout.BLOCK_BYTES
    while wanted and (piece := read(wanted)):
        pieces.append(piece)
        wanted -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _sha256(block: bytes) -> str:
    return hashlib.sha256(block).hexdigest()


def _known(stored: StoredRelease, file: StoredFile, known: dict[int, dict[str, Target]]) -> HeldFile | None:
    """Return what the release's metadata says of a file; None when it does not read."""
    if stored.serial not in known:
        try:
            untrusted = (stored.folder / layout.targets_name(stored.serial)).read_bytes()
            signed = canonical.mapping(canonical.loads(untrusted), "The targets metadata").get("signed")
            known[stored.serial] = targets_from(canonical.mapping(signed, "The targets metadata"))
        except (OSError, MediaError):
            known[stored.serial] = {}
    target = known[stored.serial].get(file.path)
    return None if target is None else HeldFile(sha256=target.sha256, length=target.length, blocks=target.blocks)
