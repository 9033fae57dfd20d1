"""Custody on the receiving side: look at it, enter what was on paper, reject a medium.

The appliance writes nothing to a medium. What people of the site say about carriers goes to the ledger; a hand-over on
paper is entered by the person who received, by name, and counts as much as one that was signed on the way.
"""

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from appliance.actions import believing
from appliance.actions.site_custody import ENTERED, REJECTED, LookedAt, known
from appliance.audit.client import open_ledger
from appliance.audit.facts import Appended
from appliance.config import Config
from appliance.verify.bag import UntrustedBag, require_signed
from appliance.verify.evidence import custody_json, read_custody
from appliance.verify.medium import Medium
from appliance.verify.metadata import TrustChain
from appliance.verify.sitecustody import paper_from
from media import canonical, layout
from media.clock import Clock, to_text
from media.errors import MediaError, UsageError, WrongVolumeError
from media.volume import VolumeIndex

DOOR: Final = "ledger-actions"
_LABEL: Final = re.compile(r"SEALIFT:1:[^:]+:[0-9]+:[0-9]+/[0-9]+:([0-9a-f]{16})", re.ASCII)
_ID: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperHandOver:
    """A hand-over that was written on a form.

    Args:
        volume: The volume's id, from its label or from `sealift custody show`.
        sender: Who gave.
        receiver: Who took.
        at: When, as on the form: ISO 8601 with its zone, or UTC.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A volume that was sent back without being mounted.

    Args:
        volume: Its id, from the label.
        by: Who rejects it.
        reason: Why.
        seals: Numbers of the seals that were found.
        label: The label's text, where it differs from what was expected.
    """

    volume: str
    by: str
    reason: str
    seals: tuple[str, ...] = ()
    label: str = ""


def show(config: Config, volumes: Sequence[Path], *, clock: Clock) -> list[dict[str, Any]]:
    """Return what the custody of each volume says, judged by the people this box believes and what this site knows.

    Raises:
        MediaError, TrustError: A volume is not one that its release people signed.
    """
    ledger = open_ledger(config, DOOR, clock=clock)
    try:
        record = believing.believed(config, ledger, None)
        site = known(config.at, ledger, LookedAt())
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
            custody = read_custody(bag, volume, people, index, site=site)
            found.append(
                {
                    "volume": volume.number,
                    "id": volume.id,
                    "release": index.release,
                    "head": custody.head,
                    **custody_json([custody], None),
                }
            )
    return found


def enter(config: Config, paper: PaperHandOver, *, clock: Clock) -> Appended:
    """Record a hand-over that was written on paper; it counts for every receive after this.

    Raises:
        UsageError: A field is empty, or cannot be read again.
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
    own = {"at": _utc(paper.at), "written": paper.at, "method": "paper"}
    body = {**fields, **own, "seals": list(paper.seals), "condition": paper.condition}
    try:
        canonical.text(paper.at, "The time", most=64)
        canonical.text(paper.place, "The place", most=200)
        canonical.text(paper.condition, "The condition", most=500, may_be_empty=True)
        paper_from(body)
    except MediaError as error:
        raise UsageError(
            what="the hand-over cannot be recorded", why=error.why or error.what, fix="type what is on the form"
        ) from None
    _require_id(paper.volume)
    return _append(config, ENTERED, {"site": config.site, **body}, clock=clock)


def reject(config: Config, rejection: Rejection, *, clock: Clock) -> Appended:
    """Record that a person sent a volume back without mounting it; receiving it later needs a decision by name.

    Raises:
        UsageError: A name, a reason or the volume is missing.
        LedgerUnavailableError: It could not be recorded.
    """
    if not (rejection.volume.strip() and rejection.by.strip() and rejection.reason.strip()):
        raise UsageError(what="a rejection needs a volume, a name and a reason", why="", fix="give all three")
    _require_id(rejection.volume)
    try:
        for text in (rejection.by, rejection.reason, *rejection.seals):
            canonical.text(text, "The rejection", most=500)
        if rejection.label:
            canonical.text(rejection.label, "The label", most=200)
    except MediaError as error:
        raise UsageError(what="the rejection cannot be recorded", why=error.why, fix="type what is printed") from None
    body = {
        "site": config.site,
        "volume": rejection.volume,
        "by": rejection.by,
        "reason": rejection.reason,
        "seals": list(rejection.seals),
        "label": rejection.label,
    }
    return _append(config, REJECTED, body, clock=clock)


def volume_of_label(text: str) -> str:
    """Return the volume's id from what the QR code of its label holds.

    Raises:
        UsageError: It is no label of ours.
    """
    matched = _LABEL.fullmatch(text.strip())
    if matched is None:
        raise UsageError(
            what="this is not what a label's code holds", why="it begins with SEALIFT:1:", fix="give --volume ID"
        )
    return matched[1]


def _require_id(volume: str) -> None:
    if not _ID.fullmatch(volume):
        raise UsageError(
            what="this is no volume's id",
            why="an id has 16 digits of 0-9 and a-f",
            fix="copy it from the label, or from `sealift custody show`",
        )


def _utc(text: str) -> str:
    """Return a time of a form as the format writes it; one without a zone is UTC, as the form says."""
    try:
        found = datetime.fromisoformat(text.strip())
        at = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            what=f"{text[:40]!r} is no time", why="", fix="write it as 2026-11-20 08:00+01:00, or without a zone in UTC"
        ) from None
    return to_text(at.replace(microsecond=0))


def _append(config: Config, kind: str, body: dict[str, Any], *, clock: Clock) -> Appended:
    ledger = open_ledger(config, DOOR, spool=True, clock=clock)
    try:
        return ledger.append(kind, body)
    finally:
        ledger.close()
