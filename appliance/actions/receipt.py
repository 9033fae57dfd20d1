"""The receipt: what goes back to the sender, who can check it without this box.

It is an EXPORT type of format 1: fixed fields, no words of this site's people, a few kilobytes. It is signed twice over
by the ledger's key: the envelope by the key itself where this process may use it, and, where the ledger runs, the tree
that holds the record of this receipt by its checkpoint. Either is enough; both are there when both can be had. The
record that proves it says only that this receipt was made (EXP-3): the record of the receive holds names and reasons,
and stays.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.actions import exporting
from appliance.actions.export_types import RECEIPT as PAYLOAD_TYPE
from appliance.actions.export_types import ExportType
from appliance.actions.exporting import Export, Written
from appliance.actions.recorded import RECEIVED
from appliance.audit.client import open_ledger
from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import LedgerUnavailableError, StoreWriteError
from appliance.keys.opening import open_keys
from appliance.store.content import ContentStore, StoredRelease
from media import canonical, durable
from media.clock import Clock, to_text
from media.digest import sha256_hex

__all__ = ["MADE", "PAYLOAD_TYPE", "Receipt", "export", "write", "write_again"]

FORMAT: Final = 1
MADE: Final = "export.receipt"
_DOOR: Final = "ledger-actions"
_COPIED: Final = (
    *("release", "serial", "code", "payload_digest", "targets_sha256", "root_version", "timestamp_version"),
    *("signers", "volumes", "files", "bytes", "rehearsal_level"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A receipt before it is recorded.

    Args:
        site: Whose.
        outcome: received, reissued or reverified.
        at: When; RFC 3339.
        facts: The release as it was verified.
    """

    site: str
    outcome: str
    at: str
    facts: Mapping[str, Any]

    @property
    def about(self) -> dict[str, Any]:
        """What the record of the receipt says of the release; nothing that anybody typed."""
        return {name: self.facts[name] for name in ("release", "serial", "code", "payload_digest")}

    def to_payload(self, *, ledger: Mapping[str, Any] | None) -> bytes:
        """Return the canonical bytes, with the ledger's proof or without."""
        return canonical.dumps(
            {
                "format": FORMAT,
                "type": "sealift/receipt",
                "site": self.site,
                "outcome": self.outcome,
                "at": self.at,
                **{name: self.facts[name] for name in _COPIED},
                "custody": _custody(self.facts["custody"]),
                "ledger": None if ledger is None else dict(ledger),
            }
        )


def write(config: Config, facts: Mapping[str, Any], ledger: Ledger, *, outcome: str, at: str) -> Path:
    """Write the receipt of one receive and return its file.

    Raises:
        StoreWriteError: It could not be written; the release is in place nevertheless.
    """
    places = config.at
    draft = Receipt(site=config.site, outcome=outcome, at=at, facts=facts)
    content = draft.to_payload(ledger=None)
    body = {
        "type": str(ExportType.RECEIPT),
        "site": config.site,
        "sha256": sha256_hex(content),
        "bytes": len(content),
        **draft.about,
    }
    try:
        proof = exporting.proof(ledger, ledger.append(MADE, body))
    except LedgerUnavailableError:  # the receive itself is recorded or spooled; a receipt can be written again
        proof = None
    envelope = exporting.enveloped(PAYLOAD_TYPE, draft.to_payload(ledger=proof), ledger, open_keys(config))
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


def write_again(config: Config, serial: int, *, clock: Clock) -> str:
    """Write the receipt of a stored release again, with the ledger's proof as it is now; return its file's name.

    Raises:
        UnknownReleaseError: The store holds no such release.
        StoreWriteError: It could not be written.
    """
    facts = _stored(config, serial)
    ledger = open_ledger(config, _DOOR, spool=True, clock=clock)
    try:
        return write(config, facts, ledger, outcome="received", at=to_text(clock.now())).name
    finally:
        ledger.close()


def export(config: Config, serial: int, folder: Path, *, clock: Clock, agrees: Callable[[str], bool]) -> Written | None:
    """Show the receipt of a stored release in full, record it and write it; None when the person did not agree.

    Raises:
        UnknownReleaseError: The store holds no such release.
        ExportRefusedError: It holds what may not leave.
        LedgerUnavailableError: It could not be recorded; nothing was written.
        StoreWriteError: It could not be written.
    """
    facts = _stored(config, serial)
    ledger = open_ledger(config, _DOOR, clock=clock)
    try:
        at = next((leaf.time for leaf in ledger.find(kind=RECEIVED, field="serial", value=serial, limit=1)), None)
        draft = Receipt(site=config.site, outcome="received", at=_whole(at) or to_text(clock.now()), facts=facts)
        made = Export(
            kind=ExportType.RECEIPT, site=config.site, name=f"receipt-{serial}", draft=draft, about=draft.about
        )
        return exporting.write(made, folder, ledger=ledger, keys=open_keys(config), agrees=agrees)
    finally:
        ledger.close()


def _stored(config: Config, serial: int) -> dict[str, Any]:
    stored = StoredRelease.load(ContentStore(config.at.store), serial)
    return {**stored.facts, "files": len(stored.files)}


def _whole(at: str | None) -> str:
    """Return a record's time in whole seconds, as the format writes times."""
    return f"{at[:19]}Z" if at and at.endswith("Z") else ""


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
