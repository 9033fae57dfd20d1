"""People come in by codes, and go by a reason."""

from pathlib import Path

import pytest

from appliance.errors import (
    ApprovalRefusedError,
    CodeRefusedError,
    ConflictError,
    LedgerRefusedError,
    LedgerUnavailableError,
    UnknownPersonError,
)
from appliance.promote.desk import ADMIN_DOOR, OPERATOR_DOOR
from media.errors import MalformedError
from tests.support.promotion import PASSWORD, Site, digest, open_site
from tests.support.signatories import Signatory, signatories

ANA, BEN, CHI, DAG = signatories()


@pytest.fixture
def empty(tmp_path: Path) -> Site:
    return open_site(tmp_path, enrolled=0)


def enrol(site: Site, code: str, who: Signatory, **changes: str) -> None:
    site.client.enrol(
        code=code,
        name=changes.get("name", who.name),
        certificate=who.certificate,
        password=changes.get("password", PASSWORD),
        person=changes.get("person", ""),
    )


def test_two_codes_make_two_people_and_the_ledger_has_both(empty: Site) -> None:
    empty.enrol(ANA, BEN)

    assert [one["person"] for one in empty.client.people()] == ["ana-petrova", "ben-okafor"]
    kinds = [leaf.kind for leaf in empty.ledger.find(kind="person.", newest_first=False)]
    assert kinds == ["person.codes-issued", "person.enrolled", "person.enrolled"]


def test_neither_codes_nor_passwords_are_kept_or_recorded(empty: Site) -> None:
    codes = empty.client.codes(2)
    enrol(empty, codes[0], ANA)

    kept = b"".join(path.read_bytes() for path in empty.config.at.promoter.rglob("*.json"))
    recorded = b"".join(leaf.raw for leaf in empty.ledger.leaves(0, 100))
    for secret in (*codes, PASSWORD):
        assert secret.encode() not in kept + recorded
        assert secret.replace("-", "").encode() not in kept + recorded


def test_hashes_are_for_the_promoter_only_and_people_for_all(empty: Site) -> None:
    empty.enrol(ANA, BEN)

    modes = {path.name: path.stat().st_mode & 0o777 for path in empty.config.at.promoter.glob("*.json")}
    assert modes == {"codes.json": 0o600, "passwords.json": 0o600, "people.json": 0o644}


def test_a_code_is_typed_as_people_type(empty: Site) -> None:
    codes = empty.client.codes(2)

    enrol(empty, codes[0].lower().replace("-", " "), ANA)


def test_a_code_works_once(empty: Site) -> None:
    codes = empty.client.codes(2)
    enrol(empty, codes[0], ANA)

    with pytest.raises(CodeRefusedError):
        enrol(empty, codes[0], BEN)


def test_a_wrong_code_is_refused_and_recorded(empty: Site) -> None:
    empty.client.codes(2)

    with pytest.raises(CodeRefusedError):
        enrol(empty, "AAAA-BBBB-CCCC-DDDD", ANA)

    assert [leaf.kind for leaf in empty.ledger.find(kind="person.code-refused")] == ["person.code-refused"]


def test_after_five_wrong_codes_the_right_one_waits_ten_minutes(empty: Site) -> None:
    codes = empty.client.codes(2)
    for _ in range(5):
        with pytest.raises(CodeRefusedError):
            enrol(empty, "AAAA-BBBB-CCCC-DDDD", ANA)

    with pytest.raises(CodeRefusedError, match="code"):
        enrol(empty, codes[0], ANA)
    empty.clock.advance(601)
    enrol(empty, codes[0], ANA)


def test_codes_issued_again_end_the_first_ones(empty: Site) -> None:
    first = empty.client.codes(2)
    empty.client.codes(2)

    with pytest.raises(CodeRefusedError):
        enrol(empty, first[0], ANA)


