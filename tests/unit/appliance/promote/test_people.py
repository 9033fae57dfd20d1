"""What belongs to one person belongs to nobody else."""

from dataclasses import replace
from typing import Any

import pytest

from appliance.errors import ConflictError, UnknownPersonError
from appliance.promote.classes import OPENPGP
from appliance.promote.credentials import Credential
from appliance.promote.people import FIRST_ROLES, Held, SitePeople, SitePerson, id_from, require_id, require_name
from media.errors import MalformedError
from tests.support.signatories import Signatory, signatories


def person_of(signatory: Signatory, *, enrolled: int = 1) -> SitePerson:
    key = replace(Credential.of(OPENPGP, signatory.certificate), since=enrolled)
    held = tuple(Held(role=role, since=enrolled) for role in FIRST_ROLES)
    return SitePerson(id=signatory.id, name=signatory.name, credentials=(key,), held=held, enrolled=enrolled)


def test_the_list_comes_back_from_its_bytes() -> None:
    ana, ben, *_ = signatories()
    people = SitePeople().with_person(person_of(ana)).with_person(person_of(ben, enrolled=2)).with_revocation(ana.id, 3)

    assert SitePeople.from_bytes(people.to_bytes()) == people
    assert [person.id for person in people.active] == [ben.id]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"id": "ana-petrova"}, "id"),
        ({"name": "ANA PETROVA"}, "name"),
        ({"credentials": None}, "fingerprint"),
    ],
)
def test_nobody_enrols_with_what_is_someone_elses(changes: dict[str, str | None], what: str) -> None:
    first, second = (person_of(one) for one in signatories()[:2])
    taken: dict[str, Any] = {name: value or getattr(first, name) for name, value in changes.items()}

    with pytest.raises(ConflictError, match="cannot be enrolled") as refused:
        SitePeople().with_person(first).with_person(replace(second, **taken))

    assert what in refused.value.why


def test_a_list_with_a_fingerprint_of_another_key_is_refused() -> None:
    ana, ben, *_ = (person_of(one) for one in signatories())
    other = replace(ana.credentials[0], fingerprint=ben.fingerprint)
    swapped = SitePeople(people=(replace(ana, credentials=(other,)),), sequence=1)

    with pytest.raises(MalformedError):
        SitePeople.from_bytes(swapped.to_bytes())


def test_what_a_revoked_person_had_stays_taken() -> None:
    ana, *_ = signatories()
    people = SitePeople().with_person(person_of(ana)).with_revocation(ana.id, 2)

    with pytest.raises(ConflictError):
        people.with_person(person_of(ana, enrolled=3))


def test_a_person_counts_between_enrolment_and_revocation() -> None:
    person = replace(person_of(signatories()[0], enrolled=3), revoked=7)

    assert [person.is_active_at(sequence) for sequence in (3, 4, 6, 7)] == [False, True, True, False]


def test_somebody_unknown_or_revoked_is_not_found() -> None:
    ana, *_ = signatories()
    people = SitePeople().with_person(person_of(ana)).with_revocation(ana.id, 2)

    for person_id in (ana.id, "nobody"):
        with pytest.raises(UnknownPersonError):
            people.require_active(person_id)


@pytest.mark.parametrize("wrong", ["", "Ana", "a--b", "-a", "a-", "a" * 65, "a b", "ä", "a/b"])
def test_an_id_out_of_its_form_is_refused(wrong: str) -> None:
    with pytest.raises(MalformedError):
        require_id(wrong)


@pytest.mark.parametrize("wrong", ["", " Ana", "Ana  Petrova", "Ana\nPetrova", "x" * 101, "A\u0308", "\u202eAna"])
def test_a_name_that_would_not_read_as_it_is_printed_is_refused(wrong: str) -> None:
    with pytest.raises(MalformedError):
        require_name(wrong)


def test_an_id_is_made_from_a_name() -> None:
    assert [id_from("Ana Petrová"), id_from("O'Neil, J. R.")] == ["ana-petrova", "o-neil-j-r"]


def test_who_changed_keys_and_roles_for_many_years_is_read_again() -> None:
    ana, *_ = signatories()
    people, keys = SitePeople().with_person(person_of(ana)), person_of(ana).credentials * 4
    for sequence in range(2, 300, 2):
        people = people.with_credentials(ana.id, keys, sequence)
        people = people.with_roles(ana.id, FIRST_ROLES[sequence % 4 // 2 :], sequence + 1)

    assert SitePeople.from_bytes(people.to_bytes()) == people
