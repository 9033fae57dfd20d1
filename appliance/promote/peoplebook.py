"""What the ledger's records about people make of the list of people, one record after the other.

    person.enrolled   person, name, roles, credentials (format 2); a certificate in their place (format 1)
    person.revoked    person: no longer counts
    person.reset      person, counts_from: the credentials ended; two others said so, or one with a printed code
    person.renewed    person, credentials: the new ones, enrolled with the code of the reset
    person.roles      person, roles: what the person may do from now on

The promoter, a paired box and a proof all read people through this, so that they cannot differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from appliance.promote import base64text
from appliance.promote.classes import OPENPGP
from appliance.promote.credentials import Credential
from appliance.promote.people import FIRST_ROLES, ROLES, Held, SitePeople, SitePerson, require_id, require_name
from media import canonical

FORMAT: Final = 2
ENROLLED: Final = "person.enrolled"
REVOKED: Final = "person.revoked"
RESET: Final = "person.reset"
RENEWED: Final = "person.renewed"
CHANGED: Final = "person.roles"
KINDS: Final = (ENROLLED, REVOKED, RESET, RENEWED, CHANGED)
_MOST_CREDENTIALS: Final = 8


def after(people: SitePeople, kind: str, body: Mapping[str, Any], sequence: int) -> SitePeople:
    """Return the list after one record of `KINDS`.

    Raises:
        ConflictError: It gives a person what belongs to another.
        MalformedError: It is not in its form.
    """
    if kind == ENROLLED:
        return people.with_person(person_from(body, enrolled=sequence))
    person = str(body.get("person"))
    if kind == REVOKED:
        return people.with_revocation(person, sequence)
    if kind == RESET:
        counts_from = canonical.moment(body.get("counts_from"), "person.reset.counts_from")
        return people.with_reset(person, sequence, counts_from)
    if kind == RENEWED:
        return people.with_credentials(person, credentials_from(body), sequence)
    return people.with_roles(person, _roles(body), sequence)


def enrolment(*, person: str, name: str, roles: Sequence[str], credentials: Sequence[Credential]) -> dict[str, Any]:
    """Return the body of `person.enrolled`, less the code."""
    return {
        "format": FORMAT,
        "person": person,
        "name": name,
        "roles": list(roles),
        "credentials": [plain(one) for one in credentials],
    }


def plain(credential: Credential) -> dict[str, Any]:
    """Return a credential's fields for a record, whose own sequence says since when it counts."""
    return {name: value for name, value in credential.to_json().items() if name not in {"since", "until"}}


def person_from(body: Mapping[str, Any], *, enrolled: int) -> SitePerson:
    """Return the person of a `person.enrolled` event, of either format.

    Raises:
        MalformedError: The event is not in its form.
    """
    if "format" in body:
        canonical.integer(body["format"], "person.format", minimum=FORMAT, maximum=FORMAT)
        credentials, roles = credentials_from(body), _roles(body)
    else:
        certificate = base64text.decode(body.get("certificate"), "person.certificate")
        credentials, roles = (Credential.of(OPENPGP, certificate),), FIRST_ROLES
    return SitePerson(
        id=require_id(canonical.text(body.get("person"), "person")),
        name=require_name(canonical.text(body.get("name"), "name")),
        credentials=tuple(replace(one, since=enrolled) for one in credentials),
        held=tuple(Held(role=role, since=enrolled) for role in roles),
        enrolled=enrolled,
    )


def credentials_from(body: Mapping[str, Any]) -> tuple[Credential, ...]:
    """Return the credentials that a record names.

    Raises:
        MalformedError: One is not in its form.
    """
    named = canonical.array(body.get("credentials"), "person.credentials", most=_MOST_CREDENTIALS)
    return tuple(
        Credential.from_json({**canonical.mapping(one, "person.credentials"), "since": 0, "until": None})
        for one in named
    )


def _roles(body: Mapping[str, Any]) -> tuple[str, ...]:
    named = canonical.array(body.get("roles"), "person.roles", most=len(ROLES))
    return tuple(canonical.one_of(role, ROLES, "person.roles") for role in named)