def test_a_lost_first_code_is_replaced_by_the_only_one_who_is_enrolled(empty: Site) -> None:
    used, lost, other = empty.client.codes(3)
    enrol(empty, used, ANA)

    with pytest.raises(UnknownPersonError):
        empty.client.replace_codes("ana-petrova", PASSWORD + "x")
    with pytest.raises(UnknownPersonError):
        empty.client.replace_codes("ben-okafor", PASSWORD)
    codes, admins = empty.client.replace_codes("ana-petrova", PASSWORD)

    assert (len(codes), admins) == (2, 0)
    for old in (used, lost, other):
        with pytest.raises(CodeRefusedError):
            enrol(empty, old, BEN)
    enrol(empty, codes[0], BEN)
    enrol(empty, codes[1], CHI)
    issued = empty.ledger.find(kind="person.codes-issued")[0].body
    assert issued == {"count": 2, "by": ["ana-petrova"]}


def test_first_codes_are_not_replaced_before_anybody_or_once_a_second_person_was_enrolled(empty: Site) -> None:
    codes = empty.client.codes(2)
    with pytest.raises(ConflictError, match="first codes"):
        empty.client.replace_codes("ana-petrova", PASSWORD)
    enrol(empty, codes[0], ANA)
    enrol(empty, codes[1], BEN)
    with pytest.raises(ConflictError, match="first codes"):
        empty.client.replace_codes("ana-petrova", PASSWORD)
    empty.client.revoke(person="ben-okafor", by="ana-petrova", password=PASSWORD, reason="left the site")
    with pytest.raises(ConflictError, match="first codes"):  # else one person alone could bring another
        empty.client.replace_codes("ana-petrova", PASSWORD)


def test_the_only_person_who_is_enrolled_and_was_revoked_replaces_nothing(empty: Site) -> None:
    enrol(empty, empty.client.codes(2)[0], ANA)
    empty.client.revoke(person="ana-petrova", by="ana-petrova", password=PASSWORD, reason="left the site")
    with pytest.raises(UnknownPersonError):
        empty.client.replace_codes("ana-petrova", PASSWORD)


def test_once_someone_is_enrolled_codes_are_issued_no_more(empty: Site) -> None:
    enrol(empty, empty.client.codes(2)[0], ANA)

    with pytest.raises(ConflictError):
        empty.client.codes(2)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_fewer_than_two_codes_or_too_many_are_refused(empty: Site, count: int) -> None:
    with pytest.raises(CodeRefusedError):
        empty.client.codes(count)


def test_a_second_person_with_the_same_key_is_refused_and_keeps_the_code(empty: Site) -> None:
    codes = empty.client.codes(2)
    enrol(empty, codes[0], ANA)

    with pytest.raises(ConflictError):
        enrol(empty, codes[1], ANA, name="Another Name")
    enrol(empty, codes[1], BEN)


def test_a_refused_name_password_or_certificate_keeps_the_code(empty: Site) -> None:
    codes = empty.client.codes(2)
    with pytest.raises(MalformedError):
        enrol(empty, codes[0], ANA, name="two  spaces")
    with pytest.raises(CodeRefusedError):
        enrol(empty, codes[0], ANA, password="short")
    with pytest.raises(CodeRefusedError) as caught:
        enrol(empty, codes[0], ANA, password="correct horse\u200f battery")
    assert "reading direction" in caught.value.why
    with pytest.raises(MalformedError):
        empty.client.enrol(code=codes[0], name=ANA.name, certificate=b"junk", password=PASSWORD)

    enrol(empty, codes[0], ANA)


def test_a_further_code_takes_the_passwords_of_two_different_people(tmp_path: Path) -> None:
    site = open_site(tmp_path)
    code = site.client.invite([(ANA.id, PASSWORD), (BEN.id, PASSWORD)])
    enrol(site, code, CHI)

    assert [one["person"] for one in site.client.people()] == [ANA.id, BEN.id, CHI.id]


@pytest.mark.parametrize(
    ("vouchers", "error"),
    [
        ([(ANA.id, PASSWORD)], ApprovalRefusedError),
        ([(ANA.id, PASSWORD), (ANA.id, PASSWORD)], ApprovalRefusedError),
        ([(ANA.id, PASSWORD), (BEN.id, "wrong password")], UnknownPersonError),
        ([(ANA.id, PASSWORD), (CHI.id, PASSWORD)], UnknownPersonError),
    ],
)
def test_a_further_code_is_refused_otherwise(
    tmp_path: Path, vouchers: list[tuple[str, str]], error: type[Exception]
) -> None:
    site = open_site(tmp_path)

    with pytest.raises(error):
        site.client.invite(vouchers)


