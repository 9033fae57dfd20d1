"""Introducing two boxes of a site to each other: a card each, codes typed by two people at each, one joint statement.

    card  (both boxes)            -> two files, two codes
    pair  (the other's card)      -> this box's half, after two people typed the other's code
    join  (the other's half)      -> the pairing, complete on this box

Every step is recorded in the ledger of the box that takes it. Nothing secret is in any of the files. No box becomes the
standby of another, nor the other way round, whose card does not say that it reads what was promoted here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance import formats
from appliance.actions.standby.sending import note_held
from appliance.actions.trust import require_codes
from appliance.audit import pin, rotating
from appliance.audit.facts import Ledger
from appliance.audit.note import VerifierKey
from appliance.config import Config
from appliance.errors import (
    ApprovalRefusedError,
    ConflictError,
    KeyMissingError,
    PairingRefusedError,
    StoreWriteError,
)
from appliance.keys.provider import KeyProvider
from appliance.promote import readers
from appliance.standby import channel, pairing, sealed, vouched
from appliance.standby.card import PAYLOAD_TYPE, BoxCard, require_name
from appliance.standby.pairing import OWN, Paired, Pairing, Relation
from appliance.verify.freshness import different
from media import durable
from media.clock import Clock
from media.errors import UsageError

CARD: Final = "standby.card-made"
OFFERED: Final = "standby.pairing-offered"
PAIRED: Final = "standby.paired"
PARTED: Final = "standby.parted"
_LEAST_PEOPLE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """This box's card; `code` is what people at the other box type."""

    card: BoxCard
    file: bytes

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "name": self.card.name,
            "site": self.card.site,
            "environment": self.card.environment,
            "origin": self.card.origin,
            "code": self.card.code,
        }


def make_card(config: Config, name: str, *, ledger: Ledger, keys: KeyProvider, clock: Clock) -> CardFacts:
    """Return this box's card, made at the first call; a box keeps its name.

    It is made anew once the ledger's key was rotated, or this release reads other formats than it says. Pairings keep
    the card that they were made with: the other box follows the rotation by itself, and nothing else of it.

    Raises:
        ConflictError: It has a card under another name or of another ledger.
        KeyMissingError: The ledger's key is not pinned, or a key could not be made.
        LedgerUnavailableError: It could not be recorded; there is no card.
        StoreWriteError: It could not be written.
        UsageError: The name is not one.
    """
    places, own = config.at, pin.read_pin(config.at)
    if own is None:
        raise KeyMissingError(
            what="this box's ledger has no pinned key", why="it never ran", fix="start sealift-ledger once"
        )
    _require_typed(name)
    kept, signer = _own(config), rotating.in_force(ledger, keys)
    if kept is not None:
        if (kept.card.name, kept.card.origin) != (name, own.name):
            raise ConflictError(
                what=f"this box has a card already, named {kept.card.name}",
                why="its name or its ledger is another",
                fix="part from every box first: `sealift standby part NAME`, then remove etc/sealift/boxes/own.json",
            )
        if kept.card.vkey.public == signer.public and kept.card.reads == formats.READS:
            return kept
    card = BoxCard(
        site=config.site,
        environment=config.environment,
        name=name,
        vkey=VerifierKey(name=own.name, public=signer.public),
        channel=channel.create(places.key_files, name, clock),
        sealing=sealed.create_key(places.key_files),
        made_at=clock.now().replace(microsecond=0),
        reads=formats.READS,
    )
    envelope = vouched.vouch(PAYLOAD_TYPE, card.to_payload(), signer)
    BoxCard.from_envelope(envelope)
    ledger.append(CARD, {"name": card.name, "origin": card.origin, "card_sha256": card.code})
    _write(config, OWN, envelope)
    return CardFacts(card=card, file=envelope)


def offer(
    config: Config,
    untrusted_card: bytes,
    *,
    relation: Relation,
    is_first: bool,
    codes: Sequence[str],
    by: Sequence[str],
    ledger: Ledger,
    keys: KeyProvider,
) -> tuple[BoxCard, bytes]:
    """Return the other box's card and this box's half of the pairing.

    Args:
        config: The site file.
        untrusted_card: The other box's card, as it came.
        relation: What the second box of the two is.
        is_first: Whether this box is the first.
        codes: What two people typed: the code that the other box shows.
        by: Who they are.
        ledger: Records it.
        keys: Hold the ledger's key.

    Raises:
        ApprovalRefusedError: Fewer than two people.
        DigestMismatchError: A code is not that of the card.
        PairingRefusedError: The card is not signed, or is not of another box of this site; or this box has none; or the
            card does not say that it reads what was promoted here.
        UsageError: Not two codes.
    """
    if different(by) < _LEAST_PEOPLE:
        raise ApprovalRefusedError(
            what="two people pair two boxes", why=f"{len(by)} were named", fix="give --by NAME twice"
        )
    own, signer = _require_own(config), rotating.in_force(ledger, keys)
    if own.card.vkey.public != signer.public:
        raise vouched.refused(
            "the key of its ledger was rotated since: `sealift standby card`, and take the new one there"
        )
    peer = BoxCard.from_envelope(untrusted_card)
    fix = f"compare with what `sealift standby card` showed on {peer.name}; where it differs, this is another card"
    require_codes(codes, {peer.code}, of="this card", fix=fix)
    if relation is Relation.STANDBY:
        readers.require_card(ledger, peer)
    first, second = (own.file, untrusted_card) if is_first else (untrusted_card, own.file)
    cards = (own.card, peer) if is_first else (peer, own.card)
    envelope = vouched.vouch(pairing.PAYLOAD_TYPE, pairing.statement(*cards, relation), signer)
    half = Pairing(first=first, second=second, relation=relation, envelope=envelope)
    body = {"peer": peer.name, "origin": peer.origin, "card_sha256": peer.code, "relation": str(relation)}
    ledger.append(OFFERED, {**body, "is_first": is_first, "by": list(by)})
    return peer, half.to_bytes()


