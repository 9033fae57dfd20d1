"""Who may let leave what was drawn from the audit record: roles of the site's people, an operator's account, root."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from appliance.actions.export_types import ExportType
from appliance.config import Config
from appliance.errors import PrivilegeError
from appliance.install import auditors
from appliance.install.jobs import Job, Kind
from appliance.promote import people
from appliance.sections import MediaSection
from appliance.wire import Peer
from tests.support.promotion import Site, digest, open_site
from tests.support.signatories import signatories

ANA, BEN, *_ = signatories()
A = digest("A")
STRANGER = os.getuid() + 4711


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = open_site(tmp_path)
    for kind in ExportType:
        site.ledger.append("export.written", {"type": str(kind), "sha256": digest(kind)})
    return site


def judge(site: Site, job: Job, *, allowed: list[str], door: str = "jobs-admin", uid: int = STRANGER) -> None:
    config = Config.model_validate({**site.config.model_dump(), "media": {"auditors": allowed}})
    auditors.require_may_let_leave(config, site.ledger, Peer(door=door, pid=1, uid=uid, gid=0), job)


def carry(kind: ExportType, person: str = "") -> Job:
    return Job(kind=Kind.CARRY_EXPORT, medium="sdb1", digest=digest(kind), person=person)


def evidence(person: str = "") -> Job:
    return Job(kind=Kind.MAKE_EVIDENCE, record=1, digest=A, person=person)


def of_roles(site: Site, *roles: str) -> None:
    """Give Ana these roles, as a record about her would."""
    site.folder.save_people(site.folder.people().with_roles(ANA.id, roles, 99))


def test_by_itself_whoever_may_ask_lets_every_export_leave(site: Site) -> None:
    site.folder.save_people(people.SitePeople())  # not looked at: nobody who upgrades is refused

    for kind in ExportType:
        judge(site, carry(kind, "nobody"), allowed=list(people.ROLES))
    judge(site, evidence(), allowed=list(people.ROLES), door="jobs-operator")
    assert site.config.media.auditors == list(people.ROLES)


@pytest.mark.parametrize("kind", list(ExportType))
def test_what_the_sender_needs_leaves_by_anybody_and_what_was_drawn_from_records_by_the_named(
    site: Site, kind: ExportType
) -> None:
    of_roles(site, people.OPERATOR)
    is_drawn = kind in {ExportType.EVIDENCE, ExportType.FIGURES}
    for person in (ANA.id, "nobody"):
        if is_drawn:
            with pytest.raises(PrivilegeError, match=f"it takes an admin to let {kind} leave"):
                judge(site, carry(kind, person), allowed=["admin"])
        else:
            judge(site, carry(kind, person), allowed=["admin"])
    of_roles(site, people.ADMIN)

    judge(site, carry(kind, ANA.id), allowed=["admin"])
    assert len(site.ledger.find(kind="job.refused", limit=9)) == (2 if is_drawn else 0)


def test_two_people_who_are_everything_are_refused_nothing(site: Site) -> None:
    for role in people.ROLES:
        for person in (ANA, BEN):
            judge(site, evidence(person.id), allowed=[role])
            judge(site, carry(ExportType.FIGURES, person.id), allowed=[role])


def test_roles_count_as_they_are_now_and_none_of_somebody_revoked(site: Site) -> None:
    judge(site, evidence(ANA.id), allowed=["admin"])
    of_roles(site, people.APPROVER)
    with pytest.raises(PrivilegeError) as refused:
        judge(site, evidence(ANA.id), allowed=["admin"])
    assert refused.value.why == f"roles of {ANA.id}: approver"
    site.folder.save_people(site.folder.people().with_revocation(BEN.id, 100))
    with pytest.raises(PrivilegeError, match="it takes an admin or an operator to let evidence leave"):
        judge(site, evidence(BEN.id), allowed=["admin", "operator"])


def test_an_account_at_the_machine_is_an_operator_whoever_it_says_it_is_and_root_is_refused_nothing(site: Site) -> None:
    judge(site, evidence(), allowed=["operator"], door="jobs-operator")
    with pytest.raises(PrivilegeError) as refused:
        judge(site, evidence(ANA.id), allowed=["admin"], door="jobs-operator")
    assert refused.value.why == f"roles of {STRANGER}: operator"
    for uid in (0, os.getuid()):
        judge(site, evidence(), allowed=["admin"], door="jobs-operator", uid=uid)
    (record,) = site.ledger.find(kind="job.refused")
    assert record.body["account"] == str(STRANGER)


def test_other_jobs_are_not_judged(site: Site) -> None:
    for job in (Job(kind=Kind.RECEIVE, medium="sdb1"), Job(kind=Kind.PROVE, record=1)):
        judge(site, job, allowed=["admin"], door="jobs-operator")


@pytest.mark.parametrize("named", [[], ["auditor"], ["admin", 1]])
def test_the_site_names_roles_that_there_are_and_at_least_one(named: list[str]) -> None:
    with pytest.raises(ValidationError):
        MediaSection.model_validate({"auditors": named})
