"""The attacks that python-tuf simulates on its client, in our words, on media: each is refused and burns nothing.

The box has accepted release 3. An attacker has what the name of a test says: a courier's hands, one person's keys, or
(the strongest) the keys of as many people as the threshold demands. Where the latter cannot be refused it is said so.
"""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from media import layout, limits
from media.errors import SealiftError, SupersededError
from tests.support.medium import SimulatedMedium, throwaway_ceremony
from tests.support.receiving import NOW, Shelf, copy_here, make_site, rotated
from tests.support.resigning import ROLES, Edit, box, file_name, judge, next_root, on_all, put, record_of, resign

pytestmark = pytest.mark.interop

WEIGHTS = "data/models/tiny/tiny.gguf"


@pytest.fixture
def next_one(genuine: Shelf) -> SimulatedMedium:
    """Release 4, which the box would accept."""
    return genuine(serial=4)


def versions(*, timestamp: int, snapshot: int, targets: int) -> dict[str, Edit]:
    """Edits that give the roles these versions, each naming the next."""
    return {
        "timestamp": lambda signed: signed.update(version=timestamp, meta={"snapshot.json": {"version": snapshot}}),
        "snapshot": lambda signed: signed.update(version=snapshot, meta={"targets.json": {"version": targets}}),
        "targets": lambda signed: signed.update(version=targets),
    }


# rollback


def test_an_older_release_is_superseded(genuine: Shelf) -> None:
    assert judge(genuine(serial=2), box(genuine)) == 23


def test_older_signatures_of_the_accepted_release_are_superseded(genuine: Shelf) -> None:
    accepted = record_of(genuine(serial=3), timestamp_version=3005)

    assert judge(genuine(serial=3, issue=4), accepted) == 23
    assert judge(genuine(serial=3, issue=5), accepted) == 0


@pytest.mark.parametrize("of", ["courier", "threshold"])
def test_a_newer_timestamp_cannot_bring_back_an_older_snapshot(genuine: Shelf, of: str) -> None:
    trust, old, new = box(genuine), genuine(serial=2), genuine(serial=4)
    if of == "threshold":
        resign(old, "timestamp", lambda signed: signed.update(version=4000))
    else:
        on_all(old, layout.TIMESTAMP, new.path(layout.TIMESTAMP).read_bytes())
    old.reseal()

    assert judge(old, trust) == (10 if of == "threshold" else 11)


def test_a_newer_snapshot_cannot_bring_back_older_targets(genuine: Shelf, next_one: SimulatedMedium) -> None:
    trust, old = box(genuine), genuine(serial=2)
    on_all(next_one, layout.targets_name(2), old.path(layout.targets_name(2)).read_bytes())
    resign(next_one, "snapshot", lambda signed: signed.update(meta={"targets.json": {"version": 2}}))
    next_one.reseal()

    assert judge(next_one, trust) == 10


def test_older_targets_under_a_newer_name_are_refused(genuine: Shelf, next_one: SimulatedMedium) -> None:
    trust, old = box(genuine), genuine(serial=2)
    on_all(next_one, layout.targets_name(4), old.path(layout.targets_name(2)).read_bytes())
    next_one.reseal()

    assert judge(next_one, trust) == 14


def test_an_older_root_brings_nobody_back(genuine: Shelf) -> None:
    # Carol was left out in root 2, which the box believes; the medium brings root 1 only, sealed and signed by Carol.
    medium = genuine(serial=4)
    medium.reseal("bob", "carol")
    later = rotated(medium.ceremony, without="carol")

    assert judge(medium, replace(box(genuine), root_chain=tuple(raw.decode() for raw in later.chain))) == 20


# freeze


def test_a_release_held_back_for_too_long_is_stale_whatever_the_clock_says(genuine: Shelf) -> None:
    trust, late = box(genuine), genuine(serial=4, stale_after="2026-11-20T09:00:00Z")

    assert judge(late, trust) == 25
    assert judge(late, replace(trust, floor=NOW), now=datetime(1970, 1, 2, tzinfo=UTC)) == 25


def test_the_same_release_for_ever_brings_nothing_new(genuine: Shelf, tmp_path: Path) -> None:
    medium = genuine(serial=3)
    site = make_site(tmp_path / "box", medium.root_json)
    site.receive(medium)
    before = site.untouched()
    site.clock.at += timedelta(days=3650)

    assert site.receive(genuine(serial=3)).outcome == "reverified"
    assert site.untouched() == before


# mix and match


@pytest.mark.parametrize("foreign", [each for n in (1, 2) for each in itertools.combinations(ROLES, n)], ids="+".join)
def test_roles_of_two_genuine_releases_make_no_release(genuine: Shelf, foreign: tuple[str, ...]) -> None:
    trust, medium, other = box(genuine), genuine(serial=4), genuine(serial=5)
    for role in foreign:
        put(medium, role, other.path(file_name(role, 5)).read_bytes(), 5)
    medium.reseal()

    assert judge(medium, trust) in {11, 14}


@pytest.mark.parametrize("foreign", [layout.VOLUMES, "attest/rehearsal.dsse.json", "attest/custody-sealed-1.dsse.json"])
def test_parts_of_another_genuine_release_do_not_fit(genuine: Shelf, foreign: str) -> None:
    trust, medium, other = box(genuine), genuine(serial=4), genuine(serial=5)
    on_all(medium, foreign, other.path(foreign).read_bytes())
    medium.reseal()

    assert judge(medium, trust) in {14, 15}


