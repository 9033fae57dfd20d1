"""The receipt: what goes back to the sender, who can check it without this box.

It is an EXPORT type of format 1: fixed fields, no free text, a few kilobytes. It is signed twice over by the ledger's
key: the envelope by the key itself where this process may use it, and, where the ledger runs, the tree that holds the
record of this receive by its checkpoint. Either is enough; both are there when both can be had.
"""

from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from securesystemslib import dsse

from appliance.audit.facts import Appended, Ledger
from appliance.config import Config
from appliance.errors import KeyMissingError, LedgerUnavailableError, StoreWriteError
from appliance.keys.files import FileKeys
from media import canonical, durable
from media.digest import sha256_hex
from media.errors import UsageError

FORMAT: Final = 1
PAYLOAD_TYPE: Final = "application/vnd.sealift.receipt+json"
_KEY: Final = "ledger-checkpoint"
_COPIED: Final = (
    *("release", "serial", "code", "payload_digest", "targets_sha256", "root_version", "timestamp_version"),
    *("signers", "volumes", "files", "bytes", "rehearsal_level"),
)


def write(
    config: Config, facts: Mapping[str, Any], appended: Appended, ledger: Ledger, *, outcome: str, at: str
) -> Path:
    """Write the receipt of one receive and return its file.

    Raises:
        StoreWriteError: It could not be written; the release is in place nevertheless.
    """
    places = config.at
    payload = canonical.dumps(
        {
            "format": FORMAT,
            "type": "sealift/receipt",
            "site": config.site,
            "outcome": outcome,
            "at": at,
            **{name: facts[name] for name in _COPIED},
            "custody": _custody(facts["custody"]),
            "ledger": _proof(ledger, appended),
        }
    )
    envelope = canonical.dumps(
        {
            "payload": b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": _signatures(FileKeys(places.key_files), payload),
        }
    )
    file = places.receipts / f"receipt-{facts['serial']}-{facts['code'][:12]}.dsse.json"
    try:
        places.receipts.mkdir(parents=True, exist_ok=True)
        durable.replace(file, envelope, mode=0o644)
    except OSError as error:
        raise StoreWriteError(
            what="the receipt could not be written",
            why=error.strerror or "",
            fix="make room, then receive again: it writes the receipt anew",
        ) from error
    return file


def _custody(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return custody without what people typed: names of entries, not their words."""
    return {
        "complete": facts["complete"],
        "findings": facts.get("findings_in_all", len(facts["findings"])),
        "entries": [
            {"volume": entry["volume"], "entry": entry["entry"], "sha256": entry["sha256"]}
            for entry in facts["entries"]
        ],
    }


def _proof(ledger: Ledger, appended: Appended) -> dict[str, Any] | None:
    """Return the leaf and the signed checkpoint that holds it; None before a ledger runs."""
    if appended.sequence < 0:
        return None
    try:
        leaf = ledger.leaf(appended.sequence)
        proof = ledger.inclusion(appended.sequence)
    except (LedgerUnavailableError, UsageError):
        return None
    return {
        "sequence": appended.sequence,
        "leaf": b64encode(leaf.raw).decode(),
        "size": proof.size,
        "root": proof.root,
        "hashes": list(proof.hashes),
        "checkpoint": proof.note,
    }


def _signatures(keys: FileKeys, payload: bytes) -> list[dict[str, str]]:
    try:
        public = keys.public(_KEY)
        signature = keys.sign(_KEY, dsse.Envelope(payload, PAYLOAD_TYPE, {}).pae())
    except KeyMissingError:  # the unit that receives has no keys; the ledger's checkpoint signs in its place
        return []
    return [{"keyid": sha256_hex(public), "sig": b64encode(signature).decode()}]
