"""What a person hands in: everything that they signed of a release on their own machine, as one small file.

Each person has a copy of the same work folder; nothing of another's ever needs to come back but these files. Signatures
over statements travel without the statements, which every copy holds, so a hand-in fits a few QR codes. What is taken
is verified over the bytes at hand before it is put where the person's own machine would have put it.
"""

import base64
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from securesystemslib.signer import Signature  # type: ignore[attr-defined]  # no __all__

from bundler.attest import envelope_of, role_of, statements
from bundler.chunks import LARGEST_WHOLE
from bundler.errors import SigningError
from bundler.freeze import freeze
from bundler.measure import Progress, no_progress
from bundler.metadata import ROLES
from bundler.plan import ReleasePlan
from bundler.prepare import prepare
from bundler.seal import finish_seals
from bundler.sign import PartialSignature, partial_signatures
from bundler.signatory import Ceremony
from bundler.volumefiles import volume_index
from bundler.workfolder import WorkFolder, keep_signed
from media import dsse, keys, layout
from media.canonical import array, dumps, exact_keys, integer, loads_canonical, mapping, one_of, sha256_hex, text
from media.digest import sha256_hex as digest_of
from media.errors import MalformedError, SealiftError
from media.openpgp import verify_detached

TYPE: Final = "sealift/hand-in"
_MAX_BYTES: Final = LARGEST_WHOLE
_STATEMENTS, _VOLUMES = 128, 99
_NUMBER: Final = re.compile(r"[1-9][0-9]?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedStatement:
    """A person's signatures over one statement: its type, the digest of its payload, one signature of each key."""

    payload_type: str
    payload_sha256: str
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """A person's seal of one volume: the digest of the tag manifest and the OpenPGP signature over it."""

    tag_manifest: str
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HandIn:
    """One person's file.

    Args:
        person: Their id.
        release: The name of the release.
        serial: Its serial.
        statements: By name, such as `provenance`.
        signatures: Round one; None if they have not signed yet.
        frozen_with: Whose signatures the sealed metadata holds; empty while nothing is sealed.
        seals: Round two, by volume.
    """

    person: str
    release: str
    serial: int
    statements: Mapping[str, SignedStatement]
    signatures: PartialSignature | None
    frozen_with: tuple[str, ...]
    seals: Mapping[int, Seal]

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Read a file, strictly.

        Raises:
            MalformedError, LimitExceededError: It is none.
        """
        what = "A hand-in"
        value = exact_keys(
            loads_canonical(untrusted, max_bytes=_MAX_BYTES),
            ("format", "frozen_with", "person", "release", "seals", "serial", "signatures", "statements", "type"),
            (),
            what,
        )
        integer(value["format"], f"{what}: format", minimum=1, maximum=1)
        one_of(value["type"], (TYPE,), what)
        stated = mapping(value["statements"], what)
        sealed = mapping(value["seals"], what)
        if len(stated) > _STATEMENTS or len(sealed) > _VOLUMES or not all(map(_NUMBER.fullmatch, sealed)):
            raise MalformedError(
                what=f"{what} is malformed", why="it names too many things, or volumes without numbers"
            )
        own = value["signatures"]
        return cls(
            person=text(value["person"], what),
            release=text(value["release"], what),
            serial=integer(value["serial"], what),
            statements={text(name, what): _statement(each, what) for name, each in stated.items()},
            signatures=None if own is None else PartialSignature.from_bytes(dumps(own)),
            frozen_with=tuple(text(each, what) for each in array(value["frozen_with"], what, most=64)),
            seals={int(number): _seal(each, what) for number, each in sealed.items()},
        )

    def to_bytes(self) -> bytes:
        """Return the file."""
        return dumps(
            {
                "format": 1,
                "type": TYPE,
                "person": self.person,
                "release": self.release,
                "serial": self.serial,
                "statements": {
                    name: {
                        "payload_type": each.payload_type,
                        "payload_sha256": each.payload_sha256,
                        "signatures": [one.to_dict() for one in each.signatures],
                    }
                    for name, each in self.statements.items()
                },
                "signatures": None if self.signatures is None else loads_canonical(self.signatures.to_bytes()),
                "frozen_with": list(self.frozen_with),
                "seals": {
                    str(number): {
                        "tag_manifest": each.tag_manifest,
                        "signature": base64.b64encode(each.signature).decode("ascii"),
                    }
                    for number, each in self.seals.items()
                },
            }
        )


class Part(StrEnum):
    """What a hand-in may be cut down to, for fewer codes once the rest was taken."""

    STATEMENTS = "statements"
    SIGNATURES = "signatures"
    SEALS = "seals"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Where a release stands after hand-ins were taken."""

    people: tuple[str, ...]
    signed: tuple[str, ...]
    threshold: int
    frozen: bool
    sealed_by: tuple[str, ...]
    code: str
    sheet: bool


def hand_in(work: WorkFolder, person_id: str, *, ceremony: Ceremony, only: Collection[Part] = tuple(Part)) -> HandIn:
    """Return what a person has signed in this work folder.

    Args:
        work: Where they signed.
        person_id: Who.
        ceremony: The root that names them.
        only: Leave out the rest.

    Raises:
        SigningError: The person has signed nothing of this here.
        MediaError: A file of theirs cannot be read.
    """
    person, plan = ceremony.person(person_id), ReleasePlan.load(work.plan)
    own = work.signatures / f"{person_id}.json"
    stated = {}
    for path in statements(work) if Part.STATEMENTS in only else ():
        if not (file := envelope_of(path)).is_file():
            continue
        envelope = dsse.Envelope.from_bytes(file.read_bytes())
        if {each.keyid for each in envelope.signatures} <= set(person.keys["release"]):
            stated[path.stem] = SignedStatement(
                payload_type=envelope.payload_type,
                payload_sha256=digest_of(envelope.payload),
                signatures=envelope.signatures,
            )
    seals = {}
    if work.is_frozen and Part.SEALS in only and person.fingerprint:
        for volume in volume_index(work).volumes:
            folder = work.seal_of(volume.number)
            signature = folder / layout.signature_name(person.fingerprint)
            if signature.is_file():
                manifest = (folder / layout.TAG_MANIFEST).read_bytes()
                seals[volume.number] = Seal(tag_manifest=digest_of(manifest), signature=signature.read_bytes())
    has_signed = own.is_file() and Part.SIGNATURES in only
    signatures = PartialSignature.from_bytes(own.read_bytes()) if has_signed else None
    if not stated and signatures is None and not seals:
        raise SigningError(
            what=f"{person.name} has signed nothing in this work folder",
            why="there is nothing to hand in",
            fix="run attest, sign or seal first",
        )
    return HandIn(
        person=person_id,
        release=plan.release,
        serial=plan.serial,
        statements=stated,
        signatures=signatures,
        frozen_with=frozen_with(work) if seals else (),
        seals=seals,
    )


def take(
    work: WorkFolder, handed_in: Sequence[HandIn], *, ceremony: Ceremony, progress: Progress = no_progress
) -> Taken:
    """Verify what people handed in and put it into this work folder; freeze it once enough have signed.

    Raises:
        SigningError: Something is about another release or other bytes, or does not hold.
        MediaError: The candidate is not what its plan says.
    """
    plan = ReleasePlan.load(work.plan)
    for each in handed_in:
        ceremony.person(each.person)
        if (each.release, each.serial) != (plan.release, plan.serial):
            raise _refused(each, f"it is about {each.release} serial {each.serial}")
    for each in handed_in:
        _take_statements(work, each, ceremony)
    waiting = any(each.signatures is not None for each in handed_in)
    if waiting and not work.is_frozen:
        _take_signatures(work, handed_in, ceremony, progress)
    for each in handed_in:
        _take_seals(work, each, ceremony)
    sealed_by = finish_seals(work, ceremony=ceremony) if work.is_frozen else None
    return Taken(
        people=tuple(each.person for each in handed_in),
        signed=tuple(sorted(path.stem for path in work.signatures.glob("*.json"))),
        threshold=ceremony.threshold("release"),
        frozen=work.is_frozen,
        sealed_by=sealed_by.people if sealed_by else (),
        code=sealed_by.code if sealed_by else "",
        sheet=work.sheet.is_file(),
    )


def frozen_with(work: WorkFolder) -> tuple[str, ...]:
    """Return whose signatures the frozen targets hold, of the people whose files lie here."""
    name = f"{ReleasePlan.load(work.plan).serial}.targets.json"
    frozen = {
        each["keyid"] for each in mapping(loads_canonical((work.metadata / name).read_bytes()), name)["signatures"]
    }
    found = []
    for path in sorted(work.signatures.glob("*.json")):
        partial = PartialSignature.from_bytes(path.read_bytes())
        if {each.keyid for each in partial.signatures["targets"]} <= frozen:
            found.append(partial.person)
    return tuple(found)


def _take_statements(work: WorkFolder, each: HandIn, ceremony: Ceremony) -> None:
    at_hand = {path.stem: path for path in statements(work)}
    for name, signed in each.statements.items():
        path = at_hand.get(name)
        if path is None:
            raise _refused(each, f"it is about the statement {name[:40]}, which is not in this work folder")
        payload = path.read_bytes()
        if digest_of(payload) != signed.payload_sha256:
            raise _refused(each, f"the statement {name} is another one here")
        envelope = dsse.Envelope(
            payload_type=signed.payload_type, payload=payload, signatures=signed.signatures
        ).to_bytes()
        try:
            verified = dsse.verify(envelope, ceremony.people, role_of(name))
        except SealiftError as error:
            raise _refused(each, f"the statement {name}: {error.what}: {error.why}") from error
        if [person.id for person in verified.signers] != [each.person]:
            raise _refused(each, f"the statement {name} is signed by somebody else")
        if envelope_of(path).is_file():
            continue  # a statement that is signed is never signed again
        keep_signed(envelope_of(path), envelope)


def _take_signatures(work: WorkFolder, handed_in: Sequence[HandIn], ceremony: Ceremony, progress: Progress) -> None:
    prepared = prepare(work, ceremony=ceremony, progress=progress)
    work.signatures.mkdir(exist_ok=True)
    for each in handed_in:
        if each.signatures is None:
            continue
        if each.signatures.person != each.person:
            raise _refused(each, "the signatures are in another's name")
        own = work.signatures / f"{each.person}.json"
        before = own.read_bytes() if own.is_file() else None
        if before is not None and before != each.signatures.to_bytes():
            raise _refused(each, "this person's signatures lie here already and differ")
        if before is None:
            keep_signed(own, each.signatures.to_bytes())
        try:
            partial_signatures(work, prepared, ceremony=ceremony)
        except SealiftError:
            if before is None:
                own.unlink()
            raise
    everyone = partial_signatures(work, prepared, ceremony=ceremony)
    chosen = next((each.frozen_with for each in handed_in if each.frozen_with), tuple(everyone))
    if missing := sorted(set(chosen) - set(everyone)):
        raise SigningError(
            what=f"the signatures of {missing[0]} are not here",
            why="the release was sealed with them",
            fix="take what this person handed in as well",
        )
    if len(chosen) >= ceremony.threshold("release"):
        merged = {role: [one for name in chosen for one in everyone[name].signatures[role]] for role in ROLES}
        with work.alone():
            if not work.is_frozen:  # whoever signed here meanwhile may have frozen it
                freeze(work, prepared, signatures=merged, ceremony=ceremony)


def _take_seals(work: WorkFolder, each: HandIn, ceremony: Ceremony) -> None:
    if each.seals and not work.is_frozen:
        raise _refused(each, "it seals metadata that is not complete here; take the others' hand-ins too")
    person = ceremony.person(each.person)
    for number, sealed in each.seals.items():
        folder = work.seal_of(number)
        if not (folder / layout.TAG_MANIFEST).is_file():
            raise _refused(each, f"there is no volume {number}")
        manifest = (folder / layout.TAG_MANIFEST).read_bytes()
        if digest_of(manifest) != sealed.tag_manifest:
            raise _refused(
                each, f"volume {number} is sealed over other files: its metadata was frozen with {_names(each)}"
            )
        try:
            good = verify_detached(sealed.signature, manifest, [person.certificate])
        except SealiftError as error:
            raise _refused(each, f"the seal of volume {number}: {error.what}: {error.why}") from error
        target = folder / layout.signature_name(good.fingerprint)
        if not target.exists():
            keep_signed(target, sealed.signature)


def _names(each: HandIn) -> str:
    return ", ".join(each.frozen_with) or "nobody"


def _statement(untrusted: Any, what: str) -> SignedStatement:
    value = exact_keys(untrusted, ("payload_sha256", "payload_type", "signatures"), (), what)
    return SignedStatement(
        payload_type=text(value["payload_type"], what, most=128),
        payload_sha256=sha256_hex(value["payload_sha256"], what),
        signatures=tuple(keys.require_signatures(value["signatures"], what).values()),
    )


def _seal(untrusted: Any, what: str) -> Seal:
    value = exact_keys(untrusted, ("signature", "tag_manifest"), (), what)
    try:
        signature = base64.b64decode(text(value["signature"], what, most=65536), validate=True)
    except ValueError as error:
        raise MalformedError(what=f"{what} is malformed", why="a seal is not base64") from error
    return Seal(tag_manifest=sha256_hex(value["tag_manifest"], what), signature=signature)


def _refused(each: HandIn, why: str) -> SigningError:
    return SigningError(
        what=f"what {each.person[:32]} handed in does not count",
        why=why,
        fix="compare the two work folders; sign only one and the same",
    )
