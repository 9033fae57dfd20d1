"""Who was taken over from another box has keys here and no password: a signature gives the first one, once."""

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
from appliance.promote.firstpassword import SET, VALID_SECONDS
from appliance.promote.passwords import PASSWORDS
from appliance.promote.presented import Presented
from media import canonical
from tests.support.promotion import PASSWORD, Site, open_site
from tests.support.signatories import Signatory, signatories

ANA, BEN, CHI, DAG = signatories()
NEW = "another long password"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Two people whom this box knows by their keys alone, as one that took over does."""
    made = open_site(tmp_path)
    (made.config.at.promoter / PASSWORDS).unlink()
    made.restart()
    return made


def signed(site: Site, who: Signatory, *, by: Signatory | None = None) -> Presented:
    return Presented(signature=(by or who).sign(site.client.password_statement(who.id)))


def test_a_signature_gives_the_first_password_and_the_record_says_by_which_key(site: Site) -> None:
    with pytest.raises(UnknownPersonError):
        site.client.login(ANA.id, NEW)

    site.client.set_first_password(ANA.id, signed(site, ANA), NEW)

    assert site.client.login(ANA.id, NEW)["person"] == ANA.id
    (leaf,) = site.ledger.find(kind=SET)
    assert (leaf.body["person"], leaf.body["fingerprint"].lower()) == (ANA.id, ANA.fingerprint.lower())
    statement = canonical.loads_canonical(str(leaf.body["statement"]).encode())
    assert (statement["type"], statement["person"]) == ("sealift/first-password", ANA.id)
    assert NEW.encode() not in leaf.raw


def test_two_of_them_then_vouch_as_ever(site: Site) -> None:
    for who in (ANA, BEN):
        site.client.set_first_password(who.id, signed(site, who), NEW)

    code = site.client.invite([(ANA.id, NEW), (BEN.id, NEW)])
    site.client.enrol(code=code, name=CHI.name, certificate=CHI.certificate, password=PASSWORD)

    assert site.client.login(CHI.id, PASSWORD)["name"] == CHI.name


def test_who_has_a_password_gets_no_other_by_a_signature(site: Site) -> None:
    kept = signed(site, ANA)
    site.client.set_first_password(ANA.id, kept, NEW)

    with pytest.raises(ConflictError, match="has a password"):
        site.client.password_statement(ANA.id)
    with pytest.raises(ConflictError, match="has a password"):
        site.client.set_first_password(ANA.id, kept, PASSWORD)
    assert site.client.login(ANA.id, NEW)["person"] == ANA.id


@pytest.mark.parametrize("by", [BEN, DAG], ids=["another person", "nobody here"])
def test_a_signature_of_somebody_else_gives_none(site: Site, by: Signatory) -> None:
    with pytest.raises(ApprovalRefusedError):
        site.client.set_first_password(ANA.id, signed(site, ANA, by=by), NEW)
    with pytest.raises(UnknownPersonError):
        site.client.login(ANA.id, NEW)
    assert not site.ledger.find(kind=SET)


def test_a_signature_for_one_person_is_none_for_another_and_not_over_other_bytes(site: Site) -> None:
    of_ana = signed(site, ANA)
    site.client.password_statement(BEN.id)

    with pytest.raises(ApprovalRefusedError):
        site.client.set_first_password(BEN.id, of_ana, NEW)
    with pytest.raises(ApprovalRefusedError):
        site.client.set_first_password(ANA.id, Presented(signature=ANA.sign(b"{}")), NEW)


def test_a_statement_is_good_for_a_day_and_for_the_promoter_that_made_it(site: Site) -> None:
    first = site.client.password_statement(ANA.id)
    assert site.client.password_statement(ANA.id) == first  # it may be signed elsewhere meanwhile
    old = signed(site, ANA)
    site.clock.advance(VALID_SECONDS + 1)
    with pytest.raises(ApprovalRefusedError, match="no password was set"):
        site.client.set_first_password(ANA.id, old, NEW)
    assert site.client.password_statement(ANA.id) != first

    made = signed(site, ANA)
    site.restart()
    with pytest.raises(ApprovalRefusedError, match="no password was set"):
        site.client.set_first_password(ANA.id, made, NEW)


def test_who_was_revoked_or_reset_gets_none(site: Site) -> None:
    made = signed(site, BEN)
    site.client.set_first_password(ANA.id, signed(site, ANA), NEW)
    site.client.revoke(person=BEN.id, by=ANA.id, password=NEW, reason="left")

    with pytest.raises(UnknownPersonError):
        site.client.set_first_password(BEN.id, made, NEW)
    with pytest.raises(UnknownPersonError):
        site.client.password_statement(BEN.id)


def test_a_password_that_is_too_short_or_not_recorded_is_not_set(site: Site) -> None:
    made = signed(site, ANA)
    with pytest.raises(CodeRefusedError):
        site.client.set_first_password(ANA.id, made, "short")
    assert not site.ledger.find(kind=SET)

    site.ledger.available = False
    with pytest.raises(LedgerUnavailableError):
        site.client.set_first_password(ANA.id, made, NEW)
    site.ledger.available = True
    with pytest.raises(UnknownPersonError):
        site.client.login(ANA.id, NEW)
    site.client.set_first_password(ANA.id, made, NEW)


@pytest.mark.parametrize("door", [OPERATOR_DOOR, ADMIN_DOOR])
def test_it_is_asked_for_at_the_machine_alone(site: Site, door: str) -> None:
    with pytest.raises(LedgerRefusedError):
        site.at_door(door).password_statement(ANA.id)
    with pytest.raises(LedgerRefusedError):
        site.at_door(door).set_first_password(ANA.id, Presented(signature=b"x"), NEW)
