from dataclasses import replace
from pathlib import Path

import pytest

from bundler.attest import choose_volumes
from bundler.cli.bars import seals_by_volume
from bundler.errors import CapacityError
from bundler.measure import Measured
from bundler.volumechoice import VolumeChoice, describe, plan_volumes, rooms_for
from bundler.workfolder import WorkFolder
from media.clock import FixedClock
from media.errors import MalformedError, UsageError
from media.layout import BLOCK_BYTES
from tests.support.candidate import new_candidate
from tests.support.medium import MADE_AT, throwaway_ceremony
from tests.unit.bundler.test_plan import PLAN as ANY_PLAN

DIGEST = "0" * 64
FILES = {
    "data/release.json": Measured(length=100, sha256=DIGEST, blocks=(DIGEST,)),
    "data/models/m/w.gguf": Measured(length=BLOCK_BYTES + 1, sha256=DIGEST, blocks=(DIGEST, DIGEST)),
}
PLAN = replace(ANY_PLAN, kinds={"data/release.json": "release", "data/models/m/w.gguf": "weights"}, payload_digest="")


def test_a_choice_is_read_back_as_it_was_written() -> None:
    choice = VolumeChoice(rooms=(1, 2), seals={1: ("A-1", "A-2")})

    assert VolumeChoice.from_bytes(choice.to_bytes()) == choice


def test_without_capacities_one_volume_holds_everything() -> None:
    index = plan_volumes(PLAN, FILES, VolumeChoice())

    assert len(index.volumes) == 1
    assert all(part.is_whole for part in index.volumes[0].parts)


def test_weights_are_cut_where_a_volume_ends() -> None:
    index = plan_volumes(PLAN, FILES, VolumeChoice(rooms=(4096 + BLOCK_BYTES, 4096)))

    assert [[part.path for part in volume.parts] for volume in index.volumes] == [
        ["data/models/m/w.gguf.000000-000000", "data/release.json"],
        ["data/models/m/w.gguf.000001-000001"],
    ]


def test_volumes_that_are_too_small_are_refused_with_both_numbers() -> None:
    with pytest.raises(CapacityError) as refused:
        plan_volumes(PLAN, FILES, VolumeChoice(rooms=(8192,)))

    assert "67117056" in refused.value.why
    assert "8192" in refused.value.why


def test_lists_and_evidence_are_deducted_from_each_medium() -> None:
    rooms = rooms_for([10**9, 2 * 10**9], release=PLAN, payload=FILES, attest_bytes=1000)

    assert 10**9 - 2 * 2**20 < rooms[0] < 10**9
    assert rooms[1] - rooms[0] == 10**9


def test_a_medium_without_room_for_lists_is_refused() -> None:
    with pytest.raises(CapacityError, match="is too small"):
        rooms_for([1000], release=PLAN, payload=FILES, attest_bytes=0)


def test_the_plan_for_people_has_both_numbers_and_the_seals() -> None:
    choice = VolumeChoice(rooms=(4096 + BLOCK_BYTES, 4096), seals={2: ("B-1",)})

    described = describe(plan_volumes(PLAN, FILES, choice), choice)

    assert [(each["payload_bytes"], each["room_bytes"]) for each in described] == [
        (BLOCK_BYTES + 100, BLOCK_BYTES + 4096),
        (1, 4096),
    ]
    assert [each["cut"] for each in described] == [1, 1]
    assert described[1]["seals"] == ["B-1"]


def test_a_choice_that_was_not_made_says_how(tmp_path: Path) -> None:
    with pytest.raises(CapacityError) as refused:
        VolumeChoice.load(WorkFolder(root=tmp_path))

    assert "attest" in refused.value.fix


@pytest.mark.parametrize(
    "untrusted",
    [
        b'{"format":1,"rooms":[-1],"seals":{}}',
        b'{"format":1,"rooms":[],"seals":{"one":["A"]}}',
        b'{"format":1,"rooms":[],"seals":{"1":"A"}}',
        b'{"format":2,"rooms":[],"seals":{}}',
    ],
)
def test_a_choice_with_another_shape_is_refused(untrusted: bytes) -> None:
    with pytest.raises(MalformedError):
        VolumeChoice.from_bytes(untrusted)


@pytest.mark.parametrize("reserved", [{2: ("A-1",)}, {0: ("A-1",)}, {100: ("A-1",)}, {1: ("A" * 65,)}, {1: ("A\n1",)}])
def test_seals_that_nobody_would_find_or_read_again_are_refused_before_anything_is_fixed(
    tmp_path: Path, reserved: dict[int, tuple[str, ...]]
) -> None:
    """One for a volume that is not there was lost without a word; others left a file that no command read again."""
    work = new_candidate(tmp_path / "w")
    before = sorted(work.root.rglob("*"))

    with pytest.raises((UsageError, MalformedError)):
        choose_volumes(
            work,
            "alice",
            VolumeChoice(seals=reserved),
            ceremony=throwaway_ceremony(),
            clock=FixedClock(at=MADE_AT),
            place="Room 1",
        )

    assert sorted(work.root.rglob("*")) == before


@pytest.mark.parametrize("typed", ["\u00b2=A-1", "99999999999=A-1", "A-1", "1="])
def test_a_seal_that_names_no_volume_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match="which volume"):
        seals_by_volume([typed])
