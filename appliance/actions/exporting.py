"""What leaves a facility: a closed list of EXPORT types, shown in full before anything is written (EXP-1 to EXP-3).

    draft -> type, cap -> scan for identifiers and secrets -> a person looks -> record -> proof and signature -> file

An export is built by its own module from fixed fields; only the ledger's proof and the signature are added here.
"""

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from securesystemslib import dsse

from appliance.actions.export_types import TYPES, ExportType, require_type
from appliance.audit import rotating, succession
from appliance.audit.facts import Appended, Ledger
from appliance.audit.log import Signer
from appliance.errors import ExportRefusedError, KeyMissingError, LedgerUnavailableError, StoreWriteError
from appliance.keys.provider import KeyProvider
from appliance.phi.detect import PatternDetector
from appliance.phi.patterns import DOCUMENTED, EXTRA
from media import canonical, durable
from media.digest import sha256_hex
from media.errors import UsageError

RECORDED: Final = "export.written"
# Digests, times and numbers in text: nothing that anybody typed.
_COMPUTED: Final = re.compile(r"(?:[0-9a-f]{16,128}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)", re.ASCII)
_SECRET: Final = re.compile(
    r"PRIVATE KEY|sl-(?:test-|auto-)?[A-Za-z2-7]{10}-[A-Za-z0-9_-]{43}"
    r"|(?:hf|gh[pousr])_[A-Za-z0-9]{30,}|AKIA[0-9A-Z]{16}"
)


class Draft(Protocol):
    """An export before it is recorded."""

    def to_payload(self, *, ledger: Mapping[str, Any] | None) -> bytes:
        """Return the canonical bytes, with the ledger's proof or without."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One thing that is to leave.

    Args:
        kind: From the closed list.
        site: Whose.
        name: Of the file, without the digest.
        draft: Its content.
        about: What the record says besides; never what anybody typed.
    """

    kind: ExportType
    site: str
    name: str
    draft: Draft
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """An export that was recorded and written."""

    file: Path
    sha256: str
    bytes: int
    sequence: int


def write(
    export: Export, folder: Path, *, ledger: Ledger, keys: KeyProvider, agrees: Callable[[str], bool]
) -> Written | None:
    """Record an export and write it; None when the person who was shown it did not agree.

    Args:
        export: What is to leave.
        folder: Where to write the file.
        ledger: Records it; nothing leaves unrecorded.
        keys: May hold the key that signs; else the ledger's proof vouches alone.
        agrees: Shows the whole text and returns the answer.

    Raises:
        ExportRefusedError: It is too large, not of its type, or holds what looks like an identifier or a secret.
        LedgerUnavailableError: It could not be recorded; nothing was written.
        StoreWriteError: It could not be written; that it was to leave is recorded.
    """
    content = export.draft.to_payload(ledger=None)
    require_type(export.kind, content)
    facts = TYPES[export.kind]
    require_harmless(content, most_bytes=facts.most_bytes)
    if not agrees(preview(content)):
        return None
    digest = sha256_hex(content)
    body = {"type": str(export.kind), "site": export.site, "sha256": digest, "bytes": len(content), **export.about}
    appended = ledger.append(RECORDED, body)
    if facts.payload_type:
        made = enveloped(facts.payload_type, export.draft.to_payload(ledger=proof(ledger, appended)), ledger, keys)
    else:
        made = content
    file = folder / (f"{export.name}-{digest[:12]}" + (".dsse.json" if facts.payload_type else ".json"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        durable.replace(file, made, mode=0o644)
    except OSError as error:
        raise StoreWriteError(
            what=f"the {export.kind} could not be written",
            why=error.strerror or "",
            fix="name another folder with --to",
        ) from error
    return Written(file=file, sha256=sha256_hex(made), bytes=len(made), sequence=appended.sequence)


def enveloped(payload_type: str, payload: bytes, ledger: Ledger, keys: KeyProvider) -> bytes:
    """Return the DSSE envelope of a payload, signed with the ledger's key where this process may use it (EXP-2).

    Args:
        payload_type: Of its kind.
        payload: The canonical bytes.
        ledger: Says which version of the key signs now; the newest where it does not answer.
        keys: May hold it.
    """
    return canonical.dumps(
        {
            "payload": b64encode(payload).decode(),
            "payloadType": payload_type,
            "signatures": _signatures(ledger, keys, payload_type, payload),
        }
    )


def preview(content: bytes) -> str:
    """Return all of an export as text for a person: every field, nothing left out."""
    return json.dumps(canonical.loads(content, max_bytes=len(content)), indent=1, sort_keys=True)


def require_harmless(content: bytes, *, most_bytes: int) -> None:
    """Pass only for an export within its cap that holds no identifier of a person and no secret.

    Raises:
        ExportRefusedError: It is too large, or a text looks like one; the error names the field, never the text.
    """
    if len(content) > most_bytes:
        raise ExportRefusedError(
            what="the export is too large",
            why=f"{len(content)} bytes, at most {most_bytes} may leave",
            fix="report it; nothing was written",
        )
    # Exports are made of the site's own serials and addresses, so a number with a label is nobody's there.
    detector = PatternDetector((*DOCUMENTED, *EXTRA))
    for name, text in _texts(canonical.loads(content, max_bytes=most_bytes), "export"):
        if _COMPUTED.fullmatch(text):
            continue
        found = [str(finding.phi_class) for finding in detector.find(text)]
        if found or _SECRET.search(text):
            raise ExportRefusedError(
                what=f"{name} holds what may not leave",
                why=f"it looks like: {found[0] if found else 'a secret'}",
                fix="correct what the field is taken from; nothing was written",
            )


def proof(ledger: Ledger, appended: Appended) -> dict[str, Any] | None:
    """Return the record and the signed checkpoint that holds it; None where the ledger cannot prove it now."""
    if appended.sequence < 0:
        return None
    try:
        leaf = ledger.leaf(appended.sequence)
        found = ledger.inclusion(appended.sequence)
        notes = _succession(ledger, found.size)
    except (LedgerUnavailableError, UsageError):
        return None
    return {
        "sequence": appended.sequence,
        "leaf": b64encode(leaf.raw).decode(),
        "size": found.size,
        "root": found.root,
        "hashes": list(found.hashes),
        "checkpoint": found.note,
        **({"succession": notes} if notes else {}),
    }


def _succession(ledger: Ledger, size: int) -> list[str]:
    """Return what leads from the ledger's first key to the one that signed: notes alone, since records hold words."""
    origin = ledger.head().origin
    rotated = succession.records(ledger, kinds=(succession.ROTATED,))
    return [str(leaf.body["note"]) for leaf in rotated if leaf.origin == origin and leaf.sequence < size]


def _signer(ledger: Ledger, keys: KeyProvider) -> Signer:
    try:
        return rotating.in_force(ledger, keys)
    except LedgerUnavailableError:
        return rotating.signer_of(keys, keys.newest(rotating.KEY_NAME))


def _texts(value: Any, field: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each, field)
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _texts(each, f"{field}.{name}")


def _signatures(ledger: Ledger, keys: KeyProvider, payload_type: str, payload: bytes) -> list[dict[str, str]]:
    try:
        signer = _signer(ledger, keys)
        signature = signer.sign(dsse.Envelope(payload, payload_type, {}).pae())
    except KeyMissingError:
        return []
    return [{"keyid": sha256_hex(signer.public), "sig": b64encode(signature).decode()}]
