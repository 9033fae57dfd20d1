"""The site's people: who may approve, go back and stop. Counted apart from the people who sign releases.

Promises: an id, a name, a fingerprint and any key material belong to one person only, for ever, also after that person
was revoked; parsing refuses a list that breaks this. No password is in here: engines read this file.
"""

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from appliance.errors import ConflictError, UnknownPersonError
from media import canonical, limits
from media.errors import MalformedError
from media.packets import Certificate

FORMAT: Final = 1
OPENPGP: Final = "openpgp"
ROLES: Final = ("approver", "operator")
_ID = re.compile(r"[a-z0-9](-?[a-z0-9]){0,31}")
_LONGEST_NAME = 100
_MOST_BASE64 = 4 * (limits.CERTIFICATE_BYTES // 3 + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePerson:
    """One enrolled person.

    Attributes:
        enrolled: Ledger sequence of the enrolment.
        revoked: Ledger sequence of the revocation; approvals in promotions before it keep their force.
    """

    id: str
    name: str
    fingerprint: str
    certificate: bytes = field(repr=False)
    roles: tuple[str, ...] = ROLES
    approves_by: str = OPENPGP
    enrolled: int = 0
    revoked: int | None = None

    def is_active_at(self, sequence: int) -> bool:
        """Return whether the person counted at that place of the ledger."""
        return self.enrolled < sequence and (self.revoked is None or sequence < self.revoked)

    def to_json(self) -> dict[str, Any]:
        """Return the fields of people.json."""
        return {
            "id": self.id,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "certificate": base64.b64encode(self.certificate).decode(),
            "roles": list(self.roles),
            "class": self.approves_by,
            "enrolled": self.enrolled,
            "revoked": self.revoked,
        }

    @classmethod
    def from_json(cls, untrusted: Any) -> Self:
        """Parse one entry of people.json.

        Raises:
            MalformedError: A field is missing or of another shape.
        """
        required = ("id", "name", "fingerprint", "certificate", "roles", "class", "enrolled", "revoked")
        fields = canonical.exact_keys(untrusted, required, what="person")
        revoked = fields["revoked"]
        roles = canonical.array(fields["roles"], "person.roles", most=len(ROLES))
        certificate = Certificate.from_bytes(from_base64(fields["certificate"], "person.certificate"))
        if fields["fingerprint"] != certificate.fingerprint:
            raise MalformedError(
                what="a person's fingerprint is not that of the certificate",
                why=certificate.fingerprint[-16:],
                fix="restore people.json from the ledger",
            )
        return cls(
            id=require_id(canonical.text(fields["id"], "person.id")),
            name=require_name(canonical.text(fields["name"], "person.name")),
            fingerprint=certificate.fingerprint,
            certificate=certificate.raw,
            roles=tuple(canonical.one_of(role, ROLES, "person.roles") for role in roles),
            approves_by=canonical.one_of(fields["class"], (OPENPGP,), "person.class"),
            enrolled=canonical.integer(fields["enrolled"], "person.enrolled"),
            revoked=None if revoked is None else canonical.integer(revoked, "person.revoked"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePeople:
    """Everyone who was ever enrolled; `sequence` is the last ledger event that is in here."""

    people: tuple[SitePerson, ...] = ()
    sequence: int = -1

    def __post_init__(self) -> None:
        """Refuse a list in which two people share what only one may have."""
        owners: dict[tuple[str, str], SitePerson] = {}
        for person in self.people:
            for what, value in _belongings(person):
                other = owners.setdefault((what, value), person)
                if other is not person:
                    raise ConflictError(
                        what=f"{person.name} cannot be enrolled",
                        why=f"this {what} belongs to {other.name} already",
                        fix="each person enrols once, with a key of their own",
                    )

    def with_person(self, person: SitePerson) -> Self:
        """Return the list with one more person.

        Raises:
            ConflictError: The id, the name, the fingerprint or key material is taken.
        """
        return replace(self, people=(*self.people, person), sequence=person.enrolled)

    def with_revocation(self, person_id: str, sequence: int) -> Self:
        """Return the list in which that person no longer counts from `sequence` on."""
        people = tuple(replace(one, revoked=sequence) if one.id == person_id else one for one in self.people)
        return replace(self, people=people, sequence=sequence)

    @property
    def active(self) -> tuple[SitePerson, ...]:
        """Everyone who counts now."""
        return tuple(person for person in self.people if person.revoked is None)

    def require_active(self, person_id: str) -> SitePerson:
        """Return one person who counts now.

        Raises:
            UnknownPersonError: There is none of this id.
        """
        for person in self.active:
            if person.id == person_id:
                return person
        raise UnknownPersonError(
            what=f"no person {person_id[:40]} counts at this site",
            why="not enrolled, or revoked",
            fix="see `sealift people list`",
        )

    def to_bytes(self) -> bytes:
        """Return the content of people.json."""
        people = [person.to_json() for person in self.people]
        return canonical.dumps({"format": FORMAT, "sequence": self.sequence, "people": people})

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Parse people.json.

        Raises:
            MalformedError: It is not in its form.
            ConflictError: Two people share an id, a name, a fingerprint or a key.
        """
        value = canonical.loads_canonical(untrusted)
        fields = canonical.exact_keys(value, ("format", "sequence", "people"), what="people.json")
        canonical.integer(fields["format"], "people.json.format", minimum=FORMAT, maximum=FORMAT)
        return cls(
            people=tuple(SitePerson.from_json(one) for one in canonical.array(fields["people"], "people.json.people")),
            sequence=canonical.integer(fields["sequence"], "people.json.sequence", minimum=-1),
        )


def key_material(certificate: bytes) -> frozenset[str]:
    """Return what names each key in a certificate, whatever its date or packet, so that one key is seen as one.

    Raises:
        MalformedError: Not exactly one public version 4 certificate.
    """
    return frozenset(key.material for key in Certificate.from_bytes(certificate).keys)


def _belongings(person: SitePerson) -> Iterator[tuple[str, str]]:
    yield "id", person.id
    yield "name", person.name.casefold()
    yield "fingerprint", person.fingerprint
    for digest in key_material(person.certificate):
        yield "key", digest


def person_from(body: Mapping[str, Any], *, enrolled: int) -> SitePerson:
    """Return the person of a `person.enrolled` event.

    Raises:
        MalformedError: The event is not in its form.
    """
    certificate = from_base64(body.get("certificate"), "person.certificate")
    return SitePerson(
        id=require_id(canonical.text(body.get("person"), "person")),
        name=require_name(canonical.text(body.get("name"), "name")),
        fingerprint=Certificate.from_bytes(certificate).fingerprint,
        certificate=certificate,
        roles=ROLES,
        enrolled=enrolled,
    )


def require_id(untrusted: str) -> str:
    """Return a person's id: lower-case letters and digits, single hyphens between.

    Raises:
        MalformedError: It is not in that form.
    """
    if not _ID.fullmatch(untrusted):
        raise MalformedError(
            what="a person's id is refused",
            why="1 to 32 lower-case letters and digits, single hyphens between",
            fix="give --id",
        )
    return untrusted


def require_name(untrusted: str) -> str:
    """Return a printable name in NFC.

    Raises:
        MalformedError: It is empty, too long or not printable.
    """
    name = " ".join(unicodedata.normalize("NFC", untrusted).split())
    if not name or len(name) > _LONGEST_NAME or not name.isprintable() or name != untrusted:
        raise MalformedError(
            what="a person's name is refused",
            why=f"1 to {_LONGEST_NAME} printable characters, single spaces between",
            fix="give the name as it is printed on evidence",
        )
    return name


def id_from(name: str) -> str:
    """Return an id made from a name, e.g. ``Ana Petrová`` gives ``ana-petrova``."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return "-".join(re.findall(r"[a-z0-9]+", plain))[:32].strip("-")


def from_base64(untrusted: object, what: str) -> bytes:
    """Return bytes that were written as base64 text.

    Raises:
        MalformedError: It is not.
    """
    try:
        return base64.b64decode(canonical.text(untrusted, what, most=_MOST_BASE64), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError(what=f"{what} is not base64", why=type(error).__name__, fix="send it again") from error
