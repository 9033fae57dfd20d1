import resource
from pathlib import Path

import pytest

from bundler.errors import NotEmptyError, ReadBackError
from bundler.write import write
from media import layout
from media.errors import SamePersonError, ThresholdError, UnreadableError, UsageError
from tests.support.medium import SimulatedMedium, make_medium


@pytest.fixture
def medium(tmp_path: Path) -> SimulatedMedium:
    return make_medium(tmp_path / "m")


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_writing_twice_gives_equal_releases(medium: SimulatedMedium, tmp_path: Path) -> None:
    places = [tmp_path / "one", tmp_path / "two"]

    written = write(medium.work, places, ceremony=medium.ceremony)

    assert [volume.number for volume in written] == [1, 2]
    for place, before in zip(places, medium.volumes, strict=True):
        assert tree(place / layout.RELEASE) == tree(before / layout.RELEASE)


def test_one_volume_can_be_written_again_alone(medium: SimulatedMedium, tmp_path: Path) -> None:
    written = write(medium.work, {2: tmp_path / "again"}, ceremony=medium.ceremony)

    assert [volume.number for volume in written] == [2]
    assert tree(tmp_path / "again" / layout.RELEASE) == tree(medium.volumes[1] / layout.RELEASE)


def test_litter_at_the_root_of_a_medium_does_not_matter(medium: SimulatedMedium, tmp_path: Path) -> None:
    (tmp_path / "stick" / "lost+found").mkdir(parents=True)

    write(medium.work, {1: tmp_path / "stick"}, ceremony=medium.ceremony)

    assert (tmp_path / "stick" / "lost+found").is_dir()


def test_a_medium_with_other_data_is_refused_and_nothing_is_written_anywhere(
    medium: SimulatedMedium, tmp_path: Path
) -> None:
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "holiday.jpg").touch()

    with pytest.raises(NotEmptyError, match="volume 2 holds other data"):
        write(medium.work, [tmp_path / "one", tmp_path / "two"], ceremony=medium.ceremony)

    assert not (tmp_path / "one").exists()


def test_each_volume_needs_a_medium(medium: SimulatedMedium, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1 destinations for 2 volumes"):
        write(medium.work, [tmp_path / "one"], ceremony=medium.ceremony)


def test_a_volume_that_does_not_exist_cannot_be_written(medium: SimulatedMedium, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no volume 3"):
        write(medium.work, {3: tmp_path / "three"}, ceremony=medium.ceremony)


def test_a_release_that_one_person_sealed_is_not_written(medium: SimulatedMedium, tmp_path: Path) -> None:
    (medium.work.seal_of(2) / layout.signature_name(medium.fingerprint("bob"))).unlink()

    with pytest.raises(ThresholdError):
        write(medium.work, [tmp_path / "one", tmp_path / "two"], ceremony=medium.ceremony)

    assert not (tmp_path / "one").exists()


def test_a_release_that_one_person_sealed_twice_is_not_written(medium: SimulatedMedium, tmp_path: Path) -> None:
    folder = medium.work.seal_of(1)
    manifest = (folder / layout.TAG_MANIFEST).read_bytes()
    bob = folder / layout.signature_name(medium.fingerprint("bob"))
    bob.write_bytes(medium.sign_as("alice", manifest))

    with pytest.raises(SamePersonError):
        write(medium.work, {1: tmp_path / "one"}, ceremony=medium.ceremony)


def test_a_candidate_that_changed_after_sealing_never_becomes_a_release(
    medium: SimulatedMedium, tmp_path: Path
) -> None:
    (medium.work.data / "release.json").write_bytes(medium.payload["data/release.json"].replace(b"tiny", b"tony"))

    with pytest.raises(ReadBackError, match=r"data/release\.json is not what was sealed"):
        write(medium.work, {1: tmp_path / "one"}, ceremony=medium.ceremony)

    assert not (tmp_path / "one" / layout.RELEASE).exists()


def test_a_medium_that_fails_half_way_holds_no_release(medium: SimulatedMedium, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
    try:
        with pytest.raises(UnreadableError, match="volume 2: writing failed") as failed:
            write(medium.work, {2: tmp_path / "one"}, ceremony=medium.ceremony)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert "release.unfinished" in failed.value.fix
    assert not (tmp_path / "one" / layout.RELEASE).exists()


def test_what_an_interrupted_writer_left_is_not_written_over(medium: SimulatedMedium, tmp_path: Path) -> None:
    (tmp_path / "one" / "release.unfinished").mkdir(parents=True)

    with pytest.raises(NotEmptyError, match="holds other data"):
        write(medium.work, {1: tmp_path / "one"}, ceremony=medium.ceremony)


def test_progress_covers_writing_and_reading_back(medium: SimulatedMedium, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []

    write(medium.work, {1: tmp_path / "one"}, ceremony=medium.ceremony, progress=lambda *each: seen.append(each))

    labels = {label.split(" data/")[0] for _, _, label in seen}
    assert "volume 1: writing" in labels
    assert "volume 1: reading back" in labels
    assert all(done <= total for done, total, _ in seen)
