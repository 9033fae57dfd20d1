"""A medium that went on after another box received it: its later hand-overs are not of that box's story."""

from datetime import timedelta
from typing import Any

import pytest

from appliance.actions.proven_mirror import ProvenMirror
from appliance.audit.leaf import Leaf, Via
from appliance.errors import ProofError
from appliance.registry import origin
from appliance.store.content import StoredRelease
from media.digest import sha256_hex
from tests.support.handovers import hand_over, put_custody, sign_hand_over
from tests.support.medium import MADE_AT, SimulatedMedium
from tests.support.receiving import Shelf, Site

pytestmark = pytest.mark.slow  # whole receives, seconds each


def carried(medium: SimulatedMedium) -> list[bytes]:
    """Return two hand-overs that follow each other."""
    first = sign_hand_over(medium, hand_over(medium))
    at = MADE_AT + timedelta(hours=1)
    second = hand_over(medium, entry=2, previous=sha256_hex(first), from_="Courier", to="Second box", at=at)
    return [first, sign_hand_over(medium, second)]


def meant(custody: dict[str, Any]) -> frozenset[str] | None:
    """Return which hand-overs a record of another box's receive means."""
    body = {"custody": custody}
    via = Via(door="ledger-actions", uid=0)
    leaf = Leaf(origin="", sequence=0, time="", kind="release.received", via=via, body=body, raw=b"", hash="")
    return ProvenMirror.hand_overs(object.__new__(ProvenMirror), leaf)


def test_only_what_the_medium_bore_when_the_other_box_received_it_is_told(site: Site, genuine: Shelf) -> None:
    medium = genuine(serial=2)
    files = carried(medium)
    put_custody(medium, files[:1])
    there = site.receive(medium, dry_run=True).facts["custody"]
    put_custody(medium, files)
    here = site.receive(medium).facts["custody"]
    stored = StoredRelease.load(site.store, 2)
    chain = origin.chain_for(site.config, stored)
    index = origin.signed_terms(stored, chain).index

    def told(custody: dict[str, Any]) -> list[str]:
        return [one["to"] for one in origin.to_facts(origin.hand_overs(stored, chain, index, only=meant(custody)))]

    first, *others = told(there)  # the others are of the second volume
    assert first == "Courier"
    assert told(here) == ["Courier", "Second box", *others]
    with pytest.raises(ProofError, match="1 hand-overs that were recorded are not kept"):
        told({"entries": [{"sha256": "0" * 64}], "entries_in_all": 1})
