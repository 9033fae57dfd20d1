"""Custody on the receiving side: look at it, enter what was on paper, reject a medium, write a receipt again.

The appliance writes nothing to a medium. What people of the site say about carriers goes to the ledger; a hand-over on
paper is entered by the person who received, by name, and counts as much as one that was signed on the way.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.actions import believing, receipt
from appliance.actions.recorded import RECEIVED
from appliance.audit.client import open_ledger
from appliance.audit.facts import Appended
from appliance.config import Config
from appliance.errors import LedgerUnavailableError
from appliance.store.content import ContentStore, StoredRelease
from appliance.verify.bag import UntrustedBag, require_signed
from appliance.verify.evidence import custody_json, read_custody
from appliance.verify.medium import Medium
from appliance.verify.metadata import TrustChain
from media import layout
from media.clock import Clock, to_text
from media.errors import UsageError, WrongVolumeError
from media.volume import VolumeIndex

DOOR: Final = "ledger-actions"
ENTERED: Final = "custody.entered"
REJECTED: Final = "custody.rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperHandOver:
    """A hand-over that was written on a form.

    Args:
        volume: The volume's id, from its label or from `sealift custody show`.
        sender: Who gave.
        receiver: Who took.
        at: When, RFC 3339.
        place: Where.
        seals: Numbers of the seals that were found.
        condition: What was seen.
        entered_by: Who enters it now.
    """

    volume: str
    sender: str
    receiver: str
    at: str
    place: str
    seals: tuple[str, ...]
    condition: str
    entered_by: str


def show(config: Config, volumes: Sequence[Path], *, clock: Clock) -> list[dict[str, Any]]:
    """Return what the custody of each volume says, judged by the people this box believes.

    Raises:
        MediaError, TrustError: A volume is not one that its release people signed.
    """
    ledger = open_ledger(config, DOOR, clock=clock)
    try:
        record = believing.believed(config, ledger, None)
    finally:
        ledger.close()
    people = TrustChain(record.root_chain, config.environment, untrusted_notes=record.notes).people
    found = []
    with ExitStack() as stack:
        for number, folder in enumerate(volumes, start=1):
            medium = stack.enter_context(Medium.open(folder, label=f"volume folder {number}"))
            bag = require_signed(UntrustedBag(medium), people)
            index = VolumeIndex.from_bytes(bag.bag.file(layout.VOLUMES))
            volume = next((each for each in index.volumes if each.id == bag.info.volume_id), None)
            if volume is None:
                raise WrongVolumeError(
                    what=f"{medium.label} is not in its own index",
                    why=f"id {bag.info.volume_id}",
                    fix="do not use this medium; ask the sender for a new one",
                )
            custody = read_custody(bag, volume, people, index)
            found.append(
                {"volume": volume.number, "id": volume.id, "release": index.release, **custody_json([custody], None)}
            )
    return found


def enter(config: Config, paper: PaperHandOver, *, clock: Clock) -> Appended:
    """Record a hand-over that was written on paper.

    Raises:
        UsageError: A field is empty.
        LedgerUnavailableError: It could not be recorded.
    """
    fields = {
        "volume": paper.volume,
        "from": paper.sender,
        "to": paper.receiver,
        "at": paper.at,
        "place": paper.place,
        "entered_by": paper.entered_by,
    }
    if empty := [name for name, value in fields.items() if not value.strip()]:
        raise UsageError(what=f"the hand-over lacks {empty[0]}", why="the form has it", fix="copy it from the form")
    body = {**fields, "seals": list(paper.seals), "condition": paper.condition, "method": "paper"}
    return _append(config, ENTERED, {"site": config.site, **body}, clock=clock)


def reject(config: Config, volume: str, *, by: str, reason: str, clock: Clock) -> Appended:
    """Record that a person sent a volume back.

    Raises:
        UsageError: A name or a reason is missing.
        LedgerUnavailableError: It could not be recorded.
    """
    if not (volume.strip() and by.strip() and reason.strip()):
        raise UsageError(what="a rejection needs a volume, a name and a reason", why="", fix="give all three")
    return _append(config, REJECTED, {"site": config.site, "volume": volume, "by": by, "reason": reason}, clock=clock)


def write_receipt(config: Config, serial: int, *, clock: Clock) -> str:
    """Write the receipt of a stored release again, with the ledger's proof as it is now; return its file's name.

    Raises:
        UnknownReleaseError: The store holds no such release.
        StoreWriteError: It could not be written.
    """
    stored = StoredRelease.load(ContentStore(config.at.store), serial)
    ledger = open_ledger(config, DOOR, clock=clock)
    try:
        appended = Appended(sequence=-1, leaf_hash="", time="")
        try:
            for leaf in ledger.find(kind=RECEIVED, field="code", value=stored.code, limit=1):
                appended = Appended(sequence=leaf.sequence, leaf_hash=leaf.hash, time=leaf.time)
        except LedgerUnavailableError:
            pass
        facts = {**stored.facts, "files": len(stored.files)}
        return receipt.write(config, facts, appended, ledger, outcome="received", at=to_text(clock.now())).name
    finally:
        ledger.close()


def _append(config: Config, kind: str, body: dict[str, Any], *, clock: Clock) -> Appended:
    ledger = open_ledger(config, DOOR, spool=True, clock=clock)
    try:
        return ledger.append(kind, body)
    finally:
        ledger.close()
