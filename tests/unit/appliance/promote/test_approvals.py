"""An approval is a signature by one enrolled person over these very bytes, and nothing else."""

from dataclasses import replace

import pytest

from appliance.errors import ApprovalRefusedError, NotEnoughApprovalsError
from appliance.promote.approvals import Approval, require_approved, require_different, verify_signature
from appliance.promote.people import SitePeople
from media.errors import MalformedError
from tests.support.signatories import signatories
from tests.unit.appliance.promote.test_people import person_of

STATEMENT = b'{"a":"statement"}'
ANA, BEN, CHI, DAG = signatories()
PEOPLE = SitePeople().with_person(person_of(ANA, enrolled=1)).with_person(person_of(BEN, enrolled=2))


def approval(who: int, data: bytes = STATEMENT) -> Approval:
    return verify_signature(data, signatories()[who].sign(data), PEOPLE.active)


def test_the_signature_says_who_approved() -> None:
    assert approval(0).person == "ana-petrova"
    one = approval(1)  # made once: a signature says its second
    assert Approval.from_json(one.to_json()) == one


def test_a_signature_over_other_bytes_is_refused() -> None:
    with pytest.raises(ApprovalRefusedError, match="refused"):
        verify_signature(STATEMENT, ANA.sign(STATEMENT + b" "), PEOPLE.active)


def test_a_signature_of_somebody_not_enrolled_is_refused() -> None:
    with pytest.raises(ApprovalRefusedError):
        verify_signature(STATEMENT, CHI.sign(STATEMENT), PEOPLE.active)


@pytest.mark.parametrize("junk", [b"", b"junk", b"\x88\x00", b"-----BEGIN PGP SIGNATURE-----"])
def test_junk_is_refused(junk: bytes) -> None:
    with pytest.raises(ApprovalRefusedError):
        verify_signature(STATEMENT, junk, PEOPLE.active)


def test_two_different_people_are_enough() -> None:
    found = require_approved(STATEMENT, [approval(0), approval(1)], PEOPLE, sequence=9, threshold=2)

    assert [person.id for person in found] == ["ana-petrova", "ben-okafor"]


@pytest.mark.parametrize("threshold", [0, 1, 2])
def test_one_person_is_never_enough_whatever_the_threshold(threshold: int) -> None:
    with pytest.raises(NotEnoughApprovalsError):
        require_approved(STATEMENT, [approval(0)], PEOPLE, sequence=9, threshold=threshold)


def test_a_site_that_demands_three_gets_three() -> None:
    with pytest.raises(NotEnoughApprovalsError, match="too few"):
        require_approved(STATEMENT, [approval(0), approval(1)], PEOPLE, sequence=9, threshold=3)


def test_one_person_twice_is_refused() -> None:
    again = replace(approval(0), signature=ANA.sign(STATEMENT, created=1_700_000_000))

    with pytest.raises(ApprovalRefusedError):
        require_approved(STATEMENT, [approval(0), again], PEOPLE, sequence=9, threshold=2)


def test_an_approval_that_names_someone_else_than_who_signed_is_refused() -> None:
    borrowed = replace(approval(0), person=BEN.id, name=BEN.name, fingerprint=BEN.fingerprint)

    with pytest.raises(ApprovalRefusedError, match="refused"):
        require_approved(STATEMENT, [approval(0), borrowed], PEOPLE, sequence=9, threshold=2)


def test_an_approval_of_another_statement_is_refused() -> None:
    with pytest.raises(ApprovalRefusedError):
        require_approved(STATEMENT, [approval(0), approval(1, b"other")], PEOPLE, sequence=9, threshold=2)


def test_a_revoked_person_counts_only_for_what_was_promoted_before() -> None:
    people = PEOPLE.with_revocation(BEN.id, 9)
    given = [approval(0), approval(1)]

    assert len(require_approved(STATEMENT, given, people, sequence=8, threshold=2)) == 2
    with pytest.raises(ApprovalRefusedError):
        require_approved(STATEMENT, given, people, sequence=10, threshold=2)


def test_someone_the_site_never_enrolled_does_not_count_as_different() -> None:
    stranger = Approval(person=DAG.id, name=DAG.name, fingerprint=DAG.fingerprint, signature=b"x")

    with pytest.raises(ApprovalRefusedError):
        require_different([approval(0), stranger], PEOPLE)


@pytest.mark.parametrize("field", ["person", "name", "fingerprint", "class", "signature"])
def test_an_approval_without_a_field_does_not_parse(field: str) -> None:
    fields = {name: value for name, value in approval(0).to_json().items() if name != field}

    with pytest.raises(MalformedError):
        Approval.from_json(fields)
