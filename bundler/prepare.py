"""Reading a work folder the way a signer must: every byte measured, every statement verified, the metadata built anew.

Nothing that was computed earlier is believed. Two people with equal work folders prepare equal bytes, and what they
prepare is read by the receiver's own parsers before anyone signs it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bundler.attest import SEALED, require_attested
from bundler.errors import SigningError
from bundler.measure import Measured, Progress, measure_tree, no_progress
from bundler.metadata import UnsignedRoles, canonical, unsigned_roles
from bundler.plan import REHEARSAL_LEVELS, ReleasePlan
from bundler.signatory import Ceremony
from bundler.volumechoice import VolumeChoice, plan_volumes
from bundler.workfolder import WorkFolder
from media import bill, dsse, layout
from media.canonical import loads, mapping
from media.custody import HandOver
from media.limits import PAYLOAD_BYTES
from media.people import Environment
from media.release import ReleaseTerms, StaleAfter, targets_from
from media.volume import VolumeIndex

REQUIRED = ("provenance", "sbom", "scan", "rehearsal")
"""What a production release must carry besides custody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A release as it is now, ready to be signed."""

    plan: ReleasePlan
    payload: Mapping[str, Measured]
    attestations: Mapping[str, Measured]
    roles: UnsignedRoles
    volumes: VolumeIndex


def prepare(work: WorkFolder, *, ceremony: Ceremony, progress: Progress = no_progress) -> Prepared:
    """Measure the candidate, verify the statements about it and build its unsigned metadata.

    Raises:
        SigningError: A statement misses, is not signed by someone who may, or is about another payload.
        CapacityError: The volumes are not chosen, or cannot hold the payload.
        MediaError: The candidate is not what its plan says, its bill of materials is of other files, or a receiver
            would refuse it.
    """
    plan = ReleasePlan.load(work.plan)
    choice = VolumeChoice.load(work)
    payload = measure_tree(work.data, prefix=layout.DATA, progress=progress)
    attested = require_attested(work, ceremony=ceremony)
    measured = measure_tree(work.attest, prefix=layout.ATTEST)
    attestations = {name: measured[name] for name in attested}
    roles = unsigned_roles(plan, payload=payload, attestations=attestations)
    volumes = plan_volumes(plan, payload, choice)
    _require_evidence(attested, ceremony)
    _require_custody(attested, volumes)
    _require_rehearsed(attested, roles.payload_digest, plan.rehearsal)
    _require_billed(attested, payload)
    _require_readable(roles)
    return Prepared(plan=plan, payload=payload, attestations=attestations, roles=roles, volumes=volumes)


def _require_evidence(attested: Mapping[str, dsse.Statement], ceremony: Ceremony) -> None:
    if ceremony.environment != Environment.PRODUCTION:
        return
    if missing := [name for name in REQUIRED if layout.attestation_name(name) not in attested]:
        raise SigningError(
            what=f"there is no {missing[0]} statement",
            why=f"a production release carries {', '.join(REQUIRED)}",
            fix="run build and rehearse, then attest",
        )


def _require_custody(attested: Mapping[str, dsse.Statement], volumes: VolumeIndex) -> None:
    expected = {layout.sealed_custody_name(volume.number): volume.id for volume in volumes.volumes}
    prefix = f"{layout.ATTEST}/{SEALED}"
    found = {
        name: HandOver.from_payload(statement.payload).volume
        for name, statement in attested.items()
        if name.startswith(prefix)
    }
    if found != expected:
        raise SigningError(
            what="the sealed custody entries are not about these volumes",
            why="the candidate changed after the volumes were chosen",
            fix="remove volumes.json and the custody statements, then attest again",
        )


def _require_rehearsed(attested: Mapping[str, dsse.Statement], payload_digest: str, demanded: str) -> None:
    statement = attested.get(layout.attestation_name("rehearsal"))
    if statement is None and not demanded:
        return
    value: dict[str, Any] = {}
    if statement is not None:
        value = mapping(loads(statement.payload, allow_floats=True), "The rehearsal statement")
    predicate = mapping(value.get("predicate", {}), "The rehearsal statement")
    if statement is not None and predicate.get("payload_digest") != payload_digest:
        raise SigningError(
            what="another payload was rehearsed",
            why=f"this one is {payload_digest[:12]}",
            fix="rehearse again, then attest",
        )
    level = str(predicate.get("level", ""))
    if demanded and _rank(level) < _rank(demanded):
        raise SigningError(
            what=f"the site demands a rehearsal of level {demanded}",
            why=f"this release reached {level if level in REHEARSAL_LEVELS else 'none'}",
            fix="rehearse on a machine that can show it, or correct site.policy.rehearsal and build again",
        )


def _rank(level: str) -> int:
    return REHEARSAL_LEVELS.index(level) if level in REHEARSAL_LEVELS else -1


def _require_billed(attested: Mapping[str, dsse.Statement], payload: Mapping[str, Measured]) -> None:
    statement = attested.get(layout.attestation_name("sbom"))
    if statement is None:
        return
    value = mapping(loads(statement.payload, max_bytes=PAYLOAD_BYTES, allow_floats=True), "The bill of materials")
    bill.require_same_files(value.get("predicate"), {path: measured.sha256 for path, measured in payload.items()})


def _require_readable(roles: UnsignedRoles) -> None:
    signed = mapping(loads(canonical(roles.targets)), "targets")
    ReleaseTerms.from_targets(signed)
    targets_from(signed)
    StaleAfter.from_timestamp(mapping(loads(canonical(roles.timestamp)), "timestamp"))
