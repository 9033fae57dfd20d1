"""Enrolling, resetting and giving roles take two others; admin and approver exclude each other where sites separate."""

from datetime import timedelta
from pathlib import Path

import pytest

from appliance.config import Config
from appliance.errors import (
    ApprovalRefusedError,
    CodeRefusedError,
    ConflictError,
    NotEnoughApprovalsError,
    UnknownPersonError,
)
from appliance.promote.promoter import Request
from appliance.promote.standing import require_promoted
from tests.support.promotion import PASSWORD, Site, digest, open_site
from tests.support.signatories import Signatory, signatories

ANA, BEN, CHI, DAG = signatories()
A, B = digest("A"), digest("B")
DAY = 24 * 3600


def small(root: Path) -> tuple[Site, dict[str, str]]:
    """Two people who are admins and approvers both, and the codes that were printed at their enrolment."""
    site = open_site(root, enrolled=0)
    printed = {}
    for code, person in zip(site.client.codes(2), (ANA, BEN), strict=True):
        made = site.client.enrol(code=code, name=person.name, certificate=person.certificate, password=PASSWORD)
        printed[person.id] = made["printed_code"]
    return site, printed


@pytest.fixture
def large(tmp_path: Path) -> Site:
    """Ana and Ben approve, Chi and Dag are admins."""
    site = open_site(tmp_path, enrolled=0)
    site.config = Config.model_validate({**site.config.model_dump(), "profile": "gpu-server"})
    site.restart()
    codes = site.client.codes(2, admins=2)
    for code, person in zip(codes, (ANA, BEN, CHI, DAG), strict=True):
        is_admin = person in {CHI, DAG}
        made = site.client.enrol(
            code=code,
            name=person.name,
            certificate=b"" if is_admin else person.certificate,
            password=PASSWORD,
        )
        assert made["roles"] == (["admin"] if is_admin else ["approver", "operator"])
        assert made["printed_code"] == ""
    return site


def test_replaced_first_codes_are_for_whom_the_lost_ones_were(tmp_path: Path) -> None:
    site = open_site(tmp_path, enrolled=0)
    site.config = Config.model_validate({**site.config.model_dump(), "profile": "gpu-server"})
    site.restart()
    first = site.client.codes(2, admins=2)
    site.client.enrol(code=first[3], name=DAG.name, certificate=b"", password=PASSWORD)
    codes, admins = site.client.replace_codes(DAG.id, PASSWORD)

    assert (len(codes), admins) == (3, 1)
    made = site.client.enrol(code=codes[2], name=CHI.name, certificate=b"", password=PASSWORD)
    assert made["roles"] == ["admin"]
    made = site.client.enrol(code=codes[0], name=ANA.name, certificate=ANA.certificate, password=PASSWORD)
    assert made["roles"] == ["approver", "operator"]


def by(*people: Signatory) -> list[tuple[str, str]]:
    return [(one.id, PASSWORD) for one in people]


def again(site: Site, code: str, person: Signatory, *, key: Signatory | None = None) -> None:
    certificate = (key or person).certificate
    site.client.enrol(code=code, name=person.name, certificate=certificate, password=PASSWORD, person=person.id)


def approved(site: Site, version: str, *people: Signatory, by: Signatory = CHI) -> Request:
    return site.approve(site.request(version, by=by), *people)


def test_only_admins_vouch_where_the_site_separates_and_an_admin_never_approves(large: Site) -> None:
    with pytest.raises(ApprovalRefusedError) as refused:
        large.client.invite(by(ANA, BEN))
    assert "no admin" in refused.value.why
    for roles in (["approver", "admin"], ["admin", "operator", "approver"]):
        with pytest.raises(ApprovalRefusedError):
            large.client.give_roles(ANA.id, roles, by(CHI, DAG))
    with pytest.raises(ApprovalRefusedError):
        large.client.invite(by(CHI, DAG), role="king")


def test_promoting_a_person_takes_two_others_and_takes_the_other_role_away(large: Site) -> None:
    request = approved(large, A, ANA, BEN)
    for vouchers in (by(CHI), by(CHI, CHI), by(CHI, ANA)):
        with pytest.raises(ApprovalRefusedError):
            large.client.give_roles(ANA.id, ["admin"], vouchers)
    with pytest.raises(UnknownPersonError):
        large.client.give_roles(ANA.id, ["admin"], [(CHI.id, PASSWORD), (DAG.id, "wrong password")])
    large.client.promote(request.statement.sha256)
    assert large.client.give_roles(ANA.id, ["admin"], by(CHI, DAG))["roles"] == ["admin"]

    with pytest.raises(ApprovalRefusedError) as refused:
        approved(large, B, ANA)
    assert "no approver" in refused.value.why
    # What she approved as an approver keeps its force.
    assert require_promoted(large.config.at, A).number == 1
    with pytest.raises(ConflictError):
        large.client.give_roles(ANA.id, ["admin"], by(CHI, DAG))


def test_nobody_vouches_for_themselves(large: Site) -> None:
    for attempt in (
        lambda: large.client.reset(CHI.id, by(CHI, DAG)),
        lambda: large.client.give_roles(CHI.id, ["operator"], by(CHI, DAG)),
    ):
        with pytest.raises(ApprovalRefusedError):
            attempt()


def test_who_requests_does_not_approve_where_the_site_separates(large: Site) -> None:
    request = large.request(A, by=ANA)

    assert request.statement.request == "person"
    with pytest.raises(ApprovalRefusedError) as refused:
        large.approve(request, ANA)
    assert "requested it" in refused.value.why
    large.approve(request, BEN)
    with pytest.raises(NotEnoughApprovalsError):
        large.client.promote(request.statement.sha256)


