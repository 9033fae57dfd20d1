"""People as they are named to people: by id, by fingerprint, and by a name that one of them alone bears."""

import pytest

from appliance.actions.tracing.selection import By, named_person
from appliance.audit.memory import MemoryLedger
from tests.support.ledger import approval, bodies

ADA = {"person": "ada", "name": "Ada Ferrer", "fingerprint": "A" * 40}
OTHER = {"person": "ada-2", "name": "Ada Ferrer", "fingerprint": "B" * 40}


@pytest.mark.parametrize("given", ["ada", "A" * 40, "Ada Ferrer", "ada ferrer"])
def test_a_signer_is_known_by_the_name_that_a_proof_shows(given: str) -> None:
    ledger = MemoryLedger()
    ledger.append("release.received", {**bodies()["release.received"], "signers": [ADA]})

    assert named_person(ledger, By.SIGNER, given) == ("A" * 40 if given == "A" * 40 else "ada")


def test_a_name_that_two_bear_or_nobody_is_left_as_it_was_given() -> None:
    ledger = MemoryLedger()
    ledger.append("release.received", {**bodies()["release.received"], "signers": [ADA], "metadata_signers": [OTHER]})

    assert named_person(ledger, By.SIGNER, "Ada Ferrer") == "Ada Ferrer"
    assert named_person(ledger, By.SIGNER, "Ben") == "Ben"
    assert named_person(ledger, By.APPROVER, "Ada Ferrer") == "Ada Ferrer"


@pytest.mark.parametrize("blank", [{"person": "ada"}, {"person": "ada", "name": None}, {"name": "None"}])
def test_nobody_is_found_by_a_name_or_called_by_an_id_that_a_record_lacks(blank: dict[str, object]) -> None:
    ledger = MemoryLedger()
    ledger.append("release.received", {**bodies()["release.received"], "signers": [{**blank, "fingerprint": "A" * 40}]})

    assert named_person(ledger, By.SIGNER, "none") == "none"


def test_an_approver_is_known_by_name_in_promotions_only() -> None:
    ledger = MemoryLedger()
    made = {**bodies()["promotion.made"], "approvals": [approval("ada"), {**approval("bo"), "name": "Bo Lind"}]}
    ledger.append("promotion.made", made)

    assert named_person(ledger, By.APPROVER, "bo lind") == "bo"
    assert named_person(ledger, By.SIGNER, "bo lind") == "bo lind"
