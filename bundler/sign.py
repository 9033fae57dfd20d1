"""Round one: each release person signs targets, snapshot and timestamp, in any order, after the bytes were read again.

A person leaves one small file behind. Whoever reaches the threshold merges the signatures and freezes the metadata;
from then on round two, sealing, can begin. A signature over other bytes than those that this work folder gives is
refused by name, so nobody signs beside the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from securesystemslib.signer import Signature  # type: ignore[attr-defined]  # no __all__

from bundler.errors import SigningError
from bundler.freeze import freeze
from bundler.measure import Progress, no_progress
from bundler.metadata import ROLES, UnsignedRoles
from bundler.prepare import Prepared, prepare
from bundler.privatekeys import OwnKeys
from bundler.seal import put_seals
from bundler.signatory import Ceremony, Signatory
from bundler.workfolder import WorkFolder, keep_signed
from media import keys
from media.canonical import dumps, exact_keys, integer, loads, mapping, sha256_hex, text
from media.digest import sha256_hex as digest_of
from media.errors import MalformedError, SealiftError
from media.people import Person

_MAX_BYTES = 256 * 2**10


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialSignature:
    """What one person signed: the digests of the bytes and the signatures over them, by role."""

    person: str
    release: str
    serial: int
    signs: Mapping[str, str]
    signatures: Mapping[str, tuple[Signature, ...]]

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Read a person's file, strictly.

        Raises:
            MalformedError: It is not one.
        """
        what = "A person's signature file"
        value = exact_keys(
            loads(untrusted, max_bytes=_MAX_BYTES),
            ("format", "person", "release", "serial", "signs", "signatures"),
            (),
            what,
        )
        integer(value["format"], f"{what}: format", minimum=1, maximum=1)
        signs = exact_keys(value["signs"], ROLES, (), what)
        given = exact_keys(value["signatures"], ROLES, (), what)
        return cls(
            person=text(value["person"], what),
            release=text(value["release"], what),
            serial=integer(value["serial"], what),
            signs={role: sha256_hex(signs[role], what) for role in ROLES},
            signatures={role: tuple(keys.require_signatures(given[role], what).values()) for role in ROLES},
        )

    def to_bytes(self) -> bytes:
        """Return the file's canonical bytes."""
        return dumps(
            {
                "format": 1,
                "person": self.person,
                "release": self.release,
                "serial": self.serial,
                "signs": dict(self.signs),
                "signatures": {role: [each.to_dict() for each in own] for role, own in self.signatures.items()},
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """Where round one stands after a person signed."""

    person: str
    signed: tuple[str, ...]
    threshold: int
    frozen: bool
    sealed_volumes: tuple[int, ...]


def sign(
    work: WorkFolder,
    person_id: str,
    *,
    ceremony: Ceremony,
    home: OwnKeys = None,
    prepared: Prepared | None = None,
    progress: Progress = no_progress,
) -> Signed:
    """Sign a release as one person; the person who reaches the threshold freezes it and seals their part at once.

    Args:
        work: The release.
        person_id: Who signs.
        ceremony: The root under which they sign.
        home: Their GnuPG home or all places of their keys; the throwaway home of the ceremony folder if not given.
        prepared: What the person was shown a moment ago; the candidate is read again if not given.
        progress: Called while the candidate is read.

    Raises:
        SigningError: The person may not sign, signed already, the bytes are not the ones others signed, or others froze
            the release meanwhile.
        MediaError: The candidate is not what its plan says.
    """
    signatory = ceremony.signatory(person_id, home)
    if "release" not in signatory.person.roles:
        raise SigningError(
            what=f"{signatory.person.name} may not sign releases", why="the root does not give the role release"
        )
    if work.is_frozen:
        raise SigningError(
            what="the metadata of this release is frozen",
            why="enough people have signed it",
            fix="run: sealift-bundler seal WORK --person ID",
        )
    prepared = prepared or prepare(work, ceremony=ceremony, progress=progress)
    with work.alone():
        others = partial_signatures(work, prepared, ceremony=ceremony)
    threshold, own = ceremony.threshold("release"), None
    if person_id not in others:
        own = _sign(prepared.roles, signatory, prepared)
    elif len(others) < threshold:  # else enough have signed, and what follows was cut off
        raise SigningError(
            what=f"{signatory.person.name} has signed this release already", why="each person signs once"
        )
    sealed: tuple[int, ...] = ()
    with work.alone():  # others may have signed while this person typed: freezing again would undo what they sealed
        if own is not None:
            keep_signed(work.signatures / f"{person_id}.json", own.to_bytes())
        everyone = partial_signatures(work, prepared, ceremony=ceremony)
        if work.is_frozen:
            raise SigningError(
                what="the metadata of this release was frozen while you signed",
                why="enough people have signed it",
                fix="run: sealift-bundler seal WORK --person ID",
            )
        if len(everyone) >= threshold:
            merged = {role: [each for one in everyone.values() for each in one.signatures[role]] for role in ROLES}
            freeze(work, prepared, signatures=merged, ceremony=ceremony)
            sealed = put_seals(work, person_id, ceremony=ceremony, home=home).volumes
    return Signed(
        person=person_id,
        signed=tuple(sorted(everyone)),
        threshold=threshold,
        frozen=work.is_frozen,
        sealed_volumes=sealed,
    )


def partial_signatures(work: WorkFolder, prepared: Prepared, *, ceremony: Ceremony) -> dict[str, PartialSignature]:
    """Return what people have signed so far, each signature verified over these very bytes.

    Raises:
        SigningError: Someone signed other bytes, or a signature does not hold.
    """
    found: dict[str, PartialSignature] = {}
    expected = prepared.roles.signed_bytes()
    for path in sorted(work.signatures.glob("*.json")):
        try:
            partial = PartialSignature.from_bytes(path.read_bytes())
            person = _present(ceremony, partial.person, path.name)
            if path.stem != partial.person or partial.signs != digests(prepared.roles):
                raise _other_bytes(partial, prepared)
            for role in ROLES:
                _require_all_hold(partial.signatures[role], person, expected[role], ceremony)
        except MalformedError as error:
            raise SigningError(what=f"{path.name} is no signature file", why=error.why, fix="remove it") from error
        found[partial.person] = partial
    return found


def digests(roles: UnsignedRoles) -> dict[str, str]:
    """Return the SHA-256 of what is signed, by role."""
    return {role: digest_of(data) for role, data in roles.signed_bytes().items()}


def _sign(roles: UnsignedRoles, signatory: Signatory, prepared: Prepared) -> PartialSignature:
    with signatory.at_hand() as at_hand:
        signatures = {role: tuple(at_hand.sign("release", data)) for role, data in roles.signed_bytes().items()}
    return PartialSignature(
        person=signatory.person.id,
        release=prepared.plan.release,
        serial=prepared.plan.serial,
        signs=digests(roles),
        signatures=signatures,
    )


def _present(ceremony: Ceremony, person_id: str, name: str) -> Person:
    """Return who signed by the newest root, which may name others than when they did."""
    try:
        return ceremony.person(person_id)
    except SigningError as error:
        raise SigningError(
            what=f"{name} is of somebody whom the root does not name", why=error.why, fix=f"remove signatures/{name}"
        ) from error


def _require_all_hold(signatures: tuple[Signature, ...], person: Person, data: bytes, ceremony: Ceremony) -> None:
    if sorted(each.keyid for each in signatures) != sorted(person.keys.get("release", ())):
        raise SigningError(
            what=f"a signature of {person.name} is by another key than the person's",
            why="one from each key that the newest root gives is expected",
            fix=f"remove signatures/{person.id}.json and let {person.name} sign again, who signs releases by that root",
        )
    for each in signatures:
        try:
            keys.verify(ceremony.people.key_objects[each.keyid], each, data, "a release role")
        except SealiftError as error:
            raise SigningError(
                what="a signature does not hold", why=error.why, fix="let the person sign again"
            ) from error


def _other_bytes(partial: PartialSignature, prepared: Prepared) -> SigningError:
    differing = [role for role, digest in digests(prepared.roles).items() if partial.signs.get(role) != digest]
    return SigningError(
        what=f"{partial.person} signed other bytes than this work folder holds",
        why=f"{', '.join(differing) or 'the file name'} of {partial.release} serial {partial.serial} differs",
        fix="compare the two work folders; sign only one and the same",
    )


def summary(prepared: Prepared) -> dict[str, Any]:
    """Return what a person should look at before signing."""
    return {
        "release": prepared.plan.release,
        "serial": prepared.plan.serial,
        "sites": list(prepared.plan.sites),
        "payload_digest": prepared.roles.payload_digest,
        "files": len(prepared.payload),
        "bytes": sum(found.length for found in prepared.payload.values()),
        "attestations": sorted(prepared.attestations),
        "stale_after": prepared.plan.stale_after,
        "checkpoints": {origin: point["size"] for origin, point in prepared.plan.checkpoints.items()},
        "signs": mapping(digests(prepared.roles), "signs"),
    }
