"""A site's evidence of a receive or a refusal, believed only when the key of its ledger vouches for it (EXP-7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bundler import ledgerkeys
from bundler.ledgerkeys import SiteKeys
from bundler.ledgernote import Checkpoint
from bundler.register import Entry, Register
from bundler.siteword import Said
from media import limits, siteevidence
from media.clock import Clock
from media.digest import sha256_hex
from media.siteevidence import SiteEvidence

_WHAT = "The evidence"


@dataclass(frozen=True, slots=True, kw_only=True)
class BelievedEvidence:
    """What a site says became of a medium, and who vouches for that.

    Args:
        fields: All that it says.
        sha256: Of the file that the site sent.
        checkpoint: The head of the site's ledger at that time; None when the ledger's own proof is not there.
        vouched_by: signature, ledger, or both.
        keys: Of the site's ledger, after those that it leads to.
    """

    fields: Mapping[str, Any]
    sha256: str
    checkpoint: Checkpoint | None
    vouched_by: tuple[str, ...]
    keys: SiteKeys

    @property
    def volumes(self) -> tuple[str, ...]:
        """Ids of the volumes that it is about."""
        return tuple(each["id"] for each in self.fields["volumes"])


def read_evidence(untrusted: bytes, keys: SiteKeys) -> BelievedEvidence:
    """Return a site's evidence, once the site's ledger key vouches for it.

    Raises:
        LimitExceededError, MalformedError: It is no evidence.
        UnsupportedFormatError: A later version of the format.
        BadSignatureError: Nothing vouches for it, or what does is wrong.
    """
    said = _said(untrusted)
    found, value = SiteEvidence.from_payload(said.payload)
    vouched = said.require_vouched(value, keys, kind="evidence")
    return BelievedEvidence(
        fields=found.fields,
        sha256=sha256_hex(untrusted),
        checkpoint=vouched.head,
        vouched_by=vouched.by,
        keys=vouched.keys,
    )


def known_evidence(entries: Sequence[Entry], untrusted: bytes) -> tuple[BelievedEvidence, bool]:
    """Verify evidence that came back; return it, and whether the register does not have it yet.

    Raises:
        UsageError: The key of the site's ledger is not known.
        MediaError, TrustError: As `read_evidence`.
    """
    site = str(SiteEvidence.from_payload(_said(untrusted).payload)[0].fields["site"])
    keys = ledgerkeys.required(entries, site, why="evidence proves nothing without it")
    found = read_evidence(untrusted, keys)
    return found, not any(entry.kind == "evidence" and entry.facts["sha256"] == found.sha256 for entry in entries)


def record_evidence(register: Register, untrusted: bytes, *, clock: Clock) -> tuple[BelievedEvidence, bool]:
    """Verify evidence that came back and enter it; return it, and whether it is new.

    Raises:
        SealiftError: As `known_evidence`.
        UnreadableError: The register cannot be written.
    """
    found, is_new = known_evidence(register.entries(), untrusted)
    if is_new:
        ledgerkeys.remember(register, str(found.fields["site"]), found.keys, clock=clock)
        head = found.checkpoint
        facts = {
            "sha256": found.sha256,
            "site": found.fields["site"],
            "outcome": found.fields["outcome"],
            "error": found.fields["error"],
            "received_at": found.fields["at"],
            "release": found.fields["release"],
            "serial": found.fields["serial"],
            "ids": list(found.volumes),
            "vouched_by": list(found.vouched_by),
            "checkpoint": None if head is None else {"origin": head.origin, "size": head.size, "root": head.root.hex()},
        }
        register.append("evidence", facts, clock=clock)
    return found, is_new


def _said(untrusted: bytes) -> Said:
    return Said.opened(
        untrusted, payload_type=siteevidence.PAYLOAD_TYPE, what=_WHAT, max_bytes=limits.EVIDENCE_BYTES + 2**20
    )
