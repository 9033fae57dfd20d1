"""The emergency note: root people say, by hand and at once, which keys are no longer believed (TRUST-60 to TRUST-66).

A note can only take away: it names keys, and signatures by them stop counting from then on. It is a DSSE envelope with
canonical JSON, small enough for one QR code, so that it reaches a site by paper, by phone camera or by courier before
the next medium does. What replaces the keys is a rotated root, which comes by medium as always.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self

from media import canonical, keys
from media.clock import to_text
from media.digest import sha256_hex
from media.dsse import Envelope
from media.errors import MalformedError, ThresholdError, WrongEnvironmentError
from media.people import Environment, People, Person, Role

PAYLOAD_TYPE: Final = "application/vnd.sealift.emergency+json"
FORMAT: Final = 1
MOST_BYTES: Final = 2900
"""One QR code of the largest size holds 2,953 bytes at its lowest error correction (ISO/IEC 18004)."""

MOST_ENVELOPE_BYTES: Final = 2**16
MOST_KEYS: Final = 32

_WHAT: Final = "An emergency note"
_FIELDS: Final = ("at", "environment", "format", "keys", "note", "product", "reason", "root", "since")
_FINGERPRINT_DIGITS: Final = 40


class Reason(StrEnum):
    """Why keys are no longer believed; a closed list, so that a note holds no free text."""

    STOLEN = "stolen"
    LOST = "lost"
    MISUSED = "misused"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmergencyNote:
    """What a note says.

    Args:
        environment: Of the root; a demo's note means nothing to production.
        root: SHA-256 of the first root, which names the sender for every site.
        note: Its number; the sender counts up, so that a site sees when one is missing.
        at: When it was written.
        since: From when on the keys may have been in other hands; everything they signed after is in doubt.
        reason: Why.
        keys: TUF key ids and OpenPGP fingerprints, in lower case, sorted.
    """

    environment: Environment
    root: str
    note: int
    at: datetime
    since: datetime
    reason: Reason
    keys: tuple[str, ...]

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Read a note's payload.

        Raises:
            LimitExceededError: It is larger than a note may be.
            MalformedError: It is not exactly what `to_bytes` writes.
        """
        parsed = canonical.loads_canonical(untrusted, max_bytes=MOST_BYTES)
        value = canonical.exact_keys(parsed, _FIELDS, (), _WHAT)
        canonical.integer(value["format"], _WHAT, minimum=FORMAT, maximum=FORMAT)
        canonical.one_of(value["product"], ("sealift",), _WHAT)
        named = tuple(_key(each) for each in canonical.array(value["keys"], _WHAT, most=MOST_KEYS))
        if not named or list(named) != sorted(set(named)):
            raise _malformed("it names no key, or they are not sorted, each once")
        return cls(
            environment=canonical.one_of(value["environment"], Environment, _WHAT),
            root=canonical.sha256_hex(value["root"], _WHAT),
            note=canonical.integer(value["note"], _WHAT, minimum=1),
            at=canonical.moment(value["at"], _WHAT),
            since=canonical.moment(value["since"], _WHAT),
            reason=canonical.one_of(value["reason"], Reason, _WHAT),
            keys=named,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields of the payload."""
        return {
            "format": FORMAT,
            "product": "sealift",
            "environment": str(self.environment),
            "root": self.root,
            "note": self.note,
            "at": to_text(self.at),
            "since": to_text(self.since),
            "reason": str(self.reason),
            "keys": list(self.keys),
        }

    def to_bytes(self) -> bytes:
        """Return the payload that people sign."""
        return canonical.dumps(self.to_json())


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedNote:
    """A note whose signatures held; `raw` is the envelope, which is what a box keeps."""

    note: EmergencyNote
    signers: tuple[Person, ...]
    raw: bytes


def keys_of(people: People, person_id: str, uses: Iterable[str]) -> tuple[str, ...]:
    """Return what a note must name so that nothing by a person's keys of these uses counts any more.

    Raises:
        BadSignatureError: The root names no such person.
    """
    person = people.by_id(person_id)
    named: set[str] = set()
    for use in uses:
        named.update(person.keys.get(use, ()))
        if use == Role.RELEASE and person.fingerprint:
            named.add(person.fingerprint.lower())
    return tuple(sorted(named))


def read(untrusted: bytes, people: People, *, first_root: bytes) -> SignedNote:
    """Return a note, once enough root people are seen to have signed it.

    A person counts by any one of their root keys, under the hybrid policy too: a note only takes away, and one QR code
    has no room for a post-quantum signature. A key that the note itself names does not count.

    Args:
        untrusted: The envelope.
        people: Of the root that is trusted now, without the keys that earlier notes took away.
        first_root: The bytes of the pinned first root.

    Raises:
        BadSignatureError: A signature does not hold, or is not by a root key.
        LimitExceededError, MalformedError: It is not a note, or is one for another sender.
        ThresholdError: Too few root people signed it.
        WrongEnvironmentError: It is for another environment.
    """
    if len(untrusted) > MOST_ENVELOPE_BYTES:
        raise _malformed(f"{len(untrusted)} bytes, at most {MOST_ENVELOPE_BYTES} are written")
    envelope = Envelope.from_bytes(untrusted)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise _malformed(f"expected an envelope of type {PAYLOAD_TYPE}")
    note = EmergencyNote.from_bytes(envelope.payload)
    signed = envelope.signed_bytes()
    signers: dict[str, Person] = {}
    for signature in envelope.signatures:
        owner = people.by_keyid(signature.keyid)
        keys.verify(people.key_objects[signature.keyid], signature, signed, "an emergency note")
        is_root = Role.ROOT in owner.roles and signature.keyid in owner.keys.get("root", ())
        if is_root and signature.keyid not in people.revoked and signature.keyid not in note.keys:
            signers[owner.id] = owner
    if note.environment is not people.environment:
        raise WrongEnvironmentError(
            what=f"The emergency note is for {note.environment}",
            why=f"the root of this box is for {people.environment}",
            fix="Ask the sender for the note of this site's root.",
        )
    if note.root != sha256_hex(first_root):
        raise _malformed("it is another sender's: it names another first root")
    needed = people.thresholds["root"]
    if len(signers) < needed:
        raise ThresholdError(
            what="Too few root people signed the emergency note",
            why=f"expected {needed}, found {len(signers)}: {', '.join(sorted(signers)) or 'nobody'}",
            fix="Call the sender on a number you know; do not act on this note alone.",
        )
    return SignedNote(note=note, signers=tuple(signers.values()), raw=untrusted)


def whose(people: People, note: EmergencyNote) -> Mapping[str, tuple[str, ...]]:
    """Return which persons of a root the note's keys belong to, with the use of each key; keys of nobody under ""."""
    found: dict[str, list[str]] = {}
    for named in note.keys:
        owners = [
            (person.id, use)
            for person in people.people
            for use, own in person.keys.items()
            if named in own or (use == Role.RELEASE and named == person.fingerprint.lower())
        ]
        for person_id, use in owners or [("", named)]:
            if use not in found.setdefault(person_id, []):
                found[person_id].append(use)
    return {person_id: tuple(uses) for person_id, uses in found.items()}


def _key(untrusted: Any) -> str:
    named = canonical.text(untrusted, _WHAT, most=64)
    is_hex = set(named) <= set("0123456789abcdef")
    if not is_hex or len(named) not in {_FINGERPRINT_DIGITS, 64}:
        raise _malformed("a key is named by 40 or 64 lower-case hexadecimal digits")
    return named


def _malformed(why: str) -> MalformedError:
    return MalformedError(
        what=f"{_WHAT} is malformed", why=why, fix="Do not act on it; call the sender on a number you know."
    )