def join(
    config: Config, own_half: bytes, untrusted_half: bytes, *, ledger: Ledger, dry_run: bool = False
) -> tuple[Paired, int]:
    """Complete a pairing with both halves; return it and where it is recorded, -1 on a dry run.

    Args:
        config: The site file.
        own_half: What `offer` returned here; its signature shows that people at this box typed the code.
        untrusted_half: What it returned on the other box.
        ledger: Records it.
        dry_run: Verify and change nothing.

    Raises:
        ConflictError: This box is paired with one of that name already.
        LimitExceededError, MalformedError, PairingRefusedError: A half does not hold, they are not of one pairing, or
            the other box does not read what was promoted here.
        StoreWriteError: It could not be written; run it again.
    """
    own = _require_own(config)
    mine, theirs = Pairing.from_bytes(own_half), Pairing.from_bytes(untrusted_half)
    mine.require(signed_by=(own.card.name,))
    if own.file not in {mine.first, mine.second}:
        raise vouched.refused("this half is of an earlier card of this box: `sealift standby pair` again")
    peer = next((card for card in (theirs.first_card, theirs.second_card) if card.origin != own.card.origin), None)
    if peer is None:
        raise vouched.refused("both halves are this box's own")
    theirs.require(signed_by=(peer.name,))
    whole = Pairing(
        first=mine.first,
        second=mine.second,
        relation=mine.relation,
        envelope=vouched.joined(mine.envelope, theirs.envelope),
    )
    found = pairing.from_where(config.at, whole)
    if found.relation is Relation.STANDBY:  # a line may have been opened since the halves were made
        readers.require_card(ledger, found.peer)
    name = f"{found.peer.name}.json"
    if (config.at.boxes / name).exists():
        raise ConflictError(
            what=f"this box is paired with {found.peer.name} already",
            why="a pairing is never replaced unseen",
            fix=f"`sealift standby part {found.peer.name}` first",
        )
    if dry_run:
        return found, -1
    body = {"peer": found.peer.name, "origin": found.peer.origin, "relation": str(found.relation)}
    done = ledger.append(PAIRED, {**body, "is_first": found.is_first, "pairing_sha256": found.sha256})
    _write(config, name, whole.to_bytes())
    note_held(config, found.peer.name)  # what stands there is of the box that had this name before
    return found, done.sequence


def part(config: Config, name: str, *, by: Sequence[str], reason: str, ledger: Ledger) -> int:
    """Forget a paired box; its mirror stays as evidence. Return where it is recorded.

    Raises:
        ApprovalRefusedError: Fewer than two people, or no reason.
        StoreWriteError: The pairing's file could not be removed.
        UsageError: There is no such pairing, or that is no name of a box.
    """
    if different(by) < _LEAST_PEOPLE or not reason.strip():
        raise ApprovalRefusedError(
            what="two people part two boxes, with a reason", why=f"{len(by)} were named", fix="--by, --by, --reason"
        )
    _require_typed(name)
    file = config.at.boxes / f"{name}.json"
    if not file.exists():
        raise UsageError(what=f"this box is not paired with {name}", why="", fix="see `sealift standby status`")
    done = ledger.append(PARTED, {"peer": name, "by": list(by), "reason": reason})
    try:
        file.unlink()
        durable.sync_folder(file.parent)
    except OSError as error:
        raise _not_written(error) from error
    return done.sequence


def _require_typed(name: str) -> None:
    """Return when what somebody typed is the name of a box."""
    try:
        require_name(name)
    except PairingRefusedError as error:
        raise UsageError(
            what=f"{name[:40]!r} is no name of a box", why=error.why, fix="e.g. room-1; each box has one of its own"
        ) from error


def _own(config: Config) -> CardFacts | None:
    try:
        untrusted = (config.at.boxes / OWN).read_bytes()
    except OSError:
        return None
    return CardFacts(card=BoxCard.from_envelope(untrusted), file=untrusted)


def _require_own(config: Config) -> CardFacts:
    found = _own(config)
    pinned = pin.read_pin(config.at)
    if found is None or pinned is None or found.card.origin != pinned.name:
        raise vouched.refused("this box has no card of its present ledger: `sealift standby card --name NAME`")
    return found


def _write(config: Config, name: str, content: bytes) -> None:
    folder: Path = config.at.boxes
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        folder.chmod(0o755)
        durable.replace(folder / name, content, mode=0o644)
    except OSError as error:
        raise _not_written(error) from error


def _not_written(error: OSError) -> StoreWriteError:
    return StoreWriteError(
        what="the folder of paired boxes cannot be written", why=error.strerror or "", fix="run it as root, again"
    )
