from pathlib import Path

import pytest

from bundler.ceremony import Invitation, hold, rotate
from bundler.errors import CeremonyError, NotEmptyError, SigningError
from bundler.mediumcheck import check
from bundler.onego import release_in_one_go
from bundler.reissue import reissue
from bundler.signatory import Ceremony
from bundler.workfolder import WorkFolder
from media.clock import FixedClock
from media.errors import MalformedError, SealiftError
from tests.support.candidate import new_candidate
from tests.support.medium import MADE_AT, make_medium
from tests.support.throwaway import PEOPLE

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each

DAN = Invitation(id="dan", name="Dan Dover")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return hold(tmp_path / "c", PEOPLE, environment="demo").folder


def test_a_new_root_is_signed_by_people_of_both(folder: Path) -> None:
    rotated = rotate(folder, add=[DAN])

    assert [person.id for person in rotated.people.people] == ["alice", "bob", "carol", "dan"]
    assert len(Ceremony.load(folder).chain) == 2
    assert rotated.first_root_sha256 == Ceremony.from_chain(folder, rotated.chain[:1]).first_root_sha256


def test_a_medium_sealed_by_someone_removed_since_fails_under_the_new_root(folder: Path, tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m", keys=Ceremony.load(folder))
    rotate(folder, add=[DAN])

    rotated = rotate(folder, remove=["bob"])

    assert len(rotated.chain) == 3
    with pytest.raises(SealiftError):
        check(medium.volumes, ceremony=rotated)


def test_media_after_a_rotation_carry_the_whole_chain(folder: Path, tmp_path: Path) -> None:
    rotated = rotate(folder, add=[DAN])

    release_in_one_go(new_candidate(tmp_path / "w"), [tmp_path / "v"], ceremony=rotated, clock=FixedClock(at=MADE_AT))

    assert sorted(path.name for path in (tmp_path / "v/release/metadata").glob("*.root.json")) == [
        "1.root.json",
        "2.root.json",
    ]
    assert check([tmp_path / "v"]).release == "demo-1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"remove": ["zoe"]}, "names no person 'zoe'"),
        ({}, "changes nothing"),
        ({"add": [Invitation(id="bob", name="Bob Other")]}, "two people with the id"),
        ({"add": [Invitation(id="bert", name="bob baker")]}, "two people with the name"),
        ({"remove": ["bob"]}, "a threshold of 2 of 1 for root"),
    ],
)
def test_unsound_rotations_are_refused(folder: Path, change: dict[str, list[object]], said: str) -> None:
    with pytest.raises(CeremonyError) as refused:
        rotate(folder, **change)  # type: ignore[arg-type]

    assert said in refused.value.what
    assert len(Ceremony.load(folder).chain) == 1


def test_a_rotation_without_an_old_persons_keys_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SigningError, match="no keys of Alice Archer"):
        rotate(folder, add=[DAN], homes={"alice": tmp_path / "nowhere"})


def test_a_release_signed_again_differs_in_its_timestamp_only(tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m")
    again = WorkFolder(root=tmp_path / "again")

    plan = reissue(medium.work, again, stale_after="2028-11-20T08:00:00Z")
    made = release_in_one_go(
        again, [tmp_path / "v1", tmp_path / "v2"], ceremony=medium.ceremony, clock=FixedClock(at=MADE_AT)
    )

    before = check(medium.volumes, ceremony=medium.ceremony)
    after = check([tmp_path / "v1", tmp_path / "v2"], ceremony=medium.ceremony)
    assert (plan.serial, plan.issue) == (1, 1)
    assert (after.serial, after.stale_after[:4]) == (before.serial, "2028")
    assert made.code != medium.code
    assert (again.data / "release.json").stat().st_ino == (medium.work.data / "release.json").stat().st_ino


def test_signing_again_needs_a_later_date(tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m")

    with pytest.raises(SigningError, match="a later date"):
        reissue(medium.work, WorkFolder(root=tmp_path / "again"), stale_after="2027-11-20T08:00:00Z")
    with pytest.raises(MalformedError):
        reissue(medium.work, WorkFolder(root=tmp_path / "again"), stale_after="tomorrow")


def test_signing_again_never_writes_over_a_folder(tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m")

    with pytest.raises(NotEmptyError):
        reissue(medium.work, WorkFolder(root=tmp_path), stale_after="2028-11-20T08:00:00Z")
