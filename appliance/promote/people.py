"""The site's people: who may approve, go back and stop. Counted apart from the people who sign releases.

Promises: an id, a name, a fingerprint and any key material belong to one person only, for ever, also after that person
was revoked or given new keys; parsing refuses a list that breaks this. Roles and credentials are kept with the ledger
sequences between which they counted, so that an old promotion is judged by what held then. No password is in here:
engines read this file. It is of format 2; format 1 (one OpenPGP certificate each, roles for ever) is read as well.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Self, TypeVar

from appliance.errors import ConflictError, UnknownPersonError
from appliance.promote import base64text
from appliance.promote.classes import OPENPGP
from appliance.promote.credentials import Credential
from media import canonical, clock
from media.errors import MalformedError

FORMAT: Final = 2
APPROVER: Final = "approver"
OPERATOR: Final = "operator"
ADMIN: Final = "admin"
ROLES: Final = (APPROVER, OPERATOR, ADMIN)
FIRST_ROLES: Final = (APPROVER, OPERATOR)
"""What everyone was before there were admins (format 1)."""
_ID = re.compile(r"[a-z0-9](-?[a-z0-9]){0,31}")
_LONGEST_NAME: Final = 100
# Ended ones are kept for good, and each new key of a person takes a reset that names all of them again.
_MOST_CREDENTIALS: Final = 1024
_MOST_HELD: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A role and the ledger sequences between which a person had it."""

    role: str
    since: int = 0
    until: int | None = None

    def counts_at(self, sequence: int) -> bool:
        """Return whether the person had it at that place of the ledger."""
        return self.since < sequence and (self.until is None or sequence < self.until)


