"""TUF metadata of a release: built without a clock or a network from the plan and what was measured, then signed.

The same plan and the same bytes give byte-identical metadata on every machine, so people sign the same bytes in any
order: snapshot and timestamp name versions only, and no signature covers another signature.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from securesystemslib.signer import Signature  # type: ignore[attr-defined]  # no __all__
from tuf.api.metadata import Metadata, MetaFile, Signed, Snapshot, TargetFile, Targets, Timestamp  # type: ignore[attr-defined]  # no __all__
from tuf.api.serialization.json import CanonicalJSONSerializer

from bundler.errors import SigningError
from bundler.measure import Measured
from bundler.plan import ATTESTATION, REISSUES, ReleasePlan
from media.canonical import dumps
from media.digest import payload_digest
from media.errors import ExtraFileError, MissingFileError
from media.layout import BLOCK_BYTES

NEVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""An isolated box has no trusted time: the date that people chose is x-sealift-stale-after, judged by the receiver."""

ROLES = ("targets", "snapshot", "timestamp")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsignedRoles:
    """The three roles that release people sign, before anyone has."""

    targets: Targets
    snapshot: Snapshot
    timestamp: Timestamp
    payload_digest: str

    def signed_bytes(self) -> dict[str, bytes]:
        """Return what is signed, by role."""
        return {role: canonical(self.role(role)) for role in ROLES}

    def role(self, name: str) -> Targets | Snapshot | Timestamp:
        """Return one role by its name."""
        roles: dict[str, Targets | Snapshot | Timestamp] = {
            "targets": self.targets,
            "snapshot": self.snapshot,
            "timestamp": self.timestamp,
        }
        return roles[name]

    def file_name(self, role: str) -> str:
        """Return the role's file name on the medium (consistent snapshot)."""
        return "timestamp.json" if role == "timestamp" else f"{self.role(role).version}.{role}.json"

    def files(self, signatures: Mapping[str, Iterable[Signature]]) -> dict[str, bytes]:
        """Return the metadata files, signatures in the order of their key ids."""
        return {
            self.file_name(role): signed_file(self.role(role), signatures.get(role, ())) for role in reversed(ROLES)
        }


def unsigned_roles(
    plan: ReleasePlan, *, payload: Mapping[str, Measured], attestations: Mapping[str, Measured]
) -> UnsignedRoles:
    """Build the roles of a release.

    Args:
        plan: The facts of the release.
        payload: What was measured below data/, by target path.
        attestations: What was measured below attest/, by target path.

    Raises:
        MissingFileError: The plan names a file that is not there.
        ExtraFileError: A file is there that the plan does not name.
        SigningError: The bytes are not the ones the plan was written for.
    """
    require_planned(plan, payload)
    digest = payload_digest((path, found.length, found.sha256) for path, found in payload.items())
    if plan.payload_digest and plan.payload_digest != digest:
        raise SigningError(
            what="the candidate has changed since it was built",
            why=f"payload digest {digest[:12]} instead of {plan.payload_digest[:12]}",
            fix="build it again; nobody should sign this one",
        )
    files = {path: _target(path, found, plan.kinds[path]) for path, found in payload.items()}
    files |= {path: _target(path, found, ATTESTATION) for path, found in attestations.items()}
    facts = {
        "format": 1,
        "product": "sealift",
        "release": plan.release,
        "created": plan.created,
        "sites": list(plan.sites),
        "targets": [dict(target) for target in plan.targets],
        "payload_digest": digest,
    }
    extra: dict[str, Any] = {"x-sealift": facts, "x-sealift-checkpoints": dict(plan.checkpoints)}
    timestamp_version = plan.serial * REISSUES + plan.issue
    return UnsignedRoles(
        targets=Targets(version=plan.serial, expires=NEVER, targets=files, unrecognized_fields=extra),
        snapshot=Snapshot(version=plan.serial, expires=NEVER, meta={"targets.json": MetaFile(plan.serial)}),
        timestamp=Timestamp(
            version=timestamp_version,
            expires=NEVER,
            snapshot_meta=MetaFile(plan.serial),
            unrecognized_fields={"x-sealift-stale-after": plan.stale_after},
        ),
        payload_digest=digest,
    )


def require_planned(plan: ReleasePlan, payload: Mapping[str, Measured]) -> None:
    """Pass only when the candidate holds exactly the files that the plan names.

    Raises:
        MissingFileError: The plan names a file that is not there.
        ExtraFileError: A file is there that the plan does not name.
    """
    if missing := sorted(set(plan.kinds) - set(payload)):
        raise MissingFileError(what=f"{missing[0]} is not in the candidate", why=f"{len(missing)} planned files miss")
    if extra := sorted(set(payload) - set(plan.kinds)):
        raise ExtraFileError(what=f"{extra[0]} is in the candidate", why="the plan does not name it")


def canonical(signed: Signed) -> bytes:
    """Return the bytes of a role that signatures cover."""
    return CanonicalJSONSerializer().serialize(signed)


def signed_file(signed: Signed, signatures: Iterable[Signature]) -> bytes:
    """Return the file of a role with its signatures, in the order of their key ids, in canonical form (FMT-31)."""
    ordered = {signature.keyid: signature for signature in sorted(signatures, key=lambda each: each.keyid)}
    metadata: Metadata[Any] = Metadata(signed, ordered)
    return dumps(metadata.to_dict())


def _target(path: str, found: Measured, kind: str) -> TargetFile:
    custom = {"kind": kind, "block_size": BLOCK_BYTES, "blocks": list(found.blocks)}
    return TargetFile(found.length, {"sha256": found.sha256}, path, unrecognized_fields={"custom": custom})
