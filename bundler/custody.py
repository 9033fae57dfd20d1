"""Hand-overs after sealing: who gave a volume to whom, written beside the release, the one place that may differ.

Each entry names the file before it, so a chain shows a gap, a tear or a second branch. The person who enters it signs
it, also for a hand-over that others wrote down on paper: most couriers have no key.
"""

import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bundler.errors import SigningError
from bundler.privatekeys import OwnKeys
from bundler.signatory import Ceremony
from media import custody, durable, layout
from media.bagit import BagInfo, parse_bag_info
from media.clock import Clock
from media.custody import CustodyFacts, HandOver, HandOverKind, Method
from media.digest import file_sha256
from media.errors import MalformedError, MissingFileError, UsageError
from media.people import Role
from media.volume import VolumeIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver:
    """What people write down at a hand-over.

    Args:
        sender: Who gave.
        receiver: Who took.
        place: Where.
        seals: Numbers of the seals as they are now.
        condition: What was seen, in a sentence.
        on_paper: It was written on the paper form, and is entered now by someone else.
        at: When, if it was not now.
    """

    sender: str
    receiver: str
    place: str
    seals: tuple[str, ...] = ()
    condition: str = ""
    on_paper: bool = False
    at: datetime | None = None


def hand_over(
    volume: Path,
    person_id: str,
    facts: HandedOver,
    *,
    ceremony: Ceremony,
    clock: Clock,
    home: OwnKeys = None,
) -> Path:
    """Append one entry to a volume's custody and return its file.

    Raises:
        SigningError: The person may not enter custody, or the key did not sign.
        UsageError: Something that was written down cannot be entered as it is.
        MissingFileError: There is no sealed release here.
        MediaError: The custody so far cannot be read.
    """
    signatory = ceremony.signatory(person_id, home)
    if Role.CUSTODY not in signatory.person.roles:
        raise SigningError(
            what=f"{signatory.person.name} may not enter custody", why="the root does not give the role custody"
        )
    entry, _ = next_entry(volume, person_id, facts, ceremony=ceremony, clock=clock)
    with signatory.at_hand() as at_hand:
        try:
            signed = custody.sign(entry, *at_hand.signers("release"))
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise at_hand.could_not_sign() from error
    written = custody.read_entry(signed, ceremony.people)
    folder = volume / layout.CUSTODY
    folder.mkdir(exist_ok=True)
    durable.write_new(folder / written.file_name, signed)
    durable.sync_folder(folder)
    return folder / written.file_name


def next_entry(
    volume: Path, person_id: str, facts: HandedOver, *, ceremony: Ceremony, clock: Clock
) -> tuple[HandOver, CustodyFacts]:
    """Return the entry that `hand_over` would sign, and the custody so far; use no key, change nothing.

    Raises:
        UsageError, MissingFileError, MediaError: As there.
    """
    info = _info(volume)
    so_far = chain(volume, ceremony=ceremony)
    number = so_far.entries[-1].hand_over.entry + 1 if so_far.entries else 1
    previous = so_far.entries[-1].sha256 if so_far.entries else _sealed_sha256(volume, info)
    return _entry(number, previous, info.release, info.volume_id, person_id, facts, clock=clock), so_far


def require_first(release: str, volume_id: str, person_id: str, facts: HandedOver, *, clock: Clock) -> None:
    """Pass only when the first hand-over of a volume can be entered; asked before anything is written.

    Raises:
        UsageError: Something that was typed cannot.
    """
    _entry(1, "0" * 64, release, volume_id, person_id, facts, clock=clock)


def _entry(
    number: int, previous: str, release: str, volume_id: str, person_id: str, facts: HandedOver, *, clock: Clock
) -> HandOver:
    """Return an entry that can be made.

    Raises:
        UsageError: Something that was written down cannot be entered.
    """
    entry = HandOver(
        entry=number,
        previous=previous,
        release=release,
        volume=volume_id,
        kind=HandOverKind.HANDED_OVER,
        from_=facts.sender,
        to=facts.receiver,
        at=facts.at or clock.now(),
        place=facts.place,
        seals=facts.seals,
        condition=facts.condition,
        method=Method.PAPER if facts.on_paper else Method.SIGNED,
        entered_by=person_id,
    )
    try:
        entry.to_payload()
    except MalformedError as error:
        raise UsageError(
            what="the hand-over cannot be entered as it was written down",
            why=error.why,
            fix="names, place and seal numbers are needed, in one line each, names and place of at most 200 characters",
        ) from error
    return entry


def chain(volume: Path, *, ceremony: Ceremony) -> CustodyFacts:
    """Return what a volume's custody says so far and what is odd about it.

    Raises:
        MissingFileError: There is no sealed release here.
        BadSignatureError: An entry is not signed by someone who may.
        MalformedError: An entry cannot be read.
    """
    info = _info(volume)
    folder = volume / layout.CUSTODY
    entries = [path.read_bytes() for path in sorted(folder.glob("*.json"))] if folder.is_dir() else []
    return custody.read_chain(entries, ceremony.people, _sealed_sha256(volume, info), info.volume_id)


def head(volume: Path) -> str:
    """Return what the last holder tells the receiver apart from the medium (CUST-22): it pins the chain's end.

    Raises:
        MissingFileError: There is no sealed release here.
    """
    info = _info(volume)
    folder = volume / layout.CUSTODY
    entries = sorted(folder.glob("*.json")) if folder.is_dir() else []
    last = file_sha256(entries[-1]) if entries else _sealed_sha256(volume, info)
    return last[: custody.HEAD_CHARS]


def _info(volume: Path) -> BagInfo:
    try:
        return parse_bag_info((volume / layout.RELEASE / layout.BAG_INFO).read_bytes())
    except OSError:
        raise MissingFileError(
            what="there is no sealed release here",
            why=f"{layout.RELEASE}/{layout.BAG_INFO} cannot be read",
            fix="name the folder where the volume is mounted",
        ) from None


def _sealed_sha256(volume: Path, info: BagInfo) -> str:
    release = volume / layout.RELEASE
    index = VolumeIndex.from_bytes((release / layout.VOLUMES).read_bytes())
    number = next((each.number for each in index.volumes if each.id == info.volume_id), 0)
    try:
        return file_sha256(release / index.sealed_entry(number))
    except OSError:
        raise MissingFileError(what="the sealed custody entry of this volume is not there") from None
