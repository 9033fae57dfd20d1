"""Evidence as an EXPORT: the checks of a receive, a refusal or a rejection, for the sender and others outside.

What people of this site typed stays: names and reasons become counts, seals become "same" or "other". The paper form
has them, for whoever may see it here.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from appliance.actions import evidence, exporting
from appliance.actions.evidence import Record
from appliance.actions.export_types import TYPES, ExportType
from appliance.actions.exporting import Export, Written
from appliance.actions.recorded import PARTLY_RECEIVED, RECEIVED, REFUSED, REVERIFIED
from appliance.actions.site_custody import REJECTED
from appliance.audit.client import open_ledger
from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import ExportRefusedError
from appliance.keys.opening import open_keys
from media.clock import Clock
from media.digest import sha256_hex
from media.errors import MalformedError, UsageError
from media.siteevidence import SiteEvidence

_OUTCOMES = {
    RECEIVED: "received",
    PARTLY_RECEIVED: "partly-received",
    REVERIFIED: "reverified",
    REFUSED: "refused",
    REJECTED: "rejected",
}
KINDS = tuple(_OUTCOMES)
"""Records that evidence can be made of."""


def export(
    config: Config,
    folder: Path,
    *,
    serial: int | None,
    sequence: int | None,
    clock: Clock,
    agrees: Callable[[str], bool],
) -> Written | None:
    """Show the evidence of a receive in full, record it and write it; None when the person did not agree.

    Args:
        config: The site's.
        folder: Where to write the file.
        serial: Of a release that was received.
        sequence: Of a record in place of the serial: of a receive, a refusal, or the rejection of a volume.
        clock: What time it is.
        agrees: Shows the whole text and returns the answer.

    Raises:
        UsageError: Neither or both were given, or the record is about something else.
        UnknownReleaseError: No release of that serial was received here.
        ExportRefusedError: It holds what may not leave.
        LedgerUnavailableError: It could not be recorded; nothing was written.
        StoreWriteError: It could not be written.
    """
    ledger = open_ledger(config, evidence.DOOR, clock=clock)
    try:
        _, out = drafted(config, ledger, serial=serial, sequence=sequence)
        return exporting.write(out, folder, ledger=ledger, keys=open_keys(config), agrees=agrees)
    finally:
        ledger.close()


def drafted(config: Config, ledger: Ledger, *, serial: int | None, sequence: int | None) -> tuple[int, Export]:
    """Return the record's sequence and the evidence as it would leave; nothing is recorded or written.

    Raises:
        UsageError, UnknownReleaseError: As `export`.
        ExportRefusedError: It holds what may not leave.
    """
    record = evidence.record_of(config, ledger, serial=serial, sequence=sequence, kinds=KINDS)
    try:
        made = SiteEvidence.of(_fields(record))
    except MalformedError as error:
        raise UsageError(
            what="this record is too old for evidence that may leave", why=error.why, fix="print the form instead"
        ) from error
    name = f"evidence-{config.site}-{record.sequence}"
    out = Export(kind=ExportType.EVIDENCE, site=config.site, name=name, draft=made)
    content = out.draft.to_payload(ledger=None)
    exporting.require_harmless(content, most_bytes=TYPES[out.kind].most_bytes)
    return record.sequence if record.sequence is not None else -1, out


def make_shown(config: Config, sequence: int, digest32: str, *, clock: Clock) -> Written:
    """Make the evidence of a record that a person was shown elsewhere: the same to the last byte, or none.

    Args:
        config: The site's.
        sequence: Of the record.
        digest32: The first 32 digits of the SHA-256 of what was shown.
        clock: What time it is.

    Raises:
        ExportRefusedError: It would be other than what was shown.
        Others: As `export`.
    """
    ledger = open_ledger(config, evidence.DOOR, clock=clock)
    try:
        _, out = drafted(config, ledger, serial=None, sequence=sequence)
        is_same = sha256_hex(out.draft.to_payload(ledger=None)).startswith(digest32)
        keys = open_keys(config)
        written = exporting.write(out, config.at.receipts, ledger=ledger, keys=keys, agrees=lambda _: is_same)
    finally:
        ledger.close()
    if written is None:
        raise ExportRefusedError(
            what="the evidence is not what was shown", why="its digest is another", fix="look at it again"
        )
    return written


def _fields(record: Record) -> dict[str, Any]:
    body, custody = record.body, record.body.get("custody")
    stale = body.get("accepted_stale_by")
    if record.kind == REJECTED:
        volumes = [{"number": 0, "id": body["volume"], "tagmanifest_sha256": ""}]
    else:
        volumes = [dict(each) for each in body.get("volumes", ())]
    return {
        "site": body["site"],
        "at": f"{record.at[:19]}Z",
        "record": {"kind": record.kind, "sequence": record.sequence if record.sequence is not None else -1},
        "outcome": _OUTCOMES[record.kind],
        "error": body.get("error", ""),
        "exit_code": body.get("exit_code", 0),
        "release": body.get("release", ""),
        "serial": body.get("serial", 0),
        "code": body.get("code") or body.get("release_code") or "",
        "payload_digest": body.get("payload_digest", ""),
        "signers": [each["fingerprint"] for each in body.get("signers", ())],
        "volumes": volumes,
        "checks": [dict(each) for each in body.get("checks", ())],
        "custody": None if custody is None else _custody(custody),
        "decisions": {
            "stale": len(stale["names"]) if stale else 0,
            "custody": int(bool(custody and custody.get("accepted_by"))),
        },
        "verifier": dict(body["verifier"]) if body.get("verifier") else None,
    }


def _custody(custody: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "complete": custody["complete"],
        "findings": custody.get("findings_in_all", len(custody["findings"])),
        "entries": [{name: each[name] for name in ("volume", "entry", "sha256")} for each in custody["entries"]],
        "paper": len(custody.get("paper", ())),
        "looked_at": [
            {
                "volume": each["volume"],
                "head": each["head"],
                "head_told": each["head_given"] is not None,
                "seals": _seals(each),
            }
            for each in custody.get("looked_at", ())
        ],
    }


def _seals(looked_at: Mapping[str, Any]) -> str:
    if looked_at["seals_found"] is None:
        return "not-looked-at"
    # Both lists hold the first of many alone; records of releases before this one say no more than that.
    agree = looked_at.get("seals_agree", set(looked_at["seals_found"]) == set(looked_at["seals_recorded"]))
    return "same" if agree else "other"