def test_payload_of_another_genuine_release_does_not_fit(genuine: Shelf) -> None:
    trust, medium, other = box(genuine), genuine(serial=4), genuine(serial=5)
    medium.replace(WEIGHTS, other.path(WEIGHTS).read_bytes())
    assert judge(medium, trust) == 15

    medium.reseal()
    assert judge(medium, trust) in {14, 15}


# fast forward


@pytest.mark.parametrize(
    ("numbers", "refusal"),
    [
        ({"timestamp": 2**53 - 1, "snapshot": 4, "targets": 4}, 10),
        ({"timestamp": 5000, "snapshot": 4, "targets": 4}, 10),
        ({"timestamp": 4000, "snapshot": 9, "targets": 4}, 10),
        ({"timestamp": 10**9 * 1000, "snapshot": 10**9, "targets": 10**9}, 14),
    ],
    ids=["timestamp", "timestamp of the next", "snapshot", "all without the index"],
)
def test_versions_cannot_be_driven_up_even_by_enough_people(
    genuine: Shelf, next_one: SimulatedMedium, numbers: dict[str, int], refusal: int
) -> None:
    trust = box(genuine)
    for role, edit in versions(**numbers).items():
        resign(next_one, role, edit)
    next_one.reseal()

    assert judge(next_one, trust) == refusal


def test_the_serial_of_a_whole_release_cannot_be_driven_up(genuine: Shelf) -> None:
    trust = box(genuine)

    assert judge(genuine(serial=3 + 1001), trust) == 100
    assert judge(genuine(serial=limits.SERIAL_MAX), trust) == 100


def test_the_roots_version_cannot_be_driven_up(genuine: Shelf, next_one: SimulatedMedium) -> None:
    trust, far = box(genuine), next_root(next_one.ceremony, lambda signed: signed.update(version=1000))
    on_all(next_one, layout.root_name(1000), far)
    next_one.reseal()
    assert judge(next_one, trust) == 11

    on_all(next_one, layout.root_name(2), far)
    assert judge(next_one, trust) == 10


def test_no_refused_attack_burns_the_floor(genuine: Shelf, tmp_path: Path) -> None:
    first = genuine(serial=3)
    site = make_site(tmp_path / "box", first.root_json)
    site.receive(first)
    before = site.untouched()
    attacks = [genuine(serial=4) for _ in range(3)]
    for role, edit in versions(timestamp=9_999_999, snapshot=4, targets=4).items():
        resign(attacks[0], role, edit)
    attacks[0].reseal()
    attacks[1].truncate(WEIGHTS, 7)
    attacks[2].replace(layout.TIMESTAMP, b"x" * 2**20)

    for attack in attacks:
        with pytest.raises(SealiftError):
            site.receive(attack)
        assert site.untouched() == before

    assert site.receive(genuine(serial=4)).outcome == "received"


# chains of roots


def test_a_gap_in_the_chain_of_roots_is_named(genuine: Shelf) -> None:
    trust = box(genuine)
    chain = rotated(rotated(throwaway_ceremony("demo")))
    medium = genuine(serial=4, keys=chain)
    assert judge(medium, trust) == 0

    for number in (1, 2):
        medium.remove(layout.root_name(2), volume=number)
    medium.reseal()
    assert judge(medium, trust) == 11


def test_roots_in_each_others_places_are_refused(genuine: Shelf) -> None:
    trust = box(genuine)
    chain = rotated(rotated(throwaway_ceremony("demo")))
    medium = genuine(serial=4, keys=chain)
    on_all(medium, layout.root_name(2), chain.chain[2])
    on_all(medium, layout.root_name(3), chain.chain[1])
    medium.reseal()

    assert judge(medium, trust) == 10


@pytest.mark.parametrize("signed_by", [("alice",), ("carol", "bob")], ids=["too few", "one without the role"])
def test_a_root_in_the_middle_of_the_chain_needs_its_people_too(genuine: Shelf, signed_by: tuple[str, ...]) -> None:
    trust, medium = box(genuine), genuine(serial=4)
    first = medium.ceremony
    signers = tuple(each for each in signed_by if first.person(each).keys.get("root"))
    middle = replace(first, chain=(*first.chain, next_root(first, lambda _: None, signed_by=signers)))
    on_all(medium, layout.root_name(2), middle.chain[-1])
    on_all(medium, layout.root_name(3), next_root(middle, lambda _: None))
    medium.reseal()

    assert judge(medium, trust) == 21


def test_a_rotation_does_not_make_an_older_release_acceptable(genuine: Shelf, tmp_path: Path) -> None:
    first = genuine(serial=3)
    site = make_site(tmp_path / "box", first.root_json)
    site.receive(first)
    older = genuine(serial=2, keys=rotated(throwaway_ceremony("demo"), without="carol"))

    with pytest.raises(SupersededError):
        site.receive(older)

    assert (site.record.serial, len(site.record.root_chain)) == (3, 2)


def test_another_root_of_a_version_that_is_believed_changes_nothing(genuine: Shelf) -> None:
    medium = genuine(serial=4)
    believed = rotated(medium.ceremony, without="carol")
    trust = replace(box(genuine), root_chain=tuple(raw.decode() for raw in believed.chain))
    on_all(medium, layout.root_name(2), rotated(throwaway_ceremony("demo", "stranger")).chain[-1])
    medium.reseal()

    code, lines = copy_here(medium, None, trust=trust)

    assert code == 0
    assert not [line for line in lines if line["event"] == "root"]
