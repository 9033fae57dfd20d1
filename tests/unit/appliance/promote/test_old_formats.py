"""What earlier releases wrote is read as they meant it, and keeps its bytes where a digest names them."""

import base64
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.errors import ApprovalRefusedError
from appliance.promote.approvals import Approval, require_approved
from appliance.promote.people import SitePeople
from appliance.promote.peoplebook import person_from
from appliance.promote.statement import Statement
from media import canonical
from media.errors import MalformedError
from tests.support.promotion import PASSWORD, digest, open_site
from tests.support.signatories import Signatory, signatories

ANA, BEN, *_ = signatories()
MOMENT = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


def first_person(person: Signatory, enrolled: int) -> dict[str, object]:
    return {
        "id": person.id,
        "name": person.name,
        "fingerprint": person.fingerprint,
        "certificate": base64.b64encode(person.certificate).decode(),
        "roles": ["approver", "operator"],
        "class": "openpgp",
        "enrolled": enrolled,
        "revoked": None,
    }


def first_statement() -> Statement:
    return Statement(
        site="demo",
        model_digest=digest("A"),
        weights_digest=digest("W"),
        evidence_digest=digest("E"),
        policy_digest=digest("P"),
        meaning="serve it",
        nonce="0" * 32,
        requested_by=ANA.id,
        requested_at=MOMENT,
        expires=MOMENT,
        format=1,
    )


def test_people_of_format_1_are_read_and_written_as_format_2() -> None:
    old = {"format": 1, "sequence": 2, "people": [first_person(ANA, 1), first_person(BEN, 2)]}
    people = SitePeople.from_bytes(canonical.dumps(old))

    assert [(one.id, one.roles, one.fingerprint) for one in people.people] == [
        (one.id, ("approver", "operator"), one.fingerprint) for one in (ANA, BEN)
    ]
    assert SitePeople.from_bytes(people.to_bytes()) == people
    assert canonical.loads(people.to_bytes())["format"] == 2


def test_people_of_a_format_to_come_are_refused() -> None:
    with pytest.raises(MalformedError):
        SitePeople.from_bytes(canonical.dumps({"format": 3, "sequence": -1, "people": []}))


def test_an_enrolment_of_format_1_in_the_ledger_makes_the_same_person() -> None:
    certificate = base64.b64encode(ANA.certificate).decode()
    body = {"person": ANA.id, "name": ANA.name, "certificate": certificate, "class": "openpgp", "roles": ["approver"]}
    from_file = SitePeople.from_bytes(
        canonical.dumps({"format": 1, "sequence": 1, "people": [first_person(ANA, 1)]})
    ).people[0]

    assert person_from(body, enrolled=1) == from_file


def test_a_statement_of_format_1_keeps_its_bytes_and_its_requester_may_have_approved() -> None:
    raw = first_statement().to_bytes()
    again = Statement.from_bytes(raw)

    assert (again.to_bytes(), b'"request"' in raw) == (raw, False)
    again.require_apart(ANA.id)


def test_a_statement_cannot_pass_for_the_other_format() -> None:
    fields = canonical.loads(first_statement().to_bytes())
    for wrong in ({**fields, "format": 2}, {**fields, "request": "release"}, {**fields, "format": True}):
        with pytest.raises((ApprovalRefusedError, MalformedError)):
            Statement.from_bytes(canonical.dumps(wrong))


def test_approvals_of_format_1_still_verify_and_keep_their_form() -> None:
    raw = first_statement().to_bytes()
    people = SitePeople.from_bytes(
        canonical.dumps({"format": 1, "sequence": 2, "people": [first_person(ANA, 1), first_person(BEN, 2)]})
    )
    kept = [
        Approval.from_json(
            {
                "person": one.id,
                "name": one.name,
                "fingerprint": one.fingerprint,
                "class": "openpgp",
                "signature": base64.b64encode(one.sign(raw)).decode(),
            }
        )
        for one in (ANA, BEN)
    ]

    assert len(require_approved(raw, kept, people, sequence=9, threshold=2)) == 2
    assert all("format" not in one.to_json() for one in kept)
    assert Approval.from_json(replace(kept[0], at=MOMENT).to_json()).at == MOMENT


def test_codes_of_format_1_enrol(tmp_path: Path) -> None:
    site = open_site(tmp_path, enrolled=0)
    code = site.client.codes(2)[0]
    file = site.folder.path / "codes.json"
    kept = canonical.loads(file.read_bytes())
    old = [{name: one[name] for name in ("id", "hash", "used")} for one in kept["codes"]]
    file.write_bytes(canonical.dumps({"format": 1, "codes": old}))

    site.client.enrol(code=code, name=ANA.name, certificate=ANA.certificate, password=PASSWORD)
    assert [one["person"] for one in site.client.people()] == [ANA.id]