def test_where_the_signed_release_counts_as_the_request_who_typed_it_may_approve(tmp_path: Path) -> None:
    site, _ = small(tmp_path)
    request = approved(site, A, ANA, BEN, by=ANA)

    assert request.statement.request == "release"
    assert site.client.promote(request.statement.sha256).number == 1


def test_as_long_as_there_are_not_two_admins_any_two_people_vouch(large: Site) -> None:
    large.client.revoke(person=DAG.id, by=ANA.id, password=PASSWORD, reason="left")

    assert large.client.site_people()["vouch"] == [ANA.id, BEN.id, CHI.id]
    large.client.invite(by(ANA, BEN), role="admin")


def test_a_reset_ends_keys_and_password_and_voids_what_waits(large: Site) -> None:
    request = approved(large, A, ANA, BEN)
    code = large.client.reset(BEN.id, by(CHI, DAG))

    with pytest.raises(NotEnoughApprovalsError):
        large.client.promote(request.statement.sha256)
    with pytest.raises(ApprovalRefusedError):
        large.client.approve(request.statement.sha256, BEN.sign(request.statement.to_bytes(), created=1_700_000_000))
    with pytest.raises(UnknownPersonError):
        large.client.login(BEN.id, PASSWORD)
    with pytest.raises(CodeRefusedError):
        large.client.enrol(code=code, name=DAG.name, certificate=DAG.certificate, password=PASSWORD)
    again(large, code, BEN, key=DAG)
    assert large.client.login(BEN.id, PASSWORD)["person"] == BEN.id


def test_for_a_day_after_a_reset_nothing_the_person_approves_counts(large: Site) -> None:
    again(large, large.client.reset(BEN.id, by(CHI, DAG)), BEN, key=DAG)
    request = approved(large, A, ANA)
    large.clock.advance(DAY - 1)
    large.restart()

    with pytest.raises(ApprovalRefusedError) as refused:
        large.client.approve(request.statement.sha256, DAG.sign(request.statement.to_bytes()))
    assert "reset" in refused.value.why
    large.clock.advance(1)
    large.client.approve(request.statement.sha256, DAG.sign(request.statement.to_bytes()))
    large.client.promote(request.statement.sha256)
    assert require_promoted(large.config.at, A).people == (ANA.name, BEN.name)


def test_what_a_person_approved_before_a_reset_keeps_its_force(large: Site) -> None:
    large.client.promote(approved(large, A, ANA, BEN).statement.sha256)
    large.client.reset(BEN.id, by(CHI, DAG))

    assert require_promoted(large.config.at, A).number == 1


def test_at_the_smallest_site_a_reset_takes_the_other_and_the_printed_code(tmp_path: Path) -> None:
    site, printed = small(tmp_path)
    for vouchers, code in (
        (by(ANA), ""),
        (by(BEN), printed[BEN.id]),
        (by(ANA), printed[ANA.id]),
        ([(ANA.id, "wrong password")], printed[BEN.id]),
        (by(ANA), "AAAA-BBBB-CCCC-DDDD"),
    ):
        with pytest.raises((ApprovalRefusedError, CodeRefusedError, UnknownPersonError)):
            site.client.reset(BEN.id, vouchers, printed_code=code)

    again(site, site.client.reset(BEN.id, by(ANA), printed_code=printed[BEN.id]), BEN, key=CHI)
    with pytest.raises(CodeRefusedError):
        site.client.reset(BEN.id, by(ANA), printed_code=printed[BEN.id])
    assert site.ledger.find(kind="person.reset")[0].body["with_printed_code"] is True
    assert site.folder.people().require_active(BEN.id).counts_from == site.clock.now() + timedelta(days=1)


def test_for_a_day_after_a_reset_the_person_brings_in_nobody_who_would_approve_at_once(tmp_path: Path) -> None:
    # Ana found Ben's printed code, resets him and is both: without the rule she invites herself as a third person.
    site, printed = small(tmp_path)
    again(site, site.client.reset(BEN.id, by(ANA), printed_code=printed[BEN.id]), BEN, key=CHI)
    site.clock.advance(DAY - 1)
    with pytest.raises(ApprovalRefusedError) as invited:
        site.client.invite(by(ANA, BEN))
    with pytest.raises(ApprovalRefusedError) as reset:
        site.client.reset(ANA.id, by(BEN), printed_code=printed[ANA.id])
    assert all("vouches again from 2026-" in refused.value.why for refused in (invited, reset))

    site.clock.advance(1)
    site.client.invite(by(ANA, BEN))


def test_a_printed_code_enrols_nobody(tmp_path: Path) -> None:
    site, printed = small(tmp_path)

    with pytest.raises(CodeRefusedError):
        again(site, printed[BEN.id], CHI)


@pytest.mark.parametrize("torn_at", ["passwords.Passwords.forget", "folder.PromoterFolder.save_people"])
def test_a_reset_torn_after_the_ledger_is_finished_from_it(
    large: Site, monkeypatch: pytest.MonkeyPatch, torn_at: str
) -> None:
    def power_cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as torn:
        torn.setattr(f"appliance.promote.{torn_at}", power_cut)
        with pytest.raises(KeyboardInterrupt):
            large.client.reset(BEN.id, by(CHI, DAG))
    large.restart()

    with pytest.raises(UnknownPersonError, match="password"):
        large.client._call("automation-revoke", name="any", person=BEN.id, password=PASSWORD, reason="who knows it")
    with pytest.raises(ApprovalRefusedError):
        approved(large, A, ANA, BEN)
    again(large, large.client.reset(BEN.id, by(CHI, DAG)), BEN)
