"""Keeping a paired box current: a bundle out, a bundle in, the mirror grown, and what it decides taken over.

    make  ->  envelope + leaves  ->  require (the peer, for this box) -> mirror.grow (proven) -> take over

A bundle on a medium and one that came over the network are the same two byte strings and go the same way. Requests,
refusals and whatever else is not taken over (`taking`) stay in the mirror, as evidence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.actions.pinned import plain_bytes
from appliance.actions.standby import evidenced, forked, pepper
from appliance.actions.standby.forked import IMPORTED
from appliance.audit import rotating
from appliance.audit.facts import EVERY, EvidenceLedger, Ledger
from appliance.config import Config
from appliance.errors import StoreWriteError
from appliance.keys.provider import KeyProvider
from appliance.standby import bundle, ending, mirror, peerkeys
from appliance.standby.bundle import AIM_BYTES, ENVELOPE_NAME, EVIDENCE_NAME, LEAVES_NAME, Bundle
from appliance.standby.pairing import Paired, Relation, require_paired
from media import durable
from media.clock import Clock, FixedClock
from media.errors import SealiftError

EXPORTED: Final = "standby.exported"
_INSTALLED: Final = "install.done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A bundle that was made and recorded; `more` says that records follow which did not fit in it."""

    envelope: bytes
    leaves: bytes
    evidence: bytes
    start: int
    size: int
    more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """What a bundle added to the mirror, and what came of the secret of API keys in it; `refused` says why not."""

    pair: Paired
    bundle: Bundle
    before: int
    size: int
    pepper: str
    missing: tuple[int, ...]
    refused: SealiftError | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "peer": self.pair.peer.name,
            "origin": self.bundle.sender,
            "before": self.before,
            "size": self.size,
            "pepper": self.pepper,
            "missing_releases": list(self.missing),
        }


def make(
    config: Config,
    peer: str,
    *,
    since: int | None,
    ledger: EvidenceLedger,
    keys: KeyProvider,
    clock: Clock,
    aim: int = AIM_BYTES,
) -> Made:
    """Make a bundle for a paired box and record that.

    Args:
        config: The site file.
        peer: The other box's name.
        since: How many records it holds; by default what the last bundle for it ended with.
        ledger: This box's own.
        keys: The ledger's key, and the secret of API keys.
        clock: For the bundle's time.
        aim: How many bytes of records fit; where there are more it ends with an earlier checkpoint.

    Raises:
        KeyMissingError: This process may not use the keys.
        LedgerUnavailableError: The ledger does not answer; there is no bundle.
        PairingRefusedError: The box is not paired, or holds more than there is, or this box lost records that it holds.
    """
    pair = require_paired(config.at, peer)
    forked.require_whole(config, pair, ledger, clock=clock)
    if since is None:
        last = ledger.find(kind=EXPORTED, field="receiver", value=pair.peer.origin, limit=1)
        since = int(last[0].body.get("size", 0)) if last else 0
    ends = ending.earlier(ledger, since=since, aim=aim)
    # Before the bundle, so that its checkpoint covers the record that it was made.
    body = {"peer": peer, "receiver": pair.peer.origin, "start": since}
    ledger.append(EXPORTED, {**body, "size": ledger.head().size + 1 if ends is None else ends.size})
    envelope, leaves = bundle.make(
        ledger,
        pair,
        since=since,
        releases=installed(ledger),
        sealed=pepper.sealed_for(config, pair, keys) if pair.relation is Relation.STANDBY else b"",
        at=clock.now().replace(microsecond=0),
        signer=rotating.in_force(ledger, keys),
        ends=ends,
    )
    size = since + leaves.count(b"\n")
    documents = evidenced.of(config, ledger, since=since, size=size)
    return Made(envelope=envelope, leaves=leaves, evidence=documents, start=since, size=size, more=ends is not None)


