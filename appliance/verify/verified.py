"""What only the verifier can make: a release that may be copied."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from appliance.verify.bag import SignedBag
from appliance.verify.evidence import VolumeCustody, custody_json
from appliance.verify.freshness import Decisions
from media import layout
from media.clock import to_text
from media.people import Person, SignaturePolicy
from media.release import ReleaseTerms, Target
from media.volume import VolumeIndex

_MADE_HERE: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRelease:
    """Signatures, people, site, serial, sizes and custody hold; its bytes may be copied and must still be proven.

    Made by `appliance.verify.verifier` only; anyone else is refused.

    Args:
        terms: What people signed about the release.
        targets: Every file by path.
        index: Which volume carries what.
        bags: The volumes in order of their numbers.
        code: SHA-256 of volume 1's tag manifest.
        environment: Of the trusted root.
        policy: Of the trusted root: which signatures made each person count.
        root_version: Of the trusted root.
        root_chain: The chain as the trust record will hold it.
        timestamp_version: Rises with every signing.
        stale_after: The date people chose.
        accepted_stale: It lies past that date and two people took it.
        signers: Who signed volume 1's tag manifest.
        metadata_signers: Who signed the targets metadata.
        targets_sha256: Of the targets metadata's file.
        level: Of the rehearsal; None when there was none.
        machine: Which of its machines this one is.
        custody: By volume.
        decisions: What people of the site decided.
        held: This box has accepted this very serial and payload before.
        missing: Numbers of the volumes that are not there; while there are any, bytes may be copied and nothing more.
        kept: Numbers of the volumes that were there before and are not now.
        token: Proof that the verifier made it.
    """

    terms: ReleaseTerms
    targets: Mapping[str, Target]
    index: VolumeIndex
    bags: tuple[SignedBag, ...]
    code: str
    environment: str
    policy: SignaturePolicy
    root_version: int
    root_chain: tuple[str, ...]
    timestamp_version: int
    stale_after: datetime
    accepted_stale: bool
    signers: tuple[Person, ...]
    metadata_signers: tuple[Person, ...]
    targets_sha256: str
    level: str | None
    machine: str
    custody: tuple[VolumeCustody, ...]
    decisions: Decisions
    held: bool
    token: object = field(repr=False)
    missing: tuple[int, ...] = ()
    kept: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if self.token is not _MADE_HERE:
            message = "only the verifier makes a VerifiedRelease"
            raise TypeError(message)

    @property
    def payload(self) -> dict[str, Target]:
        """The files below data/, by path."""
        return {path: target for path, target in self.targets.items() if path.startswith(f"{layout.DATA}/")}

    def to_json(self) -> dict[str, Any]:
        """Return the facts that the ledger, the receipt and the store's record hold."""
        facts, base = self._facts(self.payload), self.index.base
        if base is None:
            return facts
        delta = {
            "set": self.index.set_digest,
            "source": str(base.source),
            "site": base.site,
            "serials": list(base.serials),
            "carried_bytes": sum(volume.payload_bytes for volume in self.index.volumes),
        }
        return {**facts, "delta": delta}

    def _facts(self, payload: Mapping[str, Target]) -> dict[str, Any]:
        stale = self.decisions.stale if self.accepted_stale else None
        return {
            "release": self.terms.release,
            "serial": self.terms.serial,
            "code": self.code,
            "created": to_text(self.terms.created),
            "environment": self.environment,
            "signature_policy": str(self.policy),
            "signers": [_signer(person) for person in self.signers],
            "metadata_signers": [_signer(person) for person in self.metadata_signers],
            "root_version": self.root_version,
            "timestamp_version": self.timestamp_version,
            "volumes": [
                {"number": volume.number, "id": volume.id, "tagmanifest_sha256": bag.code}
                for volume, bag in zip(self.index.volumes, self.bags, strict=True)
            ],
            "payload_digest": self.terms.payload_digest,
            "targets_sha256": self.targets_sha256,
            "stale_after": to_text(self.stale_after),
            "accepted_stale_by": None if stale is None else {"names": list(stale.names), "reason": stale.reason},
            "rehearsal_level": self.level or "none",
            "machine": self.machine,
            "sites": list(self.terms.sites),
            "checkpoints": {
                origin: {"size": point.size, "root": point.root} for origin, point in self.terms.checkpoints.items()
            },
            "files": len(payload),
            "bytes": sum(target.length for target in payload.values()),
            "custody": custody_json(self.custody, self.decisions.custody),
        }


def made_by_the_verifier() -> object:
    """Return the token; `appliance.verify.verifier` is its only caller, by test."""
    return _MADE_HERE


def _signer(person: Person) -> dict[str, str]:
    return {"person": person.id, "name": person.name, "fingerprint": person.fingerprint}
