"""Receiving beside a ledger that runs: the record has a place, the receipt proves it, and history must go on."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.audit.facts import InclusionProof
from appliance.audit.note import VerifierKey, verify_checkpoint
from appliance.errors import LedgerDamagedError
from appliance.verify import trust
from tests.support.ledger import LedgerSite, ledger_site
from tests.support.receiving import Shelf, Site

pytestmark = pytest.mark.slow


@pytest.fixture
def box(tmp_path: Path) -> Iterator[LedgerSite]:
    with ledger_site(tmp_path / "b", site="demo-clinic") as made:
        yield made


def site_of(box: LedgerSite, root_json: bytes) -> Site:
    places = box.config.at
    places.pinned_trust.mkdir(parents=True)
    (places.pinned_trust / trust.PINNED_ROOT).write_bytes(root_json)
    return Site(config=box.config.model_copy(update={"environment": "demo", "profile": "cpu"}))


def test_the_record_has_a_sequence_and_the_receipt_proves_it_without_the_box(box: LedgerSite, genuine: Shelf) -> None:
    medium = genuine()
    site = site_of(box, medium.root_json)
    with box.running(site.clock):
        facts = site.receive(medium)
        key = VerifierKey.from_text((box.places.etc / "ledger.pub").read_text())

    assert facts.sequence is not None
    assert facts.sequence >= 0
    assert site.facts() == []
    receipt = json.loads((box.places.receipts / facts.receipt).read_bytes())
    proof = json.loads(base64.b64decode(receipt["payload"]))["ledger"]
    leaf = base64.b64decode(proof["leaf"])
    point = verify_checkpoint(proof["checkpoint"], [key])
    included = InclusionProof(
        sequence=proof["sequence"], size=point.size, root=point.root.hex(), hashes=tuple(proof["hashes"])
    )
    included.require(leaf)
    assert json.loads(leaf)["kind"] == "export.receipt"
    assert json.loads(leaf)["body"]["code"] == medium.code
    assert sorted(json.loads(leaf)["body"]) == [
        *("bytes", "code", "payload_digest", "release", "serial", "sha256", "site", "type"),
    ]
    checkpoint = site.record.checkpoint
    assert checkpoint is not None
    assert checkpoint.size > facts.sequence


def test_facts_from_before_the_ledger_come_first_when_it_starts(box: LedgerSite, genuine: Shelf) -> None:
    medium = genuine()
    site = site_of(box, medium.root_json)
    site.receive(medium)
    assert site.record.checkpoint is None

    with box.running(site.clock) as log:
        kinds = [leaf.kind for leaf in log.leaves(0, 10)]
        again = site.receive(genuine())

    assert kinds[:2] == ["ledger.opened", "release.received"]
    assert again.outcome == "reverified"


@pytest.mark.parametrize("loss", ["its end", "everything"])
def test_a_ledger_that_lost_what_it_had_stops_receiving(box: LedgerSite, genuine: Shelf, loss: str) -> None:
    medium = genuine()
    site = site_of(box, medium.root_json)
    with box.running(site.clock):
        pass
    earlier = {path: path.read_bytes() for path in box.places.ledger.iterdir()}
    with box.running(site.clock):
        site.receive(medium)
    for path in box.places.ledger.iterdir():
        path.unlink()
    if loss == "its end":  # yesterday's copy was put back
        for path, content in earlier.items():
            path.write_bytes(content)
    before = site.untouched()

    with box.running(site.clock), pytest.raises(LedgerDamagedError):
        site.receive(genuine(serial=2))

    assert site.untouched() == before


@pytest.mark.parametrize(("grown", "root", "accepted"), [(0, "", True), (10_000, "", False), (0, "00" * 32, False)])
def test_a_sender_who_knows_more_of_this_ledger_than_it_holds_stops_receiving(
    box: LedgerSite,
    genuine: Shelf,
    grown: int,
    root: str,
    accepted: bool,  # noqa: FBT001
) -> None:
    first = genuine()
    site = site_of(box, first.root_json)
    with box.running(site.clock):
        site.receive(first)
        point = site.record.checkpoint
        assert point is not None
        known = {point.origin: {"size": point.size + grown, "root": root or point.root}}
        medium = genuine(serial=2, checkpoints=known)

        if accepted:
            assert site.receive(medium).outcome == "received"
        else:
            with pytest.raises(LedgerDamagedError):
                site.receive(medium)
            assert site.record.serial == 1


def test_a_refusal_is_recorded_in_the_ledger(box: LedgerSite, genuine: Shelf) -> None:
    medium = genuine(sites=("elsewhere",))
    site = site_of(box, medium.root_json)
    with box.running(site.clock) as log:
        with pytest.raises(Exception, match="elsewhere"):
            site.receive(medium)
        refused = log.find(kind="release.refused")

    assert [leaf.body["error"] for leaf in refused] == ["wrong-site"]
    assert refused[0].body["release"] == "demo-1"
