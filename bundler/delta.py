"""A delta set: volumes that carry only what a receiver has not, made from a release whose metadata is signed already.

The set gets a work folder of its own with a candidate that holds the carried blocks and nothing else, so it is sealed,
written, read back, remade and handed over by the same steps as a full set. Round one stays as it was: it is the same
release. Round two is the set's own, because every tag manifest names the index, and that is the set's own (ADR 12).
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.deltacheck import read_block, reader, require_block, require_sound
from bundler.deltaplan import plan_delta
from bundler.deltaproof import Proof, prove, require_applies
from bundler.errors import CapacityError, NotEmptyError, SigningError
from bundler.freeze import write_tag_files
from bundler.holdings import EarlierRelease, Holdings
from bundler.measure import Measured, Progress, no_progress
from bundler.plan import ReleasePlan
from bundler.privatekeys import OwnKeys
from bundler.signatory import Ceremony, Signatory
from bundler.signedmetadata import signed_release
from bundler.volumechoice import VolumeChoice, rooms_for
from bundler.volumefiles import shared_tag_files, volume_index
from bundler.workfolder import WorkFolder
from media import custody, layout
from media.canonical import dumps
from media.clock import Clock
from media.custody import HandOver, HandOverKind, Method
from media.digest import file_sha256
from media.errors import (
    LimitExceededError,
    SupersededError,
    UnreadableError,
    WrongSiteError,
)
from media.people import Role
from media.release import ReleaseTerms, Target
from media.volume import Part, VolumeIndex
from media.volumeplan import Delta, plan

PROOF_FILE = "delta.json"
_ALLOCATION = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How the volumes of a set are packed.

    Args:
        packer: Who packs them: the id of a person with the role custody.
        place: Where.
        home: Where the packer's keys are; the throwaway ones of the ceremony folder if not given.
        capacities: Bytes of each medium; none means one as large as it takes.
        seals: Seal numbers reserved for each volume, by its number.
    """

    packer: str
    place: str = "bundling machine"
    home: OwnKeys = None
    capacities: tuple[int, ...] = ()
    seals: Mapping[int, tuple[str, ...]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaSet:
    """A delta set that waits for its seals.

    Args:
        index: Its volumes and its base.
        proof: That it applies.
        assumed: What is taken for granted about the receiver, in sentences for people.
    """

    index: VolumeIndex
    proof: Proof
    assumed: tuple[str, ...]


def plan_set(
    work: WorkFolder, holdings: Holdings, *, ceremony: Ceremony, capacities: Sequence[int] = ()
) -> tuple[VolumeIndex, dict[str, Target], tuple[int, ...]]:
    """Return the volumes of a delta set without part digests, the targets, and the room on each volume.

    Raises:
        SigningError: Round one is not over, or the work folder is a delta set's own.
        TrustError: The metadata is not signed by enough people, or the receiver is not one of its sites, or is ahead.
        CapacityError: The volumes cannot hold it.
        BaseMissingError: The plan would not apply; a fault of ours.
    """
    full = volume_index(work)
    if full.base is not None:
        raise SigningError(
            what="this work folder is a delta set's own",
            why="a delta set is made from the release",
            fix="name the work folder in which the release was signed",
        )
    targets, terms, _ = signed_release(reader(work), full, ceremony)
    _require_fits(terms, holdings)
    delta = plan_delta(targets, holdings)
    rooms = _rooms(work, targets, delta, capacities)
    try:
        index = plan(
            targets.values(), rooms, release=full.release, serial=full.serial, allocation=_ALLOCATION, delta=delta
        )
    except LimitExceededError as error:
        raise CapacityError(what=error.what, why=error.why, fix=error.fix) from error
    require_applies(index, targets, holdings)
    return index, targets, rooms


def make_delta(
    work: WorkFolder,
    destination: WorkFolder,
    holdings: Holdings,
    packing: Packing,
    *,
    ceremony: Ceremony,
    clock: Clock,
    earlier: Sequence[EarlierRelease] = (),
    progress: Progress = no_progress,
) -> DeltaSet:
    """Lay down a delta set's work folder, proven to apply; seal it next.

    Args:
        work: The release, with its metadata frozen.
        destination: A folder that does not exist yet.
        holdings: What the receiver has.
        packing: Who packs it, where, and how large the media are.
        ceremony: The root that names the people.
        clock: For the custody entries.
        earlier: Older releases whose bytes lie on this machine, for the proof byte by byte.
        progress: Called with bytes done, bytes in all, and what is being done.

    Raises:
        NotEmptyError: The destination exists.
        SealiftError: Whatever planning, proving or signing raises; nothing is left at the destination.
    """
    if destination.root.exists():
        raise NotEmptyError(what="the new work folder exists", why="nothing is written over", fix="name another one")
    packer = _packer(ceremony, packing)
    index, targets, rooms = plan_set(work, holdings, ceremony=ceremony, capacities=packing.capacities)
    choice = VolumeChoice(rooms=rooms, seals=packing.seals or {})
    choice.require_for(index)
    unfinished = WorkFolder(root=destination.root.with_name(f"{destination.root.name}.unfinished"))
    shutil.rmtree(unfinished.root, ignore_errors=True)
    try:
        index = _carry(work, unfinished, index, targets, progress=progress)
        copies = {sha256: path for each in earlier for sha256, path in each.whole_files().items()}
        proof = prove(index, targets, holdings, carried=unfinished.candidate, copies=copies, progress=progress)
        _lay_down(work, unfinished, index)
        unfinished.volumes.write_bytes(choice.to_bytes())
        _sign_custody(unfinished, index, packer, choice, place=packing.place, clock=clock)
        report = {"format": 1, "proof": proof.to_json(), "assumed": list(holdings.assumed)}
        (unfinished.root / PROOF_FILE).write_bytes(dumps(report))
        shared = {name: file_sha256(path) for name, path in shared_tag_files(unfinished).items()}
        for volume in index.volumes:
            write_tag_files(unfinished, volume, index=index, shared=shared)
        require_sound(unfinished, ceremony=ceremony)
        unfinished.root.rename(destination.root)
    finally:
        shutil.rmtree(unfinished.root, ignore_errors=True)
    return DeltaSet(index=index, proof=proof, assumed=holdings.assumed)


def _require_fits(terms: ReleaseTerms, holdings: Holdings) -> None:
    if holdings.site not in terms.sites:
        raise WrongSiteError(
            what=f"{terms.release} is not made for {holdings.site}",
            why=f"it is for {', '.join(terms.sites)}",
            fix="take the inventory of one of these, or build a release for this site",
        )
    if holdings.serials and max(holdings.serials) > terms.serial:
        raise SupersededError(
            what=f"{holdings.site} holds serial {max(holdings.serials)} already",
            why=f"{terms.release} has serial {terms.serial}, and a serial never falls",
            fix="make the delta set from a newer release",
        )


def _packer(ceremony: Ceremony, packing: Packing) -> Signatory:
    signatory = ceremony.signatory(packing.packer, packing.home)
    if Role.CUSTODY not in signatory.person.roles:
        raise SigningError(
            what=f"{signatory.person.name} may not pack media", why="the root does not give the role custody"
        )
    return signatory


def _rooms(work: WorkFolder, targets: Mapping[str, Target], delta: Delta, capacities: Sequence[int]) -> tuple[int, ...]:
    if not capacities:
        blocks = [(targets[path], first, last) for path, own in delta.carried.items() for first, last in own]
        ends = [
            min((last + 1) * layout.BLOCK_BYTES, each.length) - first * layout.BLOCK_BYTES
            for each, first, last in blocks
        ]
        # A part more for every 60 blocks, none of which adds more than one unit.
        spare = (len(ends) + sum(ends) // layout.PART_BYTES + 1) * _ALLOCATION
        return (sum(-(-each // _ALLOCATION) * _ALLOCATION for each in ends) + spare,)
    payload = {
        path: Measured(length=target.length, sha256=target.sha256, blocks=target.blocks)
        for path, target in targets.items()
        if path.startswith(f"{layout.DATA}/")
    }
    attest = sum(path.stat().st_size for path in work.attest.glob(f"*{layout.ENVELOPE_SUFFIX}"))
    return rooms_for(capacities, release=ReleasePlan.load(work.plan), payload=payload, attest_bytes=attest)


def _carry(
    work: WorkFolder,
    destination: WorkFolder,
    index: VolumeIndex,
    targets: Mapping[str, Target],
    *,
    progress: Progress,
) -> VolumeIndex:
    """Copy the carried blocks to their places in files with holes, each compared with what was signed."""
    total, done = sum(volume.payload_bytes for volume in index.volumes), 0
    digests: dict[str, str] = {}
    destination.candidate.mkdir(parents=True)
    for volume in index.volumes:
        for part in volume.parts:
            source, sink = work.candidate / part.target, destination.candidate / part.target
            sink.parent.mkdir(parents=True, exist_ok=True)
            digests[part.path] = _copy_part(source, sink, part, targets[part.target])
            done += part.length
            progress(done, total, part.path)
    return index.with_part_digests(digests)


def _copy_part(source: Path, sink: Path, part: Part, target: Target) -> str:
    digest = hashlib.sha256()
    try:
        with source.open("rb", buffering=0) as reading, sink.open("r+b" if sink.exists() else "w+b") as writing:
            os.ftruncate(writing.fileno(), target.length)
            for number in range(part.first, part.last + 1) if target.length else ():
                reading.seek(number * layout.BLOCK_BYTES)
                block = read_block(reading.read, target.block_length(number))
                require_block(block, target, number)
                digest.update(block)
                writing.seek(number * layout.BLOCK_BYTES)
                writing.write(block)
            writing.flush()
            os.fsync(writing.fileno())
    except OSError as error:
        raise UnreadableError(
            what=f"{part.target} could not be carried over",
            why=error.strerror or "input/output error",
            fix="check the work folder and the room beside it",
        ) from error
    return digest.hexdigest()


def _lay_down(work: WorkFolder, destination: WorkFolder, index: VolumeIndex) -> None:
    """Copy what the set shares with the full one, and write its own index."""
    shutil.copy2(work.plan, destination.plan)
    for source, folder in ((work.metadata, destination.metadata), (work.check, destination.check)):
        shutil.copytree(source, folder)
    destination.attest.mkdir()
    for path in work.attest.glob(f"*{layout.ENVELOPE_SUFFIX}"):
        shutil.copy2(path, destination.attest)
    destination.seals.mkdir()
    (destination.metadata / Path(layout.VOLUMES).name).write_bytes(index.to_bytes())


def _sign_custody(
    destination: WorkFolder,
    index: VolumeIndex,
    packer: Signatory,
    choice: VolumeChoice,
    *,
    place: str,
    clock: Clock,
) -> None:
    with packer.at_hand() as at_hand:
        for volume in index.volumes:
            entry = HandOver(
                entry=0,
                previous="",
                release=index.release,
                volume=volume.id,
                kind=HandOverKind.SEALED,
                from_=packer.person.name,
                to=packer.person.name,
                at=clock.now(),
                place=place,
                seals=choice.seals.get(volume.number, ()),
                condition="packed as a delta set; these seal numbers are reserved for it",
                method=Method.SIGNED,
                entered_by=packer.person.id,
            )
            try:
                signed = custody.sign(entry, *at_hand.signers("release"))
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                raise at_hand.could_not_sign() from error
            (destination.root / index.sealed_entry(volume.number)).write_bytes(signed)
