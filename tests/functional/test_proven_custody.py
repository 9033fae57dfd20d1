"""What people of a site said of carriers counts in a proof as it did in the receive: paper, and what they accepted."""

from datetime import timedelta

import pytest

from appliance.actions import custody
from appliance.actions.custody import PaperHandOver
from appliance.actions.proof import Found
from appliance.actions.proven_custody import custody_of
from appliance.actions.proven_ledger import ProvenLedger
from appliance.actions.site_custody import ENTERED
from appliance.audit.leaf import Leaf, Via
from appliance.audit.memory import MemoryLedger
from appliance.errors import ProofError
from appliance.registry import origin
from appliance.store.content import StoredRelease
from appliance.verify.freshness import CustodyAcceptance, Decisions
from media import layout
from media.clock import to_text
from media.digest import sha256_hex
from tests.support.handovers import hand_over, put_custody, sign_hand_over
from tests.support.medium import MADE_AT, SimulatedMedium
from tests.support.receiving import Shelf, Site

pytestmark = pytest.mark.slow  # whole receives, seconds each

ACCEPTED = Decisions(custody=CustodyAcceptance(name="Dana", reason="the form is at hand"))


class Unsigned(ProvenLedger):
    """Takes each record for proven, since nobody signs for what only waits for a ledger here."""

    def require(self, leaf: Leaf) -> Leaf:
        return leaf


def proven(site: Site, serial: int = 2) -> Found[None]:
    """Return what a proof says of the custody of a release that was received, or raise as it does."""
    fact = site.facts("release.received")[-1]
    stored = StoredRelease.load(site.store, serial)
    chain = origin.chain_for(site.config, stored)
    via = Via(door="ledger-actions", uid=0)
    leaf = Leaf(origin="", sequence=0, time="", kind=fact["kind"], via=via, body=fact["body"], raw=b"", hash="")
    ledger = MemoryLedger()
    for entered in site.facts(ENTERED):
        ledger.append(ENTERED, entered["body"])
    terms = origin.signed_terms(stored, chain)
    return custody_of(Unsigned(ledger, site.config.at), stored, chain, terms, leaf)


def on_paper(site: Site, medium: SimulatedMedium, number: int, sender: str, receiver: str, hours: int) -> None:
    shown = custody.show(site.config, medium.volumes, clock=site.clock)[number - 1]
    form = PaperHandOver(
        volume=shown["id"],
        sender=sender,
        receiver=receiver,
        at=to_text(MADE_AT + timedelta(hours=hours)),
        place="Gate",
        seals=tuple(shown["looked_at"][0]["seals_recorded"]),
        condition="",
        entered_by="Dana",
    )
    custody.enter(site.config, form, clock=site.clock)


def test_paper_that_closed_a_gap_closes_it_in_a_proof(site: Site, genuine: Shelf) -> None:
    medium = genuine(serial=2)
    first = sign_hand_over(medium, hand_over(medium))
    at = MADE_AT + timedelta(hours=2)
    put_custody(
        medium,
        [
            first,
            sign_hand_over(
                medium, hand_over(medium, entry=2, previous=sha256_hex(first), from_="Second courier", to="Gate", at=at)
            ),
        ],
    )
    on_paper(site, medium, 1, "Courier", "Second courier", 1)
    assert site.receive(medium).facts["custody"]["complete"]

    assert proven(site).data["findings"] == []


def test_custody_that_nobody_could_read_holds_where_a_person_accepted_it(site: Site, genuine: Shelf) -> None:
    medium = genuine(serial=2)
    (entry,) = (medium.volumes[0] / layout.CUSTODY).iterdir()
    entry.write_bytes(entry.read_bytes()[:100])  # a stick that was pulled out too early
    site.receive(medium, decisions=ACCEPTED)

    found = proven(site)

    assert "accepted by Dana" in found.detail
    assert any("unreadable" in finding for finding in found.data["findings"])


def test_what_was_accepted_is_accepted_of_the_files_that_were_there(site: Site, genuine: Shelf) -> None:
    medium = genuine(serial=2)
    put_custody(medium, [])
    site.receive(medium, decisions=ACCEPTED)
    assert "accepted by Dana" in proven(site).detail
    (entry,) = (site.store.release_folder(2) / layout.CUSTODY / "2").iterdir()
    entry.chmod(0o644)
    entry.write_bytes(entry.read_bytes()[:100])

    with pytest.raises(ProofError, match="not those that were received"):
        proven(site)


def test_paper_that_a_record_holds_shortened_is_what_it_was_in_the_receive(site: Site, genuine: Shelf) -> None:
    medium = genuine(serial=2)
    courier = "Courier of the night, of the logistics department of the second house, below the emergency room's ramp"
    at = MADE_AT + timedelta(hours=1)
    put_custody(medium, [sign_hand_over(medium, hand_over(medium, to=courier, at=at))])
    on_paper(site, medium, 1, "Bundling room", courier, 1)  # the same one: that courier also wrote it down
    assert site.receive(medium).facts["custody"]["findings"] == []

    assert proven(site).data["findings"] == []


def test_a_hand_over_that_was_taken_out_of_the_store_is_missed(site: Site, genuine: Shelf) -> None:
    medium = genuine(serial=2)
    first = sign_hand_over(medium, hand_over(medium))
    second = hand_over(medium, entry=2, previous=sha256_hex(first), from_="Courier", to="Gate")
    put_custody(medium, [first, sign_hand_over(medium, second)])
    assert site.receive(medium).facts["custody"]["findings"] == []
    assert len(proven(site).data["entries"]) == 3, "one of volume 2 as well"

    *_, last = sorted((site.store.release_folder(2) / layout.CUSTODY / "1").iterdir())
    last.unlink()

    with pytest.raises(ProofError, match="not kept"):
        proven(site)


def test_a_lost_box_that_received_from_another_copy_proves_with_that_ones_carriers(site: Site, genuine: Shelf) -> None:
    medium = genuine(serial=2)
    put_custody(medium, [sign_hand_over(medium, hand_over(medium))])
    site.receive(medium)
    folder = site.store.release_folder(2) / layout.CUSTODY / "1"
    (kept,) = folder.iterdir()
    # As the box that took its place has it: the medium burnt with the first one, and the sender sent the release again.
    other = sign_hand_over(medium, hand_over(medium, to="Second courier"))
    kept.unlink()
    (folder / layout.custody_name(1, sha256_hex(other))).write_bytes(other)

    found = proven(site)

    assert (found.data["findings"], found.data["entries"][0]["to"]) == ([], "Second courier")
    assert "of another copy than the one that was recorded" in found.detail
