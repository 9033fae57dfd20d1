"""Custody that people bring: seals they saw, heads they were told, paper they entered, volumes they rejected."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.actions import export_evidence
from appliance.verify.evidence import VolumeCustody, custody_json
from appliance.verify.freshness import CustodyAcceptance, Decisions
from appliance.verify.sitecustody import SiteCustody
from bundler.custody import HandedOver, hand_over
from media import layout
from media.clock import FixedClock
from media.custody import PaperEntry
from media.digest import sha256_hex
from media.errors import MediaError
from media.volume import VolumeIndex
from tests.support.medium import MADE_AT, SimulatedMedium
from tests.support.receiving import Shelf, copy_here

_ACCEPTED = Decisions(custody=CustodyAcceptance(name="Dana", reason="seal was photographed"))


def ended(medium: SimulatedMedium, site: SiteCustody, **changes: Any) -> tuple[int, str, dict[str, Any]]:
    """Return the exit code, what the refusal says, and custody as it was found."""
    code, lines = copy_here(medium, None, custody=site, **changes)
    custody: dict[str, Any] = next((line["facts"]["custody"] for line in lines if line["event"] == "verified"), {})
    return code, str(lines[-1].get("error", {}).get("what", "")), custody


def heads_of(medium: SimulatedMedium) -> dict[int, str]:
    last = [max((volume / layout.CUSTODY).iterdir()).read_bytes() for volume in medium.volumes]
    return {number: sha256_hex(raw)[:16] for number, raw in enumerate(last, start=1)}


def id_of(medium: SimulatedMedium, number: int = 1) -> str:
    return VolumeIndex.from_bytes(medium.path(layout.VOLUMES).read_bytes()).volumes[number - 1].id


def hand(medium: SimulatedMedium, sender: str, receiver: str, at: datetime = MADE_AT) -> Path:
    facts = HandedOver(sender=sender, receiver=receiver, place="Gate", seals=("S-0001-1",))
    return hand_over(medium.volumes[0], "alice", facts, ceremony=medium.ceremony, clock=FixedClock(at=at))


def test_the_seals_that_were_put_on_are_found_again(genuine: Shelf) -> None:
    site = SiteCustody(seals={1: ("S-0001-1",), 2: ("S-0001-2",)})

    code, _, custody = ended(genuine(), site)

    assert code == 0
    assert custody["complete"]
    assert [(each["seals_found"], each["seals_recorded"]) for each in custody["looked_at"]] == [
        (["S-0001-1"], ["S-0001-1"]),
        (["S-0001-2"], ["S-0001-2"]),
    ]


_TEN = tuple(f"S-{number}" for number in range(10, 20))


@pytest.mark.parametrize(("seen", "said"), [(_TEN[::-1], "same"), ((*_TEN[:-1], "S-20"), "other")])
def test_of_many_seals_all_are_compared_though_a_record_lists_the_first_ones(seen: tuple[str, ...], said: str) -> None:
    known = VolumeCustody(
        volume=1, entries=(), findings=(), files={}, head="0" * 16, seals_recorded=_TEN, seals_found=seen
    )

    told = export_evidence._custody(custody_json([known], None))

    assert [each["seals"] for each in told["looked_at"]] == [said]


@pytest.mark.parametrize("seen", [(), ("S-9",), ("S-0001-1", "S-9")])
def test_other_seals_stop_until_a_person_accepts_them_by_name(genuine: Shelf, seen: tuple[str, ...]) -> None:
    medium, site = genuine(), SiteCustody(seals={1: seen})

    code, said, _ = ended(medium, site)
    accepted, _, custody = ended(medium, site, decisions=_ACCEPTED)

    assert code == 26
    assert "volume 1: the seals found (" in said
    assert accepted == 0
    assert custody["accepted_by"]["name"] == "Dana"
    assert not custody["complete"]


def test_a_volume_that_nobody_looked_at_is_said_to_be_so(genuine: Shelf) -> None:
    code, _, custody = ended(genuine(), SiteCustody(seals={2: ("S-0001-2",)}))

    assert code == 0
    assert [each["seals_found"] for each in custody["looked_at"]] == [None, ["S-0001-2"]]


def test_the_head_that_the_last_holder_names_is_the_chains_end(genuine: Shelf) -> None:
    medium = genuine()

    code, _, custody = ended(medium, SiteCustody(heads=heads_of(medium)))

    assert code == 0
    assert [each["head"] for each in custody["looked_at"]] == list(heads_of(medium).values())


def test_an_end_that_was_cut_off_is_seen_by_its_head_and_by_nothing_else(genuine: Shelf) -> None:
    medium = genuine()
    first = min((medium.volumes[0] / layout.CUSTODY).iterdir())
    last = hand(medium, "Alice Archer", "Courier")
    told = heads_of(medium)[1]
    last.unlink()

    assert first.exists()
    assert ended(medium, SiteCustody())[0] == 0
    code, said, _ = ended(medium, SiteCustody(heads={1: told}))

    assert code == 26
    assert f"does not hold the entry {told}" in said
    assert "cut off" in said


def test_a_chain_that_goes_on_after_its_last_holder_is_a_finding(genuine: Shelf) -> None:
    medium = genuine()
    told = heads_of(medium)[1]
    hand(medium, "Alice Archer", "Mallory")

    code, said, _ = ended(medium, SiteCustody(heads={1: told}))

    assert code == 26
    assert f"goes on after the entry {told}" in said


def test_paper_closes_a_gap_for_the_receive_after_it(genuine: Shelf) -> None:
    medium = genuine()
    hand(medium, "Courier", "Gatekeeper", MADE_AT.replace(hour=12))
    paper = PaperEntry(
        volume=id_of(medium),
        from_="Alice Archer",
        to="Courier",
        at=MADE_AT.replace(hour=11),
        seals=("S-0001-1",),
        entered_by="Dana",
        sequence=4,
    )
    assert ended(medium, SiteCustody())[0] == 26

    code, said, custody = ended(medium, SiteCustody(paper=(paper,), seals={1: ("S-0001-1",)}))

    assert (code, said) == (0, "")
    assert custody["complete"]
    assert [(each["volume"], each["to"], each["sequence"]) for each in custody["paper"]] == [(1, "Courier", 4)]


def test_a_rejected_volume_needs_a_name(genuine: Shelf) -> None:
    medium = genuine()
    site = SiteCustody(rejected=(id_of(medium, 2),))

    code, said, _ = ended(medium, site)

    assert code == 26
    assert said.endswith("volume 2: this site has rejected this volume")
    assert ended(medium, site, decisions=_ACCEPTED)[0] == 0


def test_seals_of_a_volume_that_the_release_has_not_are_a_slip_of_the_hand(genuine: Shelf) -> None:
    assert ended(genuine(), SiteCustody(seals={3: ("A",)}))[:2] == (2, "there is no volume 3")


def test_checks_begin_in_the_order_in_which_the_evidence_lists_them(genuine: Shelf) -> None:
    _, lines = copy_here(genuine(), None)
    begun = [line["check"] for line in lines if line["event"] == "step"]

    assert begun == [
        *("opened", "root-chain", "signatures", "small-files", "metadata", "index", "site", "machine", "rehearsal"),
        *("volumes", "serial", "date", "custody", "bytes"),
    ]


@pytest.mark.parametrize(
    "untrusted",
    [
        {},
        {"seals": {"0": []}, "heads": {}, "paper": [], "rejected": []},
        {"seals": {"1": ["\u202e"]}, "heads": {}, "paper": [], "rejected": []},
        {"seals": {}, "heads": {"1": "a" * 17}, "paper": [], "rejected": []},
        {"seals": {}, "heads": {}, "paper": [{"volume": "x"}], "rejected": []},
    ],
)
def test_what_is_no_such_knowledge_is_refused(untrusted: Any) -> None:
    with pytest.raises(MediaError):
        SiteCustody.from_json(untrusted)