def test_login_takes_the_right_password(tmp_path: Path) -> None:
    site = open_site(tmp_path)

    assert site.client.login(ANA.id, PASSWORD)["name"] == "Ana Petrova"
    for person, password in ((ANA.id, "wrong password"), (CHI.id, PASSWORD), ("", PASSWORD)):
        with pytest.raises((UnknownPersonError, MalformedError)):
            site.client.login(person, password)


def test_after_five_wrong_passwords_the_right_one_waits_and_others_do_not(tmp_path: Path) -> None:
    site = open_site(tmp_path)
    for _ in range(5):
        with pytest.raises(UnknownPersonError):
            site.client.login(ANA.id, "wrong password")

    with pytest.raises(UnknownPersonError, match="refused"):
        site.client.login(ANA.id, PASSWORD)
    site.client.login(BEN.id, PASSWORD)
    site.clock.advance(601)
    site.client.login(ANA.id, PASSWORD)


def test_who_guesses_at_the_page_keeps_nobody_from_stopping_production(tmp_path: Path) -> None:
    site = open_site(tmp_path)
    site.promote(digest("v1"))
    page = site.at_door(ADMIN_DOOR)
    for _ in range(6):
        with pytest.raises(UnknownPersonError):
            page.login(ANA.id, "wrong password")

    with pytest.raises(UnknownPersonError):
        page.login(ANA.id, PASSWORD)
    assert page.stop(person=ANA.id, reason="wrong answers", password=PASSWORD).person == ANA.id


def test_a_revoked_person_neither_logs_in_nor_acts(tmp_path: Path) -> None:
    site = open_site(tmp_path)
    site.client.revoke(person=BEN.id, by=ANA.id, password=PASSWORD, reason="left the hospital")

    with pytest.raises(UnknownPersonError):
        site.client.login(BEN.id, PASSWORD)
    with pytest.raises(UnknownPersonError):
        site.client.stop(person=BEN.id, reason="spite")
    assert site.ledger.find(kind="person.revoked")[0].body["reason"] == "left the hospital"


def test_revoking_takes_the_password_of_an_enrolled_person(tmp_path: Path) -> None:
    site = open_site(tmp_path)

    with pytest.raises(UnknownPersonError):
        site.client.revoke(person=BEN.id, by=ANA.id, password="wrong password", reason="no")


def test_without_the_ledger_nobody_is_enrolled_and_the_code_is_kept(empty: Site) -> None:
    codes = empty.client.codes(2)
    empty.ledger.available = False
    with pytest.raises(LedgerUnavailableError):
        enrol(empty, codes[0], ANA)

    assert empty.client.people() == ()
    empty.ledger.available = True
    enrol(empty, codes[0], ANA)


def test_an_enrolment_torn_after_the_ledger_is_finished_and_its_code_is_gone(
    empty: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = empty.client.codes(2)
    with monkeypatch.context() as torn:
        torn.setattr("appliance.promote.folder.PromoterFolder.save_people", _power_cut)
        with pytest.raises(KeyboardInterrupt):
            enrol(empty, codes[0], ANA)
    assert empty.client.people() == ()

    empty.restart()
    with pytest.raises(CodeRefusedError):
        enrol(empty, codes[0], BEN)

    assert [one["person"] for one in empty.client.people()] == [ANA.id]
    empty.client.login(ANA.id, PASSWORD)


def _power_cut(*_: object) -> None:
    raise KeyboardInterrupt


def test_who_is_not_root_is_told_that_root_decides_who_may_approve(tmp_path: Path) -> None:
    site = open_site(tmp_path)

    with pytest.raises(LedgerRefusedError) as refused:
        site.at_door(OPERATOR_DOOR).invite([(ANA.id, PASSWORD), (BEN.id, PASSWORD)])

    assert "as root" in refused.value.fix
