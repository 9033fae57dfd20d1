"""What the lost box is known to have accepted besides what its backup says: so that no serial ever falls.

A receipt counts when the lost box's ledger key signed it, or when the record in it lies in a tree that the key signed.
A printed checkpoint must be a head of the restored records, or a later one of the same ledger: then records were lost,
and how many is stated.
"""

from base64 import b64decode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.dsse import Envelope

from appliance.actions.backups import aside
from appliance.actions.backups.archive import Contents
from appliance.actions.export_types import RECEIPT
from appliance.audit import note, succession
from appliance.audit.client import OfflineLedger
from appliance.audit.facts import InclusionProof
from appliance.config import Config
from appliance.errors import ProofError
from appliance.verify import trust
from appliance.verify.trust import Checkpoint, TrustRecord
from media import canonical
from media.clock import Clock
from media.digest import sha256_hex
from media.errors import MediaError, NoTrustError

_WHAT: Final = "A receipt"
_MOST: Final = 8 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A release that a receipt shows was accepted."""

    serial: int
    timestamp_version: int
    payload_digest: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """All that is known besides the backup.

    Args:
        shown: By receipts.
        here: What this box believes already: media were received before the restore, or before one that was cut off.
        printed: The last printed head; None where nobody has a print.
    """

    shown: tuple[Shown, ...]
    here: TrustRecord | None
    printed: Checkpoint | None


def gather(
    config: Config, contents: Contents, ledger_folder: Path, printed: str, receipts: Sequence[bytes], *, clock: Clock
) -> Known:
    """Return what is known, every part of it checked against the restored records.

    Raises:
        ProofError: A print or a receipt is not of this ledger, or contradicts it.
    """
    ledger = OfflineLedger.of_folder(ledger_folder, clock=clock)
    keys = succession.of_ledger(ledger)
    point = None
    if printed:
        signed = keys.checkpoint(printed)
        point = Checkpoint(origin=signed.origin, size=signed.size, root=signed.root.hex())
        _require_head(ledger, point, contents.signed)
    shown = tuple(_shown(untrusted, config.site, keys) for untrusted in receipts)
    return Known(shown=shown, here=_here(config), printed=point)


def _here(config: Config) -> TrustRecord | None:
    """Return what this box believes; where a restore was cut off between its moves, that lies put aside."""
    put_aside = [one.root / aside.TRUST for one in reversed(aside.asides(config.at)) if one.at is not None]
    for folder in (config.at.trust, *put_aside):
        with suppress(NoTrustError):
            return trust.load(folder, config.at.pinned_trust, may_begin=False)
    return None


def _require_head(ledger: OfflineLedger, printed: Checkpoint, restored: note.Checkpoint) -> None:
    if printed.size > restored.size:
        if printed.origin == restored.origin:
            return
    elif printed.size == 0 or ledger.consistency(printed.size, restored.size).old_root == printed.root:
        return
    raise ProofError(
        what="the printed checkpoint is not one of this backup's ledger",
        why=f"its tree of {printed.size} records is another than the one printed",
        fix="do not restore this backup; compare it with other prints and other backups",
    )


def _shown(untrusted: bytes, site: str, keys: succession.Keys) -> Shown:
    try:
        envelope = canonical.mapping(canonical.loads(untrusted, max_bytes=_MOST), _WHAT)
        payload = b64decode(canonical.text(envelope.get("payload"), _WHAT, most=_MOST), validate=True)
        fields = canonical.mapping(canonical.loads(payload, max_bytes=_MOST), _WHAT)
        if not (_is_signed(envelope, payload, keys.all()) or _is_proven(fields, keys)):
            raise _refused("no key of this ledger signed it")
        if fields.get("site") != site or fields.get("type") != "sealift/receipt":
            raise _refused("it is not a receipt of this site")
        return Shown(
            serial=canonical.integer(fields.get("serial"), _WHAT, minimum=1),
            timestamp_version=canonical.integer(fields.get("timestamp_version"), _WHAT, minimum=1),
            payload_digest=canonical.sha256_hex(fields.get("payload_digest"), _WHAT),
            at=canonical.moment(str(fields.get("at"))[:19] + "Z", _WHAT),
        )
    except (MediaError, ValueError) as error:
        raise _refused(f"it does not read ({type(error).__name__})") from error


def _is_signed(envelope: dict[str, Any], payload: bytes, vkeys: Sequence[note.VerifierKey]) -> bool:
    bytes_signed = Envelope(payload, RECEIPT, {}).pae()
    keys = {sha256_hex(vkey.public): vkey.public for vkey in vkeys}
    for each in canonical.array(envelope.get("signatures"), _WHAT):
        fields = canonical.mapping(each, _WHAT)
        public = keys.get(str(fields.get("keyid")))
        if public is None:
            continue
        try:
            signature = b64decode(canonical.text(fields.get("sig"), _WHAT), validate=True)
            Ed25519PublicKey.from_public_bytes(public).verify(signature, bytes_signed)
        except InvalidSignature:
            return False
        return True
    return False


def _is_proven(fields: dict[str, Any], keys: succession.Keys) -> bool:
    """Tell whether the record of this very receipt lies in a tree that a key of the ledger signed."""
    proof = fields.get("ledger")
    if not isinstance(proof, dict):
        return False
    try:
        point = keys.checkpoint(str(proof.get("checkpoint", "")))
        leaf = b64decode(canonical.text(proof.get("leaf"), _WHAT, most=_MOST), validate=True)
        hashes = tuple(str(each) for each in canonical.array(proof.get("hashes"), _WHAT))
        sequence = canonical.integer(proof.get("sequence"), _WHAT)
        InclusionProof(sequence=sequence, size=point.size, root=point.root.hex(), hashes=hashes).require(leaf)
        body = canonical.mapping(canonical.loads(leaf, max_bytes=_MOST, allow_floats=True), _WHAT).get("body")
    except (ProofError, MediaError, ValueError):
        return False
    recorded = sha256_hex(canonical.dumps({**fields, "ledger": None}))
    return isinstance(body, dict) and body.get("type") == "receipt" and body.get("sha256") == recorded


def _refused(why: str) -> ProofError:
    return ProofError(what="a receipt does not count", why=why, fix="bring the file that the sender kept")