_Lasting = TypeVar("_Lasting", Held, Credential)


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePerson:
    """One enrolled person.

    Attributes:
        credentials: Every key the person ever approved with.
        held: Every role the person ever had.
        enrolled: Ledger sequence of the enrolment.
        revoked: Ledger sequence of the revocation; approvals in promotions before it keep their force.
        counts_from: Approvals count again from then on, after a reset.
    """

    id: str
    name: str
    credentials: tuple[Credential, ...] = ()
    held: tuple[Held, ...] = ()
    enrolled: int = 0
    revoked: int | None = None
    counts_from: datetime | None = None

    def is_active_at(self, sequence: int) -> bool:
        """Return whether the person counted at that place of the ledger."""
        return self.enrolled < sequence and (self.revoked is None or sequence < self.revoked)

    def has_role_at(self, role: str, sequence: int) -> bool:
        """Return whether the person had a role at that place of the ledger."""
        return any(one.role == role and one.counts_at(sequence) for one in self.held)

    def credentials_at(self, sequence: int) -> tuple[Credential, ...]:
        """Return what the person approved with at that place of the ledger."""
        return tuple(one for one in self.credentials if one.counts_at(sequence))

    def as_of(self, sequence: int) -> Self:
        """Return what the records before a place of the ledger say of the person."""
        return replace(
            self,
            credentials=tuple(_open_at(one, sequence) for one in self.credentials if one.since < sequence),
            held=tuple(_open_at(one, sequence) for one in self.held if one.since < sequence),
            revoked=self.revoked if self.revoked is not None and self.revoked < sequence else None,
            counts_from=None,
        )

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles the person has now."""
        now = {one.role for one in self.held if one.until is None}
        return tuple(role for role in ROLES if role in now)

    @property
    def present(self) -> tuple[Credential, ...]:
        """What the person approves with now."""
        return tuple(one for one in self.credentials if one.until is None)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the OpenPGP key, else of the first credential that counts now; empty without any."""
        found = sorted(self.present, key=lambda one: one.approves_by != OPENPGP)
        return found[0].fingerprint if found else ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields of people.json."""
        return {
            "id": self.id,
            "name": self.name,
            "credentials": [one.to_json() for one in self.credentials],
            "roles": [{"role": one.role, "since": one.since, "until": one.until} for one in self.held],
            "enrolled": self.enrolled,
            "revoked": self.revoked,
            "counts_from": None if self.counts_from is None else clock.to_text(self.counts_from),
        }

    @classmethod
    def from_json(cls, untrusted: Any) -> Self:
        """Parse one entry of people.json.

        Raises:
            MalformedError: A field is missing or of another shape.
        """
        required = ("id", "name", "credentials", "roles", "enrolled", "revoked", "counts_from")
        fields = canonical.exact_keys(untrusted, required, what="person")
        credentials = canonical.array(fields["credentials"], "person.credentials", most=_MOST_CREDENTIALS)
        counts_from = fields["counts_from"]
        return cls(
            id=require_id(canonical.text(fields["id"], "person.id")),
            name=require_name(canonical.text(fields["name"], "person.name")),
            credentials=tuple(Credential.from_json(one) for one in credentials),
            held=tuple(_held(one) for one in canonical.array(fields["roles"], "person.roles", most=_MOST_HELD)),
            enrolled=canonical.integer(fields["enrolled"], "person.enrolled"),
            revoked=_optional(fields["revoked"], "person.revoked"),
            counts_from=None if counts_from is None else canonical.moment(counts_from, "person.counts_from"),
        )

    @classmethod
    def from_format_1(cls, untrusted: Any) -> Self:
        """Parse one entry of people.json of format 1.

        Raises:
            MalformedError: A field is missing or of another shape, or the fingerprint is another key's.
        """
        required = ("id", "name", "fingerprint", "certificate", "roles", "class", "enrolled", "revoked")
        fields = canonical.exact_keys(untrusted, required, what="person")
        enrolled = canonical.integer(fields["enrolled"], "person.enrolled")
        canonical.one_of(fields["class"], (OPENPGP,), "person.class")
        roles = canonical.array(fields["roles"], "person.roles", most=len(FIRST_ROLES))
        made = Credential.of(OPENPGP, base64text.decode(fields["certificate"], "person.certificate"))
        if fields["fingerprint"] != made.fingerprint:
            raise MalformedError(
                what="a person's fingerprint is not that of the certificate",
                why=made.fingerprint[-16:],
                fix="restore people.json from the ledger",
            )
        return cls(
            id=require_id(canonical.text(fields["id"], "person.id")),
            name=require_name(canonical.text(fields["name"], "person.name")),
            credentials=(replace(made, since=enrolled),),
            held=tuple(
                Held(role=canonical.one_of(role, FIRST_ROLES, "person.roles"), since=enrolled) for role in roles
            ),
            enrolled=enrolled,
            revoked=_optional(fields["revoked"], "person.revoked"),
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
        return self._changed(person_id, sequence, lambda one: replace(one, revoked=sequence))

    def with_reset(self, person_id: str, sequence: int, counts_from: datetime) -> Self:
        """Return the list in which that person's credentials ended, and new ones count from a time on."""
        return self._changed(
            person_id,
            sequence,
            lambda one: replace(one, credentials=_ended(one.credentials, sequence), counts_from=counts_from),
        )

    def with_credentials(self, person_id: str, credentials: Sequence[Credential], sequence: int) -> Self:
        """Return the list in which that person approves with these from `sequence` on.

        Raises:
            ConflictError: A fingerprint or key material is taken, by whomever.
        """
        added = tuple(replace(one, since=sequence) for one in credentials)
        return self._changed(
            person_id,
            sequence,
            lambda one: replace(one, credentials=(*_ended(one.credentials, sequence), *added)),
        )

    def with_roles(self, person_id: str, roles: Sequence[str], sequence: int) -> Self:
        """Return the list in which that person has these roles from `sequence` on."""

        def changed(person: SitePerson) -> SitePerson:
            before = tuple(
                replace(one, until=sequence) if one.until is None and one.role not in roles else one
                for one in person.held
            )
            added = tuple(Held(role=role, since=sequence) for role in roles if role not in person.roles)
            return replace(person, held=(*before, *added))

        return self._changed(person_id, sequence, changed)

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
        found = canonical.integer(fields["format"], "people.json.format", minimum=1, maximum=FORMAT)
        read: Callable[[Any], SitePerson] = SitePerson.from_format_1 if found == 1 else SitePerson.from_json
        return cls(
            people=tuple(read(one) for one in canonical.array(fields["people"], "people.json.people")),
            sequence=canonical.integer(fields["sequence"], "people.json.sequence", minimum=-1),
        )

    def _changed(self, person_id: str, sequence: int, change: Callable[[SitePerson], SitePerson]) -> Self:
        people = tuple(change(one) if one.id == person_id else one for one in self.people)
        return replace(self, people=people, sequence=sequence)


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


def _belongings(person: SitePerson) -> Iterator[tuple[str, str]]:
    yield "id", person.id
    yield "name", person.name.casefold()
    for credential in person.credentials:
        yield "fingerprint", credential.fingerprint
        for material in credential.material:
            yield "key", material


def _open_at(one: _Lasting, sequence: int) -> _Lasting:
    return replace(one, until=None) if one.until is not None and one.until >= sequence else one


def _ended(credentials: tuple[Credential, ...], sequence: int) -> tuple[Credential, ...]:
    return tuple(replace(one, until=sequence) if one.until is None else one for one in credentials)


def _held(untrusted: Any) -> Held:
    fields = canonical.exact_keys(untrusted, ("role", "since", "until"), what="person.roles")
    return Held(
        role=canonical.one_of(fields["role"], ROLES, "person.roles.role"),
        since=canonical.integer(fields["since"], "person.roles.since"),
        until=_optional(fields["until"], "person.roles.until"),
    )


def _optional(untrusted: Any, what: str) -> int | None:
    return None if untrusted is None else canonical.integer(untrusted, what)