def grow(
    config: Config,
    untrusted_envelope: bytes,
    untrusted_leaves: bytes,
    untrusted_evidence: bytes = b"",
    *,
    peer: str,
    ledger: Ledger,
    dry_run: bool = False,
) -> Grown:
    """Prove a bundle and add its records to the mirror of the box that made it.

    Args:
        config: The site file.
        untrusted_envelope: Who made it and what it holds.
        untrusted_leaves: The records.
        untrusted_evidence: Documents that came beside them.
        peer: The box that it must be of.
        ledger: This box's own; records what came.
        dry_run: Verify signature and binding; change nothing.

    Raises:
        LedgerUnavailableError: This box's ledger or the mirror cannot be written.
        LimitExceededError, MalformedError, ProofError: It is not proven; nothing was changed.
        PairingRefusedError: As these; or it shows that this box lost records, and is kept.
    """
    pair = require_paired(config.at, peer)
    here = installed(ledger)
    folder = mirror.folder_of(config.at, pair.peer)
    records = (*mirror.rotations(folder, pair.peer), *bundle.lines_of(untrusted_leaves))
    known, news = peerkeys.followed(ledger, pair.peer, records)
    opened = bundle.require(untrusted_envelope, untrusted_leaves, pair, known)
    missing = tuple(serial for serial in opened.bundle.releases if serial not in here)
    with mirror.Mirror(folder, pair.peer) as copy:
        before = copy.size
        if dry_run:
            return Grown(
                pair=pair, bundle=opened.bundle, before=before, size=opened.bundle.size, pepper="", missing=missing
            )
        signed = copy.grow(opened.bundle.start, opened.leaves, opened.bundle.checkpoint, known)
    peerkeys.record(ledger, pair.peer, news)
    then = FixedClock(at=opened.bundle.at)
    if untrusted_evidence:
        evidenced.keep(config.at, untrusted_evidence, mirror.reader(config.at, pair.peer, clock=then))
    done, refused = pepper.KEPT, None
    if pair.relation is Relation.STANDBY and opened.bundle.sealed:
        try:
            done = pepper.adopt(config, opened.bundle.sealed, pair, ledger=ledger)
        except SealiftError as error:  # what came is here all the same, and recorded
            done, refused = pepper.REFUSED, error
    if signed.size > before:
        body = {"peer": peer, "sender": pair.peer.origin, "before": before, "size": signed.size}
        ledger.append(IMPORTED, {**body, "root": signed.root.hex(), "missing_releases": list(missing)})
    # The records that came are kept as evidence all the same.
    forked.require_whole(config, pair, ledger, clock=then)
    return Grown(
        pair=pair,
        bundle=opened.bundle,
        before=before,
        size=signed.size,
        pepper=done,
        missing=missing,
        refused=refused,
    )


def installed(ledger: Ledger) -> tuple[int, ...]:
    """Return the serials that were installed on the box of a ledger."""
    found = ledger.find(kind=_INSTALLED, limit=EVERY)
    return tuple(sorted({int(leaf.body["serial"]) for leaf in found}))


def write(folder: Path, made: Made) -> Mapping[str, Path]:
    """Write a bundle to a folder, e.g. of a medium; the envelope last, so that what has it is complete.

    Raises:
        StoreWriteError: It cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        durable.replace(folder / LEAVES_NAME, made.leaves, mode=0o644)
        durable.replace(folder / EVIDENCE_NAME, made.evidence, mode=0o644)
        durable.replace(folder / ENVELOPE_NAME, made.envelope, mode=0o644)
    except OSError as error:
        raise StoreWriteError(
            what="the bundle cannot be written", why=error.strerror or "", fix="name another folder"
        ) from error
    return {name: folder / name for name in (ENVELOPE_NAME, LEAVES_NAME, EVIDENCE_NAME)}


def read(folder: Path) -> tuple[bytes, bytes]:
    """Return both parts of a bundle in a folder.

    Raises:
        MissingFileError: One is not there, is a link, or is too large.
    """
    return _plain(folder / ENVELOPE_NAME, bundle.MOST_BYTES), _plain(folder / LEAVES_NAME, bundle.MOST_BYTES)


def read_evidence(folder: Path) -> bytes:
    """Return the documents beside a bundle; nothing where a release of before made it."""
    if not (folder / EVIDENCE_NAME).exists():
        return b""
    return _plain(folder / EVIDENCE_NAME, evidenced.MOST_BYTES)


def _plain(path: Path, most: int) -> bytes:
    fix = "give the folder that `sealift standby export` wrote"
    return plain_bytes(path, f"the bundle's {path.name}", limit=most, fix=fix)
