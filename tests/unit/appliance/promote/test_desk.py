"""Which door may ask what."""

from pathlib import Path
from typing import Any

import pytest

from appliance.errors import LedgerRefusedError, UnknownPersonError, WireError
from appliance.promote.desk import ADMIN_DOOR
from appliance.wire import Peer
from media.errors import MalformedError
from tests.support.promotion import PASSWORD, Site, digest, open_site
from tests.support.signatories import signatories

ANA, BEN, *_ = signatories()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(tmp_path)


@pytest.mark.parametrize("do", ["codes", "invite", "revoke"])
def test_codes_are_not_issued_through_the_web(site: Site, do: str) -> None:
    with pytest.raises(LedgerRefusedError):
        site.at_door(ADMIN_DOOR)._call(do)


def test_a_person_with_a_code_enrols_through_the_web(tmp_path: Path) -> None:
    site = open_site(tmp_path, enrolled=0)
    code = site.client.codes(2)[0]

    site.at_door(ADMIN_DOOR).enrol(code=code, name=ANA.name, certificate=ANA.certificate, password=PASSWORD)

    assert [one["person"] for one in site.client.people()] == [ANA.id]


def test_the_web_relays_approvals_and_promotions(site: Site) -> None:
    web = site.at_door(ADMIN_DOOR)
    request = site.request(digest("A"))
    for person in (ANA, BEN):
        web.approve(request.statement.sha256, person.sign(request.statement.to_bytes()))

    assert web.promote(request.statement.sha256).number == 1
    assert [one["person"] for one in web.people()] == [ANA.id, BEN.id]


def test_the_web_cannot_go_back_or_stop_in_someones_name(site: Site) -> None:
    site.promote(digest("A"))
    site.promote(digest("B"))
    web = site.at_door(ADMIN_DOOR)

    for password in (None, "", "wrong password"):
        with pytest.raises(UnknownPersonError):
            web.rollback(person=ANA.id, reason="x", password=password)
        with pytest.raises(UnknownPersonError):
            web.stop(person=ANA.id, reason="x", password=password)


def test_with_the_password_it_can_and_the_record_says_so(site: Site) -> None:
    site.promote(digest("A"))
    site.promote(digest("B"))
    web = site.at_door(ADMIN_DOOR)

    assert web.rollback(person=ANA.id, reason="x", password=PASSWORD).person_class == "password"
    assert web.stop(person=ANA.id, reason="x", password=PASSWORD).person_class == "password"


def test_a_wrong_password_is_refused_at_the_machine_too(site: Site) -> None:
    site.promote(digest("A"))

    with pytest.raises(UnknownPersonError):
        site.client.stop(person=ANA.id, reason="x", password="wrong password")


@pytest.mark.parametrize("message", [{}, {"do": "rm"}, {"do": None}, {"do": ["codes"]}])
def test_an_unknown_message_is_refused(site: Site, message: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        site.desk(Peer(door=ADMIN_DOOR, pid=1, uid=0, gid=0), message)


def test_an_unknown_door_is_refused(site: Site) -> None:
    with pytest.raises(WireError):
        site.desk(Peer(door="elsewhere", pid=1, uid=0, gid=0), {"do": "people"})


@pytest.mark.parametrize(
    ("do", "fields"),
    [
        ("codes", {"count": "2"}),
        ("invite", {"vouchers": "ana"}),
        ("invite", {"vouchers": ["ana"]}),
        ("enrol", {"code": 7}),
        ("enrol", {"code": "x", "name": "n", "certificate": "***"}),
        ("login", {"person": ["ana"]}),
        ("request", {"model_digest": "short"}),
        ("approve", {"statement_sha256": digest("x"), "signature": 3}),
        ("promote", {}),
        ("rollback", {"person": "ana-petrova", "reason": 7}),
        ("rollback", {"person": "ana-petrova", "reason": "x", "model_digest": "zz"}),
        ("stop", {"person": {}}),
    ],
)
def test_a_message_with_fields_of_another_shape_is_refused(site: Site, do: str, fields: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        site.client._call(do, **fields)
